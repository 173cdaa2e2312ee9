package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"lifeboat/rotation"
)

// doing says a step as what somebody does: "take drive A to bank".
func doing(s rotation.Step) string {
	at := func(word, otherwise string) string {
		if s.Location == "" {
			return otherwise
		}
		return word + " " + s.Location
	}
	switch s.Kind {
	case rotation.StepAttach:
		return fmt.Sprintf("attach drive %s to this computer", s.Label)
	case rotation.StepExport:
		return fmt.Sprintf("export to drive %s", s.Label)
	case rotation.StepVerify:
		return fmt.Sprintf("read everything on drive %s: lifeboat verify --drive %s", s.Label, shellWord(s.Label))
	case rotation.StepEject:
		return fmt.Sprintf("read back and unmount drive %s: lifeboat drive eject %s", s.Label, shellWord(s.Label))
	case rotation.StepDepart:
		return fmt.Sprintf("take drive %s out of the house", s.Label)
	case rotation.StepDeposit:
		return fmt.Sprintf("bring drive %s %s", s.Label, at("to", "to its place offsite"))
	case rotation.StepRecall:
		return fmt.Sprintf("call %s: drive %s is to come home", at("", "the place"), s.Label)
	case rotation.StepCollect:
		return fmt.Sprintf("fetch drive %s %s", s.Label, at("at", "where it is"))
	case rotation.StepArrive:
		return fmt.Sprintf("bring drive %s home%s", s.Label, at(", to", ""))
	}
	return fmt.Sprintf("%s drive %s", s.Kind, s.Label)
}

// shortID is a step's id without the turn: deposit/A.
func shortID(id string) string {
	_, rest, ok := strings.Cut(id, "/")
	if !ok {
		return id
	}
	return rest
}

// onDay writes a day for people: "Fri 20 Nov", with the year where it is another.
func onDay(d, today rotation.Date) string {
	t := time.Date(d.Year, d.Month, d.Day, 12, 0, 0, 0, time.UTC)
	if d.Year != today.Year {
		return t.Format("Mon 2 Jan 2006")
	}
	return t.Format("Mon 2 Jan")
}

// moment writes a moment for people, in the site's zone.
func (j judgement) moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	local := t.In(j.zone())
	if local.Year() != j.now.In(j.zone()).Year() {
		return local.Format("2 Jan 2006 15:04")
	}
	return local.Format("Mon 2 Jan 15:04")
}

// dayOf writes the day of a moment, or "never".
func (j judgement) dayOf(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	local := t.In(j.zone())
	if local.Year() != j.now.In(j.zone()).Year() {
		return local.Format("Jan 2006")
	}
	return local.Format("2 Jan")
}

func (j judgement) zone() *time.Location {
	if j.policy.Calendar.Zone == nil {
		return time.UTC
	}
	return j.policy.Calendar.Zone
}

// next is the first step that can be done now, and whether there is one. Where
// all that is left waits, it is the first that waits.
func (j judgement) next() (rotation.Step, bool) {
	var waiting *rotation.Step
	for i, s := range j.decision.Steps {
		switch {
		case s.Done != nil:
		case s.Waits == "" && len(j.undone(s.Needs)) == 0:
			return s, true
		case waiting == nil:
			waiting = &j.decision.Steps[i]
		}
	}
	if waiting != nil {
		return *waiting, true
	}
	return rotation.Step{}, false
}

// undone are those of some steps that are not done.
func (j judgement) undone(ids []string) (left []string) {
	for _, id := range ids {
		i := slices.IndexFunc(j.decision.Steps, func(s rotation.Step) bool { return s.ID == id })
		if i >= 0 && j.decision.Steps[i].Done == nil {
			left = append(left, id)
		}
	}
	return left
}

// due are the steps whose day has come and that are not done.
func (j judgement) due() (all []rotation.Step) {
	for _, s := range j.decision.Steps {
		if s.Done == nil && !j.decision.Day.Before(s.Due) {
			all = append(all, s)
		}
	}
	return all
}

// missed are the machines whose newest verified point offsite is older than its
// objective.
func (j judgement) missed() (names []string) {
	for _, e := range j.decision.Exposure {
		if e.Missed {
			names = append(names, e.Machine)
		}
	}
	return names
}

// headline says in one line what is next, who does it and by when.
func (j judgement) headline() string {
	s, ok := j.next()
	if !ok {
		if len(j.decision.Blocked) > 0 {
			return "Next: nothing can be done as planned: " + j.decision.Blocked[0]
		}
		return fmt.Sprintf("Nothing is left to do in turn %s.", j.decision.Period)
	}
	who := cmp.Or(s.Person, "somebody")
	if s.Seen {
		who = "the program"
	}
	when := "by " + onDay(s.Due, j.decision.Day)
	switch d := s.Due.Compare(j.decision.Day); {
	case d == 0:
		when = "today"
	case d < 0:
		when = "overdue since " + onDay(s.Due, j.decision.Day)
	}
	return fmt.Sprintf("Next: %s, %s: %s.", who, when, doing(s))
}
