package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/rotation"
)

// A set of several drives holds all machines together. An export to it opens the
// drives of the set that are attached and gives each machine to the drive, or the
// drives, that it is placed on. Machines whose drive is away are refused; the
// others are exported.

// setDrive is a drive of the set that is exported to.
type setDrive struct {
	label string
	// away says why it cannot be written; nil: it is open.
	away error
	cat  *catalog.Catalog
	open *openedDrive
}

// exportOnSet exports the jobs to the drives of a set that are attached.
func (a *app) exportOnSet(ctx context.Context, o exportOrder, set rotation.Set) (results []exportResult, err error) {
	found, err := a.attachedDrives(ctx)
	if err != nil {
		return nil, err
	}
	drives := make([]*setDrive, len(set.Drives))
	for i, label := range set.Drives {
		drives[i] = &setDrive{label: label}
	}
	err = a.withDrives(ctx, o, found, drives, func() error {
		results, err = a.exportPlaced(ctx, o, set, drives)
		return err
	})
	return results, err
}

// withDrives opens the drives that can be opened, one inside the other, and then
// does the work. What keeps one away is written down, and concerns the machines
// that are placed on it alone.
func (a *app) withDrives(ctx context.Context, o exportOrder, found []rotation.Found, drives []*setDrive, work func() error) error {
	if len(drives) == 0 {
		return work()
	}
	d, rest := drives[0], drives[1:]
	f, err := rotation.Select(found, d.label)
	if err != nil {
		d.away = err
		return a.withDrives(ctx, o, found, rest, work)
	}
	opened := false
	err = a.writeDrive(ctx, f.Path, f.Drive.ID, o.flags.acceptDrive, func(cat *catalog.Catalog, open *openedDrive) error {
		opened, d.cat, d.open = true, cat, open
		return a.withDrives(ctx, o, found, rest, work)
	})
	if opened || ctx.Err() != nil {
		return err
	}
	d.away = err
	return a.withDrives(ctx, o, found, rest, work)
}

// exportPlaced exports each job to where it is placed.
func (a *app) exportPlaced(ctx context.Context, o exportOrder, set rotation.Set, drives []*setDrive) ([]exportResult, error) {
	first := slices.IndexFunc(drives, func(d *setDrive) bool { return d.open != nil })
	if first < 0 {
		return nil, noneOfSet(set, drives)
	}
	cat := drives[first].cat
	if cat == nil {
		return nil, &lifeboat.Problem{
			What: fmt.Sprintf("set %s has several drives, and which machine is on which of them is not remembered: the catalogue cannot be used", set.Name),
			Safe: "nothing was exported; the points on the drives are as they were",
			Next: "see the lines above; or name one drive, for machines that have room on it: --drive LABEL",
		}
	}
	j, err := a.decide(ctx, cat)
	if err != nil {
		return nil, err
	}
	placed, err := a.placement(ctx, j, set, o.jobs)
	if err != nil {
		return nil, err
	}
	for _, w := range placed.Warnings {
		a.warn("%s", w)
	}
	byDrive, refused := assign(o.jobs, placed, set, drives)
	results := a.rememberedRun(ctx, o, cat, func() []exportResult {
		results := a.exportByDrive(ctx, o, drives, byDrive)
		return append(results, refused...)
	})
	return results, nil
}

// exportByDrive exports the jobs of one drive after those of another. A machine
// whose disks go to several is among those of the first.
func (a *app) exportByDrive(ctx context.Context, o exportOrder, drives []*setDrive, byDrive map[string][]exportJob) (results []exportResult) {
	jobs := 0
	for _, of := range byDrive {
		jobs += len(of)
	}
	progress := a.newExportProgress(o.run, jobs)
	runs := map[string]*exportRun{}
	for _, d := range drives {
		if d.open != nil {
			e := a.newExportRun(o, d.cat, d.open, progress)
			e.beside = runs
			runs[d.open.store.Drive().ID] = e
		}
	}
	for _, d := range drives {
		if d.open != nil {
			id := d.open.store.Drive().ID
			runs[id].measure(ctx, byDrive[id])
			results = append(results, runs[id].all(ctx, byDrive[id])...)
		}
	}
	progress.p.end()
	for _, d := range drives {
		if d.open != nil {
			a.exported(ctx, d.cat, d.open, o.run.ID, resultsOn(results, byDrive, d.open.store.Drive().ID))
		}
	}
	return results
}

// resultsOn are the results that concern a drive: of its own jobs, and of machines
// that have a part on it.
func resultsOn(results []exportResult, byDrive map[string][]exportJob, id string) (on []exportResult) {
	for _, r := range results {
		own := slices.ContainsFunc(byDrive[id], func(j exportJob) bool { return j.name == r.Machine && j.host == r.Host })
		part := len(r.Parts) > 0 && slices.ContainsFunc(r.Parts[0].Together, func(p lifeboat.Part) bool { return p.DriveID == id })
		if part {
			r.WrittenBytes = newBytesOn(r.Parts, id)
		}
		if own || part {
			on = append(on, r)
		}
	}
	return on
}

// newBytesOn is what the part on a drive had that the drive had not, before it was
// compressed.
func newBytesOn(parts []lifeboat.RestorePoint, id string) (sum int64) {
	for i, p := range parts {
		if parts[0].Together[i].DriveID != id {
			continue
		}
		for _, d := range p.Disks {
			sum += d.NewBytes
		}
	}
	return sum
}

