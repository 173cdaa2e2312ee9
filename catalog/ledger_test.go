package catalog_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/custody"
)

const siteA = "0123456789abcdef0123456789abcdef"

func entry(act custody.Act) custody.Entry {
	return custody.Entry{SiteID: siteA, Act: act, User: "anna", Computer: "control", HappenedAt: noon, RecordedAt: noon}
}

// kept is a catalogue with a ledger of so many entries, and the path of its file.
func kept(t *testing.T, entries int) (*catalog.Catalog, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "catalog.db")
	cat := open(t, path)
	for i := range entries {
		e := entry(custody.ActPrinted)
		e.Note = fmt.Sprintf("page %d", i+1)
		if _, err := cat.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	return cat, path
}

func TestALedgerIsKeptAndItsHeadKnown(t *testing.T) {
	ctx, cat := t.Context(), fresh(t)
	head, err := cat.LedgerHead(ctx)
	equal(t, err, head, custody.Head{})
	all, err := cat.Ledger(ctx)
	equal(t, err, all, []custody.Entry(nil))
	one, err := cat.Append(ctx, entry(custody.ActJoined))
	must(t, err)
	two, err := cat.Append(ctx, entry(custody.ActPrinted))
	must(t, err)
	all, err = cat.Ledger(ctx)
	equal(t, err, all, []custody.Entry{one, two})
	head, err = cat.LedgerHead(ctx)
	equal(t, err, head, custody.HeadOf(all))
}

func TestADepositIsTwoRowsInOneTransaction(t *testing.T) {
	ctx, cat := t.Context(), fresh(t)
	e := entry(custody.ActMade)
	e.Item = &custody.Item{Kind: custody.KindDrive, ID: strings.Repeat("d", 32), Label: "A"}
	e.To = &custody.Place{State: custody.Onsite}
	_, err := cat.Append(ctx, e)
	must(t, err)
	e.Act, e.Signer, e.To = custody.ActMoved, "Berta", &custody.Place{State: custody.Offsite, Location: "bank"}
	last, err := cat.Append(ctx, e)
	must(t, err)
	if last.Sequence != 3 || *last.To != *e.To {
		t.Errorf("%+v", last)
	}
	all, err := cat.Ledger(ctx)
	if err != nil || len(all) != 3 || all[1].To.State != custody.Courier {
		t.Errorf("%v, %v", all, err)
	}
	// What is refused leaves nothing.
	e.To = &custody.Place{State: custody.Onsite, Location: strings.Repeat("x", 300)}
	if _, err := cat.Append(ctx, e); !errors.Is(err, custody.ErrInvalid) {
		t.Errorf("%v", err)
	}
	head, err := cat.LedgerHead(ctx)
	equal(t, err, head, custody.HeadOf(all))
}

func TestARowThatWasChangedByHandIsFoundAndNothingIsAddedToIt(t *testing.T) {
	for name, c := range map[string]struct {
		statement string
		args      []any
		entry     string
	}{
		"its text":            {`UPDATE ledger SET text = replace(text, 'page 2', 'page 7') WHERE sequence = 2`, nil, "entry 2"},
		"its text and hash":   {`UPDATE ledger SET text = '{}', hash = ? WHERE sequence = 2`, []any{custody.HashOf("{}")}, "entry 2"},
		"the last one's text": {`UPDATE ledger SET text = replace(text, 'page 4', 'page 7') WHERE sequence = 4`, nil, "entry 4"},
		"a row is gone":       {`DELETE FROM ledger WHERE sequence = 2`, nil, "entry 2"},
		"the first is gone":   {`DELETE FROM ledger WHERE sequence = 1`, nil, "entry 1"},
	} {
		t.Run(name, func(t *testing.T) {
			cat, path := kept(t, 4)
			catalog.ChangeByHand(t, path, c.statement, c.args...)
			_, err := cat.Ledger(t.Context())
			var p *lifeboat.Problem
			if !errors.As(err, &p) || !errors.Is(err, custody.ErrBroken) || !errors.Is(err, lifeboat.ErrDamaged) ||
				!strings.Contains(p.What, c.entry) || !strings.Contains(p.Next, "rotate audit") {
				t.Fatalf("%+v", err)
			}
			if _, err := cat.Append(t.Context(), entry(custody.ActPrinted)); !errors.Is(err, custody.ErrBroken) {
				t.Errorf("added to a broken chain: %v", err)
			}
			if lines, err := cat.LedgerLines(t.Context()); err != nil || len(lines) < 3 {
				t.Errorf("an audit sees %d lines: %v", len(lines), err)
			}
		})
	}
}

func TestARowThatIsChangedWithTheChainComputedAnewIsFoundByAWitness(t *testing.T) {
	ctx := t.Context()
	cat, path := kept(t, 4)
	head, err := cat.LedgerHead(ctx)
	must(t, err)
	must(t, cat.Witness(ctx, custody.Witness{Where: "drive A", Head: head, SeenAt: noon}))
	all, err := cat.Ledger(ctx)
	must(t, err)
	all[1].Note = "page 99"
	for i := range all {
		if i > 0 {
			all[i].Previous = custody.HeadOf(all[:i]).Hash
		}
		text := custody.Encode(all[i])
		catalog.ChangeByHand(t, path, `UPDATE ledger SET text = ?, hash = ? WHERE sequence = ?`, text, custody.HashOf(text), i+1)
	}
	if _, err := cat.Ledger(ctx); err != nil {
		t.Fatalf("the test forges badly: %v", err)
	}
	lines, err := cat.LedgerLines(ctx)
	must(t, err)
	witnesses, err := cat.Witnesses(ctx)
	must(t, err)
	found := custody.Audit(siteA, lines, witnesses)
	if len(found) != 1 || found[0].Fault != custody.FaultRecomputed || !strings.Contains(found[0].What, "drive A") {
		t.Errorf("%v", found)
	}
}

