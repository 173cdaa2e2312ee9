package vsphere

import (
	"slices"
	"testing"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"lifeboat/fixtures/vcenter"
)

func TestAddressesAreThoseThatToolsTellNow(t *testing.T) {
	s, h := served(t, vcenter.Options{})
	const mac = "00:50:56:01:02:03"
	m := s.AddMachine(t, vcenter.MachineSpec{Name: "web01", Running: true, Disks: []vcenter.DiskSpec{{SizeBytes: mib}}, NICs: []vcenter.NICSpec{{MAC: mac}}})
	told := func(status types.VirtualMachineToolsRunningStatus) []string {
		t.Helper()
		m.Change(func(vm *mo.VirtualMachine) {
			vm.Guest.ToolsRunningStatus = string(status)
			vm.Guest.Net = []types.GuestNicInfo{{MacAddress: mac, IpConfig: &types.NetIpConfigInfo{
				IpAddress: []types.NetIpConfigInfoIpAddress{{IpAddress: "10.9.0.7", PrefixLength: 24}}}}}
		})
		cards, err := h.Addresses(t.Context(), "web01")
		if err != nil || len(cards) != 1 {
			t.Fatalf("%+v, %v", cards, err)
		}
		return cards[0].Addresses
	}
	if got := told(types.VirtualMachineToolsRunningStatusGuestToolsRunning); !slices.Equal(got, []string{"10.9.0.7/24"}) {
		t.Errorf("Tools told 10.9.0.7/24, the host tells %q", got)
	}
	// What the server remembers is of an earlier run.
	if got := told(types.VirtualMachineToolsRunningStatusGuestToolsNotRunning); len(got) > 0 {
		t.Errorf("Tools do not run, and the host tells %q", got)
	}
}
