package runbook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"lifeboat"
)

// What a line of the journal holds at most. What comes from guests, commands and
// hosts is cut before it is written, so that none of them fills the disk.
const (
	maxLine   = 1 << 20
	maxOutput = 16 << 10
	maxText   = 2 << 10
	// maxSaid is how many lines a try of a step may say; a world that repeats
	// itself is still seen by whoever watches.
	maxSaid = 32
)

// entryKind says what happened.
type entryKind string

const (
	// entryRun is the first line, entryResume the first of each later process, and
	// entryEnd its last, if it got to write one.
	entryRun    entryKind = "run"
	entryResume entryKind = "resume"
	entryEnd    entryKind = "end"
	// A step was begun, said something, and then was done, failed, was cut off
	// (nobody knows how far it got), or waits for a person.
	entryBegun   entryKind = "begun"
	entrySaid    entryKind = "said"
	entryDone    entryKind = "done"
	entryFailed  entryKind = "failed"
	entryCut     entryKind = "cut"
	entryWaiting entryKind = "waiting"
	// A person decided: leave it out, or do it again.
	entrySkipped entryKind = "skipped"
	entryRepeat  entryKind = "repeat"
	// entryLost: what these steps did is not there any more; they are done again.
	entryLost entryKind = "lost"
	// entryAway: the machines are to be taken away, to come back as this line says;
	// entryTaken: one is away.
	entryAway  entryKind = "away"
	entryTaken entryKind = "taken"
	// entryPlaced: the machine's host went away, this is another.
	entryPlaced entryKind = "placed"
)

// fate is what follows from a failure.
type fate string

const (
	// It is tried again; the machine comes back in another way; what needs it does
	// not begin; the rest goes on without the machine; it was only told; a person
	// decides, because its machine has data that may not be taken away.
	fateRetry    fate = "retry"
	fateAgain    fate = "again"
	fateStop     fate = "stop"
	fateContinue fate = "continue"
	fateTold     fate = "told"
	fateKept     fate = "kept"
)

// entry is one line of the journal.
type entry struct {
	Version int       `json:"v"`
	Kind    entryKind `json:"kind"`
	// At is the wall clock. Since is the time from the command, which goes on
	// whatever somebody does to the clock: everything is measured by it.
	At    time.Time     `json:"at"`
	Since time.Duration `json:"since"`
	// Step and Machine, or several at once, are what it is about.
	Step     string   `json:"step,omitempty"`
	Steps    []string `json:"steps,omitempty"`
	Machine  string   `json:"machine,omitempty"`
	Machines []string `json:"machines,omitempty"`
	// Start is in the first line.
	Start *Start `json:"start,omitempty"`
	// Text was said, or is why; Who decided.
	Text string `json:"text,omitempty"`
	Who  string `json:"who,omitempty"`
	Then fate   `json:"then,omitempty"`
	// Open: it failed, and nobody knows how far it got.
	Open     bool      `json:"open,omitempty"`
	Result   *Result   `json:"result,omitempty"`
	Evidence *Evidence `json:"evidence,omitempty"`
	// Once: it is left out by this process alone.
	Once bool `json:"once,omitempty"`
	// Point counts the older points, from 0: that of the plan. Form counts the disk
	// controllers, Host is where the machine is placed.
	Point int    `json:"point,omitempty"`
	Form  int    `json:"form,omitempty"`
	Host  string `json:"host,omitempty"`
}

// bounded cuts what others wrote to what a line may hold.
func (e entry) bounded() entry {
	e.Text, e.Who = cutTail(e.Text, maxText), cutTail(e.Who, maxText)
	if e.Result != nil {
		r := *e.Result
		r.Detail, r.Who, r.Form = cutTail(r.Detail, maxText), cutTail(r.Who, maxText), cutTail(r.Form, maxText)
		r.Output = cutHead(r.Output, maxOutput)
		r.Spent = knownSpending(r.Spent)
		e.Result = &r
	}
	if e.Evidence != nil {
		v := Evidence{Screenshot: cutTail(e.Evidence.Screenshot, maxText), Console: cutTail(e.Evidence.Console, maxText)}
		e.Evidence = &v
	}
	return e
}

// knownSpending keeps what has a name here.
func knownSpending(spent map[Spending]time.Duration) map[Spending]time.Duration {
	var known map[Spending]time.Duration
	for _, s := range []Spending{SpentWaiting, SpentFind, SpentOpen, SpentDefine, SpentBoot, SpentService, SpentPerson, SpentTries} {
		if d := spent[s]; d > 0 {
			if known == nil {
				known = map[Spending]time.Duration{}
			}
			known[s] = d
		}
	}
	return known
}

// cutTail keeps the beginning of a text, cutHead its end. Both leave valid UTF-8,
// which a line has to be to read as it was written.
func cutTail(s string, most int) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}

func cutHead(s string, most int) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) <= most {
		return s
	}
	from := len(s) - most
	for from < len(s) && !utf8.RuneStart(s[from]) {
		from++
	}
	return s[from:]
}

// encode is the line of an entry, and the entry as whoever reads it will know it.
func (e entry) encode() ([]byte, entry, error) {
	line, err := json.Marshal(e.bounded())
	if err != nil {
		return nil, e, err
	}
	// What is no UTF-8 is replaced on the way, and then stays as it is.
	var read entry
	if err := json.Unmarshal(line, &read); err != nil {
		return nil, e, err
	}
	if line, err = json.Marshal(read); err == nil && len(line) > maxLine {
		err = fmt.Errorf("a line of %d bytes, where at most %d are allowed", len(line), maxLine)
	}
	return line, read, err
}

// decodeEntry reads one line. A line of a later version, or one that this program
// would not have written, is refused: what it says may not be guessed at.
func decodeEntry(line []byte) (entry, error) {
	var e entry
	if len(line) > maxLine {
		return e, fmt.Errorf("a line of %d bytes, where at most %d are allowed: %w", len(line), maxLine, lifeboat.ErrDamaged)
	}
	var head struct {
		Version int `json:"v"`
	}
	if err := json.Unmarshal(line, &head); err != nil {
		return e, fmt.Errorf("%w: %v", lifeboat.ErrDamaged, err)
	}
	if head.Version < 1 || head.Version > Version {
		return e, fmt.Errorf("its version is %d, and this program knows %d: go on with the program that began the run", head.Version, Version)
	}
	if err := json.Unmarshal(line, &e); err != nil {
		return e, fmt.Errorf("%w: %v", lifeboat.ErrDamaged, err)
	}
	if e.Since < 0 || e.Point < 0 || e.Form < 0 {
		return e, fmt.Errorf("%w: a negative figure", lifeboat.ErrDamaged)
	}
	if again, err := json.Marshal(e); err != nil || !bytes.Equal(again, line) {
		return e, fmt.Errorf("%w: it is not as this program writes it", lifeboat.ErrDamaged)
	}
	return e, nil
}
