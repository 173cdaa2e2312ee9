package custody

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Fault says what is wrong with an entry.
type Fault string

// The faults. Backwards alone is a remark: clocks are set.
const (
	// FaultChanged: the entry's text is not the one that was written.
	FaultChanged Fault = "changed"
	// FaultRemoved: entries before it are not there any more.
	FaultRemoved Fault = "removed"
	// FaultInserted: it has a number that another has.
	FaultInserted Fault = "inserted"
	// FaultReordered: it stands where another belongs.
	FaultReordered Fault = "reordered"
	// FaultOtherSite: it is of another site.
	FaultOtherSite Fault = "other site"
	// FaultRecomputed: the chain holds, and a witness has another hash: it was
	// computed anew.
	FaultRecomputed Fault = "recomputed"
	// FaultCut: a witness saw more entries than there are.
	FaultCut Fault = "cut off"
	// FaultBackwards: it was recorded before the one before it.
	FaultBackwards Fault = "backwards"
)

// Finding is something about one entry.
type Finding struct {
	// Sequence is the number of the entry, or the one that it should have.
	Sequence uint64 `json:"sequence"`
	Fault    Fault  `json:"fault"`
	What     string `json:"what"`
}

// Remark says that a finding breaks nothing.
func (f Finding) Remark() bool { return f.Fault == FaultBackwards }

// Witness is a head that was seen somewhere outside of the ledger.
type Witness struct {
	// Where it was seen, in words: drive A, the page of 2026-W47.
	Where string `json:"where"`
	Head
	SeenAt time.Time `json:"seenAt"`
}

// Verify checks whether lines are one whole chain of a site, in the order in
// which they are stored. It returns what could be read, and what is wrong in the
// order of the entries: the first finding that is no remark names the first bad
// entry. A chain that somebody computed anew has no finding here; see [Audit].
func Verify(siteID string, lines []Line) ([]Entry, []Finding) {
	read, numbers := readAll(lines)
	var entries []Entry
	var found []Finding
	for i, line := range lines {
		n, e, err := uint64(i+1), read[i].entry, read[i].err
		switch {
		case line.Hash != "" && line.Hash != read[i].hash:
			found = append(found, Finding{n, FaultChanged, fmt.Sprintf("entry %d is not what was written: its text has another hash than the one kept with it", n)})
		case err != nil:
			found = append(found, Finding{n, FaultChanged, fmt.Sprintf("entry %d cannot be read: %v", n, err)})
		default:
			found = append(found, misplaced(e, n, numbers)...)
			if e.SiteID != siteID {
				found = append(found, Finding{n, FaultOtherSite, fmt.Sprintf("entry %d is of another site (%s)", n, e.SiteID)})
			}
			found = append(found, unlinked(read, i)...)
		}
		if err == nil {
			entries = append(entries, e)
		}
	}
	slices.SortStableFunc(found, func(a, b Finding) int { return cmp.Compare(a.Sequence, b.Sequence) })
	return entries, found
}

// readLine is a line as it was read: its entry, or why there is none.
type readLine struct {
	entry Entry
	hash  Hash
	err   error
}

// readAll reads each line once, and counts how often each number stands there.
func readAll(lines []Line) (read []readLine, numbers map[uint64]int) {
	read, numbers = make([]readLine, len(lines)), map[uint64]int{}
	for i, line := range lines {
		e, err := Decode(line.Text)
		read[i] = readLine{e, HashOf(line.Text), err}
		if err == nil {
			numbers[e.Sequence]++
		}
	}
	return read, numbers
}

// misplaced says why an entry with its number does not belong at place n.
func misplaced(e Entry, n uint64, numbers map[uint64]int) []Finding {
	switch {
	case e.Sequence == n:
		return nil
	case numbers[e.Sequence] > 1:
		return []Finding{{n, FaultInserted, fmt.Sprintf("entry %d stands twice, or one was inserted", e.Sequence)}}
	case numbers[n] == 0 && e.Sequence > n:
		return []Finding{{n, FaultRemoved, fmt.Sprintf("entry %d is missing; entry %d stands in its place", n, e.Sequence)}}
	}
	return []Finding{{n, FaultReordered, fmt.Sprintf("entry %d stands where entry %d belongs", e.Sequence, n)}}
}

// unlinked compares an entry with the one before it.
func unlinked(read []readLine, i int) []Finding {
	e := read[i].entry
	if i == 0 {
		if e.Sequence == 1 && e.Previous != "" {
			return []Finding{{1, FaultRemoved, "the first entry says that there is one before it"}}
		}
		return nil
	}
	before := read[i-1]
	switch {
	case before.err != nil || before.entry.Sequence+1 != e.Sequence:
		return nil // said already
	case e.Previous != before.hash && i+1 < len(read) && read[i+1].err == nil && read[i+1].entry.Previous != read[i].hash:
		// Neither of its neighbours knows it.
		return []Finding{{e.Sequence, FaultChanged, fmt.Sprintf("entry %d was changed: neither the entry before it nor the one behind it fits", e.Sequence)}}
	case e.Previous != before.hash:
		return []Finding{{before.entry.Sequence, FaultChanged, fmt.Sprintf("entry %d was changed after entry %d was written, or entry %d was put in the place of another", e.Sequence-1, e.Sequence, e.Sequence)}}
	case e.RecordedAt.Before(before.entry.RecordedAt):
		return []Finding{{e.Sequence, FaultBackwards, fmt.Sprintf("entry %d was recorded %s, before entry %d: a clock was set back, or another computer's clock differs", e.Sequence, e.RecordedAt.Format(time.RFC3339), e.Sequence-1)}}
	}
	return nil
}

// Audit checks a ledger and compares it with the heads that drives and pages
// carry: a chain that was computed anew as a whole, or cut off, differs from what
// they saw.
func Audit(siteID string, lines []Line, witnesses []Witness) []Finding {
	_, found := Verify(siteID, lines)
	for _, w := range witnesses {
		switch {
		case w.Sequence == 0, len(w.Hash) < minTyped: // says nothing
		case w.Sequence > uint64(len(lines)):
			found = append(found, Finding{uint64(len(lines)) + 1, FaultCut, fmt.Sprintf("%s knows of %d entries and the ledger has %d: its end was cut off", w.Where, w.Sequence, len(lines))})
		case !strings.HasPrefix(string(HashOf(lines[w.Sequence-1].Text)), string(w.Hash)):
			found = append(found, Finding{w.Sequence, FaultRecomputed, fmt.Sprintf("entry %d is not the one that %s saw, or one before it was changed and the chain computed anew", w.Sequence, w.Where)})
		}
	}
	return found
}

// FirstFault returns the first finding that is no remark.
func FirstFault(found []Finding) (Finding, bool) {
	i := slices.IndexFunc(found, func(f Finding) bool { return !f.Remark() })
	if i < 0 {
		return Finding{}, false
	}
	return found[i], true
}
