package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"lifeboat/custody"
	"lifeboat/rotation"
)

// answer says in one line what would be lost if the building burned down now.
func (j judgement) answer() string {
	var nothing, some []rotation.Exposure
	for _, e := range j.decision.Exposure {
		if e.DriveID == "" {
			nothing = append(nothing, e)
		} else {
			some = append(some, e)
		}
	}
	const fire = "If the building burned down now, you would lose "
	switch {
	case len(nothing)+len(some) == 0:
		return "No machine has a restore point yet: if the building burned down now, everything would be lost."
	case len(some) == 0:
		return fire + "everything of " + ofMachines(nothing) + ": no verified copy is offsite."
	}
	oldest := slices.MaxFunc(some, func(x, y rotation.Exposure) int { return int((x.Age - y.Age) / time.Second) })
	text := fire + "up to " + inDays(oldest.Age) + " of " + count(len(some), "machine")
	if len(nothing) > 0 {
		text += ", and everything of " + ofMachines(nothing)
	}
	var copies []string
	for _, e := range some {
		if c := j.copyWords(e); !slices.Contains(copies, c) {
			copies = append(copies, c)
		}
	}
	if len(copies) > 3 {
		return text + fmt.Sprintf(": the newest copies are on %d drives, see below.", len(copies))
	}
	return text + ": the newest copies are " + strings.Join(copies, "; ") + "."
}

// ofMachines names few machines, and counts many.
func ofMachines(all []rotation.Exposure) string {
	if len(all) > 3 {
		return fmt.Sprintf("%d machines", len(all))
	}
	var names []string
	for _, e := range all {
		names = append(names, e.Machine)
	}
	return strings.Join(names, ", ")
}

// copyWords says of when a copy is, where, and when it is in one's hands.
func (j judgement) copyWords(e rotation.Exposure) string {
	text := fmt.Sprintf("of %s on drive %s", onDay(j.policy.Calendar.Day(e.TakenAt), j.decision.Day), e.Label)
	if d, ok := j.drive(e.DriveID); ok && d.Place.Location != "" {
		text += " at " + d.Place.Location
	}
	if !e.InHandAt.IsZero() {
		text += " (in your hands by " + j.moment(e.InHandAt) + ")"
	}
	return text
}

// statusPage is the answer, then a table by machine, then the drives that are not
// in the house.
func (j judgement) statusPage() string {
	var out strings.Builder
	out.WriteString(wrappedFrom("", "", j.answer()))
	if rows := j.exposureRows(); len(rows) > 0 {
		out.WriteString("\n" + table([]string{"MACHINE", "OFFSITE", "AGE", "DRIVE", "AT", "VERIFIED", "PROVEN", "OBJECTIVE"}, rows))
	}
	if rows := j.placeRows(); len(rows) > 0 {
		out.WriteString("\n" + table([]string{"DRIVE", "WHERE", "SINCE", "IN HAND"}, rows))
	}
	for _, w := range slices.Concat(j.disbelieved(), j.pendingKeys(), j.runbooks) {
		out.WriteString(wrappedFrom("\nremember: ", "          ", w))
	}
	return out.String()
}

// cut bounds a cell, so that a table fits the page.
func cut(text string, most int) string {
	runes := []rune(oneLine(text))
	if len(runes) <= most {
		return string(runes)
	}
	return string(runes[:most-1]) + "…"
}

func (j judgement) exposureRows() (rows [][]string) {
	for _, e := range j.decision.Exposure {
		objective := "-"
		if e.Objective > 0 {
			objective = fmt.Sprintf("%dh", e.Objective/time.Hour)
			if e.Objective%day == 0 {
				objective = fmt.Sprintf("%dd", e.Objective/day)
			}
			if e.Missed {
				objective += " MISSED"
			}
		}
		if e.DriveID == "" {
			rows = append(rows, []string{cut(e.Machine, 14), "none", "-", "-", "-", "-", "-", objective})
			continue
		}
		at := "-"
		if d, ok := j.drive(e.DriveID); ok && d.Place.Location != "" {
			at = d.Place.Location
		}
		rows = append(rows, []string{cut(e.Machine, 14), j.dayOf(e.TakenAt), ageCell(e.Age), cut(e.Label, 8), cut(at, 10), j.dayOf(e.VerifiedAt), j.dayOf(e.ProvenAt), objective})
	}
	return rows
}

// ageCell is an age in few letters: 20h, 9d.
func ageCell(d time.Duration) string {
	if d < 2*day {
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/day)
}

