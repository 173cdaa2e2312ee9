package main

import (
	"context"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"lifeboat"
	"lifeboat/runbook"
)

// passing is somebody to ask whose every answer is yes.
type passing struct{}

func (passing) Done(context.Context, runbook.Action) (bool, error) { return false, nil }
func (passing) Do(context.Context, runbook.Action) (runbook.Result, error) {
	return runbook.Result{Detail: "passed"}, nil
}

func TestADrillKeepsWhatAMachineReadAndARecoveryReadsItAhead(t *testing.T) {
	t.Parallel()
	w := newWorldTest(t, runbook.Drill, "db")
	world := w.world()
	world.o.asks = passing{}
	w.do(world, w.action(runbook.StepBoot, "db"))
	w.prints("db", "A.")
	for deadline := time.Now().Add(2 * time.Minute); world.readFor("db") == 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the server of the disks does not say what it read")
		}
	}
	r, err := world.Do(t.Context(), w.action(runbook.StepCheck, "db"))
	if err != nil || r.ReadBytes == 0 {
		t.Errorf("the check says that %d bytes were read, %v", r.ReadBytes, err)
	}
	world.close()
	var set bootSet
	w.must(loadJSON(w.a.bootSetPath(w.plan.Machines[0].ID), &set))
	if set.Run != w.run.ID || len(set.Disks) != 1 {
		t.Fatalf("the set is %+v", set)
	}
	for key := range set.Disks {
		if e := set.extents(key); len(e) == 0 || e[0].Offset != 0 {
			t.Errorf("of a boot sector's disk it has %v", e)
		}
	}
	w.removeAll()

	// A computer that has nothing but the drive knows the set too.
	w.p.export(w.p.disk, "db").mustEnd(0)
	w.must(os.RemoveAll(filepath.Join(w.p.state, bootSetsFolder)))
	w.plan.Mode = runbook.Recover
	w.run = w.begin()
	world = w.world()
	w.do(world, w.action(runbook.StepBoot, "db"))
	w.prints("db", "A.")
	var again bootSet
	w.must(loadJSON(w.a.bootSetPath(w.plan.Machines[0].ID), &again))
	if !reflect.DeepEqual(again, set) {
		t.Errorf("the drive brings %+v, not %+v", again, set)
	}
	if !seeks(w.p.drive) {
		return // on a disk without heads nothing is read ahead
	}
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		log, _ := os.ReadFile(filepath.Join(w.run.dir, "log.jsonl"))
		if strings.Contains(string(log), "were read ahead") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing was read ahead:\n%s", log)
		}
	}
}

func TestABootSetCountsBlocksOnceAndInOrder(t *testing.T) {
	var r readBlocks
	for _, at := range []int64{5 * bootBlock, 0, bootBlock - 1, 4*bootBlock + 7, 0} {
		r.note(at, 2)
	}
	if got, want := r.runs(), [][2]int64{{0, 2}, {4, 2}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	r.note(0, (mostBootBlocks+100)*bootBlock)
	if got := r.runs(); len(got) > 2 {
		t.Errorf("it has no bound: %v", got)
	}
	b := bootSet{BlockBytes: bootBlock, Disks: map[string][][2]int64{"root": {{-1, 2}, {0, 1 << 40}, {3, 2}, {4, 0}}}}
	if got, want := b.extents("root"), []lifeboat.Extent{{Offset: 3 * bootBlock, Length: 2 * bootBlock}}; !slices.Equal(got, want) {
		t.Errorf("of a damaged file it takes %v, want %v", got, want)
	}
}
