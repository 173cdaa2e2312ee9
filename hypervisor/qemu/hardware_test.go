package qemu

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lifeboat"
	"lifeboat/hypervisor"
)

func definitionFor(m lifeboat.Machine) hypervisor.Definition {
	return hypervisor.Definition{Machine: m}
}

// fromVMware is a machine as vSphere has them, with all that a guest can notice.
func fromVMware(name string) lifeboat.Machine {
	m := sample(name,
		lifeboat.Disk{Key: "root", SizeBytes: 16 << 20, Bus: lifeboat.BusPVSCSI, Place: "0:0", PCISlot: "0000:03:00.0", BootIndex: 1},
		lifeboat.Disk{Key: "data", SizeBytes: 16 << 20, Bus: lifeboat.BusPVSCSI, Place: "1:5", PCISlot: "0000:04:00.0", WWN: "6000c29f8ab1d3c4"},
		lifeboat.Disk{Key: "sas", SizeBytes: 16 << 20, Bus: lifeboat.BusLSISAS, Place: "2:1", Serial: strings.Repeat("6000c29", 8)},
		lifeboat.Disk{Key: "sata", SizeBytes: 16 << 20, Bus: lifeboat.BusSATA, Place: "1:0", WWN: "5000c50015ea71aa"})
	m.UUID = "564d1c2a-0b7e-4d8f-9a01-23456789abcd"
	m.SMBIOS = lifeboat.SMBIOS{Manufacturer: "VMware, Inc.", Product: "VMware7,1", Serial: "VMware-56 4d 1c 2a"}
	m.CPUs, m.Topology = 4, &lifeboat.Topology{Sockets: 2, Cores: 2, Threads: 1}
	m.GenerationID, m.ClockLocal = true, true
	m.HyperV = []string{"evmcs", "relaxed", "spinlocks=8191", "stimer", "vapic"}
	m.NICs = []lifeboat.NIC{{MAC: "00:50:56:00:00:01", Model: "vmxnet3", PCISlot: "0000:0b:00.0"}, {MAC: "00:50:56:00:00:02", Model: "e1000e"}}
	return m
}

func TestTheCommandLineOfAMachineOfVMware(t *testing.T) {
	m := fromVMware("vm")
	m.ID, m.TPM = strings.Repeat("0123", 8), &lifeboat.TPM{Version: "2.0", Model: "crb"}
	files := map[string]diskFile{}
	for _, d := range m.Disks {
		files[d.Key] = diskFile{File: d.Key + ".qcow2", Format: "qcow2"}
	}
	golden(t, "vmware.txt", definition{Machine: m, Disks: files, Generation: "00112233-4455-4677-8899-aabbccddeeff"},
		start{accelerator: AcceleratorKVM, sockets: "/run/lifeboat/0011", direct: func(string) bool { return true }})
}

// TestAMachineOfVMwareRunsWithItsHardware asks QEMU what it built.
func TestAMachineOfVMwareRunsWithItsHardware(t *testing.T) {
	var notes []string
	h := newHost(t, func(o *Options) { o.Note = func(_, text string) { notes = append(notes, text) } })
	m := fromVMware("vm")
	m.CPUModel = "Model-of-the-Year-2099"
	defineAndStart(t, h, m)
	found, err := h.find("vm")
	must(t, err)
	eventually(t, bootCeiling, "firmware reads a disk", func() bool { return found.hasRead(t.Context()) })
	generation := generationOf(t, found)
	if !strings.EqualFold(generation, found.def.Generation) {
		t.Errorf("its generation is %q, recorded is %q", generation, found.def.Generation)
	}
	if all := strings.Join(notes, "\n"); !strings.Contains(all, "2099") || !strings.Contains(all, "evmcs") {
		t.Errorf("what was replaced is not said: %q", all)
	}
	mon, err := found.monitor(t.Context(), commandSocket)
	must(t, err)
	var cpus []struct {
		Props map[string]int `json:"props"`
	}
	must(t, mon.run(t.Context(), "query-cpus-fast", nil, &cpus))
	var buses []pciBus
	must(t, mon.run(t.Context(), "query-pci", nil, &buses))
	mon.close()
	if len(cpus) != 4 || cpus[3].Props["socket-id"] != 1 || cpus[3].Props["core-id"] != 1 {
		t.Errorf("its processors are %+v", cpus)
	}
	seen := map[string]string{}
	for _, b := range buses {
		b.all(seen)
	}
	for id, want := range map[string]string{"pvscsi0": "0000:03:00.0", "pvscsi1": "0000:04:00.0", "nic0": "0000:0b:00.0"} {
		if seen[id] != want {
			t.Errorf("%s is at %s, not %s", id, seen[id], want)
		}
	}
	// All of its disks can be held still, and let go, behind any controller.
	s, err := h.Freeze(t.Context(), "vm", hypervisor.FreezeOptions{DriveID: "d"})
	must(t, err)
	exported := s.Machine()
	must(t, s.Release(t.Context()))
	if exported.SMBIOS != m.SMBIOS || exported.UUID != m.UUID || !exported.GenerationID || exported.Disks[1].Place != "1:5" {
		t.Errorf("exported is %+v", exported)
	}

	// Another start is no other generation; another boot from a point is.
	must(t, h.PowerOff(t.Context(), "vm", 0))
	must(t, h.PowerOn(t.Context(), "vm"))
	if again := generationOf(t, found); again != generation {
		t.Errorf("a restart changed the generation from %s to %s", generation, again)
	}
	must(t, h.PowerOff(t.Context(), "vm", 0))
	must(t, h.Define(t.Context(), hypervisor.Definition{Machine: exported, Name: "vm again"}))
	second, err := h.find("vm again")
	must(t, err)
	if second.def.Generation == found.def.Generation || second.def.Generation == "" {
		t.Errorf("a boot from a point has generation %q", second.def.Generation)
	}
}