func TestOnlyAChainThatGoesOnWithOursReplacesIt(t *testing.T) {
	ctx := t.Context()
	cat, path := kept(t, 3)
	other, _ := kept(t, 5)
	longer, err := other.Ledger(ctx)
	must(t, err)
	must(t, cat.ReplaceLedger(ctx, longer))
	got, err := cat.Ledger(ctx)
	equal(t, err, got, longer)

	if err := cat.ReplaceLedger(ctx, longer[:4]); !errors.Is(err, custody.ErrForked) {
		t.Errorf("a shorter one: %v", err)
	}
	fork := fresh(t)
	for range 7 {
		e := entry(custody.ActJoined)
		_, err := fork.Append(ctx, e)
		must(t, err)
	}
	forked, err := fork.Ledger(ctx)
	must(t, err)
	var where *custody.ForkError
	if err := cat.ReplaceLedger(ctx, forked); !errors.As(err, &where) || where.Sequence != 1 {
		t.Errorf("another one: %v", err)
	}
	broken := slices.Clone(longer)
	broken[2].Note = "page 99"
	if err := cat.ReplaceLedger(ctx, broken); !errors.Is(err, custody.ErrBroken) {
		t.Errorf("a broken one: %v", err)
	}
	got, err = cat.Ledger(ctx)
	equal(t, err, got, longer)

	// What was changed here by hand, and whose hash is still there, comes back.
	catalog.ChangeByHand(t, path, `UPDATE ledger SET text = replace(text, 'page 2', 'page 7') WHERE sequence = 2`)
	must(t, cat.ReplaceLedger(ctx, longer))
	got, err = cat.Ledger(ctx)
	equal(t, err, got, longer)
	// So it does from a drive that went away earlier; what followed here stays.
	catalog.ChangeByHand(t, path, `UPDATE ledger SET text = replace(text, 'page 2', 'page 7') WHERE sequence = 2`)
	must(t, cat.ReplaceLedger(ctx, longer[:3]))
	got, err = cat.Ledger(ctx)
	equal(t, err, got, longer)
	// Not if a later entry here is damaged too, which it does not have.
	catalog.ChangeByHand(t, path, `UPDATE ledger SET text = replace(text, 'page', 'pace') WHERE sequence IN (2, 5)`)
	if err := cat.ReplaceLedger(ctx, longer[:3]); !errors.Is(err, custody.ErrBroken) {
		t.Errorf("half mended: %v", err)
	}
}

func TestWitnessesAreKeptOnceEach(t *testing.T) {
	ctx, cat := t.Context(), fresh(t)
	w := custody.Witness{Where: "drive A", Head: custody.Head{Sequence: 3, Hash: custody.HashOf("x")}, SeenAt: noon}
	must(t, cat.Witness(ctx, w))
	w.SeenAt = noon.Add(time.Hour)
	must(t, cat.Witness(ctx, w))
	other := w
	other.Hash = custody.HashOf("y") // the same drive says something else
	must(t, cat.Witness(ctx, other))
	all, err := cat.Witnesses(ctx)
	if err != nil || len(all) != 2 || !slices.Contains(all, w) {
		t.Errorf("%v, %v", all, err)
	}
}

// appends is how many entries each process adds.
const appends = 25

func TestTwoProcessesAppendToOneChain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalog.db")
	var running []*exec.Cmd
	for _, name := range []string{"a", "b"} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAppendingProcess$", "-test.count=1")
		cmd.Env = append(os.Environ(), "LIFEBOAT_TEST_LEDGER="+path, "LIFEBOAT_TEST_NAME="+name)
		cmd.Stderr = os.Stderr
		must(t, cmd.Start())
		running = append(running, cmd)
	}
	for _, cmd := range running {
		must(t, cmd.Wait())
	}
	all, err := open(t, path).Ledger(t.Context())
	if err != nil || len(all) != 2*appends {
		t.Fatalf("%d entries, %v", len(all), err)
	}
	by := map[string]int{}
	for _, e := range all {
		by[e.Note]++
	}
	if by["a"] != appends || by["b"] != appends {
		t.Errorf("%v", by)
	}
}

// TestAppendingProcess is one of the processes of the test above.
func TestAppendingProcess(t *testing.T) {
	path := os.Getenv("LIFEBOAT_TEST_LEDGER")
	if path == "" {
		t.Skip("it is run by TestTwoProcessesAppendToOneChain")
	}
	cat := open(t, path)
	for range appends {
		e := entry(custody.ActPrinted)
		e.Note = os.Getenv("LIFEBOAT_TEST_NAME")
		if _, err := cat.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
}
