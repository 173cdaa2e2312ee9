package qemu

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"lifeboat"
	"lifeboat/hypervisor"
)

// byHand is a machine.json as a person would write it.
const byHand = `{
  "version": 1,
  "machine": {
    "version": 1, "id": "", "name": "Büro Süd",
    "firmware": {"kind": "bios"}, "cpus": 2, "memoryBytes": 1073741824,
    "disks": [{"key": "root", "sizeBytes": 0, "bus": "virtio"}],
    "nics": [{"mac": "52:54:00:00:00:01", "model": "virtio"}]
  },
  "disks": {"root": {"file": "root.qcow2", "format": "qcow2"}},
  "networks": [{"kind": "bridge", "name": "br0"}]
}`

func TestAMachineWrittenByHandGetsItsIDAndItsSizeOnce(t *testing.T) {
	h := newHost(t)
	dir := filepath.Join(h.o.Dir, "by-hand")
	must(t, os.Mkdir(dir, 0o700))
	must(t, os.WriteFile(filepath.Join(dir, definitionFile), []byte(byHand), 0o600))
	must(t, h.makeImage(t.Context(), filepath.Join(dir, "root.qcow2"), 3<<20))
	first, err := h.List(t.Context())
	must(t, err)
	if len(first) != 1 || !hexID.MatchString(first[0].Machine.ID) || first[0].Machine.Disks[0].SizeBytes != 3<<20 {
		t.Fatalf("it is listed as %+v", first)
	}
	second, err := h.List(t.Context())
	must(t, err)
	if second[0].Machine.ID != first[0].Machine.ID {
		t.Error("its id changed")
	}
}

func TestADefinitionThatCannotBeReadHidesNoOther(t *testing.T) {
	h := newHost(t)
	must(t, h.Define(t.Context(), hypervisor.Definition{Machine: sample("good")}))
	dir := filepath.Join(h.o.Dir, "bad")
	must(t, os.Mkdir(dir, 0o700))
	must(t, os.WriteFile(filepath.Join(dir, definitionFile), []byte(strings.Replace(byHand, "cpus", "cpu", 1)), 0o600))
	list, err := h.List(t.Context())
	if len(list) != 1 || list[0].Machine.Name != "good" {
		t.Errorf("listed are %+v", list)
	}
	if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "cpu") {
		t.Errorf("the error does not lead to the fault: %v", err)
	}
	if _, err := h.find("good"); err != nil {
		t.Errorf("the good one cannot be used: %v", err)
	}
}

func TestDifferentNamesHaveDifferentSafeFolders(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.String().Draw(t, "a"), rapid.String().Draw(t, "b")
		folder := folderName(a)
		if a != b && folder == folderName(b) {
			t.Fatalf("%q and %q share folder %q", a, b, folder)
		}
		if a != "" && (filepath.Base(folder) != folder || strings.HasPrefix(folder, ".") || len(folder) > longestFolder) {
			t.Fatalf("%q has folder %q", a, folder)
		}
	})
}

func TestNodeNamesAreShortAndTellDisksApart(t *testing.T) {
	long := strings.Repeat("a", 31)
	names := map[string]bool{}
	for _, key := range []string{"root", long + "b", long + "c"} {
		name := nodeName(nodeDisk, key)
		if len(name) > 31 || names[name] {
			t.Errorf("disk %s has node %s", key, name)
		}
		names[name] = true
	}
}

