package runbook

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func wholeBook(t testing.TB) (*Book, []byte) {
	t.Helper()
	text, err := os.ReadFile("testdata/good/whole.yaml")
	if err != nil {
		t.Fatal(err)
	}
	b, err := Parse("whole", text)
	if err != nil {
		for _, m := range err.(*Mistakes).All {
			t.Error(m)
		}
		t.FailNow()
	}
	return b, text
}

func TestEveryFieldIsReadAsItStands(t *testing.T) {
	b, text := wholeBook(t)
	if b.Name != "head-office" || b.Period != 90*day || !bytes.Equal(b.Text, text) || len(b.Contacts) != 2 || len(b.LeadTimes) != 2 {
		t.Errorf("name %q, period %s, contacts %v, lead times %v", b.Name, b.Period, b.Contacts, b.LeadTimes)
	}
	if want := (Objectives{RTO: 90 * time.Minute}); b.Tiers[1] != want {
		t.Errorf("tier 1: %v", b.Tiers[1])
	}
	want := HostRule{Name: "rescue", Tiers: []int{1, 2}, MemoryBytes: 48 << 30, CPUs: 12, Boots: 3}
	want.Line = b.Hosts[0].Line
	if diff := cmp.Diff(want, b.Hosts[0]); diff != "" {
		t.Error(diff)
	}
	office := NetworkRule{Name: "office", Line: b.Networks[0].Line, Sources: []string{"vmbr0", "VM Network"}, CIDR: "10.0.0.0/24", Recover: Cable{Kind: CableNAT},
		Forwards: []Forward{{HostPort: 8080, Machine: "web", Port: 80}, {"0.0.0.0", 443, "web", 443}, {"::", 8443, "web", 443}}, VPN: 51820,
		Names: map[string]string{"mail.example": "10.0.0.5"}}
	if diff := cmp.Diff(office, b.Networks[0]); diff != "" {
		t.Error(diff)
	}
	db := b.Machines[0]
	if db.Line != 43 || db.Point != PointVerified || db.Host != "rescue" || !db.Settle || db.OnFailure != FailOlderPoint || db.Addresses["office"] != "10.0.0.7" || len(db.Checks) != 2 {
		t.Errorf("%+v", db)
	}
	if spare := b.Machines[3]; spare.Tier != 1 || spare.Point != PointLatest || spare.OnFailure != FailStop {
		t.Errorf("what a machine is without fields: %+v", spare)
	}
	web := Check{Kind: CheckHTTP, Line: b.Machines[1].Checks[1].Line, Path: "/", Port: 8080, Status: 301, Body: "Moved", HostName: "www.example.com"}
	if diff := cmp.Diff(web, b.Machines[1].Checks[1]); diff != "" {
		t.Error(diff)
	}
}

func TestEachStepHasAnID(t *testing.T) {
	b, _ := wholeBook(t)
	var ids []string
	for _, s := range b.Steps {
		ids = append(ids, s.ID)
	}
	want := "declare boot-db boot-tier-2 check-web check-2 run-1 run-2 guest-db message-1 pause-1 settle-db connect-tier-2 confirm-1 shutdown-spare"
	if got := strings.Join(ids, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	run := b.Steps[5]
	if run.Essential || run.Limit != 2*time.Minute || run.Retries != 2 || run.Env["LANG"] != "C" || len(run.Done) != 3 || run.OnFailure != FailContinue {
		t.Errorf("%+v", run)
	}
	if !b.Steps[6].RepeatSafe || !b.Steps[6].Essential || b.Steps[0].When != WhenRecover {
		t.Errorf("%+v", b.Steps[6])
	}
}

// Each file of testdata/errors begins with what is said of it.
func TestEachMistakeIsNamedWithItsLine(t *testing.T) {
	files, err := filepath.Glob("testdata/errors/*.yaml")
	if err != nil || len(files) < 50 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		first, _, _ := strings.Cut(string(text), "\n")
		want, ok := strings.CutPrefix(first, "# want: ")
		if !ok {
			t.Fatalf("%s does not say what it wants", path)
		}
		_, err = Parse("x", text)
		mistakes, ok := err.(*Mistakes)
		if !ok {
			t.Errorf("%s: read without a mistake: %v", path, err)
			continue
		}
		if got := mistakes.All[0].String(); !strings.Contains(got, want) {
			t.Errorf("%s:\nsays  %s\nwants %s", filepath.Base(path), got, want)
		}
	}
}