// placeRows are the drives of the shelf, each with where it is and when it could
// be here.
func (j judgement) placeRows() (rows [][]string) {
	inHand := map[string]time.Time{}
	for _, e := range j.decision.Exposure {
		inHand[e.DriveID] = e.InHandAt
	}
	for _, d := range j.shelf.Drives {
		if d.Place.State == custody.Retired {
			continue
		}
		hand := "-"
		switch t, known := inHand[d.ID]; {
		case d.Place.State == custody.Onsite:
			hand = "now"
		case known && !t.IsZero():
			hand = j.moment(t)
		case known:
			hand = "not known: no leadTime"
		}
		where := placeWords(d.Place)
		if d.Suspect != "" {
			where += "; not believed"
		}
		rows = append(rows, []string{cut(d.Label, 10), cut(where, 36), j.dayOf(d.Since), hand})
	}
	return rows
}

// disbelieved says which drives count for nothing because they are not what is
// remembered of them.
func (j judgement) disbelieved() (all []string) {
	for _, d := range j.shelf.Drives {
		if d.Suspect != "" && d.Place.State != custody.Retired && d.Place.State != custody.Lost {
			all = append(all, fmt.Sprintf("drive %s counts for nothing: %s; find out why, and attach the right one, or take it as it is: lifeboat export --drive %s --accept-drive",
				d.Label, d.Suspect, shellWord(d.Label)))
		}
	}
	return all
}

// pendingKeys warns of key changes that wait for a drive that is offsite: a
// leaver's secret still opens it. A lost drive nags nobody for ever: that it opens
// as it did was said when it was lost, and it gets its changes if it is found.
func (j judgement) pendingKeys() (all []string) {
	for _, d := range j.shelf.Drives {
		gone := d.Place.State == custody.Retired || d.Place.State == custody.Lost
		if d.PendingKeys > 0 && !d.Attached && !gone {
			newest := ""
			if slices.ContainsFunc(j.decision.Exposure, func(e rotation.Exposure) bool { return e.DriveID == d.ID }) {
				newest = ", which has the newest copies offsite,"
			}
			all = append(all, fmt.Sprintf("drive %s%s has %s pending: until it returns it opens with the keys that it had (lifeboat key list)",
				d.Label, newest, count(d.PendingKeys, "key change")))
		}
	}
	return all
}

// exposureJSON is one machine of `rotate status --json`.
type exposureJSON struct {
	MachineID        string    `json:"machineId"`
	Machine          string    `json:"machine"`
	DriveID          string    `json:"driveId,omitempty"`
	Drive            string    `json:"drive,omitempty"`
	Location         string    `json:"location,omitempty"`
	PointID          string    `json:"pointId,omitempty"`
	TakenAt          time.Time `json:"takenAt,omitzero"`
	AgeSeconds       int64     `json:"ageSeconds,omitempty"`
	VerifiedAt       time.Time `json:"verifiedAt,omitzero"`
	ProvenAt         time.Time `json:"provenAt,omitzero"`
	ObjectiveSeconds int64     `json:"objectiveSeconds,omitempty"`
	Missed           bool      `json:"missed"`
	InHandAt         time.Time `json:"inHandAt,omitzero"`
}

// statusJSON is what `rotate status --json` prints.
type statusJSON struct {
	Answer      string         `json:"answer"`
	Day         rotation.Date  `json:"day"`
	Machines    []exposureJSON `json:"machines"`
	PendingKeys []string       `json:"pendingKeys"`
	// Disbelieved says which drives count for nothing, and why.
	Disbelieved []string `json:"disbelieved"`
	// Runbooks says which runbooks are not ready or due to be rehearsed.
	Runbooks []string `json:"runbooks"`
	Exit     int      `json:"exit"`
}

func (j judgement) statusJSON(exit int) statusJSON {
	s := statusJSON{Answer: j.answer(), Day: j.decision.Day, Machines: []exposureJSON{}, PendingKeys: append([]string{}, j.pendingKeys()...), Disbelieved: append([]string{}, j.disbelieved()...),
		Runbooks: append([]string{}, j.runbooks...), Exit: exit}
	for _, e := range j.decision.Exposure {
		x := exposureJSON{MachineID: e.MachineID, Machine: e.Machine, DriveID: e.DriveID, Drive: e.Label, PointID: e.PointID, TakenAt: e.TakenAt,
			AgeSeconds: int64(e.Age / time.Second), VerifiedAt: e.VerifiedAt, ProvenAt: e.ProvenAt, ObjectiveSeconds: int64(e.Objective / time.Second), Missed: e.Missed, InHandAt: e.InHandAt}
		if d, ok := j.drive(e.DriveID); ok {
			x.Location = d.Place.Location
		}
		s.Machines = append(s.Machines, x)
	}
	return s
}
