package custody_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lifeboat"
	"lifeboat/custody"
)

func TestAWholeChainHasNoFault(t *testing.T) {
	l := week(t)
	entries, found := custody.Verify(site, custody.Lines(l.entries))
	if len(found) != 0 || !slices.Equal(texts(custody.Lines(entries)), texts(custody.Lines(l.entries))) {
		t.Errorf("%v", found)
	}
	if _, found := custody.Verify(site, nil); len(found) != 0 {
		t.Errorf("an empty ledger: %v", found)
	}
	if custody.HeadOf(nil) != (custody.Head{}) {
		t.Error("an empty ledger has a head")
	}
}

// withoutHashes are lines as a drive or an auditor has them.
func withoutHashes(lines []custody.Line) []custody.Line {
	bare := slices.Clone(lines)
	for i := range bare {
		bare[i].Hash = ""
	}
	return bare
}

func TestTheFirstBadEntryIsNamed(t *testing.T) {
	good := withoutHashes(custody.Lines(week(t).entries))
	other := week(t)
	changed := slices.Clone(good)
	changed[2].Text = strings.Replace(good[2].Text, `"points":"14"`, `"points":"15"`, 1)
	foreign := slices.Clone(good)
	foreign[0].Text = strings.Replace(good[0].Text, site, strings.Repeat("9", 32), 1)
	unreadable := slices.Clone(good)
	unreadable[4].Text = "{}"
	for name, c := range map[string]struct {
		lines []custody.Line
		at    uint64
		fault custody.Fault
	}{
		"changed":           {changed, 3, custody.FaultChanged},
		"unreadable":        {unreadable, 5, custody.FaultChanged},
		"removed":           {slices.Delete(slices.Clone(good), 3, 4), 4, custody.FaultRemoved},
		"the first removed": {good[1:], 1, custody.FaultRemoved},
		"inserted":          {slices.Insert(slices.Clone(good), 2, good[1]), 3, custody.FaultInserted},
		"reordered":         {[]custody.Line{good[0], good[2], good[1], good[3]}, 2, custody.FaultReordered},
		"of another site":   {foreign, 1, custody.FaultOtherSite},
	} {
		_, found := custody.Verify(site, c.lines)
		bad, ok := custody.FirstFault(found)
		if !ok || bad.Sequence != c.at || bad.Fault != c.fault || !strings.Contains(bad.What, "entry") {
			t.Errorf("%s: %+v, want %s at %d", name, bad, c.fault, c.at)
		}
	}
	// The last entry has none behind it that holds it: only a hash kept beside it,
	// or a witness, tells.
	last := custody.Lines(other.entries)
	last[len(last)-1].Text = strings.Replace(last[len(last)-1].Text, "cupboard", "drawer", 1)
	_, found := custody.Verify(site, last)
	if bad, _ := custody.FirstFault(found); bad.Sequence != uint64(len(last)) || bad.Fault != custody.FaultChanged {
		t.Errorf("the last entry: %v", found)
	}
}

func TestAClockThatRanBackwardsIsARemark(t *testing.T) {
	l := week(t)
	e := custody.Entry{SiteID: site, User: "anna", Computer: "control", Act: custody.ActPrinted, HappenedAt: noon.Add(-time.Hour), RecordedAt: noon.Add(-time.Hour)}
	added, err := custody.Append(l.entries, e)
	if err != nil {
		t.Fatal(err)
	}
	_, found := custody.Verify(site, custody.Lines(append(l.entries, added...)))
	if len(found) != 1 || found[0].Fault != custody.FaultBackwards {
		t.Fatalf("%v", found)
	}
	if bad, ok := custody.FirstFault(found); ok {
		t.Errorf("it is a fault: %v", bad)
	}
}

