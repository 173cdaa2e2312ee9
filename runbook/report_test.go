package runbook

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"flag"
	"hash/crc32"
	"image/png"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the golden files anew")

func reportOf(t testing.TB, r *Record, past []PastRun, o ReportOptions) string {
	t.Helper()
	page, err := Report(*r, past, o)
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

var (
	notWords = regexp.MustCompile(`(?s)<style>.*?</style>|<svg.*?</svg>|src="data:[^"]*"`)
	tags     = regexp.MustCompile(`<[^>]*>`)
)

// words are the texts that a person reads in a report, one a line.
func words(page string) string {
	var lines []string
	for line := range strings.Lines(tags.ReplaceAllString(notWords.ReplaceAllString(page, ""), "|")) {
		line = strings.Trim(regexp.MustCompile(`[|\s]*\|[|\s]*`).ReplaceAllString(line, " | "), " |\n")
		if line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n") + "\n"
}

func TestReportsReadAsTheirGoldenFiles(t *testing.T) {
	passed, files := sample(t, 3)
	past, before := history(t, passed, 4)
	bad, badFiles := failed(t)
	recovery, recoveryFiles := sample(t, 3)
	recovery.Mode, recovery.Declared, recovery.Reason = Recover, "Dr. Eva Lindt", "the server room burned on Friday"
	for name, page := range map[string]string{
		"report-passed.txt":   reportOf(t, passed, past, optionsOf(files, before)),
		"report-failed.txt":   reportOf(t, bad, past, optionsOf(badFiles, before)),
		"report-recovery.txt": reportOf(t, recovery, nil, optionsOf(recoveryFiles, nil)),
	} {
		if dir := os.Getenv("LIFEBOAT_LOOK"); dir != "" {
			os.WriteFile(filepath.Join(dir, strings.TrimSuffix(name, ".txt")+".html"), []byte(page), 0o600)
		}
		golden(t, name, words(page))
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s: if it is right, write it anew with -update: %s", name, diff)
	}
}

// A report is one file: whoever opens it needs no network and runs no program.
func TestAReportNeedsNothingBesideItself(t *testing.T) {
	r, files := sample(t, 3)
	past, before := history(t, r, 4)
	page := reportOf(t, r, past, optionsOf(files, before))
	for _, bad := range []string{"<script", "<link", "<iframe", "@import", "javascript:", "<object", "<form"} {
		if strings.Contains(strings.ToLower(page), bad) {
			t.Errorf("the page has %s", bad)
		}
	}
	for _, found := range regexp.MustCompile(`(?:src|href)="([^"]*)"|url\(([^)]*)\)`).FindAllStringSubmatch(page, -1) {
		if to := found[1] + found[2]; !strings.HasPrefix(to, "data:image/png;base64,") && to != "#hatch" {
			t.Errorf("the page leads to %q", to)
		}
	}
	if n := strings.Count(page, "data:image/png"); n != 3 {
		t.Errorf("%d pictures, want one of each machine", n)
	}
	if strings.Contains(page, "ZgotmplZ") {
		t.Error("the template refused something of ours")
	}
	for _, foot := range []string{`content: "run ` + r.RunID, "record SHA-256 0000"} {
		if !strings.Contains(page, foot) {
			t.Errorf("the foot of a printed page lacks %q", foot)
		}
	}
}

// hostile are texts that try to leave their place.
const hostile = "\u202egnp.\u2066\x1b[31m<script>alert(1)</script>\"'></title></style><img src=x onerror=alert(2)>\r\n\x00 }@page{ \u2028;/*"

// poison puts a hostile text into every text of a record.
func poison(t *testing.T, r *Record) *Record {
	t.Helper()
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var tree any
	if err := json.Unmarshal(data, &tree); err != nil {
		t.Fatal(err)
	}
	var walk func(v any) any
	walk = func(v any) any {
		switch v := v.(type) {
		case map[string]any:
			for k := range v {
				if k != "outcome" && k != "mode" && k != "kind" || k == "system" {
					v[k] = walk(v[k])
				}
			}
			return v
		case []any:
			for i := range v {
				v[i] = walk(v[i])
			}
			return v
		case string:
			if _, err := time.Parse(time.RFC3339, v); err == nil {
				return v
			}
			return v + hostile
		}
		return v
	}
	data, err = json.Marshal(walk(tree))
	if err != nil {
		t.Fatal(err)
	}
	var out Record
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatal(err)
	}
	return &out
}

func TestHostileTextsStayTextsInAReport(t *testing.T) {
	r, _ := failed(t)
	before, _ := sample(t, 3)
	past, _ := history(t, r, 3)
	o := optionsOf(nil, poison(t, before))
	o.Seal = Seal{Hash: hostile, Broken: hostile}
	o.Signatures = []Signature{{Name: hostile, User: hostile, Computer: hostile, Note: hostile}}
	page := reportOf(t, poison(t, r), past, o)
	for _, bad := range []string{"<script", "<img", "\u202e", "\u2066", "\u2028", "\x1b", "\x00", "ZgotmplZ"} {
		if strings.Contains(page, bad) {
			i := strings.Index(page, bad)
			t.Errorf("the page has %q: %q", bad, page[max(0, i-80):min(len(page), i+40)])
		}
	}
	if style, _, _ := strings.Cut(page, "</style>"); strings.Contains(style[strings.Index(style, "<style>"):], "}@page{") {
		t.Error("a text became a rule of the style sheet")
	}
	if strings.Count(page, "</style>") != 1 || strings.Count(page, "</title>") != 1+strings.Count(page, "<rect")-strings.Count(page, `class="person"`) {
		t.Error("a text ended the title or the style sheet")
	}
}

// bomb is a PNG of a few bytes that claims to be huge.
func bomb() []byte {
	var b bytes.Buffer
	b.WriteString("\x89PNG\r\n\x1a\n")
	head := []byte("IHDR\x00\x01\x86\xa0\x00\x01\x86\xa0\x08\x06\x00\x00\x00")
	binary.Write(&b, binary.BigEndian, uint32(13))
	b.Write(head)
	binary.Write(&b, binary.BigEndian, crc32.ChecksumIEEE(head))
	return b.Bytes()
}

func TestPicturesThatAreNoneAreSaidAndNotShown(t *testing.T) {
	good := screen(t, 64, 48)
	for name, c := range map[string]struct {
		data   []byte
		sealed bool
		want   string
	}{
		"claims 100000 x 100000 points": {bomb(), true, "it claims 100000 x 100000 points"},
		"larger than a screen's":        {make([]byte, maxPicture+1), true, "it is larger than 16.0 MiB"},
		"no PNG":                        {[]byte("<svg onload=alert(1)>"), true, "it is no PNG"},
		"torn":                          {good[:len(good)-20], true, "it is damaged"},
		"changed since":                 {good, false, "its file is not the one of this record"},
	} {
		r, files := sample(t, 1)
		files["evidence/db.png"] = c.data
		if c.sealed {
			seal(r, files)
		}
		page := reportOf(t, r, nil, optionsOf(files, nil))
		if strings.Contains(page, "data:image") || !strings.Contains(page, "no picture: it is not shown: "+c.want) {
			t.Errorf("%s: not said", name)
		}
	}
}

// What a guest or a host put beside the points of its picture does not get into
// a report.
func TestAPictureIsMadeAnewAndSmaller(t *testing.T) {
	if testing.Short() {
		t.Skip("nothing in it runs side by side, and with the race detector a screen takes seconds: without -short it runs")
	}
	full := append(screen(t, 1920, 1080), []byte("SECRET trailing bytes")...)
	out, err := picture(full)
	if err != nil {
		t.Fatal(err)
	}
	p, err := png.Decode(bytes.NewReader(out))
	if err != nil || p.Bounds().Dx() != pictureWidth || p.Bounds().Dy() != 405 || bytes.Contains(out, []byte("SECRET")) {
		t.Errorf("%v, %v", p.Bounds(), err)
	}
	tall, err := picture(screen(t, 60, 3000))
	if err != nil || len(tall) > 1<<20 {
		t.Errorf("%d bytes, %v", len(tall), err)
	}
}

func TestALargeReportIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("nothing in it runs side by side, and with the race detector it takes minutes: without -short it runs")
	}
	r, files := sample(t, 500)
	page := reportOf(t, r, nil, optionsOf(files, nil))
	if len(page) > maxPictures+4<<20 {
		t.Errorf("the report of 500 machines has %d bytes", len(page))
	}
	for _, want := range []string{"442 rows that were begun first are left out", "The slowest are shown; 440 more", "left out: the report has too many pictures"} {
		if !strings.Contains(page, want) {
			t.Errorf("it does not say %q", want)
		}
	}
}

