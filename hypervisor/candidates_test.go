package hypervisor_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"lifeboat"
	"lifeboat/hypervisor"
)

var (
	onQEMU = hypervisor.Abilities{
		Buses: []lifeboat.Bus{lifeboat.BusVirtio, lifeboat.BusSATA, lifeboat.BusIDE, lifeboat.BusVirtioSCSI,
			lifeboat.BusNVMe, lifeboat.BusPVSCSI, lifeboat.BusLSISAS},
		Cards: []string{"virtio", "e1000e", "e1000", "rtl8139", "vmxnet3"},
	}
	onVMware = hypervisor.Abilities{
		Buses: []lifeboat.Bus{lifeboat.BusPVSCSI, lifeboat.BusSATA, lifeboat.BusIDE, lifeboat.BusNVMe,
			lifeboat.BusLSISAS, lifeboat.BusLSI},
		Cards: []string{"vmxnet3", "e1000e", "e1000"},
	}
)

// form is what a candidate looks like in one line: the buses and cards.
func form(m lifeboat.Machine) string {
	var words []string
	for _, d := range m.Disks {
		words = append(words, string(d.Bus))
	}
	for _, n := range m.NICs {
		words = append(words, n.Model)
	}
	return strings.Join(words, "+")
}

func TestFormsOfAMachineOnAHost(t *testing.T) {
	for _, c := range []struct {
		disk, card string
		on         hypervisor.Abilities
		want       string
	}{
		{"virtio", "virtio", onQEMU, "virtio+virtio sata+virtio ide+virtio"},
		{"sata", "e1000e", onQEMU, "sata+e1000e virtio+e1000e ide+e1000e"},
		{"pvscsi", "vmxnet3", onQEMU, "pvscsi+vmxnet3 virtio+vmxnet3 sata+vmxnet3 ide+vmxnet3"},
		{"lsi", "e1000", onQEMU, "lsi-sas+e1000 virtio+e1000 sata+e1000 ide+e1000"},
		{"lsi-sas", "vmxnet3", onQEMU, "lsi-sas+vmxnet3 virtio+vmxnet3 sata+vmxnet3 ide+vmxnet3"},
		{"virtio", "virtio", onVMware, "pvscsi+vmxnet3 sata+e1000e ide+e1000e"},
		{"virtio-scsi", "virtio", onVMware, "pvscsi+vmxnet3 sata+e1000e ide+e1000e"},
		{"sata", "e1000e", onVMware, "sata+e1000e pvscsi+e1000e ide+e1000e"},
		{"nvme", "rtl8139", onVMware, "nvme+e1000 pvscsi+e1000 sata+e1000e ide+e1000e"},
		{"ide", "rtl8139", onQEMU, "ide+rtl8139 virtio+rtl8139 sata+rtl8139"},
		{"", "", onQEMU, "virtio+virtio sata+e1000e ide+e1000e"},
	} {
		var got []string
		m := lifeboat.Machine{Disks: []lifeboat.Disk{{Key: "root", Bus: lifeboat.Bus(c.disk)}}, NICs: []lifeboat.NIC{{Model: c.card}}}
		for _, candidate := range hypervisor.Candidates(m, c.on) {
			got = append(got, form(candidate.Machine))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s, %s:\n got  %s\n want %s", c.disk, c.card, strings.Join(got, " "), c.want)
		}
	}
}

func TestAFormSaysWhatWasReplaced(t *testing.T) {
	m := lifeboat.Machine{Disks: []lifeboat.Disk{{Key: "a", Bus: lifeboat.BusVirtio}, {Key: "b", Bus: lifeboat.BusVirtio}},
		NICs: []lifeboat.NIC{{Model: "virtio"}}}
	if why := hypervisor.Candidates(m, onQEMU)[0].Why; why != "as its system knows it" {
		t.Error(why)
	}
	want := "disks on pvscsi instead of virtio, a vmxnet3 network card instead of virtio"
	if why := hypervisor.Candidates(m, onVMware)[0].Why; why != want {
		t.Errorf("%q, not %q", why, want)
	}
}

