package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"lifeboat"
	"lifeboat/hypervisor"
	"lifeboat/runbook"
)

// worldOptions are what the steps of a plan act with.
type worldOptions struct {
	plan *runbook.Plan
	// run is the run of the command, with its folder.
	run *run
	// keys are what opened a drive already; empty: they are asked for when the
	// first drive is opened.
	keys secretKeys
	// lab has the isolated networks; nil: there is none, and hosts make segments of
	// their own.
	lab *labClient
	// asks does the steps that ask somebody or something; nil: an asker of this run.
	asks asks
}

// asks does the steps that are about no machine's definition or power: checks,
// commands, people, cables. It promises what runbook.World promises of each step.
type asks interface {
	Done(ctx context.Context, act runbook.Action) (bool, error)
	Do(ctx context.Context, act runbook.Action) (runbook.Result, error)
}

// world is what the steps of a runbook act on: the hosts of this site, drives and
// the server of their disks. It is a boot whose machines are begun one by one.
type world struct {
	a    *app
	o    worldOptions
	plan *runbook.Plan
	// files are the hosts by name.
	files  map[string]hostFile
	booted *bootedRun

	// driveMu keeps two steps from looking for drives, or asking for their secret,
	// at the same time; keys are under it.
	driveMu sync.Mutex
	keys    secretKeys
	// tookSets are the drives whose boot sets were looked at; it is under driveMu.
	tookSets map[string]bool
	// servingMu keeps two steps from starting the server of the disks.
	servingMu sync.Mutex

	// closing is closed when nobody works with the world any more.
	closing <-chan struct{}
	stop    context.CancelFunc
	work    sync.WaitGroup
}

var _ runbook.World = (*world)(nil)

// newWorld begins to work on a run, or goes on with one that another command
// began: then what ran before has power again when it returns. Whoever asked for
// it closes it; the machines outlive it.
func (a *app) newWorld(ctx context.Context, o worldOptions) (*world, error) {
	site, err := a.siteOrNone()
	if err != nil {
		return nil, err
	}
	w := &world{a: a, o: o, plan: o.plan, keys: o.keys, files: map[string]hostFile{}, tookSets: map[string]bool{}}
	for _, h := range a.hostFiles(site) {
		w.files[h.Name] = h
	}
	if w.o.asks == nil {
		w.o.asks = a.newAsker(askerOptions{plan: o.plan, run: o.run, lab: o.lab.asked(), find: w.machineOf, probe: whoIsOn})
	}
	if o.plan.Mode == runbook.Recover {
		if err := w.checkCables(); err != nil {
			return nil, err
		}
	}
	again, err := w.readRun()
	if err != nil {
		return nil, err
	}
	if again {
		left, err := endLeftCommands(o.run.dir)
		if err != nil {
			return nil, err
		}
		for _, step := range left {
			w.tell("", "the command of step %s still ran from before, and was ended", step)
		}
		if err := w.goOn(ctx); err != nil {
			return nil, err
		}
	}
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	w.stop, w.closing = stop, watching.Done()
	w.work.Go(func() { w.watchDrives(watching) })
	return w, nil
}

// close ends what the world does by itself. What runs goes on.
func (w *world) close() {
	w.stop()
	w.work.Wait()
}

// Do does a step.
func (w *world) Do(ctx context.Context, act runbook.Action) (r runbook.Result, err error) {
	switch act.Step.Kind {
	case runbook.StepBoot:
		r, err = w.boot(ctx, act)
	case runbook.StepSettle:
		r, err = w.settle(ctx, act)
	case runbook.StepShutdown:
		r, err = w.shutdown(ctx, act)
	case runbook.StepCheck:
		r, err = w.check(ctx, act)
	default:
		r, err = w.o.asks.Do(ctx, act)
	}
	return r, w.judge(ctx, act, err)
}

// Done looks whether the effect of a step is there.
func (w *world) Done(ctx context.Context, act runbook.Action) (done bool, err error) {
	switch act.Step.Kind {
	case runbook.StepBoot:
		done, err = w.runs(ctx, act)
	case runbook.StepSettle:
		done, err = w.isSettled(ctx, act)
	case runbook.StepShutdown:
		done, err = w.isOff(ctx, act)
	default:
		done, err = w.o.asks.Done(ctx, act)
	}
	return done, w.judge(ctx, act, err)
}

// judge finds out whether a step failed because its host is gone.
func (w *world) judge(ctx context.Context, act runbook.Action, err error) error {
	if err == nil || act.Machine == nil || ctx.Err() != nil || errors.Is(err, runbook.ErrHostGone) {
		return err
	}
	if !w.Alive(ctx, act.Machine.Host) {
		return fmt.Errorf("%w: %s: %w", runbook.ErrHostGone, act.Machine.Host, err)
	}
	return err
}