// Whatever times a record brings, a browser can draw them.
func TestEveryCoordinateIsANumberThatCanBeDrawn(t *testing.T) {
	number := regexp.MustCompile(`^-?\d{1,7}(\.\d+)?$`)
	attribute := regexp.MustCompile(` (?:x|y|x1|x2|y1|y2|width|height|viewBox)="([^"]*)"`)
	rapid.Check(t, func(t *rapid.T) {
		anyTime := rapid.Custom(func(t *rapid.T) time.Time {
			if rapid.Bool().Draw(t, "none") {
				return time.Time{}
			}
			return time.Unix(rapid.Int64Range(-1<<36, 1<<36).Draw(t, "second"), rapid.Int64Range(0, 999_999_999).Draw(t, "nano"))
		})
		anyLength := rapid.Custom(func(t *rapid.T) time.Duration { return time.Duration(rapid.Int64().Draw(t, "length")) })
		r := &Record{RunID: "r", Began: anyTime.Draw(t, "began"), RTA: anyLength.Draw(t, "rta"), Passed: true}
		r.Plan.Objectives.RTO = anyLength.Draw(t, "rto")
		for i := range rapid.IntRange(0, 70).Draw(t, "steps") {
			r.Steps = append(r.Steps, StepRecord{ID: string(rune('a' + i)), Kind: StepBoot, Began: anyTime.Draw(t, "from"), Ended: anyTime.Draw(t, "to")})
			r.Machines = append(r.Machines, MachineRecord{Name: string(rune('a' + i)), Measured: Measured{RTA: anyLength.Draw(t, "rta"), RPA: anyLength.Draw(t, "rpa"),
				Spent: map[Spending]time.Duration{SpentBoot: anyLength.Draw(t, "boot"), SpentService: anyLength.Draw(t, "service")}}})
		}
		var past []PastRun
		for range rapid.IntRange(0, 30).Draw(t, "past") {
			past = append(past, PastRun{RunID: "p", Began: anyTime.Draw(t, "began"), RTA: anyLength.Draw(t, "rta")})
		}
		gantt, _ := timeline(r)
		spent, _ := spentChart(r.Machines)
		all := string(gantt) + string(spent) + string(trend(past, r.Plan.Objectives.RTO, time.UTC))
		for _, found := range attribute.FindAllStringSubmatch(all, -1) {
			for n := range strings.FieldsSeq(found[1]) {
				if !number.MatchString(n) {
					t.Fatalf("a coordinate is %q", n)
				}
			}
		}
		if _, err := Report(*r, past, ReportOptions{Before: r}); err != nil {
			t.Fatal(err)
		}
	})
}