// recomputed changes one entry and makes the whole chain behind it anew, as a
// forger would.
func recomputed(entries []custody.Entry, i int, change func(*custody.Entry)) []custody.Entry {
	forged := slices.Clone(entries)
	change(&forged[i])
	for j := i + 1; j < len(forged); j++ {
		forged[j].Previous = custody.HeadOf(forged[:j]).Hash
	}
	return forged
}

func TestAChainThatWasComputedAnewIsFoundByAWitnessOnly(t *testing.T) {
	l := week(t)
	seen := custody.Witness{Where: "drive D1", Head: custody.HeadOf(l.entries[:5]), SeenAt: noon}
	forged := custody.Lines(recomputed(l.entries, 2, func(e *custody.Entry) { e.Facts = map[string]string{"points": "99"} }))
	if found := custody.Audit(site, forged, nil); len(found) != 0 {
		t.Fatalf("the test forges badly: %v", found)
	}
	found := custody.Audit(site, forged, []custody.Witness{seen})
	if len(found) != 1 || found[0].Fault != custody.FaultRecomputed || found[0].Sequence != 5 || !strings.Contains(found[0].What, "drive D1") {
		t.Errorf("%v", found)
	}
	// One that saw the chain before the forged entry bears it out.
	early := custody.Witness{Where: "a page", Head: custody.HeadOf(l.entries[:2])}
	if found := custody.Audit(site, forged, []custody.Witness{early}); len(found) != 0 {
		t.Errorf("%v", found)
	}
	// A typed head is short.
	typed, err := custody.ParseHead("5 : " + strings.ToUpper(string(seen.Hash[:16])))
	if err != nil {
		t.Fatal(err)
	}
	if found := custody.Audit(site, forged, []custody.Witness{{Where: "typed", Head: typed}}); len(found) != 1 {
		t.Errorf("%v", found)
	}
	if found := custody.Audit(site, custody.Lines(l.entries), []custody.Witness{{Where: "typed", Head: typed}, seen}); len(found) != 0 {
		t.Errorf("the true chain: %v", found)
	}
}

func TestAnEndThatWasCutOffIsFoundByAWitness(t *testing.T) {
	l := week(t)
	seen := custody.Witness{Where: "drive D1", Head: custody.HeadOf(l.entries)}
	found := custody.Audit(site, custody.Lines(l.entries[:4]), []custody.Witness{seen})
	if len(found) != 1 || found[0].Fault != custody.FaultCut || found[0].Sequence != 5 {
		t.Errorf("%v", found)
	}
	if found := custody.Audit(site, nil, []custody.Witness{seen}); len(found) != 1 {
		t.Errorf("a ledger that is gone: %v", found)
	}
}

func TestHeadsThatNobodyCouldHaveCopiedAreRefused(t *testing.T) {
	for _, text := range []string{"", "5", "5:", "0:" + strings.Repeat("a", 64), "5:abc", "-1:" + strings.Repeat("a", 16), "5:" + strings.Repeat("g", 16), "5:" + strings.Repeat("a", 65)} {
		if h, err := custody.ParseHead(text); err == nil {
			t.Errorf("%q is read as %v", text, h)
		}
	}
	h := custody.HeadOf(week(t).entries)
	if back, err := custody.ParseHead(h.String()); err != nil || back != h {
		t.Errorf("%v, %v", back, err)
	}
}

func TestOnlyWhatAPersonSaidCanBeRevokedAndOnlyOnce(t *testing.T) {
	l := &ledger{t: t}
	l.made(drive(1), onsite())
	l.moved(drive(1), courier("Berta"))
	l.add(custody.Entry{Act: custody.ActExported, Item: drive(1)})
	for _, n := range []uint64{1, 3, 99} {
		l.refused(custody.ErrRevoke, custody.Entry{Act: custody.ActRevoked, Revokes: n})
	}
	l.add(custody.Entry{Act: custody.ActRevoked, Revokes: 2, Signer: "Berta"})
	l.is(drive(1), onsite())
	if got := l.entries[3]; got.Item == nil || got.Item.ID != drive(1).ID {
		t.Errorf("a revocation does not say of what: %+v", got)
	}
	l.refused(custody.ErrRevoke, custody.Entry{Act: custody.ActRevoked, Revokes: 2})
	l.refused(custody.ErrRevoke, custody.Entry{Act: custody.ActRevoked, Revokes: 4})
	// A signature without a hand-over.
	l.add(custody.Entry{Act: custody.ActSigned, Step: "2026-W47/verify/D1", Signer: "Berta"})
	l.add(custody.Entry{Act: custody.ActRevoked, Revokes: 5})
	list := custody.Replay(l.entries)
	if len(list.Steps) != 0 || list.Revoked[5] != 6 {
		t.Errorf("%+v", list)
	}
}

