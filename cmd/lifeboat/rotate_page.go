package main

import (
	"fmt"
	"strings"
	"time"

	"lifeboat/rotation"
)

// pageWidth is the width of a terminal that everybody has.
const pageWidth = 80

// checklist is this turn's page: one line in words, then the steps.
func (j judgement) checklist() string {
	var out strings.Builder
	d := j.decision
	out.WriteString(wrappedFrom("", "", j.headline()))
	fmt.Fprintf(&out, "\nTurn %s, set %s, until %s\n", d.Period, orDash(d.Set), onDay(d.SwapOn, d.Day))
	if d.Missed > 0 {
		out.WriteString(wrappedFrom("", "", fmt.Sprintf("%s since %s. The set that is here is still due, and is taken away once.",
			wereMissed(d.Missed), onDay(d.SwapOn, d.Day))))
	}
	if d.Doubt != "" {
		out.WriteString(wrappedFrom("", "", "The clock is doubted: "+d.Doubt+" Nothing is forgotten until a person says that it is right: lifeboat rotate sign clock --by NAME"))
	}
	out.WriteString("\n")
	for i, s := range d.Steps {
		out.WriteString(j.stepLines(i+1, s))
	}
	for _, b := range d.Blocked {
		out.WriteString(wrappedFrom("\nblocked: ", "         ", b))
	}
	for _, r := range d.Reminders {
		out.WriteString(wrappedFrom("\nremember: ", "          ", r))
	}
	if id, ok := j.toSign(); ok {
		fmt.Fprintf(&out, "\nWhen it is done: lifeboat rotate sign %s --by NAME\n", shellWord(shortID(id)))
	}
	return out.String()
}

func wereMissed(n int) string {
	if n == 1 {
		return "1 swap was missed"
	}
	return fmt.Sprintf("%d swaps were missed", n)
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// toSign is the step that a person signs next.
func (j judgement) toSign() (string, bool) {
	s, ok := j.next()
	return s.ID, ok && !s.Seen && s.Waits == "" && len(j.undone(s.Needs)) == 0
}

// stepLines is one step: its box, number and id, what is done, by whom and when,
// and, where it cannot be done yet, why.
func (j judgement) stepLines(n int, s rotation.Step) string {
	box, state := "[ ]", ""
	left := j.undone(s.Needs)
	switch {
	case s.Done != nil:
		box, state = "[x]", "done "+j.moment(s.Done.At)+", "+signedBy(s)
	case s.Waits != "":
		box, state = "[-]", "waits: "+s.Waits
	case len(left) > 0:
		box, state = "[-]", "after "+shortID(left[len(left)-1])
	default:
		state = "now"
	}
	who := s.Person
	if s.Kind == rotation.StepExport {
		who = "the program"
	}
	head := fmt.Sprintf("%s %2d  %-12s ", box, n, shortID(s.ID))
	indent := strings.Repeat(" ", 9)
	lines := wrappedFrom(head, indent, doing(s))
	if s.Done != nil {
		return lines + wrappedFrom(indent, indent, state)
	}
	detail := fmt.Sprintf("%s, by %s; %s", orDash(who), onDay(s.Due, j.decision.Day), state)
	if s.Why != "" {
		detail += "; " + s.Why
	}
	return lines + wrappedFrom(indent, indent, detail)
}

// signedBy says who or what did a step.
func signedBy(s rotation.Step) string {
	if s.Done.Signer == "" {
		return "seen by the program"
	}
	return "signed by " + s.Done.Signer
}

// wrappedFrom is a text on lines of the width of a page. The first begins with
// head, the others with indent.
func wrappedFrom(head, indent, text string) string {
	var out strings.Builder
	line := head
	empty := true
	for _, word := range strings.Fields(oneLine(text)) {
		at := line[strings.LastIndex(line, "\n")+1:]
		if !empty && len([]rune(at))+1+len([]rune(word)) > pageWidth {
			out.WriteString(line + "\n")
			line, empty = indent, true
		}
		if !empty {
			line += " "
		}
		line, empty = line+word, false
	}
	return out.String() + strings.TrimRight(line, " ") + "\n"
}

// stepJSON is a step as `rotate --json` prints it.
type stepJSON struct {
	ID       string            `json:"id"`
	Kind     rotation.StepKind `json:"kind"`
	Drive    string            `json:"drive"`
	DriveID  string            `json:"driveId"`
	What     string            `json:"what"`
	Due      rotation.Date     `json:"due"`
	Person   string            `json:"person,omitempty"`
	Location string            `json:"location,omitempty"`
	Why      string            `json:"why,omitempty"`
	Needs    []string          `json:"needs,omitempty"`
	Seen     bool              `json:"seen"`
	Waits    string            `json:"waits,omitempty"`
	DoneAt   time.Time         `json:"doneAt,omitzero"`
	DoneBy   string            `json:"doneBy,omitempty"`
	Entry    uint64            `json:"entry,omitempty"`
}

// checklistJSON is what `rotate --json` prints.
type checklistJSON struct {
	Next      string        `json:"next"`
	Day       rotation.Date `json:"day"`
	Turn      string        `json:"turn"`
	Set       string        `json:"set"`
	SwapOn    rotation.Date `json:"swapOn"`
	Missed    int           `json:"missedSwaps"`
	Write     []string      `json:"write"`
	Steps     []stepJSON    `json:"steps"`
	Blocked   []string      `json:"blocked"`
	Reminders []string      `json:"reminders"`
	Doubt     string        `json:"doubt,omitempty"`
	Exit      int           `json:"exit"`
}

func (j judgement) checklistJSON(exit int) checklistJSON {
	d := j.decision
	c := checklistJSON{Next: j.headline(), Day: d.Day, Turn: d.Period, Set: d.Set, SwapOn: d.SwapOn, Missed: d.Missed,
		Write: []string{}, Steps: []stepJSON{}, Blocked: append([]string{}, d.Blocked...), Reminders: append([]string{}, d.Reminders...), Doubt: d.Doubt, Exit: exit}
	for _, p := range d.Write {
		c.Write = append(c.Write, p.Label)
	}
	for _, s := range d.Steps {
		sj := stepJSON{ID: s.ID, Kind: s.Kind, Drive: s.Label, DriveID: s.DriveID, What: doing(s), Due: s.Due, Person: s.Person,
			Location: s.Location, Why: s.Why, Needs: s.Needs, Seen: s.Seen, Waits: s.Waits}
		if s.Done != nil {
			sj.DoneAt, sj.DoneBy, sj.Entry = s.Done.At, s.Done.Signer, s.Done.Entry
		}
		c.Steps = append(c.Steps, sj)
	}
	return c
}
