package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/custody"
	"lifeboat/runbook"
)

// The files of a run by a runbook, in its folder.
const (
	recordFile   = "record.json"
	reportFile   = "report.html"
	evidenceDir  = "evidence"
	evidenceMost = 16 << 20 // bytes of one file of evidence: a screenshot of an 8K screen is less
)

// Facts of the ledger about drills and recoveries.
const (
	factRun     = "run"
	factRecord  = "record"
	factBook    = "runbook"
	factOutcome = "outcome"
	factDrive   = "drive"
)

// keepRecord keeps what a drill or a recovery leaves. It comes last, after cleanup:
// it adds to the record what damage was met and the hash of each file of evidence,
// and writes record.json in place of the engine's, word for word what the catalogue
// has and the ledger seals by its hash. Whoever writes the file after it breaks the
// seal. Points whose machines passed are proven, and the drives that were read get
// the record and its report, at once where they are attached, else when they are
// next written to. A computer without a site keeps the files alone: `drill export`
// and `drill import` bring them home. A run that went on later is kept again, which
// is another entry.
func (a *app) keepRecord(ctx context.Context, dir string, r *runbook.Record) error {
	ctx = context.WithoutCancel(ctx)
	if err := hashEvidence(dir, r); err != nil {
		return err
	}
	noteDamage(dir, r)
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write the record of run %s: %w", short(r.RunID), err)
	}
	if err := writeFile(filepath.Join(dir, recordFile), text, 0o600); err != nil {
		return err
	}
	cat := a.siteMemory(ctx)
	if cat == nil {
		return nil
	}
	if err := a.rememberRecord(ctx, cat, r, string(text)); err != nil {
		return err
	}
	a.proveRecord(ctx, cat, r)
	a.leaveRecord(ctx, r.RunID)
	return nil
}

// noteDamage writes into a record what damage its disk server met.
func noteDamage(dir string, r *runbook.Record) {
	serving, err := readServing(dir)
	if err != nil || len(serving.Damage) == 0 {
		return
	}
	r.Damage = serving.Damage
	if r.Partial == "" {
		r.Partial = "it met damage on the drive"
	}
}

// proveRecord records of each machine whose checks passed that its point is proven
// on the drives that it was read from, as a boot with checks does. A run that met
// damage proves nothing, and neither does one that was brought home after damage
// was found that takes back what was known before.
func (a *app) proveRecord(ctx context.Context, cat *catalog.Catalog, r *runbook.Record) {
	if len(r.Damage) > 0 {
		return
	}
	faults, err := cat.Faults(ctx, "")
	if err != nil {
		a.warn("no point is proven by run %s: %v", short(r.RunID), err)
		return
	}
	at := r.Ended
	if at.IsZero() {
		at = r.Began
	}
	points, machines := map[string][]string{}, map[string][]string{}
	for _, m := range r.Machines {
		i := slices.IndexFunc(r.Plan.Machines, func(p runbook.PlannedMachine) bool { return p.ID == m.ID })
		if i < 0 || !m.Passed || m.Checked == 0 {
			continue
		}
		for _, drive := range pointDrives(r.Plan.Machines[i], m.PointID) {
			takenBack := slices.ContainsFunc(faults, func(f catalog.Fault) bool {
				return f.DriveID == drive && (f.Others || f.PointID == m.PointID) && !f.At.Before(at)
			})
			if takenBack {
				continue
			}
			proof := catalog.Proof{DriveID: drive, PointID: m.PointID, RunID: r.RunID, At: at, Checked: count(m.Checked, "check") + " of runbook " + r.Plan.Book}
			if err := cat.RecordProof(ctx, proof); err != nil {
				a.warn("the catalogue does not learn that %s is proven: %v", m.Name, err)
				continue
			}
			points[drive], machines[drive] = append(points[drive], m.PointID), append(machines[drive], m.Name)
		}
	}
	for _, d := range r.Drives {
		if len(points[d.ID]) > 0 {
			a.enterProven(ctx, cat, item(lifeboat.Drive{ID: d.ID, Label: d.Label}), r.RunID, points[d.ID], machines[d.ID])
		}
	}
}

// pointDrives are the drives that a point of a machine was read from.
func pointDrives(p runbook.PlannedMachine, point string) []string {
	if p.Point.ID == point {
		return p.DriveIDs
	}
	for _, older := range p.Older {
		if older.PointID == point {
			return older.DriveIDs
		}
	}
	return nil
}

// siteMemory is the catalogue of a computer that has a site, made if it is not
// there; nil on one without a site, and where it cannot be used, which is said.
func (a *app) siteMemory(ctx context.Context) *catalog.Catalog {
	if !a.hasState() {
		return nil
	}
	return a.remembered(ctx)
}

// rememberRecord puts a record into the catalogue, and its hash into the ledger
// unless that has it already.
func (a *app) rememberRecord(ctx context.Context, cat *catalog.Catalog, r *runbook.Record, text string) error {
	d := drillOf(r, text)
	if err := cat.RecordDrill(ctx, d); err != nil {
		return err
	}
	if entries, err := cat.Ledger(ctx); err == nil && sealOf(entries, r.RunID, d.Hash).Entry != 0 {
		return nil
	}
	act := custody.ActDrilled
	if r.Mode == runbook.Recover {
		act = custody.ActRecovered
	}
	e := custody.Entry{Act: act, HappenedAt: d.Ended, Note: bounded(recordWords(r)), Facts: map[string]string{
		factRun: r.RunID, factRecord: d.Hash, factBook: bounded(d.Book), factOutcome: string(r.Verdict())}}
	if len(r.Drives) > 0 {
		e.Facts[factDrive] = bounded(fmt.Sprintf("%s (%s)", r.Drives[0].Label, short(r.Drives[0].ID)))
	}
	a.enter(ctx, cat, e)
	return nil
}

