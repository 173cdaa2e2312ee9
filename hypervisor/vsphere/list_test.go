package vsphere

import (
	"slices"
	"strings"
	"testing"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"lifeboat/hypervisor"
)

// editVM changes a machine inside the simulator.
func editVM(t *testing.T, model *simulator.Model, name string, edit func(vm *simulator.VirtualMachine)) {
	t.Helper()
	for _, object := range model.Map().All("VirtualMachine") {
		if vm, ok := object.(*simulator.VirtualMachine); ok && vm.Name == name {
			edit(vm)
			return
		}
	}
	t.Fatalf("the simulator has no machine %s", name)
}

func TestEveryMachineOfAServerIsListedByName(t *testing.T) {
	for kind, model := range map[string]*simulator.Model{"vCenter": simulator.VPX(), "ESXi": simulator.ESX()} {
		t.Run(kind, func(t *testing.T) {
			h := opened(t, optionsFor(simulated(t, model)))
			list, err := h.List(t.Context())
			if err != nil || len(list) == 0 {
				t.Fatalf("%d machines, %v", len(list), err)
			}
			if !slices.IsSortedFunc(list, func(a, b hypervisor.Listed) int { return strings.Compare(a.Machine.Name, b.Machine.Name) }) {
				t.Error("not in the order of their names")
			}
			for _, l := range list {
				if l.HostID == "" || len(l.Machine.ID) != 32 || l.Refused != "" || l.Power != hypervisor.PowerOn || len(l.Machine.Disks) != 1 {
					t.Errorf("%+v", l)
				}
				if f, err := h.find(t.Context(), l.HostID); err != nil || f.name() != l.Machine.Name {
					t.Errorf("%s is not found by its host id: %v", l.Machine.Name, err)
				}
			}
		})
	}
}

func TestATemplateIsListedAndCannotBeExported(t *testing.T) {
	model := simulator.VPX()
	h := opened(t, optionsFor(simulated(t, model)))
	editVM(t, model, "DC0_H0_VM0", func(vm *simulator.VirtualMachine) { vm.Config.Template = true })
	list, err := h.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(list, func(l hypervisor.Listed) bool { return l.Machine.Name == "DC0_H0_VM0" })
	if !strings.Contains(list[i].Refused, "template") || !strings.Contains(list[i].Refused, "deploy a machine from it") {
		t.Errorf("refused: %q", list[i].Refused)
	}
}

func TestTwoMachinesOfOneNameAreToldApartByTheirPaths(t *testing.T) {
	model := simulator.VPX()
	model.Datacenter = 2
	h := opened(t, optionsFor(simulated(t, model)))
	editVM(t, model, "DC1_H0_VM0", func(vm *simulator.VirtualMachine) { vm.Name, vm.Config.Name = "DC0_H0_VM0", "DC0_H0_VM0" })
	_, err := h.find(t.Context(), "DC0_H0_VM0")
	p := problem(t, err)
	for _, path := range []string{"/DC0/vm/DC0_H0_VM0", "/DC1/vm/DC0_H0_VM0"} {
		if !strings.Contains(p.What, path) {
			t.Errorf("what: %s", p.What)
		}
		if _, err := h.find(t.Context(), path); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	o := h.o
	o.Datacenter = "DC1"
	if _, err := opened(t, o).find(t.Context(), "DC0_H0_VM0"); err != nil {
		t.Errorf("with one data centre: %v", err)
	}
	o.Datacenter = "DC7"
	_, err = opened(t, o).find(t.Context(), "DC0_H0_VM0")
	if p := problem(t, err); !strings.Contains(p.What, "no data centre DC7") {
		t.Errorf("what: %s", p.What)
	}
}

func TestAMachineThatCannotBeReadLeavesTheOthersInTheList(t *testing.T) {
	model := simulator.VPX()
	h := opened(t, optionsFor(simulated(t, model)))
	whole, err := h.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	editVM(t, model, "DC0_H0_VM0", func(vm *simulator.VirtualMachine) {
		vm.Config = nil
		vm.Runtime.ConnectionState = types.VirtualMachineConnectionStateInaccessible
	})
	list, err := h.List(t.Context())
	if len(list) != len(whole)-1 {
		t.Errorf("%d machines of %d", len(list), len(whole))
	}
	if p := problem(t, err); !strings.Contains(p.What, "DC0_H0_VM0") || !strings.Contains(p.What, "inaccessible") {
		t.Errorf("what: %s", p.What)
	}
}

func TestTheMachineIsKeptInVMwaresWordsAsWell(t *testing.T) {
	for kind, model := range map[string]*simulator.Model{"vCenter": simulator.VPX(), "ESXi": simulator.ESX()} {
		t.Run(kind, func(t *testing.T) {
			h := opened(t, optionsFor(simulated(t, model)))
			list, err := h.List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			f, err := h.find(t.Context(), list[0].HostID)
			if err != nil {
				t.Fatal(err)
			}
			c, err := h.client(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			d, note := h.native(t.Context(), c, f)
			if d.Format != "vmx" || note != "" {
				t.Errorf("format %s, note %q", d.Format, note)
			}
			f.vm.Config.Files.VmPathName = "[" + "no such datastore] x/x.vmx"
			d, note = h.native(t.Context(), c, f)
			if d.Format != "vsphere-json" || !strings.Contains(d.Text, f.vm.Config.Uuid) || !strings.Contains(note, "vmx") {
				t.Errorf("without a vmx: format %s, note %q, text %.80q", d.Format, note, d.Text)
			}
		})
	}
}
