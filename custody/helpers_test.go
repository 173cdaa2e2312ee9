package custody_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"lifeboat/custody"
)

const site = "0123456789abcdef0123456789abcdef"

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func drive(n int) *custody.Item {
	return &custody.Item{Kind: custody.KindDrive, ID: fmt.Sprintf("%032x", n), Label: fmt.Sprintf("D%d", n)}
}

func secret(n int) *custody.Item {
	return &custody.Item{Kind: custody.KindSecret, ID: fmt.Sprintf("%032x", 1000+n), Label: fmt.Sprintf("envelope %d", n)}
}

// ledger is a chain that grows.
type ledger struct {
	t       testing.TB
	entries []custody.Entry
}

// try appends an entry at the next hour, or says why not.
func (l *ledger) try(e custody.Entry) error {
	e.SiteID, e.User, e.Computer = site, "anna", "control"
	e.RecordedAt = noon.Add(time.Duration(len(l.entries)) * time.Hour)
	if e.HappenedAt.IsZero() {
		e.HappenedAt = e.RecordedAt
	}
	added, err := custody.Append(l.entries, e)
	l.entries = append(l.entries, added...)
	return err
}

func (l *ledger) add(e custody.Entry) {
	l.t.Helper()
	if err := l.try(e); err != nil {
		l.t.Fatalf("%s: %v", e.Act, err)
	}
}

// made and moved are the entries that most tests write.
func (l *ledger) made(it *custody.Item, at custody.Place) {
	l.t.Helper()
	l.add(custody.Entry{Act: custody.ActMade, Item: it, To: &at})
}

func (l *ledger) moved(it *custody.Item, at custody.Place) {
	l.t.Helper()
	l.add(custody.Entry{Act: custody.ActMoved, Item: it, To: &at, Signer: "Berta"})
}

func (l *ledger) refused(want error, e custody.Entry) {
	l.t.Helper()
	before := len(l.entries)
	if err := l.try(e); !errors.Is(err, want) || len(l.entries) != before {
		l.t.Errorf("%s: %v, want %v", e.Act, err, want)
	}
}

// is checks where an item is.
func (l *ledger) is(it *custody.Item, want custody.Place) {
	l.t.Helper()
	list := custody.Replay(l.entries)
	if got, _ := list.Of(it.ID); got.Place != want {
		l.t.Errorf("%s is %+v, want %+v", it.Label, got.Place, want)
	}
}

func onsite() custody.Place { return custody.Place{State: custody.Onsite, Location: "office"} }
func bank() custody.Place   { return custody.Place{State: custody.Offsite, Location: "bank"} }
func courier(name string) custody.Place {
	return custody.Place{State: custody.Courier, Holder: name}
}

// week is a ledger with a bit of everything.
func week(t testing.TB) *ledger {
	l := &ledger{t: t}
	l.made(drive(1), onsite())
	l.made(drive(2), onsite())
	l.add(custody.Entry{Act: custody.ActExported, Item: drive(1), Facts: map[string]string{"run": strings.Repeat("5", 32), "points": "14"}})
	l.add(custody.Entry{Act: custody.ActEjected, Item: drive(1)})
	l.add(custody.Entry{Act: custody.ActMoved, Item: drive(1), To: &custody.Place{State: custody.Offsite, Location: "bank", Box: "box 7"},
		Signer: "Berta Löwe", Seal: "S-0042", Step: "2026-W47/deposit/D1", Note: `on the way to "lunch" <&>`})
	l.add(custody.Entry{Act: custody.ActRevoked, Revokes: 6, Signer: "Berta Löwe", Note: "it was another bank"})
	l.add(custody.Entry{Act: custody.ActLost, Item: drive(2), Note: "not in the cupboard"})
	return l
}

func texts(lines []custody.Line) []string {
	var all []string
	for _, l := range lines {
		all = append(all, l.Text)
	}
	return all
}