func TestWhatABusCannotHaveIsNotTried(t *testing.T) {
	large := lifeboat.Machine{Disks: []lifeboat.Disk{{Key: "root", Bus: lifeboat.BusVirtio, LogicalSectorBytes: 4096}}}
	many := lifeboat.Machine{}
	for i := range 5 {
		many.Disks = append(many.Disks, lifeboat.Disk{Key: fmt.Sprint("d", i), Bus: lifeboat.BusVirtio})
	}
	modern := lifeboat.Machine{Disks: []lifeboat.Disk{{Key: "root", Bus: lifeboat.BusVirtio}},
		Firmware: lifeboat.Firmware{Kind: lifeboat.FirmwareUEFI}}
	for name, c := range map[string]struct {
		m    lifeboat.Machine
		want []lifeboat.Bus
	}{
		"large sectors on ATA": {large, []lifeboat.Bus{lifeboat.BusVirtio}},
		"five disks on IDE":    {many, []lifeboat.Bus{lifeboat.BusVirtio, lifeboat.BusSATA}},
		"UEFI with IDE":        {modern, []lifeboat.Bus{lifeboat.BusVirtio, lifeboat.BusSATA}},
	} {
		var got []lifeboat.Bus
		for _, candidate := range hypervisor.Candidates(c.m, onQEMU) {
			got = append(got, candidate.Machine.Disks[0].Bus)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, not %v", name, got, c.want)
		}
	}
}

// TestFormsKeepWhatAMachineIs plays random machines on random hosts.
func TestFormsKeepWhatAMachineIs(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for range 5000 {
		m, a := anyMachine(r), anyHost(r)
		list := hypervisor.Candidates(m, a)
		if err := checkForms(m, a, list); err != nil {
			t.Fatalf("seed %d: %v\nmachine %+v\nhost %+v\nforms %+v", seed, err, m, a, list)
		}
	}
}

func checkForms(m lifeboat.Machine, a hypervisor.Abilities, list []hypervisor.Candidate) error {
	possible := true
	for _, d := range m.Disks {
		possible = possible && slices.Contains(a.Buses, d.Bus)
	}
	for _, n := range m.NICs {
		possible = possible && slices.Contains(a.Cards, n.Model)
	}
	if possible && !reflect.DeepEqual(list[0].Machine, m) {
		return fmt.Errorf("the host has all of it, and the first form is another")
	}
	for i, c := range list {
		for _, other := range list[:i] {
			if reflect.DeepEqual(c.Machine, other.Machine) {
				return fmt.Errorf("form %d is there twice", i)
			}
		}
		if c.Why == "" {
			return fmt.Errorf("form %d has no reason", i)
		}
		if err := checkForm(m, a, c.Machine); err != nil {
			return fmt.Errorf("form %d: %w", i, err)
		}
	}
	return nil
}

func checkForm(m lifeboat.Machine, a hypervisor.Abilities, f lifeboat.Machine) error {
	for i, d := range f.Disks {
		if !slices.Contains(a.Buses, d.Bus) {
			return fmt.Errorf("the host has no %s", d.Bus)
		}
		if d.Bus != m.Disks[i].Bus && (d.Place != "" || d.PCISlot != "") {
			return fmt.Errorf("disk %s keeps its place on another bus", d.Key)
		}
		d.Bus, d.Place, d.PCISlot = m.Disks[i].Bus, m.Disks[i].Place, m.Disks[i].PCISlot
		if d != m.Disks[i] {
			return fmt.Errorf("disk %s became %+v", m.Disks[i].Key, d)
		}
	}
	for i, n := range f.NICs {
		if !slices.Contains(a.Cards, n.Model) {
			return fmt.Errorf("the host has no %s", n.Model)
		}
		n.Model = m.NICs[i].Model
		if !reflect.DeepEqual(n, m.NICs[i]) {
			return fmt.Errorf("card %d became %+v", i, n)
		}
	}
	f.Disks, f.NICs, f.Chipset = m.Disks, m.NICs, m.Chipset
	if !reflect.DeepEqual(f, m) {
		return fmt.Errorf("more than disks and cards changed")
	}
	return nil
}

