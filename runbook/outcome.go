package runbook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"lifeboat"
	"lifeboat/internal/durable"
)

// ErrFailed: a step of the run failed, and what needs it did not begin.
var ErrFailed = errors.New("the run failed")

// How a process says that it ended, in its last line.
const (
	endPassed  = "passed"
	endPartial = "done in part"
	endFailed  = "failed"
	endWaiting = "waiting"
	endStopped = "stopped"
)

// end writes the last line and the record, and says in an error what is to be done.
func (c *conductor) end(ctx context.Context) (*Record, error) {
	word, err := c.outcome(ctx)
	c.append(entry{Kind: entryEnd, Text: word})
	if c.broken != nil {
		return MakeRecord(c.run), c.broken
	}
	record := MakeRecord(c.run)
	if werr := writeRecord(c.dir, record); werr != nil {
		err = errors.Join(err, fmt.Errorf("write the record: %w", werr))
	}
	return record, err
}

// outcome says how the run stands.
func (c *conductor) outcome(ctx context.Context) (string, error) {
	waiting, failed, without, open := c.run.bad()
	p := &lifeboat.Problem{Safe: safeWords(c.run), Next: "go on: " + resumeCommand(c.run)}
	switch {
	case c.broken != nil:
		return endStopped, c.broken
	case ctx.Err() != nil:
		p.What, p.Err = "it was stopped", context.Cause(ctx)
		return endStopped, p
	case len(waiting) > 0:
		p.What, p.Err = "a person has to answer: "+listed(append(waiting, failed...)), ErrPerson
		p.Next = fmt.Sprintf("answer at a terminal: %s; or leave it out: --skip STEP=REASON", resumeCommand(c.run))
		if s := c.run.firstKept(); s != nil {
			p.Next = c.run.waysOn(s)
		} else if id := c.run.firstUnsafe(); id != "" {
			p.Next = fmt.Sprintf("look how far it got, then do it again: %[1]s --repeat %[2]s; or leave it out: %[1]s --skip %[2]s=REASON", resumeCommand(c.run), id)
		}
		return endWaiting, p
	case len(failed) > 0 || open > 0:
		p.What, p.Err = fmt.Sprintf("%s; %d steps that need it did not begin", listed(failed), open), ErrFailed
		p.Next = "remove the cause, then go on: " + resumeCommand(c.run)
		return endFailed, p
	case len(without) > 0:
		p.What, p.Err = "the rest is done, but "+listed(without), lifeboat.ErrPartial
		return endPartial, p
	}
	return endPassed, nil
}

// bad lists what waits, what failed so that the run stopped there, what it goes on
// without, and counts what did not begin.
func (r *Run) bad() (waiting, failed, without []string, open int) {
	for i := range r.Steps {
		s := &r.Steps[i]
		words := s.Step.ID + ": " + s.Problem
		switch {
		case s.Status == StatusWaiting:
			waiting = append(waiting, words)
		case s.Status == StatusFailed && s.fate == fateStop:
			failed = append(failed, words)
		case s.Status == StatusFailed:
			without = append(without, words)
		}
	}
	for i, v := range r.verdicts() {
		if s := &r.Steps[i]; s.Status == StatusPending && v != vLost {
			open++
		}
	}
	return waiting, failed, without, open
}

// firstUnsafe is a step that was begun and not finished and waits for a person.
func (r *Run) firstUnsafe() string {
	for i := range r.Steps {
		if s := &r.Steps[i]; s.Status == StatusWaiting && s.unsafe() {
			return s.Step.ID
		}
	}
	return ""
}

// listed shows the first few of what is listed in a line.
func listed(words []string) string {
	const most = 3
	if len(words) > most {
		return fmt.Sprintf("%s; and %d more", strings.Join(words[:most], "; "), len(words)-most)
	}
	return strings.Join(words, "; ")
}

func safeWords(r *Run) string {
	if r.Plan.Mode == Drill {
		return "the drive was only read, and nothing of a drill reaches production"
	}
	return "the drive was only read; machines that came back go on running"
}

// resumeCommand is what a person types to go on with a run.
func resumeCommand(r *Run) string {
	return fmt.Sprintf("lifeboat %s --resume %s", r.Plan.Mode, r.Start.RunID)
}

// ReadRecord reads the record of a run from its folder. The record of a run that
// died is made from its journal.
func ReadRecord(folder string) (*Record, error) {
	dir, err := durable.OpenOS(folder, true)
	if err != nil {
		return nil, fmt.Errorf("read record: %w", err)
	}
	defer closeDir(dir)
	run, runErr := ReadRun(folder)
	data, err := durable.ReadWhole(dir, recordFile, maxRecordFile)
	if err != nil {
		if runErr != nil {
			return nil, runErr
		}
		return MakeRecord(run), nil
	}
	var record Record
	if err := json.Unmarshal(data, &record); err != nil {
		return nil, fmt.Errorf("read record of run %s: %w: %v", filepath.Base(folder), lifeboat.ErrDamaged, err)
	}
	if runErr == nil && run.Ended == "" && !record.Cleaned {
		return MakeRecord(run), nil // a later process went on after that record
	}
	return &record, nil
}

// WriteRecord keeps a record in its run's folder, in place of the one before: a
// cleanup adds to it.
func WriteRecord(folder string, record *Record) error {
	dir, err := durable.OpenPrivate(folder)
	if err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	defer closeDir(dir)
	return writeRecord(dir, record)
}

func writeRecord(dir durable.Dir, record *Record) error {
	data, err := json.MarshalIndent(record, "", " ")
	if err != nil {
		return err
	}
	return durable.WriteFileAtomic(dir, recordFile, data)
}
