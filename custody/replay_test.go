package custody_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"lifeboat/custody"
)

func TestTheListOfAWeek(t *testing.T) {
	l := &ledger{t: t}
	l.made(drive(1), onsite())
	l.add(custody.Entry{Act: custody.ActMoved, Item: drive(1), To: &custody.Place{State: custody.Offsite, Location: "bank", Box: "7"}, Signer: "Berta",
		Seal: "S1", Facts: map[string]string{custody.FactDue: "2026-11-27"}, Step: "2026-W47/deposit/D1"})
	list := custody.Replay(l.entries)
	k, ok := list.Of(drive(1).ID)
	if !ok || k.Place != (custody.Place{State: custody.Offsite, Location: "bank", Box: "7"}) || k.Seal != "S1" || k.Signer != "Berta" || k.Entry != 3 ||
		!k.Since.Equal(noon.Add(time.Hour)) || k.Due.Format(time.DateOnly) != "2026-11-27" {
		t.Errorf("%+v", k)
	}
	if list.Steps["2026-W47/deposit/D1"] != (custody.Step{At: noon.Add(time.Hour), Signer: "Berta", Entry: 3}) {
		t.Errorf("%+v", list.Steps)
	}
	if missing := list.Missing(time.Date(2026, 11, 27, 18, 0, 0, 0, time.UTC)); len(missing) != 0 {
		t.Errorf("missed on the day itself: %v", missing)
	}
	missing := list.Missing(time.Date(2026, 11, 28, 6, 0, 0, 0, time.UTC))
	if len(missing) != 1 || missing[0].What != "D1 was due back on 2026-11-27 and is offsite at bank in box 7" {
		t.Errorf("%v", missing)
	}
	// On the way home it is still due, and with the one who has it.
	l.moved(drive(1), courier("Carl"))
	list = custody.Replay(l.entries)
	if k, _ := list.Of(drive(1).ID); !k.Homeward || k.Due.IsZero() {
		t.Errorf("%+v", k)
	}
	l.moved(drive(1), onsite())
	list = custody.Replay(l.entries)
	if missing := list.Missing(noon.AddDate(1, 0, 0)); len(missing) != 0 {
		t.Errorf("missed, and it is here: %v", missing)
	}
}

func TestADriveThatACourierKeepsIsMissed(t *testing.T) {
	l := inState(t, custody.Courier)
	list := custody.Replay(l.entries)
	if m := list.Missing(noon.AddDate(0, 0, 3)); len(m) != 0 {
		t.Errorf("over the weekend: %v", m)
	}
	if m := list.Missing(noon.AddDate(0, 0, 6)); len(m) != 1 || !strings.Contains(m[0].What, "courier Berta") {
		t.Errorf("%v", m)
	}
}

func TestASealThatCameBackAsAnotherIsADiscrepancy(t *testing.T) {
	for name, c := range map[string]struct {
		back string
		odd  int
	}{"another": {"S2", 1}, "the same": {"S1", 0}, "not looked at": {"", 0}} {
		l := inState(t, custody.Onsite)
		place := bank()
		l.add(custody.Entry{Act: custody.ActMoved, Item: drive(1), To: &place, Signer: "Berta", Seal: "S1"})
		back := courier("Carl")
		l.add(custody.Entry{Act: custody.ActMoved, Item: drive(1), To: &back, Seal: c.back})
		list := custody.Replay(l.entries)
		if len(list.Discrepancies) != c.odd {
			t.Errorf("%s: %+v", name, list.Discrepancies)
		}
	}
}

func TestWhatIsAttachedAndShouldBeElsewhereIsADiscrepancy(t *testing.T) {
	for state, odd := range map[custody.State]int{custody.Onsite: 0, custody.Courier: 1, custody.Offsite: 1, custody.Recall: 1, custody.Quarantined: 0, custody.Lost: 1, custody.Retired: 1} {
		l := inState(t, state)
		here := onsite()
		l.add(custody.Entry{Act: custody.ActAttached, Item: drive(1), To: &here})
		list := custody.Replay(l.entries)
		if len(list.Discrepancies) != odd {
			t.Errorf("%s: %+v", state, list.Discrepancies)
		}
	}
	// Home from the bank in somebody's hands: that is what was expected.
	l := inState(t, custody.Recall)
	l.moved(drive(1), courier("Carl"))
	here := onsite()
	l.add(custody.Entry{Act: custody.ActAttached, Item: drive(1), To: &here})
	if list := custody.Replay(l.entries); len(list.Discrepancies) != 0 {
		t.Errorf("%+v", list.Discrepancies)
	}
	l.is(drive(1), onsite())
}

