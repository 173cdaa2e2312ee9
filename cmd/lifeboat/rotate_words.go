package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"lifeboat/rotation"
)

// doing says a step as what somebody does, with the command that does it.
func doing(s rotation.Step) string {
	switch s.Kind {
	case rotation.StepVerify:
		return fmt.Sprintf("%s: lifeboat verify --drive %s", s.Words(), shellWord(s.Label))
	case rotation.StepEject:
		return fmt.Sprintf("%s: lifeboat drive eject %s", s.Words(), shellWord(s.Label))
	}
	return s.Words()
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

// bare are the machines of which no verified copy is offsite.
func (j judgement) bare() (names []string) {
	for _, e := range j.decision.Exposure {
		if e.DriveID == "" {
			names = append(names, e.Machine)
		}
	}
	return names
}

// headline says in one line what is next.
func (j judgement) headline() string {
	if _, ok := j.next(); !ok && len(j.decision.Blocked) == 0 {
		return j.nextWords()
	}
	return "Next: " + j.nextWords()
}

// nextWords say what is next, who does it and by when.
func (j judgement) nextWords() string {
	s, ok := j.next()
	if !ok {
		if len(j.decision.Blocked) > 0 {
			return "nothing can be done as planned: " + j.decision.Blocked[0]
		}
		return fmt.Sprintf("Nothing is left to do in turn %s.", j.decision.Period)
	}
	who := cmp.Or(s.Person, "somebody")
	if s.Kind == rotation.StepExport {
		who = "the program"
	}
	when := "by " + onDay(s.Due, j.decision.Day)
	switch d := s.Due.Compare(j.decision.Day); {
	case d == 0:
		when = "today"
	case d < 0:
		when = "overdue since " + onDay(s.Due, j.decision.Day)
	}
	return fmt.Sprintf("%s, %s: %s.", who, when, doing(s))
}
