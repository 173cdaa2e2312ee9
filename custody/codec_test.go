package custody_test

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lifeboat/custody"
)

var update = flag.Bool("update", false, "write the vectors anew")

const vectors = "../fixtures/vectors"

func fileOf(t testing.TB, entries []custody.Entry) string {
	t.Helper()
	var out bytes.Buffer
	if err := custody.Write(&out, entries); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// vectorFiles are the ledgers of fixtures/vectors: a good one, and bad ones named
// for their fault. refused says that a file cannot be read at all; else its chain
// has the fault.
func vectorFiles(t testing.TB) map[string]struct {
	text    string
	refused bool
	fault   custody.Fault
} {
	good := fileOf(t, week(t).entries)
	lines := strings.SplitAfter(good, "\n")
	without := func(i int) string { return strings.Join(append(append([]string{}, lines[:i]...), lines[i+1:]...), "") }
	type file = struct {
		text    string
		refused bool
		fault   custody.Fault
	}
	return map[string]file{
		"ledger.jsonl":                       {good, false, ""},
		"ledger-torn-tail.jsonl":             {good[:len(good)-20], true, ""},
		"ledger-unknown-field.jsonl":         {strings.Replace(good, `{"sequence":1,`, `{"sequence":1,"colour":"red",`, 1), true, ""},
		"ledger-other-spelling.jsonl":        {strings.Replace(good, `{"sequence":1,`, `{"sequence": 1,`, 1), true, ""},
		"ledger-field-twice.jsonl":           {strings.Replace(good, `{"sequence":1,`, `{"sequence":1,"sequence":1,`, 1), true, ""},
		"ledger-unknown-act.jsonl":           {strings.Replace(good, `"act":"lost"`, `"act":"sold"`, 1), true, ""},
		"ledger-two-lines-in-a-note.jsonl":   {strings.Replace(good, "not in the cupboard", `not in\nthe cupboard`, 1), true, ""},
		"ledger-time-of-another-zone.jsonl":  {strings.Replace(good, `T12:00:00Z"`, `T13:00:00+01:00"`, 1), true, ""},
		"ledger-changed-entry.jsonl":         {strings.Replace(good, `"points":"14"`, `"points":"15"`, 1), false, custody.FaultChanged},
		"ledger-entry-removed.jsonl":         {without(3), false, custody.FaultRemoved},
		"ledger-entry-twice.jsonl":           {lines[0] + good, false, custody.FaultInserted},
		"ledger-entries-reordered.jsonl":     {lines[0] + lines[2] + lines[1] + strings.Join(lines[3:], ""), false, custody.FaultReordered},
		"ledger-entry-of-another-site.jsonl": {strings.Replace(good, site, strings.Repeat("9", 32), 1), false, custody.FaultOtherSite},
	}
}

func TestEachVectorIsReadOrRefusedAsItsNameSays(t *testing.T) {
	for name, v := range vectorFiles(t) {
		path := filepath.Join(vectors, name)
		if *update {
			if err := os.WriteFile(path, []byte(v.text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		data, err := os.ReadFile(path)
		if err != nil || string(data) != v.text {
			t.Errorf("%s is not what this program writes, or is not there (%v): the format changed", name, err)
			continue
		}
		entries, err := custody.Read(bytes.NewReader(data))
		if v.refused {
			if !errors.Is(err, custody.ErrForm) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		_, found := custody.Verify(site, custody.Lines(entries))
		bad, _ := custody.FirstFault(found)
		if bad.Fault != v.fault {
			t.Errorf("%s: %+v", name, bad)
		}
	}
}

// endless gives lines without an end.
type endless struct{ line []byte }

func (e endless) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		n += copy(p[n:], e.line)
	}
	return n, nil
}

func TestALedgerLargerThanAnySitesIsRefused(t *testing.T) {
	for name, line := range map[string]string{
		"a line without an end": "a",
		"a text in a text":      "[",
	} {
		if _, err := custody.Read(endless{[]byte(line)}); !errors.Is(err, custody.ErrForm) {
			t.Errorf("%s: %v", name, err)
		}
	}
	deep := strings.Repeat(`{"item":`, 2000) + "\n"
	if _, err := custody.Read(strings.NewReader(deep)); !errors.Is(err, custody.ErrForm) {
		t.Errorf("deep: %v", err)
	}
}

// FuzzRead reads what may lie on a drive: nothing makes it panic, and what it
// accepts is written as the same bytes.
func FuzzRead(f *testing.F) {
	for line := range strings.Lines(fileOf(f, week(f).entries)) {
		f.Add([]byte(line)) // small ones: the fuzzer cuts down what it finds
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := custody.Read(bytes.NewReader(data))
		if err != nil {
			return
		}
		if again := fileOf(t, entries); again != string(data) {
			t.Fatalf("%q is written as %q", data, again)
		}
		// What can be read can be looked into, however it was put together.
		custody.Audit(site, custody.Lines(entries), nil)
		list := custody.Replay(entries)
		list.Missing(noon)
		list.Together(noon)
	})
}
