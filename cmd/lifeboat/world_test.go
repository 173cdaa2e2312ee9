package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat"
	"lifeboat/hypervisor"
	"lifeboat/imagestore"
	"lifeboat/runbook"
)

// countingGuest is a boot sector that says how often it was started: it reads a
// number from its disk, prints it as a letter, writes the next one, and prints a
// dot when that is on the disk.
var countingGuest = []byte{
	0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, // xor ax,ax; mov ds,ax; mov es,ax; mov ss,ax
	0xbc, 0x00, 0x7c, 0x52, // mov sp,7c00h; push dx
	0xb8, 0x01, 0x02, 0xbb, 0x00, 0x80, 0xb9, 0x02, 0x00, 0xb6, 0x00, 0xcd, 0x13, // read sector 2 to 8000h
	0xa0, 0x00, 0x80, 0x04, 'A', 0xba, 0xf8, 0x03, 0xee, // print 'A' + [8000h]
	0xfe, 0x06, 0x00, 0x80, 0x5a, // inc byte [8000h]; pop dx
	0xb8, 0x01, 0x03, 0xbb, 0x00, 0x80, 0xb9, 0x02, 0x00, 0xb6, 0x00, 0xcd, 0x13, // write it
	0xb0, '.', 0xba, 0xf8, 0x03, 0xee, // print '.'
	0xf4, 0xeb, 0xfd, // hlt; jmp back
}

// worldTest is a site with a drive that holds a point of a counting guest, and the
// world of a run that boots it.
type worldTest struct {
	t    *testing.T
	p    *place
	a    *app
	out  *syncBuffer
	run  *run
	plan *runbook.Plan
}

// syncBuffer is a buffer that several goroutines write to.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// needsQEMU leaves a test out where no machine can run.
func needsQEMU(t *testing.T) {
	t.Helper()
	if err := needQEMU(); err != nil {
		t.Skipf("%v; QEMU enables this test", err)
	}
}

// newWorldTest exports machines of that name, each from a drive of its own kind of
// content: the same counting guest.
func newWorldTest(t *testing.T, mode runbook.Mode, names ...string) *worldTest {
	t.Helper()
	needsQEMU(t)
	w := &worldTest{t: t, p: newPlace(t, "", 1<<20), out: &syncBuffer{}}
	disk := make([]byte, 1<<20)
	copy(disk, countingGuest)
	disk[510], disk[511] = 0x55, 0xaa
	if err := os.WriteFile(w.p.disk, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	w.plan = &runbook.Plan{Mode: mode, Networks: []runbook.PlannedNetwork{{Name: "lan", Cable: runbook.Cable{Kind: runbook.CableNone}}}}
	for _, name := range names {
		w.p.export(w.p.disk, name).mustEnd(0)
	}
	w.newProgram()
	w.readPoints(names)
	w.run = w.begin()
	t.Cleanup(func() { w.removeAll() })
	return w
}

// newProgram plays that the program was started again: nothing is in memory.
func (w *worldTest) newProgram() {
	w.a = newApp(bytes.NewReader(nil), w.out, w.out)
	w.a.stateDir = w.p.state
}

// readPoints puts the newest point of each machine into the plan, as a resolver
// would.
func (w *worldTest) readPoints(names []string) {
	d, err := w.a.openDrive(w.t.Context(), w.p.drive, imagestore.Read)
	w.must(err)
	defer d.Close()
	points, _, err := d.store.Points(w.t.Context())
	w.must(err)
	drive := d.store.Drive()
	w.plan.Drives = []runbook.PlannedDrive{{Drive: drive, Path: w.p.drive, Where: "bank, box 4711"}}
	w.plan.SiteID = d.store.Site().ID
	for _, p := range newestPoints(points) {
		if slices.Contains(names, p.Machine.Name) {
			w.plan.Machines = append(w.plan.Machines, runbook.PlannedMachine{Name: p.Machine.Name, ID: p.Machine.ID, Point: p,
				DriveIDs: []string{drive.ID}, Host: localHost, Memory: 32 << 20, CPUs: 1})
		}
	}
}

func (w *worldTest) begin() *run {
	r, err := w.a.beginRun(string(w.plan.Mode), nil)
	w.must(err)
	return r
}

func (w *worldTest) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("%v\n%s", err, w.out)
	}
}

