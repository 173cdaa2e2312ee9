package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/custody"
	"lifeboat/rotation"
	"lifeboat/yamlfile"
)

// signFlags are the answers that `rotate sign` and `rotate revoke` take.
type signFlags struct {
	by, at, to, box, seal, note string
	yes                         bool
}

func (a *app) rotateSignCommand() *cobra.Command {
	var f signFlags
	c := &cobra.Command{
		Use: "sign STEP... --by NAME", Short: "Say that a step of the checklist is done",
		Long: "Writes into the ledger that a person did a step which the program cannot see. STEP is its\n" +
			"name or its number on the checklist, as lifeboat rotate prints it. A step whose time has not\n" +
			"come is refused, with what has to be done before. \"clock\" says that this computer's clock is\n" +
			"right, where the program doubts it: it shows the time and asks. That settles what was recorded\n" +
			"so far; a jump after it is doubted again. \"ledger/HASH\" says that another ledger was looked\n" +
			"into, which lifeboat rotate audit shows.",
		Example:           "  lifeboat rotate sign deposit/A --by Anna\n  lifeboat rotate sign depart/A deposit/A --by Anna --at '2026-11-20 15:10' --seal 0047",
		Annotations:       exits(exitNoDrive, exitPerson),
		ValidArgsFunction: a.completeSteps,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("say which step was done; to see them: lifeboat rotate")
			}
			if f.by == "" {
				return usagef("say who did it: --by NAME")
			}
			return a.rotateSign(c.Context(), args, f)
		},
	}
	f.commonFlags(a, c)
	c.Flags().StringVar(&f.at, "at", "", "when it was done, if not now (\"2026-11-20 15:10\", in the site's time zone)")
	c.Flags().StringVar(&f.to, "to", "", "the location it was brought to, if another than the checklist's")
	c.Flags().StringVar(&f.box, "box", "", "the box it lies in")
	c.Flags().StringVar(&f.seal, "seal", "", "the number of the seal")
	c.Flags().BoolVar(&f.yes, "yes", false, "do not ask whether the clock is right")
	c.RegisterFlagCompletionFunc("to", a.completeLocations)
	return c
}

func (f *signFlags) commonFlags(a *app, c *cobra.Command) {
	c.Flags().StringVar(&f.by, "by", "", "who did it, one of the people of site.yaml")
	c.Flags().StringVar(&f.note, "note", "", "what else should stand in the ledger")
	c.RegisterFlagCompletionFunc("by", a.completePeople)
}

func (a *app) rotateSign(ctx context.Context, names []string, f signFlags) error {
	cat, err := a.needCatalog(ctx)
	if err != nil {
		return err
	}
	defer cat.Close()
	stored := []custody.Entry{}
	var refused error
	for _, name := range names {
		e, err := a.signStep(ctx, cat, name, f)
		if err != nil {
			refused = err
			break
		}
		stored = append(stored, e)
	}
	if refused != nil && len(stored) > 0 {
		p := problemOf(refused)
		p.Safe = fmt.Sprintf("what was signed before it is recorded, up to entry %d; of this step nothing is", stored[len(stored)-1].Sequence)
		refused = &p
	}
	if a.json {
		if len(stored) > 0 {
			a.printJSON(stored)
		}
		return refused
	}
	for _, e := range stored {
		what := "the clock is right, at " + stamp(e.RecordedAt)
		if strings.HasPrefix(e.Step, ledgerStep) {
			what = "the other ledger was looked into"
		}
		if e.Item != nil && e.To != nil {
			what = fmt.Sprintf("drive %s is %s", e.Item.Label, placeWords(*e.To))
		} else if e.Item != nil {
			what = "drive " + e.Item.Label
		}
		a.print("signed by %s: %s: %s (entry %d)\n", e.Signer, shortID(e.Step), what, e.Sequence)
	}
	if refused != nil {
		return refused
	}
	if j, err := a.decide(ctx, cat); err == nil && j.rotates() {
		a.note("%s", j.headline())
	}
	return nil
}

// signStep checks one step against what is so now, and writes it down.
func (a *app) signStep(ctx context.Context, cat *catalog.Catalog, name string, f signFlags) (custody.Entry, error) {
	j, err := a.decide(ctx, cat)
	if err != nil {
		return custody.Entry{}, err
	}
	if name == clockStep {
		return a.signClock(ctx, cat, j, f)
	}
	at := j.now
	if f.at != "" {
		if at, err = parseClock(f.at, j.zone()); err != nil {
			return custody.Entry{}, usagef("--at takes a time such as \"2026-11-20 15:10\", not %q", f.at)
		}
	}
	if strings.HasPrefix(name, ledgerStep) {
		return a.signLedger(ctx, cat, name, f)
	}
	if !j.rotates() {
		return custody.Entry{}, usagef("this site has no rotation, and no steps; %s", howToBegin)
	}
	s, err := j.step(name)
	if err != nil {
		return custody.Entry{}, err
	}
	if err := j.maySign(s, at); err != nil {
		return custody.Entry{}, err
	}
	if s.To.State != "" {
		if s.To, err = j.destination(s, f); err != nil {
			return custody.Entry{}, err
		}
	}
	e := custody.Entry{Act: custody.ActSigned, Item: &custody.Item{Kind: custody.KindDrive, ID: s.DriveID, Label: custody.Clean(s.Label)},
		Signer: f.by, HappenedAt: at, Seal: f.seal, Note: f.note, Step: s.ID}
	if s.To.State != "" {
		e.Act, e.To = custody.ActMoved, &s.To
	}
	return a.record(ctx, cat, e)
}

