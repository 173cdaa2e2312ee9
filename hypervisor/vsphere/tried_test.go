package vsphere

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"

	"lifeboat/fixtures/vcenter"
	"lifeboat/hypervisor"
)

// soonSure lets a test not wait for snapshots that may come.
func soonSure(t *testing.T) {
	time := appearTime
	appearTime = 0
	t.Cleanup(func() { appearTime = time })
}

func TestASnapshotWhoseAnswerWasLostIsNotLeft(t *testing.T) {
	for _, quiesced := range []bool{true, false} {
		soonSure(t)
		l := newLab(t, vcenter.Options{})
		m := l.web01(t, nil)
		if quiesced {
			m.Change(tools)
		}
		var n atomic.Int64
		loseAnswers(t, l.host, func(res soap.HasFault) bool {
			_, ok := res.(*methods.CreateSnapshot_TaskBody)
			return ok && n.Add(1) == 1
		})
		_, err := l.host.Freeze(t.Context(), "web01", hypervisor.FreezeOptions{DriveID: "a"})
		if err == nil || n.Load() != 1 {
			t.Errorf("quiesced %v: %d snapshots were asked for (%v)", quiesced, n.Load(), err)
		}
		untouched(t, m)
		mustRead(t, l.freeze(t, hypervisor.FreezeOptions{DriveID: "a"}), "scsi0-0", m.Bytes(t, 0))
	}
}

// The answer that says how a snapshot ended is lost: it is asked for again.
func TestASnapshotThatIsLateIsNotLeft(t *testing.T) {
	soonSure(t)
	l := newLab(t, vcenter.Options{})
	m := l.web01(t, nil)
	end := m.Begin("VirtualMachine.createSnapshot", "CreateSnapshot_Task")
	f, err := l.host.find(t.Context(), "web01")
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.host.client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := newStill(l.host, c, f, hypervisor.FreezeOptions{})
	late := newSnapshotName()
	s.name, s.tried = late, []*tried{{name: late, lost: time.Now()}}
	swept := make(chan error, 1)
	go func() { swept <- s.Release(context.Background()) }()
	select {
	case err := <-swept:
		t.Fatalf("it ended with %v while the server makes the snapshot", err)
	case <-time.After(1500 * time.Millisecond):
	}
	theirs(t, l, m, late, newClaim(time.Now()).text())
	end()
	if err := <-swept; err != nil {
		t.Fatal(err)
	}
	untouched(t, m)

	s = newStill(l.host, c, f, hypervisor.FreezeOptions{})
	s.tried = []*tried{{name: late, lost: time.Now()}}
	defer m.Begin("VirtualMachine.createSnapshot", "CreateSnapshot_Task")()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := s.sweep(ctx); !errors.Is(err, errStillAtIt) && ctx.Err() == nil {
		t.Errorf("a snapshot that may still come gives %v", err)
	}
}