// world begins to work on the run, or goes on with it.
func (w *worldTest) world() *world {
	w.t.Helper()
	world, err := w.a.newWorld(w.t.Context(), worldOptions{plan: w.plan, run: w.run})
	w.must(err)
	w.t.Cleanup(world.close)
	return world
}

// action is a step about a machine of the plan.
func (w *worldTest) action(kind runbook.StepKind, name string) runbook.Action {
	i := slices.IndexFunc(w.plan.Machines, func(m runbook.PlannedMachine) bool { return m.Name == name })
	m := w.plan.Machines[i]
	return runbook.Action{Plan: w.plan, Step: runbook.PlannedStep{ID: string(kind) + "-" + name, Kind: kind, Machine: name}, Machine: &m, Attempt: 1,
		Say: func(text string) { w.a.note("%s", text) }}
}

// do does a step as the engine does: only if it is not done.
func (w *worldTest) do(world *world, act runbook.Action) (did bool) {
	w.t.Helper()
	done, err := world.Done(w.t.Context(), act)
	w.must(err)
	if done {
		return false
	}
	_, err = world.Do(w.t.Context(), act)
	w.must(err)
	if done, err = world.Done(w.t.Context(), act); err != nil || !done {
		w.t.Fatalf("%s was done, and is not: %v", act.Step.ID, err)
	}
	return true
}

// prints waits until a machine has printed something.
func (w *worldTest) prints(name, want string) {
	w.t.Helper()
	path := filepath.Join(w.p.state, "machines", name, "serial.log")
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		said, _ := os.ReadFile(path)
		if strings.HasSuffix(string(said), want) {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%s printed %q, not %q\n%s", name, said, want, w.out)
		}
	}
}

func (w *worldTest) host() hypervisor.Host {
	w.t.Helper()
	h, err := w.a.openHost(w.a.localHostFile())
	w.must(err)
	return h
}

// killEverything plays a host that loses its power: the machines, the server of
// their disks and its guard are gone at once.
func (w *worldTest) killEverything() {
	w.t.Helper()
	s, err := readServing(w.run.dir)
	w.must(err)
	// Both at once: each starts the other again.
	s.Guard.signal(syscall.SIGSTOP)
	s.Process.signal(syscall.SIGKILL)
	s.Guard.signal(syscall.SIGKILL)
	for _, l := range processesOf([]string{filepath.Join(w.p.state, "machines")}, w.run.ID) {
		l.process.signal(syscall.SIGKILL)
	}
	for deadline := time.Now().Add(2 * time.Minute); s.Process.alive() || s.Guard.alive(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatal("the services do not die")
		}
	}
}

func (w *worldTest) removeAll() {
	ctx := context.Background()
	h, err := w.a.openHost(w.a.localHostFile())
	if err != nil {
		w.t.Error(err)
		return
	}
	listed, _ := h.List(ctx)
	for _, l := range listed {
		if h.PowerOff(ctx, hostWord(l), 0) == nil {
			h.Remove(ctx, hostWord(l))
		}
	}
	if b, err := readBooted(w.run.dir); err == nil {
		if err := w.a.stopServing(b, w.run.dir); err != nil {
			w.t.Error(err)
		}
	}
}

func TestARecoveredMachineKeepsWhatItWroteWhenEverythingIsKilled(t *testing.T) {
	t.Parallel()
	w := newWorldTest(t, runbook.Recover, "db", "web")
	world := w.world()
	w.do(world, w.action(runbook.StepBoot, "db"))
	w.prints("db", "A.")
	// The second one is begun while the disks of the first are served.
	w.do(world, w.action(runbook.StepBoot, "web"))
	w.prints("web", "A.")
	shutdown := w.action(runbook.StepShutdown, "web")
	shutdown.Step.Step.Limit = time.Second // it does not hear its power button
	w.do(world, shutdown)
	world.close()

	w.killEverything()
	w.newProgram()
	world = w.world()
	w.prints("db", "B.") // its own number, from its overlay
	if w.do(world, w.action(runbook.StepBoot, "db")) {
		t.Error("it was booted twice")
	}
	if l, err := w.host().List(t.Context()); err != nil || len(l) != 2 || l[1].Machine.Name != "web" || l[1].Power != hypervisor.PowerOff {
		t.Errorf("what a step shut down runs again: %+v, %v", l, err)
	}
}

