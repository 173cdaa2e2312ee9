package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"

	"lifeboat/rotation"
)

const wholeRotation = `scheme:
  kind: round-robin
  sets:
    - A
    - {name: pair, drives: [B1, B2]}
  change: weekly
  swapDay: thu
  start: 2026-11-02
calendar:
  zone: Europe/Berlin
  dayEnds: "05:30"
  workdays: [monday to thursday, saturday]
  holidays: [2026-12-24 to 2026-12-26, 2027-01-01]
locations:
  - name: office
  - name: bank
    offsite: true
    contact: "+49 30 555"
    hours: 9 to 16
    openDays: mon to fri
    leadTime: 4h
    authorised: [Anna]
people:
  - name: Anna
    contact: "+49 171 1"
    deputies: [Ben]
  - name: Ben
    left: 2026-10-31
objectives:
  offsite: 9d
  machines: {db: 36h}
retention:
  last: 3
  weekly: 8
  maxAge: 18mo
  machines:
    db: {daily: 30, over: all drives}
  drives:
    pair: {within: 2y}
wrongDrive: export
standing: /srv/nas
verifyEvery: 8w
proveEvery: 6mo
`

func readRotationText(t *testing.T, text string) (rotation.Policy, error) {
	t.Helper()
	var file struct {
		Rotation yaml.Node `yaml:"rotation"`
	}
	if err := yaml.Unmarshal([]byte("rotation:\n  "+strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n  ")+"\n"), &file); err != nil {
		t.Fatal(err)
	}
	return readRotation(&file.Rotation)
}

func TestARotationIsReadWhole(t *testing.T) {
	got, err := readRotationText(t, wholeRotation)
	if err != nil {
		t.Fatal(err)
	}
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	want := rotation.Policy{
		Calendar: rotation.Calendar{
			Zone: berlin, DayEnds: 5*time.Hour + 30*time.Minute,
			Workdays: []time.Weekday{time.Monday, time.Tuesday, time.Wednesday, time.Thursday, time.Saturday},
			Holidays: []rotation.Date{{Year: 2026, Month: 12, Day: 24}, {Year: 2026, Month: 12, Day: 25}, {Year: 2026, Month: 12, Day: 26}, {Year: 2027, Month: 1, Day: 1}},
		},
		Scheme: rotation.Scheme{Kind: rotation.SchemeRoundRobin, Weekly: true, SwapDay: time.Thursday, Start: rotation.Date{Year: 2026, Month: 11, Day: 2},
			Sets: []rotation.Set{{Name: "A", Drives: []string{"A"}}, {Name: "pair", Drives: []string{"B1", "B2"}}}},
		Locations: []rotation.Location{{Name: "office"}, {Name: "bank", Offsite: true, Contact: "+49 30 555", Hours: "9 to 16",
			OpenDays: []time.Weekday{time.Monday, time.Tuesday, time.Wednesday, time.Thursday, time.Friday}, LeadTime: 4 * time.Hour, Authorised: []string{"Anna"}}},
		People:             []rotation.Person{{Name: "Anna", Contact: "+49 171 1", Deputies: []string{"Ben"}}, {Name: "Ben", Left: rotation.Date{Year: 2026, Month: 10, Day: 31}}},
		Objectives:         rotation.Objectives{Offsite: 9 * day, Of: map[string]time.Duration{"db": 36 * time.Hour}},
		Retention:          rotation.Retention{Last: 3, Weekly: 8, MaxAge: 18 * 31 * day},
		RetentionOf:        map[string]rotation.Retention{"db": {Daily: 30, AllDrives: true}},
		RetentionOn:        map[string]rotation.Retention{"pair": {Within: 2 * 366 * day}},
		ExportToWrongDrive: true, Standing: "/srv/nas", VerifyEvery: 56 * day, ProveEvery: 6 * 31 * day,
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(x, y *time.Location) bool { return x.String() == y.String() })); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestASiteWithoutARotationKeepsEverything(t *testing.T) {
	p, err := readRotation(nil)
	if err != nil || len(p.Scheme.Sets) != 0 || p.Retention != (rotation.Retention{}) || p.Calendar.Zone != time.Local || p.Calendar.DayEnds != rotation.DefaultDayEnds {
		t.Errorf("%+v, %v", p, err)
	}
}

// Each slip of the pen is named with its line, and with what may have been meant.
func TestAMistakeInTheRotationIsNamedWithItsLine(t *testing.T) {
	for _, c := range []struct{ change, to, want string }{
		{"wrongDrive: export", "wrongdrive: export", `line 41: rotation has no field "wrongdrive" (did you mean "wrongDrive"?)`},
		{"wrongDrive: export", "wrongDrive: exprot", `line 41: wrongDrive: "exprot" is not one of: refuse, export (did you mean "export"?)`},
		{"swapDay: thu", "swapDay: thurday", `line 8: scheme.swapDay: "thurday" is not a day of the week (did you mean "thursday"?)`},
		{"kind: round-robin", "kind: roundrobin", `line 3: scheme.kind: "roundrobin" is not one of: round-robin, gfs, hanoi (did you mean "round-robin"?)`},
		{"drives: [B1, B2]}", "drives: [B1, B2], role: father}", "role goes with kind: gfs"},
		{"last: 3", "over: every drive", `over: "every drive" is not one of: each drive, all drives`},
		{"- {name: pair, drives: [B1, B2]}", "- {name: pair, drives: [B1, A]}", `line 6: scheme.sets: drive "A" is in two sets`},
		{"    - {name: pair, drives: [B1, B2]}\n", "", "needs at least two"},
		{"    offsite: true\n", "", "none of the locations is offsite"},
		{"zone: Europe/Berlin", "zone: Europe/Bärlin", "is not a time zone"},
		{"\"05:30\"", "\"25:30\"", "is not a time of the morning"},
		{"2026-12-24 to 2026-12-26", "2026-12-24 to 2026-12-20", "is not a range"},
		{"2026-12-24 to 2026-12-26", "0001-01-01 to 9999-01-01", "is not a range"},
		{"2027-01-01", "2027-02-30", `holidays: "2027-02-30" is not a day`},
		{"authorised: [Anna]", "authorised: [Ana]", `there is nobody called "Ana" under people (did you mean "Anna"?)`},
		{"deputies: [Ben]", "deputies: [Bob]", `the deputies of Anna: there is nobody called "Bob"`},
		{"- name: Ben", "- name: Anna", `people: "Anna" stands twice`},
		{"- name: office", "- name: bank", `locations: "bank" stands twice`},
		{"offsite: 9d", "offsite: 9 days", `line 31: objectives.offsite: "9 days" is not a span of time`},
		{"maxAge: 18mo", "maxAge: -1mo", "is not a span of time"},
		{"maxAge: 18mo", "maxAge: 99999999999999999999y", "longer than 200 years"},
		{"last: 3", "last: -3", `last: "-3" is not a number`},
		{"last: 3", "last: [3]", "has to be a word or a line of text"},
		{"db: {daily: 30", "db: {dayly: 30", `did you mean "daily"?`},
		{"standing: /srv/nas", "standing: srv/nas", "a whole path"},
		{"contact: \"+49 30 555\"", `contact: "a\u001b[2J"`, "one line of plain text"},
		{"contact: \"+49 30 555\"", "contact: " + strings.Repeat("x", 200), "at most 120 characters"},
		{"verifyEvery: 8w", "verifyEvery: 8w\nverifyEvery: 9w", `"verifyEvery" stands twice`},
		{"people:\n", "people:\n  - 7\n", "a person has to be fields"},
		{"- name: office", "- name: of/fice", "text without a slash"},
	} {
		text := strings.Replace(wholeRotation, c.change, c.to, 1)
		if text == wholeRotation {
			t.Errorf("%q is not in the example", c.change)
			continue
		}
		if _, err := readRotationText(t, text); err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "line ") {
			t.Errorf("%q: %v, want %q", c.to, err, c.want)
		}
	}
}

