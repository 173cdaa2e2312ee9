package main

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"lifeboat/catalog"
	"lifeboat/diskfile"
	"lifeboat/hypervisor"
	"lifeboat/hypervisor/vsphere"
	"lifeboat/imagestore"
	"lifeboat/rotation"
)

// exportFlags are the answers that `export` takes.
type exportFlags struct {
	all    bool
	files  []string
	as     string
	format string
	// backing allows images that need another file to be read.
	backing bool
	// method forces one of a host's ways of reading.
	method string
	drive  string
	// set is the set of the rotation whose drives are written.
	set   string
	until string
	// acceptDrive takes a drive whose history is not the one that is remembered.
	acceptDrive bool
	dryRun      bool
	detach      bool
}

func (a *app) exportCommand() *cobra.Command {
	var f exportFlags
	c := &cobra.Command{
		Use: "export MACHINE... | --all | --file DISK... --as NAME", Short: "Store running machines on a drive", GroupID: "keep",
		Long: "Holds each machine at one instant, stores every block of its disks that the drive does not\n" +
			"have yet, and commits a restore point. The machines go on running. A machine that fails does\n" +
			"not keep the others from being exported.",
		Example:           "  lifeboat export --all --drive A --until 07:00\n  lifeboat export --file /dev/sdc --as workshop-pc",
		Annotations:       exits(exitPartial, exitNoDrive, exitHeld, exitStopped),
		ValidArgsFunction: a.completeMachines,
		RunE: func(c *cobra.Command, args []string) error {
			if err := f.check(args); err != nil {
				return err
			}
			if f.detach {
				return a.startDetached("export")
			}
			return a.export(c.Context(), f, args)
		},
	}
	c.Flags().BoolVar(&f.all, "all", false, "every machine of every host")
	c.Flags().StringArrayVar(&f.files, "file", nil, "a disk image or block device of a machine without a host; may be given several times")
	c.Flags().StringVar(&f.as, "as", "", "the name of the machine that the files belong to")
	c.Flags().StringVar(&f.format, "format", "", "format of the files, where it is not plain: raw, qcow2, vmdk, vhdx or vdi")
	c.Flags().StringVar(&f.method, "method", "", "read in this way, where a host has several (vsphere: "+vsphere.MethodRanges+", "+vsphere.MethodNFC+"); without it the host chooses")
	c.Flags().BoolVar(&f.backing, "allow-backing", false, "read images that refer to another file")
	c.Flags().StringVar(&f.until, "until", "", "begin no further machine after this time of day (07:00)")
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "say what would be exported, and in which order")
	c.Flags().BoolVar(&f.detach, "detach", false, "go on without this terminal; follow with: lifeboat run attach")
	c.Flags().BoolVar(&f.acceptDrive, "accept-drive", false, "write to a drive that is in an older or another state than when it was last seen: after you found out why")
	a.driveFlag(c, &f.drive)
	c.Flags().StringVar(&f.set, "set", "", "write the drives of this set of the rotation, whose turn it may be or not")
	c.RegisterFlagCompletionFunc("set", a.completeSets)
	c.RegisterFlagCompletionFunc("method", cobra.FixedCompletions([]string{vsphere.MethodRanges, vsphere.MethodNFC}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

// check finds what contradicts itself in how export was called.
func (f exportFlags) check(args []string) error {
	kinds := 0
	for _, given := range []bool{f.all, len(f.files) > 0, len(args) > 0} {
		if given {
			kinds++
		}
	}
	switch {
	case kinds == 0:
		return usagef("say what to export: names of machines, --all, or --file DISK --as NAME")
	case kinds > 1:
		return usagef("names, --all and --file exclude each other")
	case len(f.files) > 0 && f.as == "":
		return usagef("--file needs --as NAME: the machine that the disks belong to")
	case len(f.files) == 0 && f.as != "":
		return usagef("--as goes with --file")
	case f.set != "" && f.drive != "":
		return usagef("--set and --drive exclude each other")
	case len(f.files) > 0 && f.method != "":
		return usagef("--method goes with machines of hosts, not with --file")
	}
	if _, err := parseUntil(f.until, time.Now()); err != nil {
		return err
	}
	return checkName(f.as)
}

// nameLimit is longer than any hypervisor's names, and fits a line of a report.
const nameLimit = 255

// checkName refuses what cannot be a machine's name: it is printed on one line.
func checkName(name string) error {
	switch {
	case !utf8.ValidString(name) || plainText(name) != name || oneLine(name) != name:
		return usagef("--as %q is not a name: it has to be one line of plain text, without blanks around it", name)
	case utf8.RuneCountInString(name) > nameLimit:
		return usagef("--as: a name has at most %d characters", nameLimit)
	}
	return nil
}

func (a *app) export(ctx context.Context, f exportFlags, args []string) error {
	until, err := parseUntil(f.until, a.now())
	if err != nil {
		return err
	}
	site, err := a.loadSite()
	if err != nil {
		return err
	}
	jobs, early, err := a.exportJobs(ctx, site, f, args)
	if err != nil {
		return err
	}
	if f.dryRun {
		return a.exportPlan(ctx, f, jobs, early)
	}
	r, err := a.beginRun("export", os.Args[1:])
	if err != nil {
		return err
	}
	results, err := a.exportTo(ctx, exportOrder{site: site, run: r, flags: f, until: until, jobs: jobs})
	results = append(results, early...)
	summary := a.exportSummary(results)
	if err == nil {
		err = exportOutcome(ctx, results)
	}
	a.showExport(r, results, err)
	r.end(summary, err)
	return err
}

// hostRow stands in the list of machines for a host that does not say which it
// has.
const hostRow = "(host)"

// exportOrder is what an export was told to do.
type exportOrder struct {
	site  *siteFile
	run   *run
	flags exportFlags
	// until is when no further machine is begun; zero means never.
	until time.Time
	jobs  []exportJob
	// known: the catalogue has learned of this run, with another drive.
	known bool
}

// exportTo exports the jobs to the drive that was named, or to today's.
func (a *app) exportTo(ctx context.Context, o exportOrder) ([]exportResult, error) {
	if len(o.jobs) == 0 {
		return nil, nil
	}
	t, err := a.exportTarget(ctx, o.flags)
	if err != nil {
		return nil, err
	}
	return a.exportOnDrives(ctx, o, t)
}

// exportOnto exports the jobs to one drive, whose id is known where rotation
// chose it.
func (a *app) exportOnto(ctx context.Context, o exportOrder, want, id string) (results []exportResult, err error) {
	err = a.writeDrive(ctx, want, id, o.flags.acceptDrive, func(cat *catalog.Catalog, d *openedDrive) error {
		results = a.exportRun(ctx, o, cat, d)
		return nil
	})
	return results, err
}

// exportRun exports the jobs to a drive that is open. cat is nil where nothing is
// remembered.
func (a *app) exportRun(ctx context.Context, o exportOrder, cat *catalog.Catalog, d *openedDrive) []exportResult {
	return a.rememberedRun(ctx, o, cat, func() []exportResult {
		e := a.newExportRun(o, cat, d, a.newExportProgress(o.run, len(o.jobs)))
		e.measure(ctx, o.jobs)
		results := e.all(ctx, o.jobs)
		e.progress.p.end()
		a.exported(ctx, cat, d, o.run.ID, results)
		return results
	})
}

// exported records what a run left on one drive: in the ledger, and what it showed
// of the drive as hardware.
func (a *app) exported(ctx context.Context, cat *catalog.Catalog, d *openedDrive, run string, results []exportResult) {
	if cat == nil {
		return
	}
	a.enterExport(ctx, cat, d, run, results)
	a.noteHardware(ctx, cat, d, hardwareFacts{writtenBytes: writtenBytes(results), writeSpeed: int64(d.speed)})
}

func (a *app) newExportRun(o exportOrder, cat *catalog.Catalog, d *openedDrive, progress *exportProgress) *exportRun {
	e := &exportRun{a: a, run: o.run, drive: d, cat: cat, until: o.until, parallel: o.site.Limits.Machines, perHost: o.site.machinesPerHost(),
		disksAtOnce: o.site.Limits.Disks, checkEvery: o.site.Limits.CheckEvery, method: o.flags.method, progress: progress}
	if e.parallel == 0 {
		e.parallel = 2
	}
	return e
}

// rememberedRun lets the catalogue know of a run, and how it ended. cat is nil
// where nothing is remembered.
func (a *app) rememberedRun(ctx context.Context, o exportOrder, cat *catalog.Catalog, export func() []exportResult) []exportResult {
	if cat == nil {
		return export()
	}
	if !o.known {
		if err := cat.StartRun(ctx, o.run.ID, "export", a.now()); err != nil {
			a.warn("the catalogue does not learn of this run: %v", err)
		}
	}
	results := export()
	if err := cat.EndRun(context.WithoutCancel(ctx), o.run.ID, a.now(), exitCode(exportOutcome(ctx, results)), a.exportSummary(results)); err != nil {
		a.warn("the catalogue does not learn how this run ended: %v", err)
	}
	if err := cat.RecordFailures(context.WithoutCancel(ctx), o.run.ID, failedMachines(results)); err != nil {
		a.warn("the catalogue does not learn which machines failed: %v", err)
	}
	return results
}

// failedMachines are the names of those that were tried in a run and have no point
// of it.
func failedMachines(results []exportResult) (names []string) {
	for _, r := range results {
		if r.Machine != hostRow && r.Point == nil && r.Problem != nil {
			names = append(names, r.Machine)
		}
	}
	return names
}

// exportJobs finds the machines to export. Hosts that do not answer and
// machines that cannot be exported become results of their own.
func (a *app) exportJobs(ctx context.Context, site *siteFile, f exportFlags, args []string) (jobs []exportJob, early []exportResult, err error) {
	if len(f.files) > 0 {
		job, err := a.fileJob(ctx, f)
		return []exportJob{job}, nil, err
	}
	known, unreachable := a.machinesBeside(ctx, site, args)
	all := known
	if !f.all {
		if all, err = findMachines(all, args); err != nil {
			if unreachable != nil {
				return nil, nil, unreachable
			}
			return nil, nil, err
		}
	} else if unreachable != nil {
		p := newProblemJSON("export", unreachable)
		early = append(early, exportResult{Machine: hostRow, Problem: &p, err: unreachable})
	}
	sort := sorting{site: site, all: known, booted: a.bootedHere()}
	for _, m := range all {
		if r, not := sort.notExported(m, f.all); not {
			early = append(early, r)
			continue
		}
		j := machineJob(m)
		if _, booted := sort.booted[m.place()]; !booted {
			j.silent = silentHosts(unreachable)
		}
		jobs = append(jobs, j)
	}
	if f.all && len(jobs)+len(early) == 0 {
		return nil, nil, usagef("no host has a machine to export; see: lifeboat host list")
	}
	return jobs, early, nil
}

func machineJob(m machineOn) exportJob {
	j := exportJob{name: m.Machine.Name, host: m.host.Name(), id: m.Machine.ID, off: m.Power == hypervisor.PowerOff, exclude: map[string]string{}}
	for _, d := range m.Machine.Disks {
		if d.Excluded != "" {
			j.exclude[d.Key] = d.Excluded
		}
	}
	j.freeze = func(ctx context.Context, o hypervisor.FreezeOptions) (hypervisor.Still, error) {
		return m.host.Freeze(ctx, m.HostID, o)
	}
	j.size = func(context.Context) (disks []rotation.ShelfDisk, err error) {
		for _, d := range m.Machine.Disks {
			disks = append(disks, rotation.ShelfDisk{Key: d.Key, DataBytes: d.SizeBytes})
		}
		return disks, nil
	}
	return j
}

func (a *app) exportPlan(ctx context.Context, f exportFlags, jobs []exportJob, early []exportResult) error {
	t, err := a.exportTarget(ctx, f)
	if err != nil {
		return err
	}
	if t.refused != nil && t.standing == "" {
		return t.refused
	}
	if t.warning != "" {
		a.warn("%s", t.warning)
	}
	if len(t.set.Drives) > 0 {
		return a.planOnSet(ctx, t.set, jobs, early)
	}
	drive, err := a.openDrive(ctx, cmp.Or(t.standing, t.drive), imagestore.Read)
	if err != nil {
		return err
	}
	defer drive.Close()
	(&exportRun{a: a, drive: drive}).byAge(ctx, jobs)
	type planned struct {
		Machine string     `json:"machine"`
		Host    string     `json:"host,omitempty"`
		Newest  *time.Time `json:"newestPoint,omitempty"`
		// Not says why it would not be exported.
		Not string `json:"not,omitempty"`
	}
	var plan []planned
	var rows [][]string
	for _, j := range jobs {
		p := planned{Machine: j.name, Host: j.host}
		newest := "none on this drive: everything is read"
		if point, err := drive.store.Newest(ctx, j.id); err == nil {
			p.Newest = &point.TakenAt
			newest = stamp(point.TakenAt)
		}
		plan = append(plan, p)
		rows = append(rows, []string{j.name, j.host, newest})
	}
	for _, r := range early {
		not := r.Skipped + r.LeftOut
		if r.Problem != nil {
			not = r.Problem.Problem
		}
		plan = append(plan, planned{Machine: r.Machine, Host: r.Host, Not: not})
		rows = append(rows, []string{r.Machine, r.Host, "not exported: " + not})
	}
	if a.json {
		a.printJSON(plan)
		return nil
	}
	a.print("to %s, in this order:\n%s", drive.name(), remarks(a.columns(), []string{"MACHINE", "HOST", "NEWEST POINT"}, rows))
	return nil
}

// parseUntil reads a time of day and returns when it is next.
func parseUntil(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.ParseInLocation("15:04", text, now.Location())
	if err != nil {
		return time.Time{}, usagef("--until takes a time of day such as 07:00, not %q", text)
	}
	until := time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), 0, 0, now.Location())
	if !until.After(now) {
		until = until.AddDate(0, 0, 1)
	}
	return until, nil
}

// fileJob makes a machine of disk files. Its id follows from the name, so that
// the next export of the same name finds its older points.
func (a *app) fileJob(ctx context.Context, f exportFlags) (exportJob, error) {
	var abs []string
	for _, p := range f.files {
		full, err := filepath.Abs(p)
		if err != nil {
			return exportJob{}, err
		}
		if _, err := os.Stat(full); err != nil {
			return exportJob{}, usagef("--file: %v", err)
		}
		abs = append(abs, full)
	}
	site, err := a.loadSite()
	if err != nil {
		return exportJob{}, err
	}
	id := fileMachineID(site.Site.ID, f.as)
	o := diskfile.Options{Format: diskfile.Format(f.format), AllowBacking: f.backing}
	return exportJob{name: f.as, id: id, freeze: func(ctx context.Context, _ hypervisor.FreezeOptions) (hypervisor.Still, error) {
		return openFileStill(ctx, id, f.as, abs, o)
	}, size: func(ctx context.Context) ([]rotation.ShelfDisk, error) {
		return fileSizes(ctx, id, f.as, abs, o)
	}}, nil
}
