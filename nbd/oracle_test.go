package nbd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lifeboat"
)

func uri(socket, export string) string {
	return fmt.Sprintf("nbd+unix:///%s?socket=%s", export, socket)
}

func TestOtherClientsSeeWhatTheServerOffers(t *testing.T) {
	need(t, "nbdinfo", "libnbd-bin")
	d := newDisk(t, 5<<20+1234, 1)
	socket, _ := serve(t, map[string]Export{"vda": d, "vdb": newDisk(t, 4096, 2)}, ServerOptions{})

	out, err := tool(t, "nbdinfo", "--json", uri(socket, "vda"))
	if err != nil {
		t.Fatalf("nbdinfo: %v\n%s", err, out)
	}
	var info struct {
		Exports []struct {
			Size      int64    `json:"export-size"`
			ReadOnly  bool     `json:"is_read_only"`
			MultiConn bool     `json:"can_multi_conn"`
			DF        bool     `json:"can_df"`
			Cache     bool     `json:"can_cache"`
			Minimum   int64    `json:"block_size_minimum"`
			Maximum   int64    `json:"block_size_maximum"`
			Contexts  []string `json:"contexts"`
		}
	}
	if err := json.Unmarshal([]byte(out), &info); err != nil || len(info.Exports) != 1 {
		t.Fatalf("nbdinfo said: %s", out)
	}
	e := info.Exports[0]
	if e.Size != d.SizeBytes() || !e.ReadOnly || !e.MultiConn || !e.DF || !e.Cache ||
		e.Minimum != 1 || e.Maximum != 32<<20 || len(e.Contexts) != 1 || e.Contexts[0] != ContextAllocation {
		t.Errorf("nbdinfo said: %s", out)
	}

	out, err = tool(t, "nbdinfo", "--list", "--json", "nbd+unix:///?socket="+socket)
	if err != nil || !strings.Contains(out, `"vda"`) || !strings.Contains(out, `"vdb"`) {
		t.Errorf("nbdinfo --list: %v\n%s", err, out)
	}
	if out, err = tool(t, "nbdinfo", uri(socket, "nobody")); err == nil {
		t.Errorf("an export that does not exist was opened:\n%s", out)
	}
}

func TestOtherClientsReadTheSameBytesAndHoles(t *testing.T) {
	need(t, "nbdcopy", "libnbd-bin")
	need(t, "qemu-img", "qemu-utils")
	d := newDisk(t, 20<<20+512, 3)
	socket, _ := serve(t, map[string]Export{"vda": d}, ServerOptions{})
	dir := t.TempDir()

	copied := filepath.Join(dir, "copied.raw")
	for _, args := range [][]string{
		{"--connections=4"}, {"--connections=1", "--requests=64", "--request-size=33554432"}, {"--synchronous"}, {"--no-extents"},
	} {
		if out, err := tool(t, "nbdcopy", append(args, uri(socket, "vda"), copied)...); err != nil {
			t.Fatalf("nbdcopy %v: %v\n%s", args, err, out)
		}
		got, err := os.ReadFile(copied)
		if err != nil || !bytes.Equal(got, d.data) {
			t.Errorf("nbdcopy %v: the copy differs (%v)", args, err)
		}
		os.Remove(copied)
	}

	plain := filepath.Join(dir, "plain.raw")
	if err := os.WriteFile(plain, d.data, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := tool(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", plain, uri(socket, "vda")); err != nil {
		t.Errorf("qemu-img compare: %v\n%s", err, out)
	}
	compareMap(t, d, uri(socket, "vda"))
}

// compareMap checks what qemu-img thinks is data.
func compareMap(t *testing.T, d *memoryDisk, uri string) {
	t.Helper()
	out, err := tool(t, "qemu-img", "map", "-f", "raw", "--output=json", uri)
	if err != nil {
		t.Fatalf("qemu-img map: %v\n%s", err, out)
	}
	var got []struct {
		Start, Length int64
		Zero          bool
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	data, _ := d.Extents(t.Context(), lifeboat.Extent{Length: d.SizeBytes()})
	want, err := cover(lifeboat.Extent{Length: d.SizeBytes()}, data)
	if err != nil || len(got) != len(want) {
		t.Fatalf("qemu-img sees %d runs, the disk has %d (%v)", len(got), len(want), err)
	}
	for i, w := range want {
		if got[i].Start != w.Offset || got[i].Length != w.Length || got[i].Zero != w.hole {
			t.Fatalf("qemu-img sees %+v, the disk has %+v", got[i], w)
		}
	}
}

func TestACopyOfADiskWithUnreadablePartsFailsAndItsOwnerIsTold(t *testing.T) {
	need(t, "nbdcopy", "libnbd-bin")
	d := newDisk(t, 8<<20, 4)
	for i := range d.data {
		d.data[i] |= 1
	}
	d.rotten = lifeboat.Extent{Offset: 5<<20 + 100, Length: 1}
	var told errorLog
	socket, _ := serve(t, map[string]Export{"vda": d}, ServerOptions{OnError: told.add})
	out, err := tool(t, "nbdcopy", uri(socket, "vda"), filepath.Join(t.TempDir(), "copy"))
	if err == nil {
		t.Errorf("nbdcopy did not notice:\n%s", out)
	}
	errs := told.all()
	if len(errs) == 0 || !errors.Is(errs[0], errRotten) {
		t.Errorf("the owner was told %v", errs)
	}
}
