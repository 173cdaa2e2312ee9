package custody_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"lifeboat/custody"
)

// allowed is the table of docs/reference/ledger.md: what may follow a state by
// which act. A move in brackets leads through a courier, who is recorded too.
var allowed = map[custody.Act]string{
	custody.ActMade:        "-:o,-:c,-:f",
	custody.ActMoved:       "-:o,-:c,-:f,o:o,o:c,o:(f),c:c,c:o,c:f,f:f,f:r,f:c,f:(o),r:f,r:c,r:(o),q:q",
	custody.ActAttached:    "-:o,o:o,c:o,f:o,r:o,q:q,l:q,x:x",
	custody.ActQuarantined: "-:q,o:q,c:q,f:q,r:q",
	custody.ActReleased:    "q:o,q:c,q:f",
	custody.ActLost:        "-:l,o:l,c:l,f:l,r:l,q:l",
	custody.ActFound:       "l:q",
	custody.ActRetired:     "-:x,o:x,c:x,f:x,r:x,q:x,l:x",
}

var letters = map[string]custody.State{"-": "", "o": custody.Onsite, "c": custody.Courier, "f": custody.Offsite, "r": custody.Recall,
	"q": custody.Quarantined, "l": custody.Lost, "x": custody.Retired}

// inState is a ledger whose drive 1 is in a state.
func inState(t *testing.T, s custody.State) *ledger {
	l := &ledger{t: t}
	if s == "" {
		return l
	}
	l.made(drive(1), onsite())
	switch s {
	case custody.Courier:
		l.moved(drive(1), courier("Berta"))
	case custody.Offsite, custody.Recall:
		l.moved(drive(1), bank())
		if s == custody.Recall {
			l.moved(drive(1), custody.Place{State: s, Location: "bank"})
		}
	case custody.Quarantined:
		l.add(custody.Entry{Act: custody.ActQuarantined, Item: drive(1)})
	case custody.Lost:
		l.add(custody.Entry{Act: custody.ActLost, Item: drive(1)})
	case custody.Retired:
		l.add(custody.Entry{Act: custody.ActRetired, Item: drive(1)})
	}
	list := custody.Replay(l.entries)
	if k, _ := list.Of(drive(1).ID); k.Place.State != s {
		t.Fatalf("the test brings it to %q, not to %q", k.Place.State, s)
	}
	return l
}

func TestEveryPairOfStatesIsAllowedOrRefusedAsTheTableSays(t *testing.T) {
	for act, table := range allowed {
		for a, from := range letters {
			for b, to := range letters {
				if to == "" {
					continue
				}
				pairs := "," + table + ","
				direct, through := contains(pairs, a+":"+b), contains(pairs, a+":("+b+")")
				if got := custody.MayMove(act, from, to); got != direct {
					t.Errorf("%s from %q to %q: MayMove says %v", act, from, to, got)
				}
				l := inState(t, from)
				before := len(l.entries)
				place := custody.Place{State: to}
				if to == custody.Offsite || to == custody.Recall {
					place.Location = "bank"
				}
				err := l.try(custody.Entry{Act: act, Item: drive(1), To: &place, Signer: "Berta"})
				got, _ := ofLast(l)
				switch {
				case fillsIn(act):
					// These acts say themselves where they lead.
					if wanted := contains(pairs, a+":"); (err == nil) != wanted {
						t.Errorf("%s of what is %q: %v", act, from, err)
					}
				case direct || through:
					want := before + 1
					if through {
						want++
					}
					if err != nil || len(l.entries) != want || got != to {
						t.Errorf("%s from %q to %q: %v, %d entries, it is %q", act, from, to, err, len(l.entries)-before, got)
					}
				default:
					if !errors.Is(err, custody.ErrMove) || len(l.entries) != before {
						t.Errorf("%s from %q to %q is not refused: %v", act, from, to, err)
					}
				}
			}
		}
	}
}

// fillsIn says that an act decides itself where an item is after it.
func fillsIn(act custody.Act) bool {
	switch act {
	case custody.ActAttached, custody.ActQuarantined, custody.ActLost, custody.ActFound, custody.ActRetired:
		return true
	}
	return false
}

// contains looks for a pair, or for any pair of a state: "o:".
func contains(table, pair string) bool {
	if strings.HasSuffix(pair, ":") {
		return strings.Contains(table, ","+pair)
	}
	return strings.Contains(table, ","+pair+",")
}

func ofLast(l *ledger) (custody.State, bool) {
	list := custody.Replay(l.entries)
	k, ok := list.Of(drive(1).ID)
	return k.Place.State, ok
}