func TestABootGoesOnWhereItWasKilled(t *testing.T) {
	t.Parallel()
	w := newWorldTest(t, runbook.Recover, "db")
	act := w.action(runbook.StepBoot, "db")
	world := w.world()
	w.do(world, act)
	w.prints("db", "A.")
	// Killed between the definition and the power: the machine is there and off.
	w.must(w.host().PowerOff(t.Context(), "db", 0))
	world.close()
	w.newProgram()
	world = w.world()
	w.prints("db", "B.") // it was not built anew
	// Another form or point of it is another machine.
	act.Form = 1
	if done, err := world.Done(t.Context(), act); done || err != nil {
		t.Errorf("another form of it: done %v, %v", done, err)
	}
	w.must(world.Undo(t.Context(), act))
	if l, err := w.host().List(t.Context()); len(l) != 0 || err != nil {
		t.Fatalf("after Undo: %+v, %v", l, err)
	}
	// It had power: what it wrote is set aside.
	if kept, err := filepath.Glob(filepath.Join(w.a.localHostFile().Dir, ".shelved", "*")); len(kept) != 1 || err != nil {
		t.Errorf("set aside: %v, %v", kept, err)
	}
	w.do(world, act)
	w.prints("db", "A.") // without a byte of the first
	act.Form = 99
	if _, err := world.Do(t.Context(), act); !errors.Is(err, runbook.ErrNoForm) {
		t.Errorf("a form that is not there: %v", err)
	}
}

func TestAMachineOfADrillGivesWayToProductionAndIsNeverExported(t *testing.T) {
	t.Parallel()
	w := newWorldTest(t, runbook.Drill, "db")
	production := lifeboat.Machine{Version: lifeboat.MachineVersion, ID: newID(), Name: "db", CPUs: 1, MemoryBytes: 32 << 20, Firmware: lifeboat.Firmware{Kind: lifeboat.FirmwareBIOS}}
	w.must(w.host().Define(t.Context(), hypervisor.Definition{Machine: production}))
	world := w.world()
	w.do(world, w.action(runbook.StepBoot, "db"))
	name := world.nameOn("db")
	if name != "db-drill-"+short(w.run.ID) {
		t.Errorf("beside production it is called %q", name)
	}
	w.prints(name, "A.")
	definition, err := os.ReadFile(filepath.Join(w.p.state, "machines", name, "machine.json"))
	var d struct {
		Recovery  string
		Throwaway bool
	}
	if err == nil {
		err = json.Unmarshal(definition, &d)
	}
	if err != nil || d.Recovery != w.run.ID || !d.Throwaway {
		t.Errorf("a machine of a drill is %+v, %v", d, err)
	}
	out := w.p.run("export", "--all", "--drive", w.p.drive)
	if !strings.Contains(out.stdout+out.stderr, name) || slices.Contains(w.p.points(), name) {
		t.Errorf("the export took it, or did not say that it did not:\n%s%s", out.stdout, out.stderr)
	}

	e, err := world.Look(t.Context(), w.action(runbook.StepCheck, "db"))
	if err != nil || e.Screenshot == "" || e.Console == "" {
		t.Fatalf("a look: %+v, %v", e, err)
	}
	if text, err := os.ReadFile(filepath.Join(w.run.dir, e.Console)); err != nil || !strings.Contains(string(text), "A.") {
		t.Errorf("the console: %q, %v", text, err)
	}
	if picture, err := os.ReadFile(filepath.Join(w.run.dir, e.Screenshot)); err != nil || checkScreenshot(picture) != nil {
		t.Errorf("the screen: %d bytes, %v", len(picture), err)
	}
}

func TestARecoveryDoesNotTakeTheNameOfWhatIsThere(t *testing.T) {
	t.Parallel()
	w := newWorldTest(t, runbook.Recover, "db")
	w.must(w.host().Define(t.Context(), hypervisor.Definition{Machine: lifeboat.Machine{Version: lifeboat.MachineVersion, ID: newID(), Name: "db", CPUs: 1, MemoryBytes: 32 << 20, Firmware: lifeboat.Firmware{Kind: lifeboat.FirmwareBIOS}}}))
	if _, err := w.world().Do(t.Context(), w.action(runbook.StepBoot, "db")); err == nil || !strings.Contains(err.Error(), "has a machine of that name already") {
		t.Errorf("got %v", err)
	}
}

