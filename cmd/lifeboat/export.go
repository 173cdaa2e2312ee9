package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/hypervisor"
	"lifeboat/imagestore"
	"lifeboat/rotation"
)

// exportJob is one machine to be exported: how to hold it still.
type exportJob struct {
	name string
	host string
	id   string
	// off says that the machine had no power when it was listed.
	off    bool
	freeze func(ctx context.Context, o hypervisor.FreezeOptions) (hypervisor.Still, error)
	// exclude holds the reasons of the disks that are left out.
	exclude map[string]string
	// silent are the hosts that did not say which machines they have: one of them
	// may have the machine that this one is a copy of.
	silent map[string]bool
	// size says how much its disks hold at most, before it is held still.
	size func(ctx context.Context) ([]rotation.ShelfDisk, error)
	// on are the ids of the drives that its disks go to, by the keys of the disks,
	// where they do not all go to the run's own drive.
	on map[string]string
}

// exportResult is what became of one machine.
type exportResult struct {
	Machine string                 `json:"machine"`
	Host    string                 `json:"host,omitempty"`
	Point   *lifeboat.RestorePoint `json:"point,omitempty"`
	// Parts are the points on all its drives, where its disks lie on several; Point
	// is the first of them.
	Parts []lifeboat.RestorePoint `json:"parts,omitempty"`
	// Skipped says why nothing was tried.
	Skipped string       `json:"skipped,omitempty"`
	Problem *problemJSON `json:"problem,omitempty"`
	// LeftOut is the reason that site.yaml gives for not exporting it.
	LeftOut string `json:"leftOut,omitempty"`
	// Note is what an operator should know though it worked, and Warnings what
	// of the reading was not as usual.
	Note     string   `json:"note,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
	// Anomaly is set when the machine changed as if somebody had encrypted it.
	Anomaly *lifeboat.Change `json:"anomaly,omitempty"`

	ReadBytes    int64 `json:"readBytes"`
	NewBytes     int64 `json:"newBytes"`
	WrittenBytes int64 `json:"writtenBytes"`
	// FrozenSeconds and PausedSeconds are nil where the host does not tell.
	FrozenSeconds *float64 `json:"frozenSeconds,omitempty"`
	PausedSeconds *float64 `json:"pausedSeconds,omitempty"`
	Seconds       float64  `json:"seconds"`

	err error
	// brief is the note in few words, for a table.
	brief string
	// stuck says that letting go of the machine failed, and stopped that somebody
	// ended the run before it was done.
	stuck, stopped bool
}

// points are the points of the machine: one, or a part on each of its drives.
func (r *exportResult) points() []lifeboat.RestorePoint {
	if len(r.Parts) > 0 || r.Point == nil {
		return r.Parts
	}
	return []lifeboat.RestorePoint{*r.Point}
}

// noteThat adds to what an operator should know, and to the table's few words.
func (r *exportResult) noteThat(brief, whole string) {
	if whole == "" {
		return
	}
	r.brief = strings.TrimPrefix(r.brief+"; "+brief, "; ")
	r.Note = strings.TrimPrefix(r.Note+"; "+whole, "; ")
}

// firstClause is the beginning of a host's sentence: what, without why.
func firstClause(sentence string) string {
	if i := strings.IndexAny(sentence, ",:;"); i >= 0 {
		return sentence[:i]
	}
	return sentence
}

// exportRun exports machines to one drive.
type exportRun struct {
	a     *app
	run   *run
	drive *openedDrive
	cat   *catalog.Catalog
	// until is when no further machine is begun; zero means never.
	until time.Time
	// parallel machines are exported at the same time, no more of a host than
	// perHost says, and of each so many disks.
	parallel    int
	perHost     map[string]int
	disksAtOnce int
	// checkEvery says how often a host's list of changes is checked.
	checkEvery int
	// method forces one way of reading, where a host has several.
	method   string
	progress *exportProgress
	// beside are the runs of this export's other drives, this one too, by the ids
	// of their drives: for machines whose disks go to several.
	beside map[string]*exportRun
	// writeSpeed is what the drive was measured to write, in bytes per second;
	// 0 when that is not known.
	writeSpeed float64
}

// byAge puts the machine whose newest point on this drive is oldest first, so
// that a night that is too short always helps the machine that needs it most.
func (e *exportRun) byAge(ctx context.Context, jobs []exportJob) {
	taken := map[string]time.Time{}
	for _, j := range jobs {
		if p, err := e.drive.store.Newest(ctx, j.id); err == nil {
			taken[j.id] = p.TakenAt
		}
	}
	slices.SortStableFunc(jobs, func(x, y exportJob) int { return taken[x.id].Compare(taken[y.id]) })
}

// all exports every job, several at a time, and goes on after one fails. Results
// are in the order in which the jobs' turn came first.
func (e *exportRun) all(ctx context.Context, jobs []exportJob) []exportResult {
	e.byAge(ctx, jobs)
	order := map[string]int{}
	for i, j := range jobs {
		order[j.host+"/"+j.id] = i
	}
	results := make([]exportResult, len(jobs))
	t := turns{waiting: slices.Clone(jobs), limit: e.parallel, perHost: e.perHost}
	type ended struct {
		job    exportJob
		result exportResult
	}
	done := make(chan ended)
	// A drive that is full or gone fails every machine that comes after.
	stopped := ""
	for left := len(jobs); left > 0; {
		j, ok := t.next()
		if !ok {
			d := <-done
			t.ended(d.job)
			left--
			results[order[d.job.host+"/"+d.job.id]] = d.result
			if err := d.result.err; e.failedBy(err) == e && (errors.Is(err, lifeboat.ErrDriveFull) || errors.Is(err, lifeboat.ErrDriveGone)) {
				stopped = "not tried: " + e.drive.name() + " failed before"
			}
			continue
		}
		why := stopped
		if why == "" {
			why = e.tooLate(ctx)
		}
		go func() {
			if why != "" {
				done <- ended{j, exportResult{Machine: j.name, Host: j.host, Skipped: why}}
				return
			}
			done <- ended{j, e.one(ctx, j)}
		}()
	}
	return results
}

// tooLate says why no further machine is begun, or "".
func (e *exportRun) tooLate(ctx context.Context) string {
	switch {
	case ctx.Err() != nil:
		return "not tried: stopped"
	case !e.until.IsZero() && !e.a.now().Before(e.until):
		return "not tried: it was past " + e.until.Local().Format("15:04")
	default:
		return ""
	}
}

// one exports one machine and says what became of it.
func (e *exportRun) one(ctx context.Context, j exportJob) exportResult {
	began := time.Now()
	r := exportResult{Machine: j.name, Host: j.host}
	e.run.log(event{Event: "machine", Machine: j.name, Text: j.name + ": export begins"})
	err := e.capture(ctx, j, &r)
	if errors.Is(err, hypervisor.ErrReadAgain) && !r.stuck && ctx.Err() == nil {
		e.run.log(event{Event: "again", Machine: j.name, Text: j.name + ": read again in another way: " + err.Error()})
		r.Note, r.brief = "", ""
		err = e.capture(ctx, j, &r)
	}
	r.Seconds = time.Since(began).Seconds()
	e.progress.done(j.name)
	e.sayNote(j, &r)
	if err != nil {
		r.stopped = ctx.Err() != nil
		r.err = e.exportProblem(ctx, j, &r, err)
		p := newProblemJSON("export", r.err)
		r.Problem = &p
		e.run.log(event{Event: "problem", Machine: j.name, Text: j.name + ": " + p.Problem, Result: p})
		return r
	}
	for _, p := range r.points() {
		e.run.log(event{Event: "point", Machine: j.name, Text: fmt.Sprintf("%s: committed point %s", j.name, short(p.ID)), Result: p})
		if c := p.Change.IfUnusual(); c != nil && c.Score > r.Anomaly.ScoreOrZero() {
			r.Anomaly = c
		}
	}
	if r.Anomaly != nil {
		e.sayUnusual(j, r.Anomaly)
	}
	return r
}

// sayNote says the whole sentences of which the table has a few words.
func (e *exportRun) sayNote(j exportJob, r *exportResult) {
	if r.Note == "" {
		return
	}
	text := j.name + ": " + r.Note
	e.run.log(event{Event: "note", Machine: j.name, Text: text})
	if r.stuck {
		e.a.warn("%s", text)
		return
	}
	e.a.note("%s", text)
}

// capture is one machine's way onto its drive, or its drives: hold it still, store
// it, and only then let the host forget the older base of its change tracking.
func (e *exportRun) capture(ctx context.Context, j exportJob, r *exportResult) (err error) {
	parts, o, err := e.parts(ctx, j)
	if err != nil {
		return err
	}
	for _, p := range parts {
		if p.newest.Host != j.host && j.silent[p.newest.Host] {
			return silentOriginal(j, p.newest, p.run.drive.name())
		}
	}
	still, err := j.freeze(ctx, o)
	if err != nil {
		return err
	}
	// Letting go must work after Ctrl-C as well: the machine has to come free.
	defer func() {
		release, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
		defer cancel()
		rerr := still.Release(release)
		r.stuck = rerr != nil
		if rerr != nil && err != nil {
			err = fmt.Errorf("%w (and letting go of the machine: %v)", err, rerr)
		} else if rerr != nil {
			r.noteThat("not let go cleanly", "the machine could not be let go cleanly: "+rerr.Error()+"; the next export does it")
		}
	}()
	r.FrozenSeconds, r.PausedSeconds = toldSeconds(still.FrozenFor()), toldSeconds(still.PausedFor())
	c, err := e.captureOf(j, still, o)
	if err != nil {
		return err
	}
	consistency, note := still.Consistency()
	c.Consistency = consistency
	r.noteThat(firstClause(note), note)
	if err := divide(parts, c); err != nil {
		return err
	}
	points, err := e.store(ctx, j, parts, r)
	if err != nil {
		return err
	}
	r.Point = &points[0]
	if len(points) > 1 {
		r.Parts = points
		r.noteThat("in parts: "+togetherWords(points[0].Together), "its disks lie on several drives ("+togetherWords(points[0].Together)+"); all of them are needed to recover it")
	}
	for i, p := range points {
		r.Warnings = append(r.Warnings, parts[i].run.readingWarnings(j, p, o.Since)...)
	}
	if err := still.Committed(context.WithoutCancel(ctx)); err != nil {
		r.noteThat("the next export reads everything", "the point is committed; the next export of this machine reads everything: "+err.Error())
	}
	for i, p := range points {
		parts[i].run.remember(ctx, p)
	}
	return nil
}

// sourceAfter says what is known of a machine whose export failed.
func (j exportJob) sourceAfter(stuck bool, err error) string {
	switch {
	case stuck:
		return "whether " + j.name + " runs as before is not known, look at it"
	case errors.Is(err, hypervisor.ErrMachineGone):
		return "nothing was changed on the disks of " + j.name
	case j.host == "" || j.off:
		return "the disks of " + j.name + " were only read"
	default:
		return j.name + " goes on running"
	}
}

// releaseTimeout bounds letting go of a machine.
const releaseTimeout = 30 * time.Second

// captureOf puts together what the store needs to know of a still.
func (e *exportRun) captureOf(j exportJob, still hypervisor.Still, o hypervisor.FreezeOptions) (imagestore.Capture, error) {
	m := still.Machine()
	// A link that a person made is worth more than what the host knows.
	m.ID = j.id
	c := imagestore.Capture{
		Machine: m, DisksAtOnce: e.disksAtOnce, CheckEvery: e.checkEvery, RunID: e.run.ID, TakenAt: e.a.momentOf(still.TakenAt()), Host: j.host, Program: version,
		Sources: map[string]imagestore.Source{}, Tokens: map[string]string{}, Since: o.Since,
	}
	for i := range m.Disks {
		d := &c.Machine.Disks[i]
		if why := j.exclude[d.Key]; why != "" {
			d.Excluded = why
		}
		if d.Excluded != "" {
			continue
		}
		disk, err := still.Disk(d.Key)
		if err != nil {
			return c, err
		}
		c.Sources[d.Key], c.Tokens[d.Key] = disk, disk.Token()
	}
	return c, nil
}

// remember notes the point in the catalogue. The drive is the truth, so a
// catalogue that cannot be written costs convenience, not the point.
func (e *exportRun) remember(ctx context.Context, p lifeboat.RestorePoint) {
	if e.cat == nil {
		return
	}
	if err := e.cat.AddPoint(context.WithoutCancel(ctx), e.drive.store.Drive().ID, p); err != nil {
		e.a.warn("%s: the point is on the drive, but not in the catalogue: %v", p.Machine.Name, err)
	}
}

// exportProblem says what a failed export means for its machine.
func (e *exportRun) exportProblem(ctx context.Context, j exportJob, r *exportResult, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: stopped: %w", j.name, err)
	}
	e = e.failedBy(err)
	// What became of the drive is said here, where the machine is known.
	var p *lifeboat.Problem
	if errors.As(err, &p) && !r.stuck && !errors.Is(err, lifeboat.ErrDriveFull) && !errors.Is(err, lifeboat.ErrDriveGone) {
		return err
	}
	source := j.sourceAfter(r.stuck, err)
	safe := fmt.Sprintf("%s; %s holds no point of it yet", source, e.drive.name())
	if newest, nerr := e.drive.store.Newest(context.WithoutCancel(ctx), j.id); nerr == nil {
		safe = fmt.Sprintf("%s; its point of %s on %s is whole", source, stamp(newest.TakenAt), e.drive.name())
	}
	if len(j.on) > 1 {
		safe = source + "; a part of it on another drive counts for nothing without this one, and its older points are as they were"
	}
	next := "run the export again; what was written already is used"
	what := fmt.Sprintf("%s: its export to %s failed: %v", j.name, e.drive.name(), err)
	switch {
	case errors.Is(err, hypervisor.ErrMachineGone):
		what = fmt.Sprintf("%s: the machine stopped or was deleted while it was exported", j.name)
		next = "see what it is doing: lifeboat machine list"
	case errors.Is(err, hypervisor.ErrStillBroken):
		what = fmt.Sprintf("%s: the space for what the guest overwrites meanwhile ran out", j.name)
		next = "give the host more scratch space (scratch in site.yaml) and export again"
	case errors.Is(err, hypervisor.ErrMachineBusy):
		what = fmt.Sprintf("%s: another export holds this machine, or its host is busy with it", j.name)
		next = "see who: lifeboat run list"
	case errors.Is(err, hypervisor.ErrUnsupported) && e.method != "":
		what = fmt.Sprintf("%s: its host does not read that way: %v", j.name, err)
		next = "leave the choice to the host: run the export again without --method"
	case errors.Is(err, lifeboat.ErrDriveFull):
		what = fmt.Sprintf("%s: %s is full", j.name, e.drive.name())
		next = fmt.Sprintf("free room: lifeboat point forget, then lifeboat prune %s; or attach a larger drive; then run the export again", shellWord(e.drive.found.Drive.Label))
	case errors.Is(err, lifeboat.ErrDriveGone):
		what = fmt.Sprintf("%s: %s stopped answering", j.name, e.drive.name())
		next = "look at its cable, attach it again and run: lifeboat verify"
	}
	return &lifeboat.Problem{What: what, Safe: safe, Next: next, Err: err}
}
