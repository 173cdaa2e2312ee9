package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"lifeboat"
	"lifeboat/internal/durable"
	"lifeboat/runbook"
)

// carryOut does the steps of the plan, keeps the record, and takes a drill away.
func (x *execution) carryOut(ctx context.Context, again bool) error {
	a := x.a
	record, err := x.inWorld(ctx, again)
	if record != nil {
		x.countReads(record)
	}
	// What is left to do has to be done also after Ctrl-C.
	ctx = context.WithoutCancel(ctx)
	kept := x.stays(err)
	var left []string
	if record != nil && !kept {
		// A host that does not answer now must not cost what was found out.
		if err := saveJSON(filepath.Join(x.run.dir, recordFile), record); err != nil {
			a.warn("%v", err)
		}
	}
	if !kept {
		left, err = x.clean(ctx, err)
	}
	if record != nil {
		record.Left, record.Cleaned = left, !kept && len(left) == 0
		err = errors.Join(err, a.keepRecord(ctx, x.run.dir, record))
	}
	err = x.verdict(record, err)
	x.run.end(x.summary(record), err)
	x.show(record, err, kept)
	return err
}

// inWorld builds the world that the plan is carried out in, and has it carried out.
// Isolated networks and those behind NAT are a lab of this computer. Only root can
// open one; for anybody else hosts make segments of their own.
func (x *execution) inWorld(ctx context.Context, again bool) (*runbook.Record, error) {
	o := worldOptions{plan: x.plan, run: x.run, keys: x.keys}
	if os.Geteuid() == 0 {
		lab, err := x.a.openLab(ctx, x.run.dir, x.plan)
		if err != nil {
			return nil, err
		}
		o.lab = lab
		x.tellWays(ctx, lab)
	} else {
		x.a.warn("without root there is no isolated network that answers as production did: checks go through the guests' agents")
	}
	w, err := x.a.newWorld(ctx, o)
	if err != nil {
		return nil, err
	}
	defer w.close()
	return x.steps(ctx, w, again)
}

// tellWays says which ways into the machines are closed, and what the staff need for
// those that are open.
func (x *execution) tellWays(ctx context.Context, lab *labClient) {
	if lab == nil {
		return
	}
	status, err := lab.Status(ctx)
	if err != nil {
		x.a.warn("the network of the run does not say how it is: %v", err)
		return
	}
	for _, way := range status.Closed {
		text := "a way into the machines is closed: " + oneLine(plainText(way))
		x.run.log(event{Event: "warning", Time: x.a.now().UTC(), Run: x.run.ID, Text: text})
		x.a.warn("%s", text)
	}
	if files := lab.staffFiles(); len(files) > 0 {
		x.a.note("the staff reach the machines with WireGuard; give each person one of these files, which are secrets: %s", quoted(files))
	}
}

// steps has the engine carry out the plan in the world.
func (x *execution) steps(ctx context.Context, w runbook.World, again bool) (*runbook.Record, error) {
	skip, err := x.f.skipped()
	if err != nil {
		return nil, err
	}
	o := runbook.Options{
		Plan: x.plan, World: w, Folder: x.run.dir, Resume: again,
		FromStep: x.f.fromStep, Skip: skip, Repeat: x.f.repeats, User: thisUser(),
		Now: x.a.now, Observe: x.tell,
	}
	if again {
		o.Only = x.f.only
	} else {
		o.Start = x.start(ctx)
	}
	return runbook.Execute(ctx, o)
}

// start is what the record says of how the run began.
func (x *execution) start(ctx context.Context) runbook.Start {
	s := runbook.Start{
		RunID: x.run.ID, Began: x.began.UTC(), Program: version, Computer: thisComputer(), User: thisUser(),
		Declared: x.declared.By, Reason: x.declared.Reason, OpenedWith: x.openedWith, BookText: string(x.book.Text),
	}
	s.Hosts = x.hostRecords()
	for _, d := range x.plan.Drives {
		s.Drives = append(s.Drives, x.driveRecord(ctx, d))
	}
	return s
}

// tell says what a run does, to people and to its log.
func (x *execution) tell(e runbook.Event) {
	text := oneLine(plainText(e.Line()))
	if text == "" {
		return
	}
	line := event{Event: "step", Time: e.At.UTC(), Run: x.run.ID, Machine: e.Machine, Text: text}
	x.run.log(line)
	if x.a.json {
		x.a.printJSON(line)
		return
	}
	x.a.note("%s  %s", humanDuration(e.Since), text)
}

// stays says that what runs is left as it is: a recovery, a drill that is kept, and
// one that waits for a person.
func (x *execution) stays(err error) bool {
	return x.mode == runbook.Recover || x.f.keep || errors.Is(err, runbook.ErrPerson)
}

// clean takes a drill away, whatever became of it.
func (x *execution) clean(ctx context.Context, failed error) ([]string, error) {
	left, err := x.a.cleanDrill(ctx, x.run.ID)
	if err == nil && len(left) > 0 {
		err = leftProblem(cleanedRow{Run: x.run.ID, Left: left})
	}
	return left, errors.Join(failed, err)
}