// recordWords is a run in a line.
func recordWords(r *runbook.Record) string {
	passed := 0
	for _, m := range r.Machines {
		if m.Passed {
			passed++
		}
	}
	text := fmt.Sprintf("%s of runbook %s: %s, %d of %s passed in %s", r.Mode, r.Plan.Book, r.Verdict(), passed, count(len(r.Machines), "machine"), humanDuration(r.RTA))
	if r.Declared != "" {
		text += "; declared by " + r.Declared + ": " + r.Reason
	}
	return text
}

// hashEvidence writes into a record what its files of evidence are.
func hashEvidence(dir string, r *runbook.Record) error {
	r.Files = map[string]string{}
	for _, name := range evidenceOf(r) {
		data, err := readEvidence(dir, name)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNoEvidence) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read the evidence of run %s: %w", short(r.RunID), err)
		}
		sum := sha256.Sum256(data)
		r.Files[name] = hex.EncodeToString(sum[:])
	}
	return nil
}

// evidenceOf names the files of evidence of a record, each once.
func evidenceOf(r *runbook.Record) (names []string) {
	for _, s := range r.Steps {
		names = append(names, s.Evidence.Screenshot, s.Evidence.Console)
	}
	for _, m := range r.Machines {
		names = append(names, m.Evidence.Screenshot, m.Evidence.Console)
	}
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(name string) bool { return name == "" })
}

// errNoEvidence: a record names something that is no file of evidence of its run.
var errNoEvidence = errors.New("it is no file of evidence")

// isEvidence says whether a name is that of a plain file in the folder evidence.
func isEvidence(name string) bool {
	base, ok := strings.CutPrefix(name, evidenceDir+"/")
	return ok && base != "." && len(base) < 256 && filepath.IsLocal(base) && !strings.ContainsAny(base, "/\\\x00")
}

// readEvidence reads a file of evidence. A record may come from anywhere: a name
// leads to plain files of the folder evidence alone.
func readEvidence(dir, name string) ([]byte, error) {
	if !isEvidence(name) {
		return nil, fmt.Errorf("%w: %q", errNoEvidence, name)
	}
	root, err := os.OpenRoot(filepath.Join(dir, evidenceDir))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	base := strings.TrimPrefix(name, evidenceDir+"/")
	info, err := root.Lstat(base)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > evidenceMost {
		return nil, fmt.Errorf("%w: %q", errNoEvidence, name)
	}
	f, err := root.Open(base)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, evidenceMost))
}

// sealOf is what the ledger says of a record with a hash: the newest entry about
// its run.
func sealOf(entries []custody.Entry, run, hash string) runbook.Seal {
	seal := runbook.Seal{Hash: hash}
	var other uint64
	for _, e := range entries {
		if e.Act != custody.ActDrilled && e.Act != custody.ActRecovered || e.Facts[factRun] != run {
			continue
		}
		other = e.Sequence
		if e.Facts[factRecord] == hash {
			seal.Entry, seal.At, other = e.Sequence, e.RecordedAt, 0
		}
	}
	switch {
	case seal.Entry == 0 && other == 0:
		seal.Broken = "the ledger does not know this run"
	case other != 0:
		seal.Entry = 0
		seal.Broken = fmt.Sprintf("entry %d of the ledger seals another record of this run", other)
	}
	return seal
}

// drillSeal compares a drill with its own hash, and with the ledger.
func drillSeal(entries []custody.Entry, d catalog.Drill) runbook.Seal {
	if d.Changed() {
		return runbook.Seal{Hash: catalog.RecordHash(d.Record), Broken: "its text was changed since it was kept"}
	}
	return sealOf(entries, d.RunID, d.Hash)
}

// recordOf reads the record of a drill.
func recordOf(d catalog.Drill) (*runbook.Record, error) {
	var r runbook.Record
	if err := json.Unmarshal([]byte(d.Record), &r); err != nil {
		return nil, fmt.Errorf("the record of run %s cannot be read: %w", short(d.RunID), err)
	}
	if r.RunID != d.RunID {
		return nil, fmt.Errorf("the record of run %s is of run %s", short(d.RunID), oneLine(short(r.RunID)))
	}
	return &r, nil
}

// pastRuns are the drills and recoveries that are known, oldest first: what plans,
// readiness and trends go by. A record that was changed counts for nothing, and is
// said. Without a site they are those of this computer's own runs.
func (a *app) pastRuns(ctx context.Context) ([]runbook.PastRun, error) {
	if a.hasState() && !a.hasMemory() {
		return nil, nil
	}
	all, err := a.keptRuns(ctx)
	if err != nil {
		return nil, err
	}
	for _, k := range all {
		if why := cmp.Or(k.Trouble, k.Seal.Broken); why != "" {
			a.warn("run %s counts for nothing: %s", short(k.RunID), why)
		}
	}
	return pastOf(all), nil
}
