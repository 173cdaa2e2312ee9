package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/custody"
	"lifeboat/runbook"
)

// keptRun is a drill or a recovery that was kept, with what the ledger says of it.
type keptRun struct {
	catalog.Drill
	// Record is nil where the text is no record any more; Trouble says so.
	Record  *runbook.Record
	Trouble string
	Seal    runbook.Seal
	Signed  []runbook.Signature
}

// verdict is how the run ended, or that its record was changed.
func (k keptRun) verdict() string {
	switch {
	case k.Trouble != "" || k.Seal.Broken != "":
		return "CHANGED"
	default:
		return string(k.Record.Verdict())
	}
}

// keptRuns are all drills and recoveries that are known here, oldest first: those
// of the catalogue, or on a computer without a site those of its own folders, which
// no ledger holds.
func (a *app) keptRuns(ctx context.Context) ([]keptRun, error) {
	if !a.hasState() {
		return keptOf(a.ownDrills(), nil, false), nil
	}
	cat, err := a.needCatalog(ctx)
	if err != nil {
		return nil, err
	}
	defer cat.Close()
	return a.keptIn(ctx, cat)
}

// keptIn are the drills and recoveries of a catalogue, oldest first.
func (a *app) keptIn(ctx context.Context, cat *catalog.Catalog) ([]keptRun, error) {
	drills, err := cat.Drills(ctx)
	if err != nil || len(drills) == 0 {
		return nil, err
	}
	entries, err := cat.Ledger(ctx)
	if err != nil {
		a.warnOfLedger(err)
	}
	return keptOf(drills, entries, true), nil
}

// keptOf compares drills with a ledger, if there is one.
func keptOf(drills []catalog.Drill, entries []custody.Entry, ledger bool) []keptRun {
	revoked := custody.Replay(entries).Revoked
	var kept []keptRun
	for _, d := range drills {
		k := keptRun{Drill: d, Seal: runbook.Seal{Hash: d.Hash}}
		if ledger {
			k.Seal = drillSeal(entries, d)
		}
		k.Signed = signaturesOf(entries, revoked, d)
		r, err := recordOf(d)
		if err != nil {
			k.Trouble = err.Error()
		}
		k.Record = r
		kept = append(kept, k)
	}
	return kept
}

// ownDrills are the runs that left a record in this computer's state folder.
func (a *app) ownDrills() (drills []catalog.Drill) {
	paths, _ := filepath.Glob(filepath.Join(a.runsDir(), "*", recordFile)) // its only error is a bad pattern
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil || info.Size() > catalog.MaxRecord {
			continue
		}
		text, err := os.ReadFile(path)
		var r runbook.Record
		if err != nil || json.Unmarshal(text, &r) != nil {
			continue
		}
		drills = append(drills, drillOf(&r, string(text)))
	}
	slices.SortFunc(drills, func(x, y catalog.Drill) int {
		return cmp.Or(x.Began.Compare(y.Began), strings.Compare(x.RunID, y.RunID))
	})
	return drills
}

// drillOf is a record as the catalogue keeps it.
func drillOf(r *runbook.Record, text string) catalog.Drill {
	past := r.Past()
	d := catalog.Drill{RunID: r.RunID, Mode: string(r.Mode), Book: past.Book, Meaning: past.Meaning, Began: r.Began, Ended: r.Ended,
		Passed: past.Passed, Partial: r.Partial, DriveID: past.Drive, Hash: catalog.RecordHash(text), Record: text}
	if d.Ended.IsZero() {
		d.Ended = r.Began
	}
	return d
}

// signaturesOf are those of a run that were not taken back.
func signaturesOf(entries []custody.Entry, revoked map[uint64]uint64, d catalog.Drill) (signed []runbook.Signature) {
	for _, e := range entries {
		if e.Act == custody.ActSigned && e.Facts[factRun] == d.RunID && revoked[e.Sequence] == 0 {
			signed = append(signed, runbook.Signature{Name: e.Signer, At: e.HappenedAt, Entry: e.Sequence, User: e.User, Computer: e.Computer,
				Note: e.Note, Other: e.Facts[factRecord] != d.Hash})
		}
	}
	return signed
}

// findKept finds a run by the beginning of its id; "" is the newest.
func (a *app) findKept(ctx context.Context, prefix string) (keptRun, []keptRun, error) {
	all, err := a.keptRuns(ctx)
	if err != nil {
		return keptRun{}, nil, err
	}
	var found []keptRun
	for _, k := range all {
		if strings.HasPrefix(k.RunID, prefix) {
			found = append(found, k)
		}
	}
	switch {
	case len(all) == 0:
		return keptRun{}, nil, &lifeboat.Problem{What: "no drill and no recovery by a runbook is known here", Safe: "nothing was changed",
			Next: "rehearse one: lifeboat drill RUNBOOK; or bring one home that ran elsewhere: lifeboat drill import FILE"}
	case len(found) == 0:
		return keptRun{}, nil, usagef("no drill begins with %q; see: lifeboat drill list", prefix)
	case len(found) > 1 && prefix != "":
		return keptRun{}, nil, usagef("%d drills begin with %q: give more of the id", len(found), prefix)
	}
	return found[len(found)-1], all, nil
}

// completeDrills names the runs that are kept.
func (a *app) completeDrills(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	all, err := a.keptRuns(c.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, k := range all {
		names = append(names, short(k.RunID)+"\t"+oneLine(k.Book)+" "+stamp(k.Began))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// reportOf makes the report of a run that is kept, with all that is known beside
// its record.
func (a *app) reportOf(k keptRun, all []keptRun) ([]byte, error) {
	o := runbook.ReportOptions{Zone: a.now().Location(), Before: beforeOf(k, all), Signatures: k.Signed, Seal: k.Seal}
	dir := filepath.Join(a.runsDir(), filepath.Base(k.RunID))
	if _, err := os.Stat(filepath.Join(dir, evidenceDir)); !errors.Is(err, fs.ErrNotExist) {
		o.File = func(name string) ([]byte, error) { return readEvidence(dir, name) }
	}
	return runbook.Report(*k.Record, pastOf(all), o)
}

// pastOf are the runs whose records are as they were kept.
func pastOf(all []keptRun) (past []runbook.PastRun) {
	for _, k := range all {
		if k.Trouble == "" && k.Seal.Broken == "" {
			past = append(past, k.Record.Past())
		}
	}
	return past
}

// beforeOf is the newest run of the same runbook and mode before a run.
func beforeOf(k keptRun, all []keptRun) (before *runbook.Record) {
	for _, other := range all {
		if other.Trouble == "" && other.Seal.Broken == "" && other.Book == k.Book && other.Mode == k.Mode && other.Began.Before(k.Began) {
			before = other.Record
		}
	}
	return before
}

// changedRecord is the problem of a record that is not the one that was kept.
func changedRecord(k keptRun) error {
	return &lifeboat.Problem{
		What: fmt.Sprintf("the record of run %s is not the one that was kept: %s", short(k.RunID), cmp.Or(k.Trouble, k.Seal.Broken)),
		Safe: "it counts for nothing: it makes no runbook ready; the points and drives are not concerned",
		Next: "a drive that carries it has it as it was: lifeboat catalog rebuild; see the ledger with: lifeboat rotate audit",
		Err:  lifeboat.ErrDamaged,
	}
}
