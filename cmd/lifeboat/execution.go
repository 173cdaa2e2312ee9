package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"lifeboat/runbook"
)

// execution is one drill or one recovery. Both take this way: read the runbook,
// look at the world, resolve, show the plan, have a person agree, do it, keep what
// was measured. A drill then takes everything away again.
type execution struct {
	a     *app
	mode  runbook.Mode
	f     executionFlags
	began time.Time
	// drive is open until the run begins; keys opened it, and openedWith says what they
	// are: "typed", "sheet" or "identity".
	drive      *openedDrive
	keys       secretKeys
	openedWith string
	book       *runbook.Book
	plan       *runbook.Plan
	// hosts are those of the plan and others, as they were found.
	hosts    []runbook.KnownHost
	declared declaration
	run      *run
}

// execute carries out a runbook, or goes on with a run of one.
func (a *app) execute(ctx context.Context, mode runbook.Mode, f executionFlags, name string) error {
	if err := f.check(); err != nil {
		return err
	}
	if f.detach {
		return a.startDetached(string(mode))
	}
	x := &execution{a: a, mode: mode, f: f, began: a.now()}
	if f.resume {
		return x.resume(ctx, name)
	}
	if err := x.decide(ctx, name); err != nil || f.dryRun {
		return err
	}
	return x.begin(ctx)
}

// decide prepares everything, shows the plan, and has a person agree. The drive is
// closed then: whatever reads it from now on opens it for itself, so that it can be
// taken away and come back.
func (x *execution) decide(ctx context.Context, name string) error {
	if err := x.prepare(ctx, name); err != nil {
		return err
	}
	defer x.drive.Close()
	x.keys = x.drive.keys
	if !x.a.json {
		x.a.print("%s", planWords(x.plan, x.a.columns()))
	} else if x.f.dryRun {
		x.a.printJSON(x.plan)
	}
	if err := x.plan.StopsPlan(); err != nil || x.f.dryRun {
		return err
	}
	return x.agree(ctx)
}

// prepare opens the drive, reads the runbook and resolves it. Nothing is changed.
func (x *execution) prepare(ctx context.Context, name string) (err error) {
	a := x.a
	open := a.openWithWhatIsThere
	if x.mode == runbook.Drill {
		open = a.openAsPeopleDo
	}
	if x.drive, x.openedWith, err = open(ctx, x.f.drive); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			x.drive.Close()
		}
	}()
	if !a.hasState() {
		if err := a.lookAtBareHost(ctx); err != nil {
			return err
		}
	}
	if x.book, err = a.bookToExecute(ctx, x.mode, name, x.drive); err != nil {
		return err
	}
	x.plan, err = x.resolve(ctx)
	return err
}

// resolve looks at the world and resolves the runbook in it.
func (x *execution) resolve(ctx context.Context) (*runbook.Plan, error) {
	o := situationOptions{drives: []*openedDrive{x.drive}, only: x.f.only, isolated: x.f.isolated, emulation: x.f.allowEmulation}
	if x.f.drive != "" || !x.a.hasState() {
		o.onlyDrive = x.drive.store.Drive().ID
	}
	for _, only := range x.f.only {
		if !x.book.Has(only) {
			return nil, usagef("--only: runbook %s has no machine %q", x.book.Name, only)
		}
	}
	s, err := x.a.situation(ctx, x.book, x.mode, o)
	if err != nil {
		return nil, err
	}
	x.hosts = s.Hosts
	if x.f.host != "" {
		if !slices.ContainsFunc(s.Hosts, func(h runbook.KnownHost) bool { return h.Name == x.f.host }) {
			return nil, usagef("there is no host %q; see: lifeboat host list", x.f.host)
		}
		oneHost(x.book, &s, x.f.host)
	}
	points, err := x.f.chosenPoints()
	if err != nil {
		return nil, err
	}
	for machine, point := range points {
		if err := choosePoint(x.book, &s, machine, point); err != nil {
			return nil, err
		}
	}
	return runbook.Resolve(x.book, s)
}

// oneHost leaves one host alone for everything, whatever the runbook says of others.
func oneHost(b *runbook.Book, s *runbook.Situation, host string) {
	s.Hosts = slices.DeleteFunc(slices.Clone(s.Hosts), func(h runbook.KnownHost) bool { return h.Name != host })
	rule := runbook.HostRule{Name: host}
	for _, h := range b.Hosts {
		if h.Name == host {
			rule.MemoryBytes, rule.CPUs, rule.Boots = h.MemoryBytes, h.CPUs, h.Boots
		}
	}
	b.Hosts = []runbook.HostRule{rule}
	for i := range b.Machines {
		b.Machines[i].Host = ""
	}
}

