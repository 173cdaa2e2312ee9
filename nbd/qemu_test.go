package nbd

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"lifeboat"
)

// qemuServer starts a program that serves on a socket, and waits for it.
func qemuServer(t *testing.T, socket, program string, args ...string) *exec.Cmd {
	t.Helper()
	need(t, program, "qemu-utils qemu-system-common")
	cmd := exec.CommandContext(t.Context(), program, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	t.Cleanup(func() { cmd.Process.Kill(); <-ended })
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if conn, err := net.Dial("unix", socket); err == nil {
			conn.Close()
			return cmd
		}
		select {
		case <-ended:
			t.Fatalf("%s: %s", program, &out)
		default:
		}
	}
	t.Fatalf("%s does not serve: %s", program, &out)
	return nil
}

// mustTool runs a program that has to work.
func mustTool(t *testing.T, program string, args ...string) {
	t.Helper()
	if out, err := tool(t, program, args...); err != nil {
		t.Fatalf("%s %v: %v\n%s", program, args, err, out)
	}
}

func TestDirtyBitmapsOfQEMUAreRead(t *testing.T) {
	need(t, "qemu-img", "qemu-utils")
	need(t, "qemu-io", "qemu-utils")
	dir := socketDir(t)
	image, socket := filepath.Join(dir, "d.qcow2"), filepath.Join(dir, "s")
	mustTool(t, "qemu-img", "create", "-q", "-f", "qcow2", image, "64M")
	mustTool(t, "qemu-io", "-f", "qcow2", "-c", "write -P 7 0 1M", image)
	mustTool(t, "qemu-img", "bitmap", "--add", image, "b0")
	mustTool(t, "qemu-io", "-f", "qcow2", "-c", "write -P 8 512k 64k", "-c", "write -z 30M 1M", "-c", "write -P 9 40M 128k", image)
	mustTool(t, "qemu-img", "bitmap", "--add", image, "b1")
	mustTool(t, "qemu-io", "-f", "qcow2", "-c", "write -P 10 63M 64k", image)

	qemuServer(t, socket, "qemu-storage-daemon",
		"--blockdev", "driver=file,node-name=f0,filename="+image+",read-only=on",
		"--blockdev", "driver=qcow2,node-name=d0,file=f0,read-only=on",
		"--nbd-server", "addr.type=unix,addr.path="+socket+",max-connections=8",
		"--export", "type=nbd,id=e0,node-name=d0,name=vda,bitmaps.0=b0,bitmaps.1=b1")
	c := dial(t, socket, "vda", DialOptions{MetaContexts: []string{ContextAllocation, ContextDirtyBitmap}, Connections: 2})
	if want := []string{"base:allocation", "qemu:dirty-bitmap:b0", "qemu:dirty-bitmap:b1"}; !slices.Equal(c.Contexts(), want) {
		t.Fatalf("contexts %v, want %v", c.Contexts(), want)
	}
	all := lifeboat.Extent{Length: c.SizeBytes()}
	const k, m = 1 << 10, 1 << 20
	for _, check := range []struct {
		name string
		ask  func() ([]lifeboat.Extent, error)
		want []lifeboat.Extent
	}{
		{"b0", func() ([]lifeboat.Extent, error) { return c.DirtyExtents(t.Context(), "b0", all) },
			[]lifeboat.Extent{{Offset: 512 * k, Length: 64 * k}, {Offset: 30 * m, Length: m}, {Offset: 40 * m, Length: 128 * k}, {Offset: 63 * m, Length: 64 * k}}},
		{"b1", func() ([]lifeboat.Extent, error) { return c.DirtyExtents(t.Context(), "b1", all) },
			[]lifeboat.Extent{{Offset: 63 * m, Length: 64 * k}}},
		{"part of b0", func() ([]lifeboat.Extent, error) {
			return c.DirtyExtents(t.Context(), "b0", lifeboat.Extent{Offset: 30*m + 1000, Length: 10*m + 1})
		}, []lifeboat.Extent{{Offset: 30*m + 1000, Length: m - 1000}, {Offset: 40 * m, Length: 1001}}},
		{"data", func() ([]lifeboat.Extent, error) { return c.DataExtents(t.Context(), all) },
			[]lifeboat.Extent{{Offset: 0, Length: m}, {Offset: 40 * m, Length: 128 * k}, {Offset: 63 * m, Length: 64 * k}}},
	} {
		got, err := check.ask()
		if err != nil || !slices.Equal(got, check.want) {
			t.Errorf("%s: %v, %v; want %v", check.name, got, err, check.want)
		}
	}
	p := make([]byte, 3*m)
	if err := c.ReadAt(t.Context(), p, 39*m); err != nil {
		t.Fatal(err)
	}
	if want := append(make([]byte, m), bytes.Repeat([]byte{9}, 128*k)...); !bytes.Equal(p[:len(want)], want) {
		t.Error("what was read is not what was written")
	}
}

func TestDisksAreWrittenThroughQEMU(t *testing.T) {
	need(t, "qemu-img", "qemu-utils")
	dir := socketDir(t)
	image, socket := filepath.Join(dir, "d.qcow2"), filepath.Join(dir, "s")
	mustTool(t, "qemu-img", "create", "-q", "-f", "qcow2", image, "20M")
	server := qemuServer(t, socket, "qemu-nbd", "--persistent", "--shared=4", "--discard=unmap",
		"--socket", socket, "--format", "qcow2", "--export-name", "d", image)
	c := dial(t, socket, "d", DialOptions{MetaContexts: []string{ContextAllocation}, Connections: 2})

	d := newDisk(t, 20<<20, 12)
	if err := c.WriteAt(t.Context(), bytes.Repeat([]byte{0xdd}, 20<<20), 0); err != nil {
		t.Fatal(err)
	}
	data, _ := d.Extents(t.Context(), lifeboat.Extent{Length: 20 << 20})
	runs, _ := cover(lifeboat.Extent{Length: 20 << 20}, data)
	for _, r := range runs {
		var err error
		if r.hole {
			err = c.ZeroAt(t.Context(), r.Offset, r.Length)
		} else {
			err = c.WriteAt(t.Context(), d.data[r.Offset:r.End()], r.Offset)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 20<<20)
	if err := c.ReadAt(t.Context(), p, 0); err != nil || !bytes.Equal(p, d.data) {
		t.Errorf("reading back: %v, same %v", err, bytes.Equal(p, d.data))
	}

	server.Process.Kill()
	deadline := time.Now().Add(10 * time.Second)
	var err error
	for err == nil && time.Now().Before(deadline) {
		err = c.ReadAt(t.Context(), p, 0)
	}
	if !errors.Is(err, ErrGone) {
		t.Errorf("reading from a server that was killed: %v", err)
	}
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, d.data, 0o600); err != nil {
		t.Fatal(err)
	}
	mustTool(t, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", plain, image)
}

func TestQEMUReadsManyDisksOfOneServer(t *testing.T) {
	need(t, "qemu-img", "qemu-utils")
	exports := map[string]Export{}
	for i := range uint64(4) {
		exports[fmt.Sprintf("d%d", i)] = newDisk(t, 4<<20, i)
	}
	socket, _ := serve(t, exports, ServerOptions{})
	dir := t.TempDir()
	for name, e := range exports {
		copied := filepath.Join(dir, name)
		mustTool(t, "qemu-img", "convert", "-f", "raw", "-O", "raw", uri(socket, name), copied)
		got, err := os.ReadFile(copied)
		if err != nil || !bytes.Equal(got, e.(*memoryDisk).data) {
			t.Errorf("%s differs (%v)", name, err)
		}
	}
}