func TestAHostileFileEndsSoon(t *testing.T) {
	if testing.Short() {
		t.Skip("nothing in it runs side by side, and with the race detector it takes a minute: without -short it runs")
	}
	var keys, refs strings.Builder
	refs.WriteString("version: 1\nmachines: {web: }\nsteps:\n  - boot: [a]\n    after:\n")
	for i := range 60_000 {
		keys.WriteString(strings.Repeat("k", i%7+1) + strings.Repeat("z", i%11) + string(rune('a'+i%26)) + ":\n")
	}
	for i := range 1900 {
		refs.WriteString("      - " + strings.Repeat("q", i%100+1) + string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676)) + "\n")
	}
	for name, text := range map[string]string{
		"deep lists":    strings.Repeat("[", 20_000),
		"deep mappings": strings.Repeat("{a: ", 10_000),
		"many keys":     keys.String(),
		"many names":    refs.String(),
		"too long":      "version: 1\n" + strings.Repeat("# x\n", 1<<19),
		"not text":      strings.Repeat("\xff\xfe\x00", 1000),
		"long key":      strings.Repeat("a", 900_000) + ": 1",
		"comments":      strings.Repeat("#\n", 200_000),
	} {
		began := time.Now()
		if _, err := Parse("x", []byte(text)); err == nil {
			t.Errorf("%s: taken for a runbook", name)
		} else if len(err.Error()) > 2000 {
			t.Errorf("%s: the mistake has %d bytes", name, len(err.Error()))
		}
		if took := time.Since(began); took > 2*time.Minute {
			t.Errorf("%s: took %s", name, took)
		}
	}
}

func TestSpansSizesAndForwards(t *testing.T) {
	for text, want := range map[string]time.Duration{"90s": 90 * time.Second, "1h30m": 90 * time.Minute, "3mo": 93 * day, "2w": 14 * day, "1y": 366 * day, "0s": 0, "": 0, "5": 0, "-1h": 0, "11y": 0, "1 h": 0} {
		if got, err := parseSpan(text); got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %s, %v", text, got, err)
		} else if err == nil {
			if again, err := parseSpan(spanWords(got)); again != got {
				t.Errorf("%q: written as %q: %v", text, spanWords(got), err)
			}
		}
	}
	for text, want := range map[string]int64{"512 MiB": 512 << 20, "4GiB": 4 << 30, "1.5 G": 3 << 29, "65 T": 0, "1 GB": 0, "0 G": 0, "4": 0} {
		if got, err := parseSize(text); got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	for text, want := range map[string]Forward{
		"80:web:8080":           {"", 80, "web", 8080},
		"127.0.0.1:80:web:8080": {"127.0.0.1", 80, "web", 8080},
		"[2001:db8::1]:80:w:81": {"2001:db8::1", 80, "w", 81},
		"80:a:b:81":             {"", 80, "a:b", 81},
		"80::81":                {}, "x:web:80": {}, "1.2.3:80:web:80": {}, "[::1%eth0]:80:web:80": {}, "0:web:80": {}, "80:web:65536": {}, "": {},
	} {
		got, err := parseForward(text)
		if got != want || (err == nil) != (want != Forward{}) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
		if err == nil && got.String() != text {
			t.Errorf("%q is written as %q", text, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, folder := range []string{"good", "errors"} {
		files, _ := filepath.Glob("testdata/" + folder + "/*.yaml")
		for _, path := range files {
			text, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		b, err := Parse("fuzz", text)
		if err != nil {
			if m, ok := err.(*Mistakes); !ok || len(m.All) == 0 {
				t.Errorf("%T %v", err, err)
			}
			return
		}
		again, err := Parse("fuzz", append(bytes.TrimRight(bytes.Clone(text), " \n"), "\n# a comment\n"...))
		if err == nil && Meaning(again) != Meaning(b) {
			t.Error("a comment changes the meaning")
		}
	})
}