func TestSpansHaveOneGrammar(t *testing.T) {
	for text, want := range map[string]time.Duration{"36h": 36 * time.Hour, "9d": 9 * day, "8w": 56 * day, "18mo": 558 * day, "7y": 7 * 366 * day, "0d": 0} {
		if got, err := parseSpan(text); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "d", "9", "9 d", "1.5d", "-1d", "9m", "P9D", "9d12h", "201y", "９d", "99999999999999999999h"} {
		if got, err := parseSpan(bad); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

// What people write is not lost when the program writes the file.
func TestTheCommentsOfARotationSurviveThatTheFileIsWritten(t *testing.T) {
	dir := t.TempDir()
	a := newApp(nil, nil, nil)
	a.stateDir = dir
	var s siteFile
	text := "version: 1\nsite: {id: " + strings.Repeat("a", 32) + ", name: x}\nrotation:\n  # the bank closes at four\n  " + strings.ReplaceAll(wholeRotation, "\n", "\n  ")
	if err := yaml.Unmarshal([]byte(text), &s); err != nil {
		t.Fatal(err)
	}
	if err := a.saveSite(&s); err != nil {
		t.Fatal(err)
	}
	again, err := a.readSite()
	if err != nil {
		t.Fatal(err)
	}
	before, err := readRotation(&s.Rotation)
	if err != nil {
		t.Fatal(err)
	}
	after, err := a.policy()
	if err != nil || !strings.Contains(again.Rotation.HeadComment+again.Rotation.Content[0].HeadComment, "closes at four") {
		t.Errorf("%v, %+v", err, again.Rotation.Content[0])
	}
	if diff := cmp.Diff(before, after, cmp.Comparer(func(x, y *time.Location) bool { return x.String() == y.String() })); diff != "" {
		t.Errorf("(-before +after)\n%s", diff)
	}
}