func generationOf(t *testing.T, m *machine) string {
	t.Helper()
	mon, err := m.monitor(t.Context(), commandSocket)
	must(t, err)
	defer mon.close()
	var reply struct {
		GUID string `json:"guid"`
	}
	must(t, mon.run(t.Context(), "query-vm-generation-id", nil, &reply))
	return reply.GUID
}

// all notes where every device with an id is.
func (b pciBus) all(seen map[string]string) {
	for _, d := range b.Devices {
		if d.ID != "" {
			seen[d.ID] = pciSlot{d.Bus, d.Slot}.String()
		}
		if d.Bridge != nil {
			d.Bridge.all(seen)
		}
	}
}

func needSwtpm(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath(tpmProgram); err != nil {
		t.Skip("needs swtpm: apt-get install swtpm")
	}
}

func TestATPMTravelsWithItsMachineAndEndsWithIt(t *testing.T) {
	needSwtpm(t)
	h := newHost(t)
	m := sample("sealed")
	m.TPM = &lifeboat.TPM{Version: "2.0", Model: "crb"}
	defineAndStart(t, h, m)
	found, err := h.find("sealed")
	must(t, err)
	if model := tpmOf(t, found); model != "tpm-crb" {
		t.Errorf("its TPM is %q", model)
	}
	// Firmware starts the module, which then writes down what it is.
	var exported lifeboat.Machine
	eventually(t, bootCeiling, "the module keeps something", func() bool {
		state, err := found.readTPM()
		return err == nil && len(state) > 0
	})
	s, err := h.Freeze(t.Context(), "sealed", hypervisor.FreezeOptions{})
	must(t, err)
	exported = s.Machine()
	must(t, s.Release(t.Context()))
	if exported.TPM == nil || len(exported.TPM.State) == 0 {
		t.Fatal("the state of its TPM was not exported")
	}
	if list, err := h.List(t.Context()); err != nil || len(list[0].Machine.TPM.State) != 0 {
		t.Error("a list holds secrets of the machine")
	}
	must(t, h.PowerOff(t.Context(), "sealed", 0))
	eventually(t, bootCeiling, "swtpm ends with its machine", func() bool { return !tpmInUse(t, found) })
	must(t, h.PowerOn(t.Context(), "sealed")) // with the state that it has
	must(t, h.PowerOff(t.Context(), "sealed", 0))
	must(t, h.PowerOn(t.Context(), "sealed")) // at once, while swtpm may still end
	must(t, h.PowerOff(t.Context(), "sealed", 0))
	must(t, h.Remove(t.Context(), "sealed"))
	if _, err := os.Stat(found.dir); !os.IsNotExist(err) {
		t.Errorf("the folder is still there: %v", err)
	}

	must(t, h.Define(t.Context(), hypervisor.Definition{Machine: exported, Name: "recovered"}))
	recovered, err := h.find("recovered")
	must(t, err)
	state, err := recovered.readTPM()
	must(t, err)
	if !bytes.Equal(state, exported.TPM.State) {
		t.Error("the state is another")
	}
	if info, err := os.Stat(recovered.path(tpmFolder)); err != nil || info.Mode().Perm() != 0o700 {
		t.Error("others can look into the TPM's folder")
	}
	must(t, h.PowerOn(t.Context(), "recovered"))
	if tpmOf(t, recovered) == "" {
		t.Error("it runs without its TPM")
	}
}

func tpmOf(t *testing.T, m *machine) string {
	t.Helper()
	mon, err := m.monitor(t.Context(), commandSocket)
	must(t, err)
	defer mon.close()
	var list []struct {
		Model string `json:"model"`
	}
	must(t, mon.run(t.Context(), "query-tpm", nil, &list))
	if len(list) != 1 {
		return ""
	}
	return list[0].Model
}

// tpmInUse looks for the lock that swtpm holds while it runs.
func tpmInUse(t *testing.T, m *machine) bool {
	t.Helper()
	f, err := os.Open(filepath.Join(m.path(tpmFolder), ".lock"))
	must(t, err)
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	must(t, unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock))
	return lock.Type != unix.F_UNLCK
}

func TestAMachineWhoseQEMUDoesNotStartLeavesNoTPMBehind(t *testing.T) {
	needSwtpm(t)
	h := newHost(t, func(o *Options) { o.Binary = "/bin/false" })
	m := sample("sealed")
	m.TPM = &lifeboat.TPM{Version: "2.0"}
	must(t, h.Define(t.Context(), definitionFor(m)))
	if err := h.PowerOn(t.Context(), "sealed"); err == nil {
		t.Fatal("it runs")
	}
	found, err := h.find("sealed")
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), bootCeiling)
	defer cancel()
	must(t, found.waitForTPM(ctx))
}

func TestAHostWithoutSwtpmSaysWhatToInstallAndChangesNothing(t *testing.T) {
	h := newHost(t)
	path, err := exec.LookPath("qemu-img")
	must(t, err)
	tools := t.TempDir()
	must(t, os.Symlink(path, filepath.Join(tools, "qemu-img")))
	t.Setenv("PATH", tools)
	m := sample("sealed")
	m.TPM = &lifeboat.TPM{Version: "2.0", State: []byte("x")}
	err = h.Define(t.Context(), definitionFor(m))
	var p *lifeboat.Problem
	if !errors.As(err, &p) || !strings.Contains(p.Next, "apt-get install swtpm") || !strings.Contains(p.Next, "BitLocker") {
		t.Errorf("it says %v", err)
	}
	if entries, _ := os.ReadDir(h.o.Dir); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
	m.TPM = nil
	must(t, h.Define(t.Context(), definitionFor(m)))
}