// assign sorts jobs by the drive, or the first of the drives, that they go to;
// what goes nowhere becomes a result.
func assign(jobs []exportJob, placed rotation.Placement, set rotation.Set, drives []*setDrive) (byDrive map[string][]exportJob, refused []exportResult) {
	byDrive = map[string][]exportJob{}
	open := map[string]bool{}
	for _, d := range drives {
		if d.open != nil {
			open[d.open.store.Drive().ID] = true
		}
	}
	for _, j := range jobs {
		m, _ := placed.Machine(j.id)
		var err error
		if m.Refused != "" {
			err = noRoomInSet(j, m, set)
		} else if away := slices.DeleteFunc(m.DriveIDs(), func(id string) bool { return open[id] }); len(away) > 0 {
			err = placedElsewhere(j, m, placed, away, drives)
		}
		if err != nil {
			p := newProblemJSON("export", err)
			refused = append(refused, exportResult{Machine: j.name, Host: j.host, Problem: &p, err: err})
			continue
		}
		ids := m.DriveIDs()
		if m.Split() {
			j.on = maps.Clone(m.Drives)
		}
		byDrive[ids[0]] = append(byDrive[ids[0]], j)
	}
	return byDrive, refused
}

func noRoomInSet(j exportJob, m rotation.PlacedMachine, set rotation.Set) error {
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s has no room on set %s: %s", j.name, set.Name, m.Refused),
		Safe: fmt.Sprintf("nothing was read of %s; points that it has are whole", j.name),
		Next: fmt.Sprintf("add a drive to set %s in site.yaml; if its disks hold far less than they are large, export it once to a drive that you name: lifeboat export %s --drive LABEL", set.Name, shellWord(j.name)),
		Err:  lifeboat.ErrDriveFull,
	}
}

// placedElsewhere: a machine is placed on a drive that is away, and is exported as
// a whole or not at all.
func placedElsewhere(j exportJob, m rotation.PlacedMachine, placed rotation.Placement, away []string, drives []*setDrive) error {
	label := func(id string) string {
		i := slices.IndexFunc(placed.Drives, func(d rotation.PlacedDrive) bool { return d.DriveID == id })
		return placed.Drives[i].Label
	}
	var missing, all []string
	why := ""
	for _, id := range away {
		missing = append(missing, label(id))
		why = "another drive of that label is attached"
		if i := slices.IndexFunc(drives, func(d *setDrive) bool { return d.label == label(id) }); i >= 0 && drives[i].away != nil {
			why = problemOf(drives[i].away).What
		}
	}
	for _, id := range m.DriveIDs() {
		all = append(all, label(id))
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s is placed on drive %s, and drive %s cannot be written: %s", j.name, strings.Join(all, " and "), strings.Join(missing, " and "), why),
		Safe: fmt.Sprintf("nothing was read of %s; points that it has are whole", j.name),
		Next: fmt.Sprintf("attach drive %s and run: lifeboat export %s", strings.Join(missing, " and "), shellWord(j.name)),
		Err:  lifeboat.ErrNoDrive,
	}
}

func noneOfSet(set rotation.Set, drives []*setDrive) error {
	p := &lifeboat.Problem{
		What: fmt.Sprintf("none of the drives of set %s can be written: %s", set.Name, strings.Join(set.Drives, ", ")),
		Safe: "nothing was exported",
		Next: "attach drive " + strings.Join(set.Drives, " and ") + " and run the export again",
		Err:  lifeboat.ErrNoDrive,
	}
	if len(drives) > 0 && drives[0].away != nil {
		p.What += "; " + problemOf(drives[0].away).What
	}
	return p
}

// planOnSet shows where each job would go.
func (a *app) planOnSet(ctx context.Context, set rotation.Set, jobs []exportJob, early []exportResult) error {
	cat, err := a.needCatalog(ctx)
	if err != nil {
		return err
	}
	defer cat.Close()
	j, err := a.decide(ctx, cat)
	if err != nil {
		return err
	}
	placed, err := a.placement(ctx, j, set, jobs)
	if err != nil {
		return err
	}
	if a.json {
		a.printJSON(placed)
		return nil
	}
	var rows [][]string
	for _, job := range jobs {
		m, _ := placed.Machine(job.id)
		var labels []string
		for _, d := range placed.Drives {
			if slices.Contains(m.DriveIDs(), d.DriveID) {
				labels = append(labels, d.Label)
			}
		}
		if m.Refused != "" {
			labels = []string{"none"}
		}
		rows = append(rows, []string{job.name, job.host, strings.Join(labels, " "), m.Why + m.Refused})
	}
	for _, r := range early {
		not := r.Skipped + r.LeftOut
		if r.Problem != nil {
			not = r.Problem.Problem
		}
		rows = append(rows, []string{r.Machine, r.Host, "-", "not exported: " + not})
	}
	a.print("to set %s:\n%s", set.Name, remarks(a.columns(), []string{"MACHINE", "HOST", "DRIVES", "WHY"}, rows))
	for _, w := range placed.Warnings {
		a.warn("%s", w)
	}
	return nil
}
