package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"lifeboat"
	"lifeboat/hypervisor"
)

// bootResult is what became of one machine.
type bootResult struct {
	Machine  string        `json:"machine"`
	Point    string        `json:"point"`
	TakenAt  time.Time     `json:"takenAt"`
	Forwards []bootForward `json:"forwards,omitempty"`
	// Form says how the machine was built: as its system knows it, or what was
	// put in the place of what.
	Form string `json:"form,omitempty"`
	// AgeSeconds is the age of the data when the boot was asked for: what is
	// lost (RPA). AnswerSeconds is from the start of the command to the answer
	// of the last check (RTA); zero where nothing was checked.
	AgeSeconds    float64 `json:"ageSeconds"`
	PowerSeconds  float64 `json:"powerSeconds"`
	AnswerSeconds float64 `json:"answerSeconds,omitempty"`
	Answer        string  `json:"answer,omitempty"`
	// ReadBytes were read from the drive while this machine started, by it and
	// by those that ran already.
	ReadBytes int64 `json:"readBytes"`
	// Skipped says why nothing was tried.
	Skipped string       `json:"skipped,omitempty"`
	Problem *problemJSON `json:"problem,omitempty"`

	err error
}

// booter boots the machines of a plan, one after the other.
type booter struct {
	a    *app
	host hypervisor.Host
	// picked are the points of the plan's machines, in its order, with the drives
	// that are open while machines are begun; a resumed boot needs them no more.
	picked []pickedPoint
	// copied counts what was read from the drive to be copied to the host.
	copied  atomic.Int64
	run     *run
	booted  *bootedRun
	plan    *bootPlan
	began   time.Time
	timeout time.Duration
	settle  bool
	newMACs bool
	// throwaway: nobody will want what the machines write.
	throwaway bool
}

// all boots every machine in order, and moves them to local disk afterwards
// where that is wanted. One that fails stops the rest, because the order says
// that they need it.
func (b *booter) all(ctx context.Context) ([]bootResult, error) {
	var results []bootResult
	var failed error
	for _, m := range b.plan.Machines {
		if failed != nil {
			results = append(results, bootResult{Machine: m.Name, Point: m.Point.ID, TakenAt: m.Point.TakenAt, Skipped: "not tried: a machine before it failed"})
			continue
		}
		r := b.one(ctx, m)
		results = append(results, r)
		failed = r.err
	}
	if failed == nil && b.settle {
		failed = b.settleAll(ctx)
	}
	return results, b.outcome(ctx, results, failed)
}

func (b *booter) one(ctx context.Context, m plannedBoot) bootResult {
	r := bootResult{Machine: m.Name, Point: m.Point.ID, TakenAt: m.Point.TakenAt, Forwards: m.Forwards,
		AgeSeconds: b.a.momentOf(b.began).Sub(m.Point.TakenAt).Seconds()}
	b.tell(m.Name, "boots from point %s of %s", short(m.Point.ID), stamp(m.Point.TakenAt))
	before := b.readBytes()
	r.err = b.inForms(ctx, m, &r)
	if r.err == nil && len(m.Checks) > 0 {
		r.AnswerSeconds = time.Since(b.began).Seconds()
		b.tell(m.Name, "answers after %s", humanSeconds(r.AnswerSeconds))
	}
	r.ReadBytes = b.readBytes() - before
	if r.err != nil {
		p := newProblemJSON("boot", r.err)
		r.Problem = &p
	}
	return r
}

// outcome turns what became of the machines into the command's own: stopped by a
// person, failed, or done in part.
func (b *booter) outcome(ctx context.Context, results []bootResult, failed error) error {
	if failed == nil {
		return nil
	}
	running := b.running(context.WithoutCancel(ctx))
	safe, next := "no machine runs; the drive was only read", "run the command again"
	if len(running) > 0 {
		safe = fmt.Sprintf("%s run on, with what they wrote; the drive was only read", list(running))
		next = "see them: lifeboat ps; end them: lifeboat stop --all --remove"
	}
	switch {
	case ctx.Err() != nil:
		return &lifeboat.Problem{What: fmt.Sprintf("stopped; %d of %d machines run", len(running), len(b.plan.Machines)), Safe: safe, Next: next, Err: context.Cause(ctx)}
	case len(running) == 0 || len(results) == 1:
		return failed
	}
	p := problemOf(failed)
	return &lifeboat.Problem{What: fmt.Sprintf("%d of %d machines run; %s", len(running), len(b.plan.Machines), p.What), Safe: safe, Next: p.Next, Err: errors.Join(lifeboat.ErrPartial, failed)}
}

