package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"lifeboat"
	"lifeboat/runbook"
)

// bookToExecute finds the runbook that a person names, or the only one there is: of
// this computer, else of the drive. Where there is none, a recovery proposes one,
// and goes by it if a person agrees.
func (a *app) bookToExecute(ctx context.Context, mode runbook.Mode, name string, d *openedDrive) (*runbook.Book, error) {
	if name != "" {
		return a.findRunbook(ctx, name, d)
	}
	names, err := a.ownRunbooks()
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		there, err := runbooksOn(ctx, d)
		if err != nil {
			return nil, err
		}
		names = slices.Sorted(maps.Keys(there))
	}
	switch {
	case len(names) == 1:
		a.note("runbook: %s", names[0])
		return a.findRunbook(ctx, names[0], d)
	case len(names) > 1:
		return nil, usagef("there are several runbooks: say which: %s", list(names))
	case mode == runbook.Drill:
		return nil, &lifeboat.Problem{What: "there is no runbook to rehearse, neither here nor on " + d.name(), Safe: "nothing was done",
			Next: "write a first draft, and read it: lifeboat runbook new"}
	}
	return a.proposeRunbook(ctx, d)
}

// proposedBook is what a runbook is called that nobody wrote.
const proposedBook = "proposed"

// proposeRunbook drafts a runbook of the newest points of a drive, for somebody who
// stands there without any. It is kept beside those of this computer, so that it
// can be corrected and named.
func (a *app) proposeRunbook(ctx context.Context, d *openedDrive) (*runbook.Book, error) {
	points, faults, err := d.store.Points(ctx)
	if err != nil {
		return nil, err
	}
	a.warnFaults(d, faults)
	in := runbook.DraftInput{Name: proposedBook, Site: d.store.Site().Name, Now: a.now()}
	for _, p := range newestPoints(points) {
		in.Machines = append(in.Machines, p.Machine)
	}
	if len(in.Machines) == 0 {
		return nil, noPoints(d.found.Drive.Label)
	}
	for _, p := range points {
		in.Points = append(in.Points, runbook.KnownPoint{RestorePoint: p, DriveIDs: []string{d.store.Drive().ID}})
	}
	text := runbook.Draft(in)
	book, err := parseRunbook(proposedBook, "the proposed runbook", text)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(a.runbooksDir(), proposedBook+runbookSuffix)
	if err := os.MkdirAll(a.runbooksDir(), 0o700); err != nil {
		return nil, fmt.Errorf("keep the proposed runbook: %w", err)
	}
	if err := writeFile(path, text, 0o644); err != nil {
		return nil, err
	}
	a.note("nobody wrote a runbook for this site. This one is proposed; what it says of services is a guess:\n\n%s\nIt is %s. To change it, answer no below, edit it, and run: lifeboat recover %s", text, path, path)
	return book, nil
}
