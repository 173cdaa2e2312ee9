package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"lifeboat"
	"lifeboat/hypervisor"
	"lifeboat/runbook"
)

// runs says whether the machine of a step runs, from the point and in the form
// that the step wants.
func (w *world) runs(ctx context.Context, act runbook.Action) (bool, error) {
	_, l, there, err := w.machineOf(ctx, act)
	return there && l.Power != hypervisor.PowerOff && w.isBuilt(act), err
}

// isBuilt says that what was written down of a machine is what a step wants.
func (w *world) isBuilt(act runbook.Action) bool {
	m := w.entry(act.Machine.Name)
	return m.Point == act.Machine.Point.ID && m.Form == act.Form && w.booted.hostOf(m).Name == act.Machine.Host
}

// boot defines a machine and gives it power. It goes on where another command was
// killed: what is defined as it should be gets its power, anything else of it is
// built anew.
func (w *world) boot(ctx context.Context, act runbook.Action) (r runbook.Result, err error) {
	host, l, there, err := w.machineOf(ctx, act)
	if err != nil {
		return r, err
	}
	if err := w.stays(act); err != nil {
		return r, err
	}
	if there && w.isBuilt(act) {
		if err := w.serve(ctx, act.Say); err != nil {
			return r, err
		}
		r.Detail = "it was built before; it has power"
		return r, host.PowerOn(ctx, hostWord(l))
	}
	if there {
		if err := w.takeAway(ctx, host, l); err != nil {
			return r, err
		}
	}
	r.Spent = map[runbook.Spending]time.Duration{}
	picked, closeDrives, err := w.sources(ctx, act, r.Spent)
	if err != nil {
		return r, err
	}
	defer closeDrives()
	began := time.Now()
	b, m, err := w.prepare(ctx, host, picked, act)
	if err == nil {
		err = b.start(ctx, m)
	}
	r.Spent[runbook.SpentDefine] = time.Since(began)
	r.ReadBytes = b.copied.Load()
	r.Detail = fmt.Sprintf("point %s of %s, %s", short(m.Point.ID), stamp(m.Point.TakenAt), m.Form)
	if m.Form != hypervisor.AsKnown {
		r.Form = m.Form
	}
	return r, err
}

// stays refuses to build a machine again whose disks are on another host already: what
// it wrote there since is the newest that there is.
func (w *world) stays(act runbook.Action) error {
	m := w.entry(act.Machine.Name)
	was := w.booted.hostOf(m).Name
	if w.plan.Mode != runbook.Recover || !m.Settled || m.HostID == "" || was == act.Machine.Host {
		return nil
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s is on the disks of host %s, which does not answer: it is not built a second time", act.Machine.Name, was),
		Safe: "what it wrote is kept there; nothing was started in its place",
		Next: fmt.Sprintf("bring host %s back and resume; or, if it is lost: lifeboat recover --rollback %s, and recover again", was, short(w.o.run.ID)),
	}
}

// prepare writes down what is about to be built, and has its disks served.
func (w *world) prepare(ctx context.Context, host hypervisor.Host, picked pickedPoint, act runbook.Action) (*booter, plannedBoot, error) {
	b := &booter{a: w.a, host: host, run: w.o.run, booted: w.booted, picked: []pickedPoint{picked}, throwaway: w.plan.Mode == runbook.Drill}
	m := plannedBoot{Point: picked.RestorePoint}
	m.Point.Machine.MemoryBytes, m.Point.Machine.CPUs = act.Machine.Memory, act.Machine.CPUs
	forms := hypervisor.Candidates(m.Point.Machine, host.Abilities())
	if act.Form >= len(forms) {
		return b, m, &lifeboat.Problem{
			What: fmt.Sprintf("%s: host %s has no other kind of disk controller for it: %d were tried", act.Machine.Name, host.Name(), len(forms)),
			Safe: "the drive was only read",
			Next: "look at what it printed, in the run's folder; take another point or another host",
			Err:  runbook.ErrNoForm,
		}
	}
	m.Point.Machine, m.Form = forms[act.Form].Machine, forms[act.Form].Why
	var err error
	if m.Name, err = w.freeName(ctx, host, act.Machine.Name); err == nil {
		m.Networks, err = w.cables(act, m.Point.Machine.NICs)
	}
	if err == nil {
		err = w.register(host, picked, m, act)
	}
	if err == nil && host.Abilities().BootNBD {
		err = w.serve(ctx, act.Say)
	}
	return b, m, err
}