func TestRevokingAHandOverSetsTheItemBack(t *testing.T) {
	l := inState(t, custody.Offsite)
	l.moved(drive(1), courier("Carl"))
	last := l.entries[len(l.entries)-1].Sequence
	l.is(drive(1), courier("Carl"))
	l.add(custody.Entry{Act: custody.ActRevoked, Revokes: last})
	l.is(drive(1), bank())
	// And from there it goes on.
	l.moved(drive(1), courier("Dora"))
	l.is(drive(1), courier("Dora"))
}

func TestRevokingALossBringsTheDriveBackToWhereItWas(t *testing.T) {
	l := inState(t, custody.Offsite)
	l.add(custody.Entry{Act: custody.ActLost, Item: drive(1)})
	l.add(custody.Entry{Act: custody.ActRevoked, Revokes: l.entries[len(l.entries)-1].Sequence, Note: "it was in another box"})
	l.is(drive(1), bank())
}

func TestADriveAndWhatOpensItAreKeptApart(t *testing.T) {
	in := func(p custody.Place, box string) custody.Place { p.Box = box; return p }
	nameless := custody.Place{State: custody.Onsite}
	for name, c := range map[string]struct {
		drive, secret custody.Place
		refused       bool
	}{
		"in one box":                       {in(bank(), "7"), in(bank(), "7"), true},
		"in two boxes of one place":        {in(bank(), "7"), in(bank(), "8"), false},
		"at one place, one without a box":  {in(bank(), "7"), bank(), true},
		"at one place, without boxes":      {bank(), bank(), true},
		"in the office, in two boxes":      {in(onsite(), "safe"), in(onsite(), "drawer"), false},
		"in the office, without boxes":     {onsite(), onsite(), true},
		"somewhere in the house":           {nameless, nameless, false},
		"in the hands of one courier":      {courier("Berta"), courier("Berta"), true},
		"in the hands of two couriers":     {courier("Berta"), courier("Carl"), false},
		"at two places":                    {bank(), onsite(), false},
		"the drive of a courier, the bank": {courier("Berta"), bank(), false},
	} {
		for _, order := range []string{"the drive first", "the secret first"} {
			l := &ledger{t: t}
			a, b, at, to := drive(1), secret(1), c.drive, c.secret
			if order == "the secret first" {
				a, b, at, to = b, a, to, at
			}
			l.made(a, at)
			l.made(b, custody.Place{State: custody.Onsite, Location: "kitchen"})
			err := l.try(custody.Entry{Act: custody.ActMoved, Item: b, To: &to, Signer: "Zoe"})
			if c.refused != errors.Is(err, custody.ErrTogether) || !c.refused && err != nil {
				t.Errorf("%s, %s: %v", name, order, err)
			}
		}
	}
}

func TestTwoDrivesMayBeTogether(t *testing.T) {
	l := &ledger{t: t}
	l.made(drive(1), bank())
	l.made(drive(2), bank())
	l.moved(drive(1), courier("Berta"))
	l.moved(drive(2), courier("Berta"))
}

func TestASecretThatIsMadeBesideADriveIsRefusedAndADriveIsOnlyTold(t *testing.T) {
	l := &ledger{t: t}
	l.made(drive(1), bank())
	place := bank()
	l.refused(custody.ErrTogether, custody.Entry{Act: custody.ActMade, Item: secret(1), To: &place})
	l = &ledger{t: t}
	l.made(secret(1), onsite())
	l.made(drive(1), onsite())
	list := custody.Replay(l.entries)
	if got := list.Together(noon); len(got) != 1 || !strings.Contains(got[0].What, "at one place, office") {
		t.Errorf("%v", got)
	}
	// What is lost or retired is nowhere.
	l.add(custody.Entry{Act: custody.ActRetired, Item: drive(1)})
	list = custody.Replay(l.entries)
	if got := list.Together(noon); len(got) != 0 {
		t.Errorf("%v", got)
	}
}

func TestAnEntryAboutWhatTheLedgerDoesNotKnowSaysNotWhereItIs(t *testing.T) {
	l := &ledger{t: t}
	l.add(custody.Entry{Act: custody.ActExported, Item: drive(1)})
	list := custody.Replay(l.entries)
	if _, known := list.Of(drive(1).ID); known {
		t.Error("an export says where a drive is")
	}
	// A hand-over begins its story: drives are older than the ledger.
	l.moved(drive(1), bank())
	l.is(drive(1), bank())
}