func TestAPersonChoosesTheBus(t *testing.T) {
	disks := func(n int, kind lifeboat.FirmwareKind, sector int) lifeboat.Machine {
		m := lifeboat.Machine{Firmware: lifeboat.Firmware{Kind: kind}}
		for i := range n {
			m.Disks = append(m.Disks, lifeboat.Disk{Key: fmt.Sprint("d", i), Bus: lifeboat.BusVirtio, Place: "0:1", LogicalSectorBytes: sector})
		}
		return m
	}
	for _, c := range []struct {
		m    lifeboat.Machine
		bus  lifeboat.Bus
		on   hypervisor.Abilities
		why  string
		fail string
	}{
		{disks(2, "", 512), lifeboat.BusSATA, onQEMU, "disks on sata instead of virtio", ""},
		{disks(2, "", 512), lifeboat.BusVirtio, onQEMU, hypervisor.AsKnown, ""},
		{disks(2, "", 512), lifeboat.BusNVMe, onVMware, "disks on nvme instead of virtio", ""},
		{disks(2, "", 512), lifeboat.BusVirtio, onVMware, "", "only on pvscsi, sata"},
		{disks(2, "", 512), "scsi", onQEMU, "", "\"scsi\""},
		{disks(5, "", 512), lifeboat.BusIDE, onQEMU, "", "IDE takes 4"},
		{disks(1, lifeboat.FirmwareUEFI, 512), lifeboat.BusIDE, onQEMU, "", "no machine with UEFI"},
		{disks(1, "", 4096), lifeboat.BusSATA, onQEMU, "", "4096"},
	} {
		got, err := hypervisor.OnBus(c.m, c.bus, c.on)
		if c.fail != "" {
			if err == nil || !strings.Contains(err.Error(), c.fail) {
				t.Errorf("%s: %v", c.bus, err)
			}
			continue
		}
		if err != nil || got.Why != c.why {
			t.Errorf("%s: %q, %v", c.bus, got.Why, err)
		}
		for _, d := range got.Machine.Disks {
			if d.Bus != c.bus || c.why != hypervisor.AsKnown && d.Place != "" {
				t.Errorf("%s: it has %+v", c.bus, d)
			}
		}
	}
}

var allBuses = []lifeboat.Bus{lifeboat.BusVirtio, lifeboat.BusVirtioSCSI, lifeboat.BusSATA, lifeboat.BusIDE,
	lifeboat.BusNVMe, lifeboat.BusPVSCSI, lifeboat.BusLSI, lifeboat.BusLSISAS}
var allCards = []string{"virtio", "e1000", "e1000e", "rtl8139", "vmxnet3"}

func anyMachine(r *rand.Rand) lifeboat.Machine {
	m := lifeboat.Machine{Name: "m", UUID: "u", CPUs: 2, Firmware: lifeboat.Firmware{Kind: []lifeboat.FirmwareKind{lifeboat.FirmwareBIOS, lifeboat.FirmwareUEFI}[r.IntN(2)],
		SecureBoot: r.IntN(2) == 0, NVRAM: []byte("variables")}}
	m.Chipset = []lifeboat.Chipset{"", lifeboat.ChipsetQ35, lifeboat.ChipsetI440FX}[r.IntN(3)]
	for i := range r.IntN(6) {
		m.Disks = append(m.Disks, lifeboat.Disk{Key: fmt.Sprint("d", i), SizeBytes: r.Int64N(1 << 40), Bus: allBuses[r.IntN(len(allBuses))],
			Serial: fmt.Sprint("s", i), Place: "0:1", PCISlot: "0000:03:00.0", BootIndex: i, LogicalSectorBytes: 512 << (3 * r.IntN(2))})
	}
	for i := range r.IntN(3) {
		m.NICs = append(m.NICs, lifeboat.NIC{MAC: fmt.Sprint("mac", i), Model: allCards[r.IntN(len(allCards))], PCISlot: "0000:02:00.0",
			Addresses: []string{"10.0.0.1/24"}})
	}
	return m
}

func anyHost(r *rand.Rand) hypervisor.Abilities {
	return hypervisor.Abilities{Buses: some(r, allBuses), Cards: some(r, allCards)}
}

// some are at least one of the words, in any order.
func some[T any](r *rand.Rand, words []T) []T {
	words = slices.Clone(words)
	r.Shuffle(len(words), func(i, j int) { words[i], words[j] = words[j], words[i] })
	return words[:1+r.IntN(len(words))]
}