// running names the machines of this boot that have power: the host knows, also
// when this command was stopped half-way.
func (b *booter) running(ctx context.Context) []string {
	there, _ := b.a.machinesOf(ctx, b.booted)
	var names []string
	for _, m := range b.booted.Machines {
		if l, ok := there[m.Name]; ok && l.Power != hypervisor.PowerOff {
			names = append(names, m.Name)
		}
	}
	return names
}

func (b *booter) tell(machine, format string, args ...any) {
	text := machine + ": " + fmt.Sprintf(format, args...)
	e := event{Event: "boot", Time: b.a.now().UTC(), Machine: machine, Text: text}
	b.run.log(e)
	if b.a.json {
		b.a.printJSON(e)
		return
	}
	b.a.note("%s", text)
}

// start defines the machine on its host and gives it power.
func (b *booter) start(ctx context.Context, m plannedBoot) error {
	d := hypervisor.Definition{Machine: m.Point.Machine, Name: m.Name, Networks: m.Networks, NewMACs: b.newMACs, Recovery: b.run.ID, Throwaway: b.throwaway, Disks: map[string]hypervisor.Backing{}}
	done, err := b.addDisks(ctx, m, d.Disks)
	if err == nil {
		err = b.host.Define(ctx, d)
		done()
	}
	if err != nil {
		return b.problem(m, err)
	}
	err = b.writeDown(ctx, m.Name)
	if err == nil {
		err = b.host.PowerOn(ctx, m.Name)
	}
	if err != nil {
		// It never ran, so nothing is lost with it.
		rerr := b.host.Remove(context.WithoutCancel(ctx), m.Name)
		return errors.Join(b.problem(m, err), rerr)
	}
	return nil
}

// writeDown keeps what the host calls a machine that was just defined. Define
// refuses a name that exists, so the machine of that name is the one.
func (b *booter) writeDown(ctx context.Context, machine string) error {
	listed, err := b.host.List(ctx)
	at := slices.IndexFunc(listed, func(l hypervisor.Listed) bool {
		return l.Machine.Name == machine && (l.Recovery == "" || l.Recovery == b.run.ID)
	})
	if at < 0 {
		return errors.Join(errors.New("its host does not list it after it was defined"), err)
	}
	return b.booted.change(b.booted.dir(b.a), func() {
		for i := range b.booted.Machines {
			if m := &b.booted.Machines[i]; m.Name == machine {
				m.HostID = listed[at].HostID
			}
		}
	})
}

// addDisks says where the bytes of a machine's disks come from: the server of
// the run's disks, or the drive itself where the host needs them on storage of
// its own. done is called when the machine is defined.
func (b *booter) addDisks(ctx context.Context, m plannedBoot, disks map[string]hypervisor.Backing) (done func(), err error) {
	if b.host.Abilities().BootNBD {
		for key, export := range b.booted.machine(m.Name).Exports {
			disks[key] = hypervisor.Backing{NBD: &hypervisor.NBDBacking{Socket: b.booted.Socket, Export: export}}
		}
		return func() {}, nil
	}
	c := b.newDiskCopy(m)
	for _, d := range m.Point.Machine.Disks {
		if d.Excluded != "" {
			continue
		}
		source := b.sourceOf(m, d.Key)
		disk, err := source.drive.store.Disk(ctx, source.point, d.Key)
		if err != nil {
			return nil, err
		}
		disks[d.Key] = hypervisor.Backing{Copy: copiedDisk{disk, c}}
	}
	return c.progress.end, nil
}

// sourceOf is where a disk of a machine is read from.
func (b *booter) sourceOf(m plannedBoot, key string) diskSource {
	i := slices.IndexFunc(b.picked, func(p pickedPoint) bool { return p.ID == m.Point.ID })
	return b.picked[i].source(key)
}

// problem says what a machine that does not start means.
func (b *booter) problem(m plannedBoot, err error) error {
	var p *lifeboat.Problem
	if errors.As(err, &p) {
		return err
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s: it does not start: %v", m.Name, err),
		Safe: fmt.Sprintf("drive %s is only read; the point is unchanged", b.booted.Drive.Label),
		Next: "see what this host can do: lifeboat host check " + shellWord(b.host.Name()),
		Err:  err,
	}
}
