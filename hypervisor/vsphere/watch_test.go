package vsphere

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"

	"lifeboat/fixtures/vcenter"
	"lifeboat/hypervisor"
)

func TestALookIsBegunAfterWhatItVouchesFor(t *testing.T) {
	var gone atomic.Bool
	var looks atomic.Int64
	errGone := errors.New("gone")
	w := &watch{ctx: t.Context(), look: func(context.Context) error {
		was := gone.Load()
		looks.Add(1)
		time.Sleep(2 * time.Millisecond)
		if was {
			return errGone
		}
		return nil
	}}
	var readers sync.WaitGroup
	for range 8 {
		readers.Go(func() {
			for range 20 {
				before := gone.Load()
				if err := w.stands(t.Context()); before && !errors.Is(err, errGone) {
					t.Errorf("it was gone before, and the look says %v", err)
				}
			}
		})
	}
	time.Sleep(10 * time.Millisecond)
	gone.Store(true)
	readers.Wait()
	if n := looks.Load(); n > 100 {
		t.Errorf("%d looks for 160 questions of 8 readers", n)
	}
}

func TestALookEndsWithItsContext(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	w := &watch{ctx: t.Context(), look: func(context.Context) error { <-hang; return nil }}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	if err := w.stands(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it ended with %v", err)
	}
}

func TestWhichTasksSpareTheDisks(t *testing.T) {
	for id, name := range map[string]string{
		"vm.Snapshot.remove": "RemoveSnapshot_Task", "vim.vm.Snapshot.remove": "", "VirtualMachine.removeAllSnapshots": "",
		"VirtualMachine.consolidateDisks": "ConsolidateVMDisks_Task", "VirtualMachine.relocate": "RelocateVM_Task",
		"vim.VirtualMachine.reconfigure": "RemoveAllSnapshots_Task", "com.example.backup": "Something", "": "",
		"vm.Snapshot.revert": "RevertToSnapshot_Task", "Drm.ExecuteStorageVmotionLro": "",
	} {
		if sparesDisks(types.TaskInfo{DescriptionId: id, Name: name}) {
			t.Errorf("%q (%q) is taken for harmless", id, name)
		}
	}
	for id, name := range map[string]string{
		"VirtualMachine.createSnapshot": "CreateSnapshot_Task", "vim.VirtualMachine.powerOff": "PowerOffVM_Task",
		"vm.Snapshot.exportSnapshot": "", "VirtualMachine.ExportVmLRO": "ExportVmLRO", "Drm.ExecuteVMotionLRO": "",
		"vim.vm.Snapshot.exportSnapshotLRO": "", "VirtualMachine.exportVAppLRO": "",
	} {
		if !sparesDisks(types.TaskInfo{DescriptionId: id, Name: name}) {
			t.Errorf("%q (%q) ends every export", id, name)
		}
	}
}

// A server may merge for a while before it takes a snapshot off its list. What is
// read of the base meanwhile is of no moment.
func TestAMergeUnderAListedSnapshotBreaksTheStill(t *testing.T) {
	removals := map[string]func(ctx context.Context, vm *object.VirtualMachine) (*object.Task, error){
		"all": func(ctx context.Context, vm *object.VirtualMachine) (*object.Task, error) {
			return vm.RemoveAllSnapshot(ctx, nil)
		},
		"one": func(ctx context.Context, vm *object.VirtualMachine) (*object.Task, error) {
			return vm.RemoveSnapshot(ctx, "theirs", false, nil)
		},
	}
	for name, remove := range removals {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, vcenter.Options{})
			m := l.web01(t, nil)
			still := l.freeze(t, hypervisor.FreezeOptions{DriveID: "a", Method: MethodRanges})
			theirs(t, l, m, "theirs", "")
			d, _ := still.Disk("scsi0-0")
			p := make([]byte, 4096)
			if err := d.ReadAt(t.Context(), p, 0); err != nil {
				t.Fatal(err)
			}
			m.Write(t, 0, 0, bytes.Repeat([]byte{0xee}, 4096))
			finish := l.MergeSlowly(t)
			if _, err := remove(t.Context(), object.NewVirtualMachine(l.Client(t).Client, m.Ref)); err != nil {
				t.Fatal(err)
			}
			if m.Snapshots() != 2 {
				t.Fatal("the fixture has taken the snapshot off its list")
			}
			if err := d.ReadAt(t.Context(), p, 0); !errors.Is(err, hypervisor.ErrStillBroken) {
				t.Errorf("%v, and torn bytes are believed", err)
			}
			finish()
		})
	}
}

func TestATaskThatNobodyKnowsBreaksTheStill(t *testing.T) {
	l := newLab(t, vcenter.Options{})
	m := l.web01(t, nil)
	still := l.freeze(t, hypervisor.FreezeOptions{DriveID: "a", Method: MethodRanges})
	d, _ := still.Disk("scsi0-0")
	p := make([]byte, 4096)
	m.Begin("VirtualMachine.powerOff", "PowerOffVM_Task")()
	if err := d.ReadAt(t.Context(), p, 0); err != nil {
		t.Fatal(err)
	}
	defer m.Begin("com.example.defragment", "Defragment")()
	if err := d.ReadAt(t.Context(), p, 0); !errors.Is(err, hypervisor.ErrStillBroken) {
		t.Errorf("it gives %v", err)
	}
}