// freeName is what a machine is called on its host. A drill beside production
// gives way; a recovery does not, because what has its name may be the original.
func (w *world) freeName(ctx context.Context, host hypervisor.Host, name string) (string, error) {
	listed, err := host.List(ctx)
	if err != nil && listed == nil {
		return "", err
	}
	taken := func(name string) bool {
		return slices.ContainsFunc(listed, func(l hypervisor.Listed) bool { return l.Machine.Name == name })
	}
	switch {
	case !taken(name):
		return name, nil
	case w.plan.Mode == runbook.Drill:
		if other := name + "-drill-" + short(w.o.run.ID); !taken(other) {
			return other, nil
		}
	}
	return "", &lifeboat.Problem{
		What: fmt.Sprintf("%s: host %s has a machine of that name already", name, host.Name()),
		Safe: "it was left as it is; nothing was started in its place",
		Next: fmt.Sprintf("if it is what is left of the one that was lost, take it off the host first; if it was booted from a drive: lifeboat stop %s --remove", shellWord(name)),
	}
}

// register writes down where the disks of a machine are before it is defined, so
// that the server of the disks finds them.
func (w *world) register(host hypervisor.Host, picked pickedPoint, m plannedBoot, act runbook.Action) error {
	file := w.files[host.Name()]
	b := w.booted
	return b.change(w.o.run.dir, func() {
		if b.Host.Name == "" {
			b.Host = file
		}
		if !slices.ContainsFunc(b.hosts(), func(h hostFile) bool { return h.Name == file.Name }) {
			b.Others = append(b.Others, file)
		}
		i := slices.IndexFunc(b.Machines, func(bm bootedMachine) bool { return bm.Planned == act.Machine.Name })
		bm := bootedMachine{Name: m.Name, Planned: act.Machine.Name, Machine: m.Point.Machine.ID, Point: m.Point.ID, TakenAt: m.Point.TakenAt,
			Form: act.Form, Settled: !host.Abilities().BootNBD, Parts: map[string]bootedPart{}, Exports: map[string]string{}, SizeBytes: map[string]int64{}}
		if file.Name != b.Host.Name {
			bm.Host = file.Name
		}
		for _, d := range m.Point.Machine.Disks {
			source, ok := picked.sources[d.Key]
			if d.Excluded != "" || !ok {
				continue
			}
			b.addDrive(source.drive)
			if drive := source.drive.store.Drive().ID; drive != b.Drive.ID || source.point != m.Point.ID {
				bm.Parts[d.Key] = bootedPart{drive, source.point}
			}
			// Another point of the machine has other exports: the server keeps what
			// an export was.
			bm.Exports[d.Key] = "m" + strconv.Itoa(i) + "-" + short(source.point) + "-" + d.Key
			bm.SizeBytes[d.Key] = d.SizeBytes
			if d.Bus == lifeboat.BusNVMe {
				bm.Waiting = append(bm.Waiting, d.Key)
			}
		}
		b.Machines[i] = bm
	})
}

// addDrive makes a drive one of the run's.
func (b *bootedRun) addDrive(d *openedDrive) {
	drive := d.store.Drive()
	switch {
	case b.Drive.ID == "" || b.Drive.ID == drive.ID:
		b.Drive, b.DrivePath = drive, d.found.Path
	case !b.reads(drive.ID):
		b.Beside = append(b.Beside, bootedDrive{drive, d.found.Path})
	default:
		i := slices.IndexFunc(b.Beside, func(o bootedDrive) bool { return o.Drive.ID == drive.ID })
		b.Beside[i].Path = d.found.Path
	}
}

// hostWord is the word that a host finds one machine by.
func hostWord(l hypervisor.Listed) string {
	if l.HostID != "" {
		return l.HostID
	}
	return l.Machine.Name
}

// takeAway stops a machine and takes it off its host. In a recovery what it wrote is
// set aside, as rollback does, and where the host can do that: it had power.
func (w *world) takeAway(ctx context.Context, host hypervisor.Host, l hypervisor.Listed) error {
	err := host.PowerOff(ctx, hostWord(l), 0)
	shelver, shelves := host.(hypervisor.Shelver)
	switch {
	case err != nil:
	case shelves && w.plan.Mode == runbook.Recover:
		var folder string
		if folder, err = shelver.Shelve(ctx, hostWord(l)); err == nil {
			w.tell(l.Machine.Name, "%s was taken off host %s; what it wrote is set aside in %s", l.Machine.Name, host.Name(), folder)
		}
	default:
		err = host.Remove(ctx, hostWord(l))
	}
	if err != nil && !errors.Is(err, hypervisor.ErrNoMachine) {
		return fmt.Errorf("%s: take it away to build it anew: %w", l.Machine.Name, err)
	}
	return nil
}

// Undo takes a machine away, so that it can come back in another way.
func (w *world) Undo(ctx context.Context, act runbook.Action) error {
	host, l, there, err := w.machineOf(ctx, act)
	if err == nil && there {
		err = w.takeAway(ctx, host, l)
	}
	if err == nil {
		err = w.change(act.Machine.Name, func(m *bootedMachine) { m.HostID, m.Stopped = "", false })
	}
	return w.judge(ctx, act, err)
}