func FuzzDefinition(f *testing.F) {
	f.Add([]byte(byHand))
	f.Add([]byte(`{"version":1}{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := parseDefinition(data)
		if err != nil {
			return
		}
		once, err := d.encode()
		must(t, err)
		again, err := parseDefinition(once)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		twice, err := again.encode()
		must(t, err)
		if !bytes.Equal(once, twice) {
			t.Errorf("%s is read as %s", once, twice)
		}
	})
}

func TestWordsInADefinitionNeverBecomeOptions(t *testing.T) {
	m := &machine{host: &Host{o: Options{Dir: "/machines"}}, dir: "/machines/a,b", def: definition{
		Machine: lifeboat.Machine{Name: "a,process=evil", ID: strings.Repeat("a", 32), CPUs: 1, MemoryBytes: 1 << 20,
			Disks: []lifeboat.Disk{{Key: "root", Bus: lifeboat.BusVirtio, Serial: "x,drive=other"}}},
		Disks: map[string]diskFile{"root": {File: "a,b\".qcow2", Format: "qcow2"}},
	}}
	words := m.commandLine(start{sockets: "/run/a,b", direct: func(string) bool { return true }})
	for i, word := range words {
		if i == 0 || !strings.HasPrefix(words[i-1], "-") {
			continue
		}
		switch {
		case strings.HasPrefix(word, "{"):
			if !json.Valid([]byte(word)) {
				t.Errorf("not JSON: %s", word)
			}
		case strings.Contains(strings.ReplaceAll(word, ",,", "=="), ",process="):
			t.Errorf("%s %s", words[i-1], word)
		}
	}
}

func TestSocketsHaveShortPathsWhateverTheFolder(t *testing.T) {
	h, err := Open(Options{Dir: t.TempDir(), RunDir: filepath.Join(t.TempDir(), strings.Repeat("x", 200))})
	must(t, err)
	if path := filepath.Join(h.socketDir("machine", strings.Repeat("y", 300)), commandSocket); len(path) > 107 {
		t.Errorf("%s has %d bytes", path, len(path))
	}
}

func TestOnlyFilesInTheMachinesFolderCountAsMade(t *testing.T) {
	d, err := parseDefinition([]byte(byHand))
	must(t, err)
	d.Disks["root"] = diskFile{File: "../other/root.qcow2", Format: "qcow2", Made: true}
	if err := d.check(); err == nil {
		t.Error("Remove would delete a file of another machine")
	}
}

func TestAMachineIsFoundByItsFolderWhateverItIsCalled(t *testing.T) {
	h := newHost(t)
	must(t, h.Define(t.Context(), hypervisor.Definition{Machine: sample("Büro 1")}))
	must(t, h.Define(t.Context(), hypervisor.Definition{Machine: sample("web01")}))
	must(t, os.Rename(filepath.Join(h.o.Dir, "web01"), filepath.Join(h.o.Dir, "old server")))
	list, err := h.List(t.Context())
	must(t, err)
	for _, l := range list {
		m, err := h.find(l.HostID)
		must(t, err)
		if m.name() != l.Machine.Name {
			t.Errorf("%s is found as %s", l.HostID, m.name())
		}
	}
}

func TestAWordThatMeansTwoMachinesIsRefused(t *testing.T) {
	h := newHost(t)
	must(t, h.Define(t.Context(), hypervisor.Definition{Machine: sample("a b")}))
	if err := h.Define(t.Context(), hypervisor.Definition{Machine: sample("a=20b")}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a machine that is called as another's folder: %v", err)
	}
	must(t, h.Define(t.Context(), hypervisor.Definition{Machine: sample("c=20d")}))
	if err := h.Define(t.Context(), hypervisor.Definition{Machine: sample("c d")}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a machine whose folder is called as another: %v", err)
	}
	// By hand everything can be done.
	must(t, os.Rename(filepath.Join(h.o.Dir, "a=20b"), filepath.Join(h.o.Dir, "c=20d")))
	if m, err := h.find("c=20d"); err == nil || errors.Is(err, hypervisor.ErrNoMachine) {
		t.Errorf("one of two machines is taken: %v (%v)", m, err)
	}
}

func TestACardWithoutAnAddressGetsTheSameOneAtEachBoot(t *testing.T) {
	h := newHost(t)
	m := sample("files")
	m.ID = "00112233445566778899aabbccddeeff"
	m.NICs = []lifeboat.NIC{{Model: "virtio"}, {Model: "virtio"}}
	var macs []string
	for range 2 {
		must(t, h.Define(t.Context(), hypervisor.Definition{Machine: m}))
		found, err := h.find("files")
		must(t, err)
		for _, nic := range found.def.Machine.NICs {
			macs = append(macs, nic.MAC)
		}
		must(t, h.Remove(t.Context(), "files"))
	}
	if macs[0] == macs[1] || macs[0] != macs[2] || macs[1] != macs[3] {
		t.Errorf("the cards are %v", macs)
	}
	if m.NICs[0].MAC != "" {
		t.Error("the description that was handed in was changed")
	}
}