// signClock writes down that the clock is right, after it was shown: a glance at
// it is all that a person does here. It settles what was recorded so far.
func (a *app) signClock(ctx context.Context, cat *catalog.Catalog, j judgement, f signFlags) (custody.Entry, error) {
	if f.at != "" || f.to != "" || f.box != "" || f.seal != "" {
		return custody.Entry{}, usagef("%s says that the clock is right now: it takes no --at, --to, --box and --seal", clockStep)
	}
	newest := j.shelf.LastCommit
	for _, d := range j.shelf.Drives {
		for _, p := range d.Points {
			newest = later(newest, later(p.TakenAt, p.CommittedAt))
		}
	}
	e := custody.Entry{Act: custody.ActSigned, Step: clockStep, Signer: f.by, Note: f.note, Facts: map[string]string{factNewest: newest.UTC().Format(time.RFC3339Nano)}}
	if entries, err := cat.Ledger(ctx); err != nil {
		return e, err
	} else if _, err := a.wouldRecord(entries, e); err != nil {
		return e, err // nobody is asked who may not sign
	}
	shown := "this computer's clock says " + a.now().In(j.zone()).Format("Monday 2006-01-02 15:04:05 MST") + "\n"
	if doubt := j.decision.Doubt; doubt != "" {
		shown += "it is doubted: " + doubt + "\n"
	}
	shown += "look at another clock and at a calendar: if this is wrong, points are forgotten too early\n"
	if err := a.confirm(ctx, f.yes, shown); err != nil {
		return e, err
	}
	return a.record(ctx, cat, e)
}

// step finds the step that a person means: by its id, by its id without the turn,
// or by its number on the page.
func (j judgement) step(name string) (rotation.Step, error) {
	steps := j.decision.Steps
	if n, err := strconv.Atoi(name); err == nil && n >= 1 && n <= len(steps) {
		return steps[n-1], nil
	}
	for _, s := range steps {
		if s.ID == name || shortID(s.ID) == name {
			return s, nil
		}
	}
	var known []string
	for _, s := range steps {
		if !s.Seen && s.Done == nil {
			known = append(known, shortID(s.ID))
		}
	}
	next := "see the checklist: lifeboat rotate"
	if len(known) > 0 {
		next = "what can be signed in this turn: " + list(known)
	}
	return rotation.Step{}, &lifeboat.Problem{
		What: fmt.Sprintf("turn %s has no step %q%s", j.decision.Period, name, yamlfile.Meant(name, known)),
		Safe: "nothing was recorded; the ledger is as it was",
		Next: next,
	}
}

// maySign refuses a step that is done, that the program ticks itself, or whose
// time has not come.
func (j judgement) maySign(s rotation.Step, at time.Time) error {
	p := &lifeboat.Problem{Safe: "nothing was recorded; the ledger is as it was", Next: j.nextWords(), Err: errNeedsPerson}
	left := j.undone(s.Needs)
	switch {
	case s.Done != nil:
		p.What = fmt.Sprintf("%s is done already: %s, %s", shortID(s.ID), j.moment(s.Done.At), signedBy(s))
		p.Next = "if that is wrong, take it back: lifeboat rotate revoke " + shellWord(shortID(s.ID)) + " --by NAME --reason TEXT"
		p.Err = nil
	case s.Seen:
		p.What = fmt.Sprintf("%s is ticked by the program when it sees it, and cannot be signed", shortID(s.ID))
		p.Next = doing(s)
		p.Err = nil
	case s.Waits != "":
		p.What = fmt.Sprintf("%s must not be done now: %s", shortID(s.ID), s.Waits)
	case len(left) > 0:
		var before []string
		for _, id := range left {
			before = append(before, shortID(id))
		}
		p.What = fmt.Sprintf("%s comes after %s, which is not done", shortID(s.ID), list(before))
	case at.After(j.now.Add(time.Minute)):
		p.What = fmt.Sprintf("%s is said to be done at %s, which has not come yet", shortID(s.ID), j.moment(at))
		p.Next = "say when it was done, at the latest now: --at TIME"
		p.Err = nil
	default:
		return j.notBefore(s, at)
	}
	return p
}

