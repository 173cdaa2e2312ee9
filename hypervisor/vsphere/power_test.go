package vsphere

import (
	"bytes"
	"errors"
	"image/png"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"lifeboat"
	"lifeboat/fixtures/vcenter"
	"lifeboat/hypervisor"
)

// small is a machine with one disk.
func small(name string, running bool) vcenter.MachineSpec {
	return vcenter.MachineSpec{Name: name, Running: running, Disks: []vcenter.DiskSpec{{SizeBytes: mib}}}
}

func power(t *testing.T, h *Host, name string) hypervisor.PowerState {
	t.Helper()
	f, err := h.find(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return f.power()
}

func TestAMachineIsStartedAndStoppedOnce(t *testing.T) {
	s, h := served(t, vcenter.Options{})
	s.AddMachine(t, small("web01", false))
	for range 2 {
		if err := h.PowerOn(t.Context(), "web01"); err != nil || power(t, h, "web01") != hypervisor.PowerOn {
			t.Fatalf("start: %v", err)
		}
	}
	for range 2 {
		if err := h.PowerOff(t.Context(), "web01", 0); err != nil || power(t, h, "web01") != hypervisor.PowerOff {
			t.Fatalf("stop: %v", err)
		}
	}
	if on, off := s.Calls("PowerOnVM_Task"), s.Calls("PowerOffVM_Task"); on != 1 || off != 1 {
		t.Errorf("started %d times, stopped %d times", on, off)
	}
}

func TestAGuestWithToolsIsAskedToShutDown(t *testing.T) {
	s, h := served(t, vcenter.Options{})
	var notes []string
	h.o.Note = func(machine, text string) { notes = append(notes, machine+": "+text) }
	m := s.AddMachine(t, small("web01", true))
	m.Change(func(vm *mo.VirtualMachine) {
		vm.Guest.ToolsRunningStatus = string(types.VirtualMachineToolsRunningStatusGuestToolsRunning)
	})
	if err := h.PowerOff(t.Context(), "web01", time.Minute); err != nil || power(t, h, "web01") != hypervisor.PowerOff {
		t.Fatalf("stop: %v", err)
	}
	if s.Calls("ShutdownGuest") != 1 || s.Calls("PowerOffVM_Task") != 0 {
		t.Error("the guest was not asked")
	}
	deaf := s.AddMachine(t, small("db01", true))
	deaf.Change(func(vm *mo.VirtualMachine) {
		vm.Guest.ToolsRunningStatus = string(types.VirtualMachineToolsRunningStatusGuestToolsNotRunning)
	})
	if err := h.PowerOff(t.Context(), "db01", time.Minute); err != nil || power(t, h, "db01") != hypervisor.PowerOff {
		t.Fatalf("stop: %v", err)
	}
	if s.Calls("ShutdownGuest") != 1 || len(notes) != 1 || !strings.Contains(notes[0], "VMware Tools") {
		t.Errorf("a guest without tools: %q", notes)
	}
}

func TestAQuestionOfTheServerIsHandedOnAndNotAnswered(t *testing.T) {
	s, h := served(t, vcenter.Options{})
	m := s.AddMachine(t, small("web01", false))
	m.Change(func(vm *mo.VirtualMachine) {
		vm.Runtime.Question = &types.VirtualMachineQuestionInfo{
			Id: "7", Text: "This virtual machine might have been moved or copied.",
			Choice: types.ChoiceOption{ChoiceInfo: []types.BaseElementDescription{
				&types.ElementDescription{Description: types.Description{Label: "I moved it"}, Key: "1"},
				&types.ElementDescription{Description: types.Description{Label: "I copied it"}, Key: "2"},
			}},
		}
	})
	s.Fail(vcenter.Failure{Method: "PowerOnVM_Task", Endless: true})
	err := h.PowerOn(t.Context(), "web01")
	p := problem(t, err)
	if !errors.Is(err, errAsked) || !strings.Contains(p.What, "moved or copied") || !strings.Contains(p.Next, "I moved it, I copied it") {
		t.Errorf("%+v", p)
	}
	if s.Calls("AnswerVM")+s.Calls("CancelTask") != 0 {
		t.Error("it was answered, or taken back")
	}
}

func TestAScreenIsShownInBothWaysAndNothingStays(t *testing.T) {
	s, h := served(t, vcenter.Options{})
	s.AddMachine(t, small("web01", true))
	see := func(how string) {
		t.Helper()
		picture, err := h.Screenshot(t.Context(), "web01")
		if err != nil {
			t.Fatalf("%s: %v", how, err)
		}
		if _, err := png.Decode(bytes.NewReader(picture)); err != nil {
			t.Errorf("%s: %v", how, err)
		}
	}
	see("by the service")
	if s.Calls("CreateScreenshot_Task") != 0 {
		t.Error("a file was made although the service answers")
	}
	s.NoScreens()
	see("by a file")
	f, err := h.find(t.Context(), "web01")
	if err != nil {
		t.Fatal(err)
	}
	c, err := h.client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	u, err := h.datastoreURL(t.Context(), c, f, "[LocalDS_0] web01/screen-1.png")
	if err != nil {
		t.Fatal(err)
	}
	res, err := h.get(t.Context(), u, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusNotFound {
		t.Errorf("the picture is still there: %s", res.Status)
	}
	if err := h.PowerOff(t.Context(), "web01", 0); err != nil {
		t.Fatal(err)
	}
	_, err = h.Screenshot(t.Context(), "web01")
	problem(t, err)
}

func TestTheConsoleIsAPageOnTheServer(t *testing.T) {
	for _, esxi := range []bool{false, true} {
		s, h := served(t, vcenter.Options{ESXi: esxi})
		m := s.AddMachine(t, small("web 01", true))
		console, err := h.Console(t.Context(), "web 01")
		if err != nil || !strings.HasPrefix(console.URL, s.URL+"/ui/") || !strings.Contains(console.URL, m.Ref.Value) || strings.Contains(console.URL, " ") {
			t.Errorf("%+v, %v", console, err)
		}
	}
}

func TestWhatVSphereCannotDoIsSaid(t *testing.T) {
	s, h := served(t, vcenter.Options{})
	s.AddMachine(t, small("web01", true))
	_, err := h.OpenGateway(t.Context(), hypervisor.Segment{Name: "drill"})
	if problem(t, err); !errors.Is(err, hypervisor.ErrUnsupported) {
		t.Errorf("a gateway: %v", err)
	}
	if err := h.Settle(t.Context(), "web01", nil); err != nil {
		t.Errorf("settling what is on the datastore already: %v", err)
	}
	if a := h.Abilities(); a.BootNBD || a.Segments || a.Settle {
		t.Errorf("it says that it can: %+v", a)
	}
	for _, bus := range h.Abilities().Buses {
		disks := []lifeboat.Disk{{Key: "root", SizeBytes: mib, Bus: bus}}
		if _, controllers, err := arrange(disks); err != nil || bus != lifeboat.BusIDE && controllers[0].device() == nil {
			t.Errorf("it says that it has %s: %v", bus, err)
		}
	}
}