// choosePoint has a machine come back from one point: by the beginning of its id,
// or by a date as the runbook would say it.
func choosePoint(b *runbook.Book, s *runbook.Situation, machine, point string) error {
	at := slices.IndexFunc(b.Machines, func(m runbook.Machine) bool { return m.Name == machine })
	if at < 0 {
		return usagef("--point: runbook %s has no machine %q", b.Name, machine)
	}
	if m := &b.Machines[at]; isMoment(point) {
		m.Point = runbook.PointChoice(point)
		return nil
	}
	is := func(p runbook.KnownPoint) bool {
		return len(point) >= 6 && (p.Machine.Name == machine || p.Machine.ID == b.Machines[at].ID) && len(p.ID) >= len(point) && p.ID[:len(point)] == point
	}
	found := 0
	s.Points = slices.DeleteFunc(slices.Clone(s.Points), func(p runbook.KnownPoint) bool {
		if is(p) {
			found++
			return false
		}
		return p.Machine.Name == machine || p.Machine.ID == b.Machines[at].ID
	})
	if found != 1 {
		return usagef("--point: %s has %s that begin with %q; see: lifeboat point list", machine, count(found, "point"), point)
	}
	return nil
}

// isMoment says that a text is a date or a moment, as a runbook takes them.
func isMoment(text string) bool {
	for _, form := range []string{time.DateOnly, time.RFC3339} {
		if _, err := time.Parse(form, text); err == nil {
			return true
		}
	}
	return text == string(runbook.PointLatest) || text == string(runbook.PointVerified)
}

// agree has a person declare a recovery. A drill needs nobody: it touches nothing
// that is in use.
func (x *execution) agree(ctx context.Context) (err error) {
	if x.mode == runbook.Drill {
		return nil
	}
	if !x.a.hasState() {
		if err := x.a.offerSecondCopy(ctx, x.drive, x.f.yesSite == ""); err != nil {
			return err
		}
	}
	x.declared, err = x.a.declare(ctx, x.f, x.plan.Site, fmt.Sprintf("%s of site %s come back in earnest, as the plan above says.\n", count(len(x.plan.Machines), "machine"), x.plan.Site))
	return err
}

// begin starts the run and carries it out.
func (x *execution) begin(ctx context.Context) (err error) {
	if x.run, err = x.a.beginRun(string(x.mode), os.Args[1:]); err != nil {
		return err
	}
	x.a.note("run %s; from another terminal: lifeboat run attach %s", short(x.run.ID), short(x.run.ID))
	return x.carryOut(ctx, false)
}

// resume goes on with a run: its plan is the one that it began with.
func (x *execution) resume(ctx context.Context, id string) error {
	a := x.a
	found, err := a.runToResume(x.mode, id)
	if err != nil {
		return err
	}
	dir := filepath.Join(a.runsDir(), found.ID)
	past, err := runbook.ReadRun(dir)
	if err != nil {
		return fmt.Errorf("read run %s: %w", short(found.ID), err)
	}
	x.plan, x.began = past.Plan, past.Start.Began
	want := x.f.drive
	if want == "" && len(x.plan.Drives) > 0 {
		want = a.attachedPath(ctx, x.plan.Drives)
	}
	if x.drive, x.openedWith, err = a.openWithWhatIsThere(ctx, want); err != nil {
		return err
	}
	x.keys = x.drive.keys
	x.drive.Close()
	if x.run, err = a.reopenRun(found); err != nil {
		return err
	}
	return x.carryOut(ctx, true)
}

// attachedPath is where the first of a plan's drives is attached, or "".
func (a *app) attachedPath(ctx context.Context, drives []runbook.PlannedDrive) string {
	for _, d := range drives {
		if found, err := a.findDriveByID(ctx, d.ID, d.Path); err == nil {
			return found.Path
		}
	}
	return ""
}

// runToResume finds the run that goes on: the named one, or the newest of its kind
// that has not passed.
func (a *app) runToResume(mode runbook.Mode, id string) (runFile, error) {
	if id != "" {
		f, err := a.findRun(id)
		if err == nil && f.Kind != string(mode) {
			err = usagef("run %s is no %s, it is: %s", short(f.ID), mode, f.Kind)
		}
		if err == nil {
			err = a.refuseEnded(f)
		}
		return f, err
	}
	all, err := a.listRuns()
	if err != nil {
		return runFile{}, err
	}
	for _, f := range all {
		if f.Kind == string(mode) && a.refuseEnded(f) == nil {
			return f, nil
		}
	}
	return runFile{}, usagef("there is no %s that can be resumed; see: lifeboat run list", mode)
}

// refuseEnded refuses to go on with what is at work, was cleaned or taken back.
func (a *app) refuseEnded(f runFile) error {
	if err := refuseRunning(f); err != nil {
		return err
	}
	dir := filepath.Join(a.runsDir(), f.ID)
	for file, why := range map[string]string{cleanedFile: "was cleaned up", rollbackFile: "was taken back"} {
		if _, err := os.Lstat(filepath.Join(dir, file)); err == nil {
			return usagef("run %s %s: there is nothing left to go on with", short(f.ID), why)
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, planFile)); err != nil {
		return usagef("run %s ended before it had begun anything: run the command again without --resume", short(f.ID))
	}
	return nil
}

// reopenRun makes this process the one that a run is.
func (a *app) reopenRun(f runFile) (*run, error) {
	r := a.openRunLog(filepath.Join(a.runsDir(), f.ID))
	if r == nil {
		return nil, fmt.Errorf("the log of run %s cannot be written in %s", short(f.ID), a.stateDir)
	}
	self, err := thisProcess()
	if err != nil {
		return nil, err
	}
	f.Process, f.Ended, f.Exit, f.Summary, f.Problem = self, time.Time{}, nil, "", nil
	return r, r.write(f)
}