// notBefore refuses a hand-over that is said to have happened before the drive
// came to where it was handed over. The minutes of people's watches are forgiven.
func (j judgement) notBefore(s rotation.Step, at time.Time) error {
	const watches = 10 * time.Minute
	d, ok := j.drive(s.DriveID)
	if !ok || !at.Before(d.Since.Add(-watches)) {
		return nil
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s is said to be done at %s, and drive %s came to where it is only at %s", shortID(s.ID), j.moment(at), s.Label, j.moment(d.Since)),
		Safe: "nothing was recorded; the ledger is as it was",
		Next: "correct the time: --at TIME",
	}
}

// destination is where a step brings a drive, with what the person said otherwise.
func (j judgement) destination(s rotation.Step, f signFlags) (custody.Place, error) {
	to := s.To
	if f.box != "" {
		to.Box = f.box
	}
	if f.to == "" {
		if to.State == custody.Courier {
			to.Holder = f.by
		}
		return to, nil
	}
	i := slices.IndexFunc(j.policy.Locations, func(l rotation.Location) bool { return l.Name == f.to })
	var fitting []string
	for _, l := range j.policy.Locations {
		if l.Offsite == (to.State == custody.Offsite) {
			fitting = append(fitting, l.Name)
		}
	}
	switch {
	case to.State != custody.Offsite && to.State != custody.Onsite:
		return to, usagef("--to goes with a step that brings a drive to a place; %s does not", shortID(s.ID))
	case i < 0:
		return to, usagef("--to: site.yaml has no location %q%s", f.to, yamlfile.Meant(f.to, fitting))
	case !slices.Contains(fitting, f.to):
		return to, &lifeboat.Problem{
			What: fmt.Sprintf("%s brings drive %s to a place that is %s, and %s is not", shortID(s.ID), s.Label, to.State, f.to),
			Safe: "nothing was recorded; the ledger is as it was",
			Next: "name one of: " + strings.Join(fitting, ", "),
		}
	}
	to.Location = f.to
	return to, nil
}

func (a *app) rotateRevokeCommand() *cobra.Command {
	var f signFlags
	c := &cobra.Command{
		Use: "revoke STEP|ENTRY --by NAME --reason TEXT", Short: "Take back a step that was signed by mistake",
		Long: "Writes into the ledger that an entry does not count: what was signed is taken back, and the\n" +
			"drive is where it was before. The entry itself stays. STEP is a step of this turn; ENTRY is the\n" +
			"number of an entry of the ledger.",
		Example:           "  lifeboat rotate revoke deposit/A --by Anna --reason 'the bank was closed'\n  lifeboat rotate revoke 41 --by Ben --reason 'wrong drive'",
		Annotations:       exits(),
		Args:              exactArgs("a step of this turn, or the number of an entry of the ledger"),
		ValidArgsFunction: a.completeSteps,
		RunE: func(c *cobra.Command, args []string) error {
			if f.by == "" || f.note == "" {
				return usagef("say who takes it back, and why: --by NAME --reason TEXT")
			}
			return a.rotateRevoke(c.Context(), args[0], f)
		},
	}
	c.Flags().StringVar(&f.by, "by", "", "who takes it back, one of the people of site.yaml")
	c.Flags().StringVar(&f.note, "reason", "", "why it does not count")
	c.RegisterFlagCompletionFunc("by", a.completePeople)
	return c
}

func (a *app) rotateRevoke(ctx context.Context, name string, f signFlags) error {
	cat, err := a.needCatalog(ctx)
	if err != nil {
		return err
	}
	defer cat.Close()
	j, err := a.decide(ctx, cat)
	if err != nil {
		return err
	}
	entry, err := strconv.ParseUint(name, 10, 64)
	if err != nil {
		if entry, err = j.signedEntry(name); err != nil {
			return err
		}
	}
	e, err := a.record(ctx, cat, custody.Entry{Act: custody.ActRevoked, Revokes: entry, Signer: f.by, Note: f.note})
	if err != nil {
		return err
	}
	if a.json {
		a.printJSON(e)
		return nil
	}
	a.print("entry %d does not count any more (entry %d, %s: %s)\n", entry, e.Sequence, e.Signer, e.Note)
	return nil
}

// signedEntry is the entry of the ledger that signed a step: one of this turn, or
// one that is named with its turn.
func (j judgement) signedEntry(name string) (uint64, error) {
	if done, ok := j.shelf.Done[name]; ok {
		return done.Entry, nil
	}
	if done, ok := j.shelf.Done[j.decision.Period+"/"+name]; ok {
		return done.Entry, nil
	}
	s, err := j.step(name)
	if err != nil {
		return 0, err
	}
	if s.Done == nil || s.Done.Entry == 0 {
		return 0, &lifeboat.Problem{What: fmt.Sprintf("%s is not signed", shortID(s.ID)), Safe: "nothing was recorded; the ledger is as it was", Next: j.nextWords()}
	}
	return s.Done.Entry, nil
}
