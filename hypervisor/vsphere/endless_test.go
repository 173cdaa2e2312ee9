package vsphere

import (
	"errors"
	"strings"
	"testing"
	"time"

	"lifeboat/fixtures/vcenter"
	"lifeboat/hypervisor"
)

// shortTasks lets the waiting for tasks end soon.
func shortTasks(t *testing.T) {
	task, remove := taskTime, removeTime
	taskTime, removeTime = 300*time.Millisecond, 300*time.Millisecond
	t.Cleanup(func() { taskTime, removeTime = task, remove })
}

func TestNoTaskOfTheServerIsWaitedForWithoutEnd(t *testing.T) {
	shortTasks(t)
	for name, c := range map[string]struct {
		method string
		on     bool // the machine runs
		do     func(l *lab) error
	}{
		"start": {"PowerOnVM_Task", false, func(l *lab) error { return l.host.PowerOn(t.Context(), "web01") }},
		"stop":  {"PowerOffVM_Task", true, func(l *lab) error { return l.host.PowerOff(t.Context(), "web01", 0) }},
		"configure": {"ReconfigVM_Task", false, func(l *lab) error {
			l.host.o.Cluster = "DC0_C0"
			return l.host.Define(t.Context(), definition("db01"))
		}},
		"a snapshot that was left behind": {"RemoveSnapshot_Task", true, func(l *lab) error {
			m, _ := l.Machine("web01")
			dead := newClaim(time.Now())
			dead.born++
			theirs(t, l, m, newSnapshotName(), dead.text())
			_, err := l.host.Freeze(t.Context(), "web01", hypervisor.FreezeOptions{DriveID: "a"})
			return err
		}},
		"the snapshot that begins the tracking": {"RemoveSnapshot_Task", true, func(l *lab) error {
			m, _ := l.Machine("web01")
			m.ResetTracking()
			_, err := l.host.Freeze(t.Context(), "web01", hypervisor.FreezeOptions{DriveID: "a"})
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, vcenter.Options{})
			l.web01(t, func(s *vcenter.MachineSpec) { s.Running, s.Tracking = c.on, strings.HasPrefix(name, "a ") })
			l.Fail(vcenter.Failure{Method: c.method, Endless: true})
			began := time.Now()
			err := c.do(l)
			if !errors.Is(err, errStillAtIt) {
				t.Fatalf("it gives %v", err)
			}
			if p := problem(t, err); !strings.Contains(p.Next, "task") && !strings.Contains(p.Next, "delete") {
				t.Errorf("%+v", p)
			}
			if took := time.Since(began); took > bootCeiling {
				t.Errorf("it took %v", took)
			}
		})
	}
}

func TestAMachineWhoseRemovalDoesNotEndIsSaid(t *testing.T) {
	shortTasks(t)
	s, h := served(t, vcenter.Options{})
	if err := h.Define(t.Context(), definition("web01")); err != nil {
		t.Fatal(err)
	}
	s.Fail(vcenter.Failure{Method: "Destroy_Task", Endless: true})
	if err := h.Remove(t.Context(), "web01"); !errors.Is(err, errStillAtIt) || !strings.Contains(problem(t, err).Safe, "may still finish") {
		t.Errorf("it gives %v", err)
	}
}
