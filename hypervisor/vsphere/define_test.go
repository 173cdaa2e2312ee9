package vsphere

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/vmware/govmomi/simulator"

	"lifeboat"
	"lifeboat/fixtures/vcenter"
	"lifeboat/hypervisor"
)

const mib = int64(1) << 20

// memoryDisk is a disk in memory. Runs are where it says that it holds data; nil
// means everywhere.
type memoryDisk struct {
	data []byte
	runs []lifeboat.Extent
	fail error // of every read
	gate chan struct{}
}

func (d *memoryDisk) SizeBytes() int64 { return int64(len(d.data)) }

func (d *memoryDisk) Extents(_ context.Context, within lifeboat.Extent) ([]lifeboat.Extent, error) {
	if d.runs == nil {
		return []lifeboat.Extent{within}, nil
	}
	var list []lifeboat.Extent
	for _, r := range d.runs {
		from, to := max(r.Offset, within.Offset), min(r.End(), within.End())
		if from < to {
			list = append(list, lifeboat.Extent{Offset: from, Length: to - from})
		}
	}
	return list, nil
}

func (d *memoryDisk) ReadAt(ctx context.Context, p []byte, offset int64) error {
	if d.gate != nil {
		select {
		case <-d.gate:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if d.fail != nil {
		return d.fail
	}
	copy(p, d.data[offset:])
	return nil
}

// pattern is a disk of that many MiB with something different in every sector.
func pattern(mibs int64) *memoryDisk {
	data := make([]byte, mibs*mib)
	for at := 0; at < len(data); at += 512 {
		copy(data[at:], fmt.Sprintf("sector %d of a disk of %d MiB ", at/512, mibs))
	}
	return &memoryDisk{data: data}
}

// definition is a machine with one disk that is uploaded.
func definition(name string) hypervisor.Definition {
	return hypervisor.Definition{
		Name: name,
		Machine: lifeboat.Machine{
			Version: lifeboat.MachineVersion, ID: strings.Repeat("5a", 16), Name: "web01",
			UUID: "5c241f42-a87f-fa60-6af6-a46351ced0eb", CPUs: 4, MemoryBytes: 2 << 30,
			Topology:    &lifeboat.Topology{Sockets: 2, Cores: 2, Threads: 1},
			Firmware:    lifeboat.Firmware{Kind: lifeboat.FirmwareUEFI, SecureBoot: true},
			GuestFamily: "linux",
			Disks:       []lifeboat.Disk{{Key: "scsi0-1", SizeBytes: 8 * mib, Bus: lifeboat.BusPVSCSI, Place: "0:1", BootIndex: 1}},
			NICs: []lifeboat.NIC{
				{MAC: "00:50:56:9f:00:01", Model: "vmxnet3", Network: "VM Network"},
				{MAC: "52:54:00:12:34:56", Model: "e1000e"},
			},
		},
		Disks:    map[string]hypervisor.Backing{"scsi0-1": {Copy: pattern(8)}},
		Networks: []hypervisor.Network{{Kind: hypervisor.NetworkNamed, Name: "VM Network"}},
		Recovery: "run-7",
	}
}

// onlyOne makes a model with one of everything, as a small site has.
func onlyOne() *simulator.Model {
	m := simulator.VPX()
	m.Host, m.Cluster, m.ClusterHost = 0, 1, 1
	return m
}

func TestAMachineIsBuiltAsItsGuestKnewIt(t *testing.T) {
	for kind, model := range map[string]*simulator.Model{"vCenter": onlyOne(), "ESXi": simulator.ESX()} {
		t.Run(kind, func(t *testing.T) {
			h := opened(t, optionsFor(simulated(t, model)))
			d := definition("web 01 (drill)")
			if err := h.Define(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			f, err := h.find(t.Context(), d.Name)
			if err != nil {
				t.Fatal(err)
			}
			got := f.describe(nil)
			want := d.Machine
			if got.UUID != want.UUID || got.ID != want.ID || got.Firmware.Kind != want.Firmware.Kind || !got.Firmware.SecureBoot ||
				got.CPUs != 4 || got.MemoryBytes != 2<<30 || f.power() != hypervisor.PowerOff {
				t.Errorf("built: %+v", got)
			}
			if len(got.Disks) != 1 || got.Disks[0].Key != "scsi0-1" || got.Disks[0].Bus != lifeboat.BusPVSCSI || got.Disks[0].SizeBytes != 8*mib {
				t.Errorf("disks: %+v", got.Disks)
			}
			if len(got.NICs) != 2 || got.NICs[0].MAC != want.NICs[0].MAC || got.NICs[1].MAC != want.NICs[1].MAC ||
				got.NICs[0].Model != "vmxnet3" || got.NICs[1].Model != "e1000e" || got.NICs[0].Network != "VM Network" {
				t.Errorf("cards: %+v", got.NICs)
			}
			if f.setting(settingRecovery) != "run-7" || !f.ours() {
				t.Errorf("the machine does not say that it is ours")
			}
			for i, card := range f.ethernets() {
				c := card.GetVirtualEthernetCard().Connectable
				if c == nil || c.StartConnected != (i == 0) || c.AllowGuestControl != (i == 0) {
					t.Errorf("card %d: plugged in, or for the guest to plug in: %+v", i, c)
				}
			}
			err = h.Define(t.Context(), d)
			if p := problem(t, err); !errors.Is(err, errNameTaken) || !strings.Contains(p.What, "web 01 (drill)") {
				t.Errorf("the name twice: %v", err)
			}
			if err := h.Remove(t.Context(), d.Name); err != nil {
				t.Fatal(err)
			}
			if _, err := h.find(t.Context(), d.Name); !errors.Is(err, hypervisor.ErrNoMachine) {
				t.Errorf("after its removal: %v", err)
			}
		})
	}
}

func TestAnImportThatFailsLeavesNothing(t *testing.T) {
	broken := errors.New("the drive was pulled")
	for name, spoil := range map[string]func(d *hypervisor.Definition) context.Context{
		"the drive fails": func(d *hypervisor.Definition) context.Context {
			d.Disks["scsi0-1"].Copy.(*memoryDisk).fail = broken
			return context.Background()
		},
		"the operator stops it": func(d *hypervisor.Definition) context.Context {
			ctx, cancel := context.WithCancel(context.Background())
			disk := d.Disks["scsi0-1"].Copy.(*memoryDisk)
			disk.gate = make(chan struct{})
			go func() {
				disk.gate <- struct{}{}
				cancel()
			}()
			return ctx
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := opened(t, optionsFor(simulated(t, onlyOne())))
			d := definition("web01")
			ctx := spoil(&d)
			err := h.Define(ctx, d)
			if err == nil || ctx.Err() == nil && !errors.Is(err, broken) {
				t.Fatalf("the error is %v", err)
			}
			if _, err := h.find(t.Context(), "web01"); !errors.Is(err, hypervisor.ErrNoMachine) {
				t.Errorf("the half-made machine: %v", err)
			}
		})
	}
}

func TestWhatVSphereCannotBuildIsSaidBeforeAnythingIsDone(t *testing.T) {
	model := onlyOne()
	h := opened(t, optionsFor(simulated(t, model)))
	for name, c := range map[string]struct {
		spoil func(d *hypervisor.Definition)
		word  string
	}{
		"from a disk server": {func(d *hypervisor.Definition) {
			d.Disks["scsi0-1"] = hypervisor.Backing{NBD: &hypervisor.NBDBacking{Socket: "s", Export: "e"}}
		}, "copied"},
		"a segment": {func(d *hypervisor.Definition) {
			d.Networks[0] = hypervisor.Network{Kind: hypervisor.NetworkSegment, Name: "drill"}
		}, "segment"},
		"a network that is not there": {func(d *hypervisor.Definition) { d.Networks[0].Name = "Nowhere" }, "Nowhere"},
		"large sectors":               {func(d *hypervisor.Definition) { d.Machine.Disks[0].LogicalSectorBytes = 4096 }, "4096"},
		"too many disks": {func(d *hypervisor.Definition) {
			d.Machine.Disks = nil
			for i := range 61 {
				d.Machine.Disks = append(d.Machine.Disks, lifeboat.Disk{Key: fmt.Sprintf("d%d", i), SizeBytes: mib, Bus: lifeboat.BusPVSCSI})
			}
			d.Disks = nil
		}, "more disks"},
	} {
		d := definition("web01")
		c.spoil(&d)
		if p := problem(t, h.Define(t.Context(), d)); !strings.Contains(p.What, c.word) {
			t.Errorf("%s: %s", name, p.What)
		}
	}
	if _, err := h.find(t.Context(), "web01"); !errors.Is(err, hypervisor.ErrNoMachine) {
		t.Errorf("something was built: %v", err)
	}
}

func TestAFullDatastoreIsSaidBeforeTheUpload(t *testing.T) {
	model := onlyOne()
	h := opened(t, optionsFor(simulated(t, model)))
	for _, object := range model.Map().All("Datastore") {
		store := object.(*simulator.Datastore)
		store.Summary.FreeSpace, store.Info.GetDatastoreInfo().FreeSpace = 1<<20, 1<<20
	}
	d := definition("web01")
	if p := problem(t, h.Define(t.Context(), d)); !strings.Contains(p.What, "1 MiB free") || !strings.Contains(p.What, "need 8 MiB") {
		t.Errorf("what: %s", p.What)
	}
}

func TestOnlyWhatLifeboatMadeIsRemoved(t *testing.T) {
	model := onlyOne()
	h := opened(t, optionsFor(simulated(t, model)))
	if p := problem(t, h.Remove(t.Context(), "DC0_C0_RP0_VM0")); !strings.Contains(p.What, "not made by Lifeboat") {
		t.Errorf("a machine of production: %s", p.What)
	}
	d := definition("web01")
	if err := h.Define(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if err := h.PowerOn(t.Context(), "web01"); err != nil {
		t.Fatal(err)
	}
	if err := h.Remove(t.Context(), "web01"); !errors.Is(err, hypervisor.ErrMachineRunning) {
		t.Errorf("a machine that runs: %v", err)
	}
	if err := h.PowerOff(t.Context(), "web01", 0); err != nil {
		t.Fatal(err)
	}
	// A clone has its settings and another id.
	editVM(t, model, "web01", func(vm *simulator.VirtualMachine) { vm.Config.InstanceUuid = randomUUID() })
	if p := problem(t, h.Remove(t.Context(), "web01")); !strings.Contains(p.What, "not made by Lifeboat") {
		t.Errorf("a clone: %s", p.What)
	}
}

func TestPlacesAreKeptAndOthersFoundForTheRest(t *testing.T) {
	disks := []lifeboat.Disk{
		{Key: "a", Bus: lifeboat.BusPVSCSI, Place: "0:3"},
		{Key: "b", Bus: lifeboat.BusPVSCSI},
		{Key: "c", Bus: lifeboat.BusPVSCSI, Place: "0:7"}, // the controller's own
		{Key: "d", Bus: lifeboat.BusLSI, Place: "0:1"},    // another controller
		{Key: "e", Bus: lifeboat.BusSATA, Place: "9:0"},   // too many controllers
		{Key: "f", Bus: lifeboat.BusIDE, Place: "1:1"},
		{Key: "g", Bus: lifeboat.BusPVSCSI, Place: "0:3"}, // taken
		{Key: "h", Bus: lifeboat.BusNVMe, Place: "x"},
	}
	slots, _, err := arrange(disks)
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"a": "scsi0:3", "b": "scsi0:0", "c": "scsi0:1", "d": "scsi1:0", "e": "sata0:0", "f": "ide1:1", "g": "scsi0:2", "h": "nvme0:0",
	} {
		if got := fmt.Sprintf("%s%d:%d", slots[key].word, slots[key].number, slots[key].unit); got != want {
			t.Errorf("%s is at %s, not %s", key, got, want)
		}
	}
}

func TestSlotNumbersComeBackFromAddresses(t *testing.T) {
	for _, number := range []int32{16, 33, 160, 192, 256, 1184, 2208} {
		if back := slotNumber(pciAddress(number)); back != number {
			t.Errorf("%d came back as %d", number, back)
		}
	}
	if slotNumber("0000:99:00.0") != -1 || slotNumber("") != -1 {
		t.Error("an address of no such board has a number")
	}
}

func TestGrainsAreReadOnceInOrderAndWholly(t *testing.T) {
	disk := pattern(5)
	disk.data = disk.data[:5*mib-3*512] // the last grain is short
	disk.runs = []lifeboat.Extent{
		{Offset: 100, Length: 10}, {Offset: 200, Length: 70000}, {Offset: 2 * mib, Length: 512},
		{Offset: 3 * mib, Length: int64(len(disk.data)) - 3*mib},
	}
	copied := make([]byte, len(disk.data))
	last := int64(-1)
	err := copyGrains(t.Context(), disk, func(offset int64, p []byte) error {
		if offset <= last || offset%(64<<10) != 0 {
			t.Errorf("a grain at %d after %d", offset, last)
		}
		last = offset
		copy(copied[offset:], p)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range disk.runs {
		if !bytes.Equal(copied[r.Offset:r.End()], disk.data[r.Offset:r.End()]) {
			t.Errorf("the run at %d is not what it was", r.Offset)
		}
	}
	stop := errors.New("the server takes no more")
	if err := copyGrains(t.Context(), pattern(20), func(offset int64, _ []byte) error {
		if offset > mib {
			return stop
		}
		return nil
	}); !errors.Is(err, stop) {
		t.Errorf("stopped by %v", err)
	}
}

// vast is a disk that says that all of it holds data.
type vast struct {
	memoryDisk
	bytes int64
}

func (d *vast) SizeBytes() int64 { return d.bytes }

func TestADiskThatNoStreamHoldsIsRefusedBeforeItIsSent(t *testing.T) {
	var notes []string
	o := Options{Name: "vc", URL: "https://vc", User: "u", Note: func(_, text string) { notes = append(notes, text) }}
	h, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	p := &place{}
	p.datastore.Summary.FreeSpace = 100 << 40
	for _, c := range []struct {
		bytes   int64
		refused bool
		notes   int
	}{{1 << 40, false, 0}, {3 << 40, false, 1}, {5 << 40, true, 0}} {
		notes = nil
		d := definition("web01")
		d.Disks["scsi0-1"] = hypervisor.Backing{Copy: &vast{bytes: c.bytes}}
		err := h.hasRoom(t.Context(), p, &d)
		if errors.Is(err, hypervisor.ErrUnsupported) != c.refused || !c.refused && err != nil || len(notes) != c.notes {
			t.Errorf("%s: %v, %q", size(c.bytes), err, notes)
		}
	}
}

func TestAPrivilegeThatIsMissingHalfWayIsNamedAndNothingIsLeft(t *testing.T) {
	for _, id := range []string{"VirtualMachine.Config.AddNewDisk", "VirtualMachine.Config.AdvancedConfig", "VirtualMachine.Config.Settings"} {
		s, h := served(t, vcenter.Options{})
		s.Deny(id)
		d, _ := manyDisks()
		if p := problem(t, h.Define(t.Context(), d)); !strings.Contains(p.Next, id) || !strings.Contains(p.Safe, "nothing is left") {
			t.Errorf("%s: %+v", id, p)
		}
		if _, err := h.find(t.Context(), d.Name); !errors.Is(err, hypervisor.ErrNoMachine) {
			t.Errorf("%s: the half-made machine: %v", id, err)
		}
	}
}
