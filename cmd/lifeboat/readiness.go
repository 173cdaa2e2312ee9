package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/runbook"
)

// rehearseSoon is how long before its period ends a runbook is due to be rehearsed.
const rehearseSoon = 14 * 24 * time.Hour

// bookReadiness is a runbook of this computer, and whether it was proven.
type bookReadiness struct {
	Name string
	runbook.Readiness
}

// readiness says of each runbook of this computer whether a drill has proven it, as
// far as records and the catalogue tell: no host is asked and no drive is read for
// it, which `runbook check` does.
func (a *app) readiness(ctx context.Context, cat *catalog.Catalog) ([]bookReadiness, error) {
	names, err := a.ownRunbooks()
	if err != nil || len(names) == 0 {
		return nil, err
	}
	g := &gathering{a: a, s: runbook.Situation{Now: a.now(), Mode: runbook.Recover}, read: map[string]bool{}, described: map[string]described{}}
	if cat != nil {
		if err := g.catalog(ctx); err != nil {
			return nil, err
		}
	}
	for i := range g.found {
		p := &g.found[i]
		for _, d := range p.Disks {
			p.Machine.Disks = append(p.Machine.Disks, lifeboat.Disk{Key: d.Key})
		}
	}
	g.points("")
	if g.s.Past, err = a.pastRuns(ctx); err != nil {
		return nil, err
	}
	var all []bookReadiness
	for _, name := range names {
		r := bookReadiness{Name: name}
		text, err := readRunbookFile(a.runbookPath(name))
		var book *runbook.Book
		if err == nil {
			book, err = runbook.Parse(name, text)
		}
		if err != nil {
			r.Why = []string{"it cannot be read: " + oneLine(err.Error())}
		} else {
			r.Readiness = runbook.Ready(book, g.s)
		}
		all = append(all, r)
	}
	return all, nil
}

// due says in a sentence what a person has to do about a runbook, or "".
func (r bookReadiness) due(now time.Time) string {
	switch {
	case !r.Ready:
		return fmt.Sprintf("runbook %s is not ready: %s", r.Name, strings.Join(r.Why, "; "))
	case r.Until.Sub(now) < rehearseSoon:
		return fmt.Sprintf("runbook %s is due to be rehearsed: its last drill counts until %s", r.Name, r.Until.In(now.Location()).Format(time.DateOnly))
	}
	return ""
}

// cell is the readiness in a table.
func (r bookReadiness) cell(now time.Time) string {
	if !r.Ready {
		return "no"
	}
	return "until " + r.Until.In(now.Location()).Format(time.DateOnly)
}

// remindOfRunbooks adds to a judgement what is due of runbooks.
func (a *app) remindOfRunbooks(ctx context.Context, cat *catalog.Catalog, j *judgement) error {
	all, err := a.readiness(ctx, cat)
	if err != nil {
		return err
	}
	for _, r := range all {
		if due := r.due(j.now); due != "" {
			j.runbooks = append(j.runbooks, due)
		}
	}
	j.decision.Reminders = append(j.decision.Reminders, j.runbooks...)
	return nil
}
