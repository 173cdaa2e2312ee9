package durable_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"lifeboat"
	"lifeboat/fixtures/baddrive"
	"lifeboat/internal/durable"
)

func TestWriteFileAtomicLeavesTheOldFileOrTheNewOne(t *testing.T) {
	older, newer := strings.Repeat("old", 500), strings.Repeat("newer", 900)
	for seed := range uint64(50) {
		base := baddrive.New(seed, baddrive.Options{})
		if err := durable.WriteFileAtomic(base.Dir(), "a", []byte(older)); err != nil {
			t.Fatal(err)
		}
		baddrive.Sweep(t, seed, base, func(d durable.Dir) error {
			return durable.WriteFileAtomic(d, "a", []byte(newer))
		}, func(t *testing.T, after durable.Dir, done error) {
			got, err := durable.ReadWhole(after, "a", 1<<20)
			switch {
			case err != nil:
				t.Error(err)
			case string(got) != newer && (done == nil || string(got) != older):
				t.Errorf("%d bytes that are neither file (the write said %v)", len(got), done)
			}
			if err := durable.RemoveTemps(after, "."); err != nil {
				t.Error(err)
			}
			if entries, _ := after.List("."); len(entries) != 1 {
				t.Errorf("left behind: %v", entries)
			}
		})
	}
}

func TestAJournalKeepsEveryRecordItAcknowledged(t *testing.T) {
	for seed := range uint64(50) {
		acknowledged := 0
		baddrive.Sweep(t, seed, baddrive.New(seed, baddrive.Options{}), func(d durable.Dir) error {
			acknowledged = 0
			for range 3 { // three lives of a program
				j, records, err := durable.OpenJournal(d, "j")
				if err != nil {
					return err
				}
				if len(records) != acknowledged {
					return fmt.Errorf("%d records, %d were acknowledged", len(records), acknowledged)
				}
				for range 4 {
					if err := j.Append(strings.Repeat("x", 100*acknowledged)); err != nil {
						return err
					}
					acknowledged++
				}
			}
			return nil
		}, func(t *testing.T, after durable.Dir, done error) {
			j, records, err := durable.OpenJournal(after, "j")
			if err != nil {
				t.Fatal(err)
			}
			if len(records) != acknowledged && len(records) != acknowledged+1 {
				t.Fatalf("%d records, %d were acknowledged", len(records), acknowledged)
			}
			for i, r := range records {
				var text string
				if err := json.Unmarshal(r, &text); err != nil || len(text) != 100*i {
					t.Fatalf("record %d: %d bytes, %v", i, len(text), err)
				}
			}
			if err := j.Append("goes on"); err != nil {
				t.Error(err)
			}
			if again, err := durable.ReadJournal(after, "j"); err != nil || len(again) != len(records)+1 {
				t.Errorf("%d records, %v", len(again), err)
			}
		})
	}
}

func TestAJournalThatFailedTakesNoMore(t *testing.T) {
	drive := baddrive.New(1, baddrive.Options{})
	j, _, err := durable.OpenJournal(drive.Dir(), "j")
	if err != nil {
		t.Fatal(err)
	}
	drive.FailAt(drive.Calls() + 2) // the sync of the next record
	first := j.Append("a")
	if !errors.Is(first, lifeboat.ErrDriveGone) {
		t.Fatalf("got %v", first)
	}
	if again := j.Append("b"); again != first {
		t.Errorf("then %v", again)
	}
}

func TestARottenJournalSaysSoAndKeepsWhatIsBeforeIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		drive := baddrive.New(1, baddrive.Options{})
		want := fillJournal(t, drive.Dir())
		text, _ := durable.ReadWhole(drive.Dir(), "j/000001.jsonl", 1<<20)
		bit := rapid.Int64Range(0, int64(len(text))*8-1).Draw(t, "bit")
		drive.FlipBit("j/000001.jsonl", bit)
		records, err := durable.ReadJournal(drive.Dir(), "j")
		if err != nil && !errors.Is(err, lifeboat.ErrDamaged) {
			t.Fatal(err)
		}
		if err == nil && len(records) == len(want) {
			t.Fatal("the change was not noticed")
		}
		for i, r := range records {
			if string(r) != want[i] {
				t.Fatalf("record %d is %s, want %s", i, r, want[i])
			}
		}
	})
}

func fillJournal(t *rapid.T, d durable.Dir) (want []string) {
	j, _, err := durable.OpenJournal(d, "j")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range rapid.SliceOfN(rapid.Int(), 1, 5).Draw(t, "records") {
		if err := j.Append(n); err != nil {
			t.Fatal(err)
		}
		want = append(want, fmt.Sprint(n))
	}
	return want
}

func FuzzJournalDecoder(f *testing.F) {
	drive := baddrive.New(1, baddrive.Options{})
	j, _, err := durable.OpenJournal(drive.Dir(), "j")
	if err != nil {
		f.Fatal(err)
	}
	for _, r := range []any{"a", 1, map[string]int{"b": 2}} {
		if err := j.Append(r); err != nil {
			f.Fatal(err)
		}
	}
	good, _ := durable.ReadWhole(drive.Dir(), "j/000001.jsonl", 1<<20)
	f.Add(good)
	f.Add(good[:len(good)-3])
	f.Fuzz(func(t *testing.T, data []byte) {
		d := baddrive.New(1, baddrive.Options{}).Dir()
		if err := errors.Join(d.Mkdir("j"), durable.WriteFileAtomic(d, "j/000001.jsonl", data)); err != nil {
			t.Fatal(err)
		}
		records, err := durable.ReadJournal(d, "j")
		if err != nil {
			return
		}
		// What was accepted and is written again gives the same bytes.
		again := baddrive.New(1, baddrive.Options{}).Dir()
		j, _, err := durable.OpenJournal(again, "j")
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			if err := j.Append(r); err != nil {
				t.Fatal(err)
			}
		}
		text, err := durable.ReadWhole(again, "j/000001.jsonl", 1<<30)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(data), string(text)) {
			t.Errorf("accepted %q, wrote %q", data, text)
		}
	})
}