func TestADirectDepositIsTwoEntriesOfOneSignature(t *testing.T) {
	l := inState(t, custody.Onsite)
	l.add(custody.Entry{Act: custody.ActMoved, Item: drive(1), To: &custody.Place{State: custody.Offsite, Location: "bank"}, Signer: "Berta", Step: "2026-W47/deposit/D1"})
	if len(l.entries) != 3 {
		t.Fatalf("%d entries", len(l.entries))
	}
	leg, deposit := l.entries[1], l.entries[2]
	if *leg.To != courier("Berta") || leg.Signer != "Berta" || leg.Step != "" || leg.Facts[custody.FactLegOf] != "3" {
		t.Errorf("the courier's leg: %+v", leg)
	}
	if *deposit.From != courier("Berta") || *deposit.To != bank() || deposit.Step == "" {
		t.Errorf("the deposit: %+v", deposit)
	}
	// What was said once is taken back once.
	l.add(custody.Entry{Act: custody.ActRevoked, Revokes: 3})
	l.is(drive(1), onsite())
	list := custody.Replay(l.entries)
	if len(list.Steps) != 0 {
		t.Errorf("the step of a revoked entry still counts: %v", list.Steps)
	}
}

func TestADirectDepositWithoutASignatureIsRefused(t *testing.T) {
	l := inState(t, custody.Onsite)
	place := bank()
	l.refused(custody.ErrInvalid, custody.Entry{Act: custody.ActMoved, Item: drive(1), To: &place})
}

func TestAHandOverFromWhereTheItemIsNotIsRefused(t *testing.T) {
	l := inState(t, custody.Courier)
	from, to := onsite(), bank()
	l.refused(custody.ErrMove, custody.Entry{Act: custody.ActMoved, Item: drive(1), From: &from, To: &to, Signer: "Carl"})
}

func TestFromOnePlaceOffsiteToAnotherSomebodyCarriesIt(t *testing.T) {
	l := inState(t, custody.Offsite)
	before := len(l.entries)
	l.moved(drive(1), custody.Place{State: custody.Offsite, Location: "bank", Box: "9"})
	if len(l.entries) != before+1 {
		t.Errorf("another box is %d entries", len(l.entries)-before)
	}
	l.moved(drive(1), custody.Place{State: custody.Offsite, Location: "vault"})
	if len(l.entries) != before+3 || l.entries[before+1].To.State != custody.Courier {
		t.Error("it was carried by nobody")
	}
}

func TestWhatIsReleasedGoesBackToWhereItIs(t *testing.T) {
	for name, c := range map[string]struct {
		state    custody.State
		attached bool
		want     custody.Place
	}{
		"put aside in the bank":             {custody.Offsite, false, bank()},
		"put aside there, and brought home": {custody.Offsite, true, onsite()},
		"put aside here":                    {custody.Onsite, false, onsite()},
	} {
		t.Run(name, func(t *testing.T) {
			l := inState(t, c.state)
			l.add(custody.Entry{Act: custody.ActQuarantined, Item: drive(1), Note: "it clicks"})
			if c.attached {
				here := onsite()
				l.add(custody.Entry{Act: custody.ActAttached, Item: drive(1), To: &here})
			}
			l.add(custody.Entry{Act: custody.ActReleased, Item: drive(1)})
			l.is(drive(1), c.want)
		})
	}
}

func TestALostDriveThatIsAttachedAgainIsPutAsideAndTold(t *testing.T) {
	l := inState(t, custody.Lost)
	here := onsite()
	l.add(custody.Entry{Act: custody.ActAttached, Item: drive(1), To: &here})
	l.is(drive(1), custody.Place{State: custody.Quarantined, Location: "office"})
	list := custody.Replay(l.entries)
	if len(list.Discrepancies) != 1 || list.Discrepancies[0].What != "D1 was attached here although it is lost" {
		t.Errorf("%+v", list.Discrepancies)
	}
}

func ExampleMayMove() {
	fmt.Println(custody.MayMove(custody.ActMoved, custody.Onsite, custody.Offsite), custody.MayMove(custody.ActMoved, custody.Courier, custody.Offsite))
	// Output: false true
}

// A drive that was set aside comes back into use by its release, which looks
// whether it was verified.
func TestWhatSetADriveAsideIsNotRevoked(t *testing.T) {
	l := &ledger{t: t}
	office := custody.Place{State: custody.Onsite, Location: "office"}
	l.made(drive(1), office)
	l.made(secret(1), custody.Place{State: custody.Offsite, Location: "bank"})
	for _, act := range []custody.Act{custody.ActQuarantined, custody.ActLost, custody.ActFound} {
		l.add(custody.Entry{Act: act, Item: drive(1)})
	}
	for _, entry := range l.entries[2:] {
		if err := l.try(custody.Entry{Act: custody.ActRevoked, Revokes: entry.Sequence}); !errors.Is(err, custody.ErrRevoke) {
			t.Errorf("%s is revoked: %v", entry.Act, err)
		}
	}
	l.add(custody.Entry{Act: custody.ActLost, Item: secret(1)})
	l.add(custody.Entry{Act: custody.ActRevoked, Revokes: uint64(len(l.entries))})
}