// verdict turns what came of a run into the command's own error.
func (x *execution) verdict(record *runbook.Record, err error) error {
	switch {
	case errors.Is(err, runbook.ErrUsage):
		return usagef("%v", err)
	case errors.Is(err, durable.ErrLocked):
		return &lifeboat.Problem{What: fmt.Sprintf("another command is at work on run %s", short(x.run.ID)), Safe: "nothing was done",
			Next: "follow it: lifeboat run attach " + short(x.run.ID), Err: errors.Join(lifeboat.ErrDriveHeld, err)}
	case errors.Is(err, runbook.ErrPerson):
		return &lifeboat.Problem{What: fmt.Sprintf("run %s waits for a person: %s", short(x.run.ID), firstWaiting(record)), Safe: "what runs goes on running; the drive was only read",
			Next: fmt.Sprintf("in a terminal: lifeboat %s --resume %s", x.mode, short(x.run.ID)), Err: errors.Join(errNeedsPerson, err)}
	case err != nil && x.mode == runbook.Recover && errors.Is(err, context.Canceled):
		return &lifeboat.Problem{What: fmt.Sprintf("recovery %s was stopped", short(x.run.ID)), Safe: "the machines that run go on running, with what they wrote; the drive was only read",
			Next: "go on: lifeboat recover --resume " + short(x.run.ID), Err: err}
	case err != nil:
		return x.failed(record, err)
	case record != nil && len(record.Missed) > 0:
		return &lifeboat.Problem{What: fmt.Sprintf("every step is done, but an objective is missed: %s", list(record.Missed)), Safe: "the drive was only read",
			Next: "see where the time went: lifeboat drill report " + short(x.run.ID), Err: lifeboat.ErrPartial}
	}
	return nil
}

// failed says what failed first, and what can be done about it.
func (x *execution) failed(record *runbook.Record, err error) error {
	if record == nil || !errors.Is(err, runbook.ErrFailed) && !errors.Is(err, lifeboat.ErrPartial) {
		return err
	}
	next := "see why: lifeboat drill report " + short(x.run.ID)
	safe := "the drive was only read; production was not touched"
	if x.mode == runbook.Recover {
		safe = "the machines that run go on running, with what they wrote; the drive was only read"
		next = fmt.Sprintf("mend it and go on: lifeboat recover --resume %s; or leave the step out: --skip STEP=REASON", short(x.run.ID))
	}
	return &lifeboat.Problem{What: fmt.Sprintf("%s %s: %s", x.mode, short(x.run.ID), firstFailure(record)), Safe: safe, Next: next, Err: err}
}

// firstFailure is the step of a record that failed first, and why.
func firstFailure(r *runbook.Record) string {
	var first *runbook.StepRecord
	for i, s := range r.Steps {
		if s.Outcome == runbook.OutcomeFailed && (first == nil || s.Ended.Before(first.Ended)) {
			first = &r.Steps[i]
		}
	}
	if first == nil {
		return "not every step was done"
	}
	return oneLine(plainText("step " + first.ID + " failed: " + first.Problem))
}

// firstWaiting is the first step that waits for a person.
func firstWaiting(r *runbook.Record) string {
	if r == nil {
		return "a step"
	}
	for _, s := range r.Steps {
		if s.Outcome == runbook.OutcomeWaiting {
			return oneLine(plainText("step " + s.ID + ": " + s.Problem))
		}
	}
	return "a step"
}

// summary is a run in a line, for the list of runs.
func (x *execution) summary(r *runbook.Record) string {
	if r == nil {
		return "nothing was done"
	}
	return recordWords(r)
}

// show says what came of a run.
func (x *execution) show(r *runbook.Record, err error, kept bool) {
	a := x.a
	if a.json {
		a.printJSON(event{Event: "result", Time: a.now().UTC(), Run: x.run.ID, Result: struct {
			Record *runbook.Record `json:"record"`
			Folder string          `json:"folder"`
			Exit   int             `json:"exit"`
		}{r, x.run.dir, exitCode(err)}})
		return
	}
	if r == nil {
		return
	}
	var rows [][]string
	for _, m := range r.Machines {
		answer := "not reached"
		switch {
		case m.Passed && m.Checked == 0:
			answer = "runs, not checked"
		case m.Passed:
			answer = "passed"
		}
		rows = append(rows, []string{m.Name, m.Host, short(m.PointID), humanDuration(m.RTA), humanDuration(m.RPA), humanBytes(m.ReadBytes), answer})
	}
	a.print("%s%s\n", table([]string{"MACHINE", "HOST", "POINT", "SERVES AFTER", "AGE OF DATA", "READ", "CHECKS"}, rows), x.summary(r))
	if r.NotRepresentative != "" {
		a.note("the times are not those of a recovery: %s", r.NotRepresentative)
	}
	if r.Partial != "" {
		a.note("it does not make the runbook ready: %s", r.Partial)
	}
	a.note("report: lifeboat drill report %s; its files: %s", short(x.run.ID), filepath.Clean(x.run.dir))
	if kept && x.mode == runbook.Drill {
		a.note("the machines of the drill run on; end them: lifeboat drill cleanup %s", short(x.run.ID))
	}
}