func TestWaitingForPeopleIsCountedWhereNothingElseWasDone(t *testing.T) {
	at := func(s int) time.Time { return sampleBegan.Add(time.Duration(s) * time.Second) }
	step := func(k StepKind, from, to int) StepRecord { return StepRecord{Kind: k, Began: at(from), Ended: at(to)} }
	for name, c := range map[string]struct {
		steps []StepRecord
		want  time.Duration
	}{
		"nothing":                    {nil, 0},
		"alone":                      {[]StepRecord{step(StepConfirm, 0, 60)}, time.Minute},
		"while a machine booted":     {[]StepRecord{step(StepConfirm, 0, 60), step(StepBoot, 0, 45)}, 15 * time.Second},
		"two at once are one":        {[]StepRecord{step(StepConfirm, 0, 60), step(StepPause, 30, 90)}, 90 * time.Second},
		"a clock that was put back":  {[]StepRecord{step(StepConfirm, 60, 0)}, 0},
		"a machine before and after": {[]StepRecord{step(StepBoot, 0, 10), step(StepConfirm, 10, 20), step(StepCheck, 20, 30)}, 10 * time.Second},
	} {
		if got := waitedForPeople(&Record{Steps: c.steps}); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestChangesSinceTheRunBefore(t *testing.T) {
	now, _ := sample(t, 3)
	before, _ := sample(t, 3)
	if all := Changes(before, now); len(all) != 0 {
		t.Errorf("nothing changed, and it says %v", all)
	}
	before.BookMeaning, before.BookText = "other", strings.ReplaceAll(before.BookText, "rto: 4h", "rto: 8h")
	before.Plan.Objectives.RTO = 8 * time.Hour
	before.Machines[0].Disks = []string{"vdb"}
	before.Machines[1].PointID, before.Machines[1].TakenAt = "p", sampleBegan.Add(-48*time.Hour)
	before.Machines[1].Host, before.Machines[1].RTA = "old", time.Hour
	before.Machines[2].ID = "gone"
	before.RTA += time.Hour
	before.Drives[0].Label, before.Hosts[0].KVM, before.OpenedWith, before.Passed = "A1", false, "identity", false
	var lines []string
	for _, c := range Changes(before, now) {
		lines = append(lines, c.About+": "+c.What)
	}
	golden(t, "changes.txt", strings.Join(lines, "\n")+"\n")
}

func TestVerdicts(t *testing.T) {
	waiting := Record{Passed: true, Steps: []StepRecord{{Outcome: OutcomeWaiting}}}
	for want, r := range map[Verdict]*Record{VerdictPassed: {Passed: true}, VerdictPartial: {Passed: true, Partial: "x"}, VerdictFailed: {Partial: "x"}, VerdictWaiting: &waiting} {
		if got := r.Verdict(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if waiting.Past().Passed {
		t.Error("a run that waits for a person counts as passed")
	}
}

func FuzzReport(f *testing.F) {
	for _, make := range []func(testing.TB) (*Record, map[string][]byte){failed, func(t testing.TB) (*Record, map[string][]byte) { return sample(t, 2) }} {
		r, _ := make(f)
		data, err := json.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, []byte("no picture"))
	}
	f.Add([]byte(`{"steps":[{"began":"0001-01-01T00:00:01Z","evidence":{"screenshot":"a"}}],"machines":[{"Spent":{"boot":9e18}}],"rta":-9223372036854775808}`), bomb())
	f.Fuzz(func(t *testing.T, record, file []byte) {
		var r Record
		if json.Unmarshal(record, &r) != nil {
			return
		}
		r.Files = map[string]string{"a": "x"}
		page, err := Report(r, []PastRun{r.Past()}, ReportOptions{Before: &r, File: func(string) ([]byte, error) { return file, nil }})
		if err != nil || bytes.Contains(page, []byte("<script")) {
			t.Fatalf("%v", err)
		}
		picture(file)
	})
}