func TestADriveWhoseKeysAreDestroyedStaysRetired(t *testing.T) {
	l := &ledger{t: t}
	l.made(drive(1), onsite())
	l.add(custody.Entry{Act: custody.ActDestroyed, Item: drive(1)})
	l.add(custody.Entry{Act: custody.ActRetired, Item: drive(1)})
	l.refused(custody.ErrRevoke, custody.Entry{Act: custody.ActRevoked, Revokes: 3})
}

func TestWhatNoEntryMaySayIsRefusedAsAProblem(t *testing.T) {
	long := strings.Repeat("x", 2000)
	many := map[string]string{}
	for i := range 20 {
		many[strings.Repeat("k", i+1)] = "v"
	}
	place := onsite()
	for name, e := range map[string]custody.Entry{
		"an unknown act":       {Act: "stolen"},
		"a long note":          {Act: custody.ActSigned, Note: long},
		"a note of two lines":  {Act: custody.ActSigned, Note: "one\ntwo"},
		"a turned-round name":  {Act: custody.ActSigned, Signer: "anna\u202Eaneb"},
		"blanks around a name": {Act: custody.ActSigned, Signer: " Berta"},
		"not UTF-8":            {Act: custody.ActSigned, Signer: "\xff"},
		"too many facts":       {Act: custody.ActExported, Facts: many},
		"a bad day":            {Act: custody.ActExported, Facts: map[string]string{custody.FactDue: "Friday"}},
		"no item":              {Act: custody.ActMade, To: &place},
		"a signature that moves": {Act: custody.ActSigned, Item: drive(1),
			To: &place},
		"an id that is none": {Act: custody.ActMade, Item: &custody.Item{Kind: custody.KindDrive, ID: "../x", Label: "A"}, To: &place},
		"no label":           {Act: custody.ActMade, Item: &custody.Item{Kind: custody.KindDrive, ID: drive(1).ID}, To: &place},
		"a kind that is none": {Act: custody.ActMade, Item: &custody.Item{Kind: "car", ID: drive(1).ID, Label: "A"},
			To: &place},
		"recorded a week before it happens": {Act: custody.ActSigned, HappenedAt: noon.AddDate(0, 0, 7)},
	} {
		l := &ledger{t: t}
		err := l.try(e)
		var p *lifeboat.Problem
		if !errors.As(err, &p) || !errors.Is(err, custody.ErrInvalid) || p.Next == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCleanMakesEveryTextFit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := string(rapid.SliceOfN(rapid.Byte(), 0, 600).Draw(t, "text"))
		l := &ledger{}
		if err := l.try(custody.Entry{Act: custody.ActSigned, Signer: custody.Clean(text)}); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
	})
}

func TestTheUnionIsTheLongerChainOrAForkThatIsShown(t *testing.T) {
	l := week(t)
	short := l.entries[:3]
	for _, pair := range [][2][]custody.Entry{{l.entries, short}, {short, l.entries}, {l.entries, nil}, {nil, l.entries}, {l.entries, l.entries}} {
		if all, err := custody.Union(pair[0], pair[1]); err != nil || len(all) != len(l.entries) {
			t.Errorf("%d entries, %v", len(all), err)
		}
	}
	other := &ledger{t: t, entries: slices.Clone(short)}
	other.add(custody.Entry{Act: custody.ActPrinted, Note: "elsewhere"})
	_, err := custody.Union(l.entries, other.entries)
	var fork *custody.ForkError
	if !errors.As(err, &fork) || !errors.Is(err, custody.ErrForked) || fork.Sequence != 4 || fork.Theirs.Note != "elsewhere" || fork.Ours.Act != custody.ActEjected {
		t.Errorf("%v", err)
	}
}