func TestABootWaitsForADriveAndSaysWhereItIs(t *testing.T) {
	t.Parallel()
	w := newWorldTest(t, runbook.Recover, "db")
	away := w.p.drive + "-away"
	w.must(os.Rename(w.p.drive, away))
	world := w.world()
	ended := make(chan bool)
	go func() { defer close(ended); world.Do(t.Context(), w.action(runbook.StepBoot, "db")) }()
	for deadline := time.Now().Add(2 * time.Minute); !strings.Contains(w.out.String(), "(bank, box 4711), which is not attached"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not say which drive it waits for:\n%s", w.out)
		}
	}
	w.must(os.Rename(away, w.p.drive))
	<-ended
	w.prints("db", "A.")
	if !strings.Contains(w.out.String(), "is here; db goes on") {
		t.Errorf("it said:\n%s", w.out)
	}
}

func TestAWaitForADriveEndsWithItsRun(t *testing.T) {
	t.Parallel()
	w := newWorldTest(t, runbook.Recover, "db")
	w.must(os.Rename(w.p.drive, w.p.drive+"-away"))
	ctx, cancel := context.WithCancel(t.Context())
	act := w.action(runbook.StepBoot, "db")
	act.Say = func(string) { cancel() }
	_, err := w.world().Do(ctx, act)
	if err == nil || !strings.Contains(err.Error(), "bank, box 4711") {
		t.Errorf("got %v", err)
	}
}

func TestEvidenceOfAHostileNameStaysInItsFolder(t *testing.T) {
	names := map[string]bool{}
	for _, machine := range []string{"web", "../../etc/passwd", "a/b", "", ".", "-rf", strings.Repeat("x", 300), "<script>", "web\x00"} {
		for _, step := range []string{"check-1", "check-2"} {
			name := evidenceName(machine, step)
			if filepath.Base(name) != name || !plainName.MatchString(strings.TrimSuffix(name, name[len(name)-13:])) || names[name] {
				t.Errorf("%q, %q: %q", machine, step, name)
			}
			names[name] = true
		}
	}
	if err := checkScreenshot([]byte("<svg onload=alert(1)>")); err == nil {
		t.Error("what is no picture is kept as one")
	}
}

func TestMachinesStandBeforeTheirHostIsFull(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root mounts the small file system that this test fills")
	}
	w := newWorldTest(t, runbook.Recover, "db")
	machines := filepath.Join(w.p.state, "machines")
	w.must(os.MkdirAll(machines, 0o700))
	w.must(unix.Mount("tmpfs", machines, "tmpfs", 0, "size=256m,mode=700"))
	t.Cleanup(func() { unix.Unmount(machines, unix.MNT_DETACH) })
	t.Cleanup(w.removeAll)
	world := w.world()
	w.do(world, w.action(runbook.StepBoot, "db"))
	w.prints("db", "A.")
	is := func(want hypervisor.PowerState) {
		t.Helper()
		for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
			l, err := w.host().List(t.Context())
			w.must(err)
			if l[0].Power == want {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("it is %s, not %s\n%s", l[0].Power, want, w.out)
			}
		}
	}
	is(hypervisor.PowerOn)
	var fs unix.Statfs_t
	w.must(unix.Statfs(machines, &fs))
	filler := filepath.Join(machines, "filler")
	w.must(writeRandom(filler, int64(fs.Bavail)*fs.Bsize-8<<20, "filler"))
	is(hypervisor.PowerPaused)
	for deadline := time.Now().Add(2 * time.Minute); !strings.Contains(w.out.String(), "they stand still, without harm"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not say that they stand:\n%s", w.out)
		}
	}
	w.must(os.Remove(filler))
	is(hypervisor.PowerOn)
	for deadline := time.Now().Add(2 * time.Minute); !strings.Contains(w.out.String(), "has room again"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not say that it goes on:\n%s", w.out)
		}
	}
}

func TestMachinesThatStandNeedMoreRoomThanThoseThatRun(t *testing.T) {
	reserve := reserveOf(100 << 30)
	if reserve != mostReserve || reserveOf(200<<20) != 10<<20 {
		t.Errorf("the reserves are %d and %d", reserve, reserveOf(200<<20))
	}
	for _, c := range []struct {
		free     int64
		standing bool
		want     bool
	}{{reserve, false, false}, {reserve - 1, false, true}, {reserve, true, true}, {reserve + reserve/2, true, false}} {
		if got := shortOfRoom(c.free, reserve, c.standing); got != c.want {
			t.Errorf("%+v: short %v", c, got)
		}
	}
}
