package custody

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// ErrInvalid: an entry says something that no entry may say.
var ErrInvalid = errors.New("it is not a valid entry")

// Limits of texts, in bytes. They fit a line of a page, and two hundred of the
// longest entries fit the memory of anything.
const (
	maxName  = 255 // people, locations, boxes, accounts, computers, labels, steps
	maxSeal  = 64
	maxNote  = 1000
	maxFacts = 16
	maxKey   = 32
	maxFact  = 500
)

// maxAhead is how far a happening may lie after its recording: clocks differ, and
// zones are mistaken.
const maxAhead = 24 * time.Hour

// idDigits is the length of every id: 16 bytes as hex.
const idDigits = 32

var (
	states = []State{Onsite, Courier, Offsite, Recall, Quarantined, Lost, Retired}
	kinds  = []Kind{KindDrive, KindSheet, KindSecret}
	acts   = []Act{ActMade, ActMoved, ActExported, ActReadBack, ActVerified, ActProven, ActFault, ActEjected, ActAttached,
		ActSigned, ActRevoked, ActPrinted, ActForgot, ActKeys, ActQuarantined, ActReleased, ActLost, ActFound, ActRetired,
		ActDestroyed, ActDocument, ActJoined, ActDrilled, ActRecovered}
)

// Check says what an entry may not say, apart from its place in a chain. The
// error wraps [ErrInvalid].
func Check(e Entry) error {
	if why := wrong(e); why != "" {
		return fmt.Errorf("%w: %s", ErrInvalid, why)
	}
	return nil
}

func wrong(e Entry) string {
	switch {
	case !isHex(e.SiteID, idDigits):
		return "the site's id is not 32 hex digits"
	case !slices.Contains(acts, e.Act):
		return fmt.Sprintf("%q is no act", e.Act)
	case e.User == "" || e.Computer == "":
		return "it does not say who recorded it on which computer"
	case (e.Act == ActRevoked) != (e.Revokes != 0):
		return "an entry that revokes names another, and no other does"
	case e.Previous != "" && !isHex(string(e.Previous), 64):
		return "the hash before it is not 64 hex digits"
	}
	for _, part := range []string{wrongItem(e), wrongPlace(e.From), wrongPlace(e.To), wrongTimes(e), wrongTexts(e), wrongFacts(e.Facts)} {
		if part != "" {
			return part
		}
	}
	return ""
}

func wrongItem(e Entry) string {
	places := moves[e.Act] != nil
	switch {
	case e.Item == nil && places:
		return "it moves nothing"
	case e.To == nil && places:
		return "it does not say where the item is after it"
	case !places && (e.From != nil || e.To != nil):
		return fmt.Sprintf("%q moves nothing, and it says from where or where to", e.Act)
	case e.Item == nil:
		return ""
	case !slices.Contains(kinds, e.Item.Kind):
		return fmt.Sprintf("%q is no kind of item", e.Item.Kind)
	case !isHex(e.Item.ID, idDigits):
		return "the item's id is not 32 hex digits"
	case e.Item.Label == "":
		return "the item has no label"
	}
	return ""
}

func wrongPlace(p *Place) string {
	switch {
	case p == nil:
		return ""
	case !slices.Contains(states, p.State):
		return fmt.Sprintf("%q is no state", p.State)
	case p.State == Courier && p.Location != "":
		return "what is with a courier is at no location"
	case p.State == Courier && p.Holder == "":
		return "it does not say who carries it (a courier, or who signs)"
	}
	return wrongText(maxName, p.Location, p.Holder, p.Box)
}

func wrongTimes(e Entry) string {
	for _, t := range []time.Time{e.HappenedAt, e.RecordedAt} {
		if t.IsZero() || t.Location() != time.UTC || t.Year() < 1 || t.Year() > 9999 {
			return "its times are not in UTC, or missing"
		}
	}
	if e.HappenedAt.Sub(e.RecordedAt) > maxAhead {
		return "it was recorded more than a day before it happened"
	}
	return ""
}

func wrongTexts(e Entry) string {
	if e.Item != nil {
		if why := wrongText(maxName, e.Item.Label); why != "" {
			return why
		}
	}
	if why := wrongText(maxName, e.Signer, e.User, e.Computer, e.Step); why != "" {
		return why
	}
	if why := wrongText(maxSeal, e.Seal); why != "" {
		return why
	}
	return wrongText(maxNote, e.Note)
}

func wrongFacts(facts map[string]string) string {
	if len(facts) > maxFacts {
		return fmt.Sprintf("it has more than %d facts", maxFacts)
	}
	for key, value := range facts {
		if key == "" {
			return "a fact has no name"
		}
		if why := wrongText(maxKey, key); why != "" {
			return why
		}
		if why := wrongText(maxFact, value); why != "" {
			return why
		}
	}
	if due, ok := facts[FactDue]; ok {
		if _, err := time.Parse(time.DateOnly, due); err != nil {
			return fmt.Sprintf("%q is not a day on which something is due, such as 2026-11-27", due)
		}
	}
	return ""
}

// wrongText refuses what does not fit, what would drive a terminal or turn a line
// around, and blanks around a name, which make two names of one.
func wrongText(limit int, texts ...string) string {
	for _, text := range texts {
		switch {
		case len(text) > limit:
			return fmt.Sprintf("a text of it is longer than %d bytes", limit)
		case !utf8.ValidString(text) || strings.ContainsFunc(text, unprintable):
			return "a text of it has characters that cannot be printed on one line"
		case strings.TrimSpace(text) != text:
			return fmt.Sprintf("%q has blanks around it", text)
		}
	}
	return ""
}

func unprintable(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029' || r == utf8.RuneError
}

// Clean makes a text fit for an entry: what cannot be printed on one line becomes
// a question mark, and what is too long for a name is cut off.
func Clean(text string) string {
	text = strings.TrimSpace(strings.Map(func(r rune) rune {
		if unprintable(r) {
			return '?'
		}
		return r
	}, text))
	for len(text) > maxName {
		_, size := utf8.DecodeLastRuneInString(text)
		text = strings.TrimSpace(text[:len(text)-size])
	}
	return text
}

// isHex says whether a text is so many lower-case hex digits.
func isHex(text string, digits int) bool {
	return len(text) == digits && strings.Trim(text, "0123456789abcdef") == ""
}