// randomLedger is a chain of acts that the table allows, of which it tried more.
func randomLedger(t *rapid.T) *ledger {
	l := &ledger{}
	places := []custody.Place{onsite(), bank(), courier("Berta"), courier("Carl"), {State: custody.Recall, Location: "bank"}, {State: custody.Onsite, Location: "branch", Box: "1"}}
	acts := []custody.Act{custody.ActMade, custody.ActMoved, custody.ActMoved, custody.ActMoved, custody.ActAttached, custody.ActExported, custody.ActQuarantined,
		custody.ActReleased, custody.ActLost, custody.ActFound, custody.ActRetired, custody.ActRevoked, custody.ActSigned}
	for range rapid.IntRange(1, 30).Draw(t, "entries") {
		e := custody.Entry{Act: rapid.SampledFrom(acts).Draw(t, "act"), Signer: "Berta"}
		e.Item = rapid.SampledFrom([]*custody.Item{drive(1), drive(2), drive(3), secret(1)}).Draw(t, "item")
		place := rapid.SampledFrom(places).Draw(t, "place")
		switch e.Act {
		case custody.ActMade, custody.ActMoved, custody.ActAttached:
			e.To = &place
		case custody.ActRevoked:
			e.Item, e.Revokes = nil, rapid.Uint64Range(1, 30).Draw(t, "revokes")
		case custody.ActSigned:
			e.Step = "2026-W47/verify/D1"
		}
		l.try(e) // what is refused is refused
	}
	return l
}

func TestEveryChangeOfOneByteOfAChainIsFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := randomLedger(t)
		if len(l.entries) == 0 {
			return
		}
		lines := custody.Lines(l.entries)
		if found := custody.Audit(site, lines, []custody.Witness{{Where: "now", Head: custody.HeadOf(l.entries)}}); len(found) != 0 {
			t.Fatalf("a chain that was only appended to: %v", found)
		}
		i := rapid.IntRange(0, len(lines)-1).Draw(t, "line")
		text := []byte(lines[i].Text)
		at := rapid.IntRange(0, len(text)-1).Draw(t, "byte")
		text[at] ^= byte(rapid.IntRange(1, 255).Draw(t, "flip"))
		witness := custody.Witness{Where: "now", Head: custody.HeadOf(l.entries)}
		bare := withoutHashes(lines)
		bare[i].Text = string(text)
		bad, ok := custody.FirstFault(custody.Audit(site, bare, []custody.Witness{witness}))
		// Of the last entry and the one before it, which hold only each other, the
		// chain alone does not say which was changed.
		either := i == len(lines)-1 && bad.Sequence == uint64(i)
		if !ok || bad.Sequence != uint64(i+1) && !either {
			t.Fatalf("entry %d was changed, and the finding is %+v", i+1, bad)
		}
	})
}

func TestASecretAndADriveAreNeverBroughtTogetherByAnyHistory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := randomLedger(t)
		list := custody.Replay(l.entries)
		for _, d := range list.Together(noon) {
			// Only what the program saw, what was revoked, or what a drive did when
			// it was made here can do that.
			seen := slices.ContainsFunc(l.entries, func(e custody.Entry) bool {
				return e.Act == custody.ActAttached || e.Act == custody.ActRevoked || e.Act == custody.ActMade || e.Act == custody.ActFound || e.Act == custody.ActLost
			})
			if !seen {
				t.Fatalf("%v", d)
			}
		}
	})
}