// alivePatience is how long a host may take to say what it has. One that does not
// in that time cannot be recovered on.
const alivePatience = 30 * time.Second

// A recovery looks several times before a host is gone: one that was slow for a
// moment still runs its machines, and a second one of each would write as well.
const (
	aliveLooks = 4
	aliveEvery = 30 * time.Second
)

// Alive says whether a host answers.
func (w *world) Alive(ctx context.Context, name string) bool {
	looks := 1
	if _, known := w.files[name]; known && w.plan.Mode == runbook.Recover {
		looks = aliveLooks
	}
	for look := 1; ; look++ {
		switch {
		case w.answers(ctx, name):
			return true
		case look == looks:
			return false
		}
		w.tell("", "host %s does not answer; it is asked again in %s", name, humanDuration(aliveEvery))
		select {
		case <-ctx.Done():
			return true // nobody found out
		case <-time.After(aliveEvery):
		}
	}
}

// answers says whether a host answers now.
func (w *world) answers(ctx context.Context, name string) bool {
	_, err := answer(ctx, alivePatience, func(ctx context.Context) (bool, error) {
		h, err := w.host(name)
		if err != nil {
			return false, err
		}
		listed, err := h.List(ctx)
		if listed != nil {
			err = nil // some machine of it cannot be read; the host is there
		}
		return true, err
	})
	return err == nil
}

// host opens a host of the plan.
func (w *world) host(name string) (hypervisor.Host, error) {
	file, ok := w.files[name]
	if !ok {
		return nil, &lifeboat.Problem{
			What: fmt.Sprintf("the plan names a host %q that this computer does not know", name),
			Safe: "nothing was started there",
			Next: "see the hosts: lifeboat host list; and plan again",
			Err:  runbook.ErrHostGone,
		}
	}
	if file.Kind == kindQEMU {
		if err := needQEMU(); err != nil {
			return nil, err
		}
	}
	return w.a.openHost(file)
}

// readRun reads what the run booted before, or begins to write it down.
func (w *world) readRun() (again bool, err error) {
	dir := w.o.run.dir
	worker, err := thisProcess()
	if err != nil {
		return false, err
	}
	b, err := readBooted(dir)
	again = err == nil
	if !again {
		sockets, err := socketFolder(w.o.run.ID)
		if err != nil {
			return false, err
		}
		b = &bootedRun{Run: w.o.run.ID, Began: w.a.now().UTC(), Mode: w.plan.Mode, Socket: sockets + "/disks"}
	}
	w.booted = b
	return again, b.change(dir, func() {
		b.Worker = worker
		for _, m := range w.plan.Machines {
			if !slices.ContainsFunc(b.Machines, func(bm bootedMachine) bool { return bm.Planned == m.Name }) {
				b.Machines = append(b.Machines, bootedMachine{Name: m.Name, Planned: m.Name, Machine: m.ID, Point: m.Point.ID, TakenAt: m.Point.TakenAt})
			}
		}
	})
}

// entry is what is written down of a machine of the plan.
func (w *world) entry(planned string) bootedMachine {
	w.booted.mu.Lock()
	defer w.booted.mu.Unlock()
	for _, m := range w.booted.Machines {
		if m.Planned == planned {
			return m
		}
	}
	return bootedMachine{Name: planned, Planned: planned}
}

// change changes what is written down of a machine of the plan.
func (w *world) change(planned string, do func(m *bootedMachine)) error {
	return w.booted.change(w.o.run.dir, func() {
		for i := range w.booted.Machines {
			if w.booted.Machines[i].Planned == planned {
				do(&w.booted.Machines[i])
			}
		}
	})
}

// nameOn is what a machine of the plan is called on its host, which is another
// name where a drill runs beside production.
func (w *world) nameOn(planned string) string { return w.entry(planned).Name }

// machineOf returns the machine of a step as its host lists it; ok is false if it
// is not there.
func (w *world) machineOf(ctx context.Context, act runbook.Action) (host hypervisor.Host, l hypervisor.Listed, ok bool, err error) {
	if host, err = w.host(act.Machine.Host); err != nil {
		return nil, l, false, err
	}
	listed, err := host.List(ctx)
	m := w.entry(act.Machine.Name)
	for _, l := range listed {
		if w.booted.made(m, l) {
			return host, l, true, nil
		}
	}
	return host, l, false, err
}

// tell says something to the people who watch, and keeps it in the run's log.
func (w *world) tell(machine, format string, args ...any) {
	text := oneLine(plainText(fmt.Sprintf(format, args...)))
	e := event{Event: "drive", Time: w.a.now().UTC(), Machine: machine, Text: text}
	w.o.run.log(e)
	if w.a.json {
		w.a.printJSON(e)
		return
	}
	w.a.note("%s", text)
}
