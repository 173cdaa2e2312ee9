package vsphere

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"lifeboat/fixtures/vcenter"
	"lifeboat/hypervisor"
)

// served is a host on a server of the fixture.
func served(t *testing.T, o vcenter.Options) (*vcenter.Server, *Host) {
	t.Helper()
	s := vcenter.Start(t, o)
	p := serverOptions(s)
	if !o.ESXi {
		// It has a host beside it, where a machine could go as well.
		p.Cluster = "DC0_C0"
	}
	return s, opened(t, p)
}

func serverOptions(s *vcenter.Server) Options {
	pin, _ := s.Thumbprints()
	return Options{Name: "vc", URL: s.URL, User: s.User, Password: s.Password, Thumbprint: pin}
}

// finding is what a check says of one thing.
func finding(t *testing.T, list []hypervisor.Finding, what string) hypervisor.Finding {
	t.Helper()
	i := slices.IndexFunc(list, func(f hypervisor.Finding) bool { return f.What == what })
	if i < 0 {
		t.Fatalf("nothing is said of %q: %+v", what, list)
	}
	return list[i]
}

func TestACheckOfAGoodServerFindsNothingWrong(t *testing.T) {
	for kind, esxi := range map[string]bool{"vCenter": false, "ESXi": true} {
		t.Run(kind, func(t *testing.T) {
			s, h := served(t, vcenter.Options{ESXi: esxi})
			s.AddMachine(t, vcenter.MachineSpec{Name: "web01", Disks: []vcenter.DiskSpec{{SizeBytes: mib}}})
			changes := s.Calls("ReconfigVM_Task") + s.Calls("CreateSnapshot_Task")
			list := h.Check(t.Context())
			for _, f := range list {
				if !f.OK {
					t.Errorf("%s: %s", f.What, f.Detail)
				}
			}
			if d := finding(t, list, "machines").Detail; !strings.HasPrefix(d, "1, ") {
				t.Errorf("machines: %s", d)
			}
			if s.Calls("ReconfigVM_Task")+s.Calls("CreateSnapshot_Task") != changes {
				t.Error("a check changed something")
			}
		})
	}
}

func TestACheckSaysWhatIsWrong(t *testing.T) {
	s, h := served(t, vcenter.Options{})
	m := s.AddMachine(t, vcenter.MachineSpec{Name: "db01", Running: true, Disks: []vcenter.DiskSpec{{SizeBytes: mib, Mode: "independent_persistent"}}})
	m.Change(func(vm *mo.VirtualMachine) {
		vm.Runtime.ConsolidationNeeded = true
		vm.Guest.ToolsRunningStatus = string(types.VirtualMachineToolsRunningStatusGuestToolsNotRunning)
	})
	s.Deny("VirtualMachine.State.CreateSnapshot", "VApp.Import")
	list := h.Check(t.Context())
	for what, word := range map[string]string{
		"machines":              "db01: its disk scsi0-0 is independent",
		"VMware Tools":          "1 of 1",
		"snapshots":             "Consolidate",
		"privileges to export":  "VirtualMachine.State.CreateSnapshot",
		"privileges to recover": "VApp.Import",
	} {
		if f := finding(t, list, what); f.OK || !strings.Contains(f.Detail, word) {
			t.Errorf("%s: %+v", what, f)
		}
	}
}

func TestAFreeESXiIsFoundOutAndSaid(t *testing.T) {
	s, h := served(t, vcenter.Options{ESXi: true})
	s.AddMachine(t, vcenter.MachineSpec{Name: "web01", Disks: []vcenter.DiskSpec{{SizeBytes: mib}}})
	s.FreeLicense()
	if f := finding(t, h.Check(t.Context()), "licence"); f.OK || !strings.Contains(f.Detail, "free licence") {
		t.Errorf("%+v", f)
	}
	for what, err := range map[string]error{
		"start": h.PowerOn(t.Context(), "web01"), "build": h.Define(t.Context(), definition("new")),
	} {
		if p := problem(t, err); !strings.Contains(p.Next, "licence") {
			t.Errorf("%s: %+v", what, p)
		}
	}
}

func TestACheckOfAServerThatIsAwaySaysSo(t *testing.T) {
	s, _ := served(t, vcenter.Options{})
	o := serverOptions(s)
	o.Password = "wrong"
	list := opened(t, o).Check(t.Context())
	if len(list) != 1 || list[0].OK || !strings.Contains(list[0].Detail, "lifeboat host password") {
		t.Errorf("%+v", list)
	}
}

func TestOldAndLeftOverSnapshotsAreFound(t *testing.T) {
	now := time.Now()
	with := func(name, description string, age time.Duration) found {
		f := *server()
		f.vm.Snapshot = &types.VirtualMachineSnapshotInfo{RootSnapshotList: []types.VirtualMachineSnapshotTree{
			{Name: name, Description: description, CreateTime: now.Add(-age)},
		}}
		return f
	}
	for name, c := range map[string]struct {
		f    found
		word string
	}{
		"young":  {with("before the update", "", time.Hour), ""},
		"old":    {with("before the update", "", 30*24*time.Hour), "older than a week"},
		"ours":   {with(newSnapshotName(), newClaim(now).text(), time.Hour), "Lifeboat's own"},
		"theirs": {with(snapshotPrefix+"x", "somebody wrote this", time.Hour), ""},
	} {
		got := checkSnapshots([]found{c.f}, now)
		if got.OK != (c.word == "") || !strings.Contains(got.Detail, c.word) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestTheManualListsThePrivilegesThatAreNeeded(t *testing.T) {
	page, err := os.ReadFile("../../docs/reference/vsphere-host.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range privileges {
		row := "| `" + p.id + "` | " + p.name + " | " + string(p.on) + " | " + p.why + " |"
		if !strings.Contains(string(page), row) {
			t.Errorf("docs/reference/vsphere-host.md lacks the row\n%s", row)
		}
	}
	ids := regexp.MustCompile("(?m)^\\| `[A-Z][A-Za-z]+\\.[A-Za-z.]+` \\|").FindAllString(string(page), -1)
	if len(ids) != len(privileges) {
		t.Errorf("the page has %d rows of privileges, the table %d", len(ids), len(privileges))
	}
}
