package main

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"lifeboat"
	"lifeboat/custody"
	"lifeboat/rotation"
)

// aWeek is a judgement on a Friday afternoon: A was written and ejected, B is at
// the bank.
func aWeek(t *testing.T) judgement {
	t.Helper()
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	friday := rotation.Date{Year: 2026, Month: 11, Day: 20}
	bank := custody.Place{State: custody.Offsite, Location: "bank", Holder: "Ms Weber"}
	office := custody.Place{State: custody.Onsite, Location: "office"}
	now := time.Date(2026, 11, 20, 14, 0, 0, 0, zone)
	return judgement{
		now:    now,
		policy: rotation.Policy{Calendar: rotation.Calendar{Zone: zone}, Scheme: rotation.Scheme{Weekly: true, Sets: []rotation.Set{{Name: "A"}, {Name: "B"}}}},
		shelf: rotation.Shelf{Drives: []rotation.ShelfDrive{
			{Drive: lifeboat.Drive{ID: "a", Label: "A"}, Place: office, Since: now.Add(-7 * day)},
			{Drive: lifeboat.Drive{ID: "b", Label: "B"}, Place: bank, Since: now.Add(-7 * day), PendingKeys: 2},
		}},
		decision: rotation.Decision{Day: friday, Period: "2026-W47", Set: "A", SwapOn: friday, Missed: 1,
			Steps: []rotation.Step{
				{ID: "2026-W47/export/A", Kind: rotation.StepExport, DriveID: "a", Label: "A", Due: friday, Seen: true, Done: &rotation.DoneStep{At: now.Add(-16 * time.Hour), Entry: 7}},
				{ID: "2026-W47/depart/A", Kind: rotation.StepDepart, DriveID: "a", Label: "A", Due: friday, Person: "Anna", To: custody.Place{State: custody.Courier}, Done: &rotation.DoneStep{At: now.Add(-time.Hour), Signer: "Anna", Entry: 9}},
				{ID: "2026-W47/deposit/A", Kind: rotation.StepDeposit, DriveID: "a", Label: "A", Due: friday, Person: "Anna", Location: "bank", Needs: []string{"2026-W47/depart/A"}, To: custody.Place{State: custody.Offsite, Location: "bank"}},
				{ID: "2026-W47/collect/B", Kind: rotation.StepCollect, DriveID: "b", Label: "B", Due: friday, Person: "Anna", Location: "bank", Needs: []string{"2026-W47/deposit/A"}, Why: "drive B has the newest verified copies offsite until A is there", To: custody.Place{State: custody.Courier}},
			},
			Reminders: []string{"drive B was not verified since 20 Sep, more than 8 weeks ago: read everything on it when it is here, lifeboat verify --drive B"},
			Exposure: []rotation.Exposure{
				{MachineID: "1", Machine: "db", DriveID: "b", Label: "B", PointID: "p", TakenAt: now.Add(-8 * day), Age: 8 * day, VerifiedAt: now.Add(-7 * day), Objective: 7 * day, Missed: true, InHandAt: time.Date(2026, 11, 23, 12, 0, 0, 0, zone)},
				{MachineID: "2", Machine: "web", DriveID: "b", Label: "B", PointID: "q", TakenAt: now.Add(-8 * day), Age: 8 * day, VerifiedAt: now.Add(-7 * day), ProvenAt: now.Add(-7 * day), Objective: 9 * day, InHandAt: time.Date(2026, 11, 23, 12, 0, 0, 0, zone)},
				{MachineID: "3", Machine: "a-machine-with-a-very-long-name", Objective: 0},
			}},
	}
}

func TestTheChecklistSaysFirstWhoDoesWhatNext(t *testing.T) {
	golden(t, "checklist.txt", aWeek(t).checklist())
}

func TestTheStatusAnswersFirstWhatWouldBeLost(t *testing.T) {
	golden(t, "status.txt", aWeek(t).statusPage())
}

func TestPagesOfRotationFitEightyColumns(t *testing.T) {
	j := aWeek(t)
	for i := range j.decision.Steps {
		j.decision.Steps[i].Label = strings.Repeat("L", 40)
		j.decision.Steps[i].Why = strings.Repeat("because of a long reason ", 20)
	}
	for _, page := range []string{aWeek(t).statusPage(), j.checklist()} {
		for line := range strings.Lines(page) {
			words := strings.Fields(line)
			if utf8.RuneCountInString(strings.TrimRight(line, "\n")) > 80 && len(words) > 0 && !strings.Contains(line, strings.Repeat("L", 40)) {
				t.Errorf("wider than 80 columns: %s", line)
			}
		}
	}
}

func TestTheOutcomeIsThirteenWhenDueAndThreeWhenAnObjectiveIsMissed(t *testing.T) {
	j := aWeek(t)
	if got := exitCode(j.outcome()); got != exitPartial {
		t.Errorf("an objective is missed: %d", got)
	}
	j.decision.Exposure[0].Missed = false
	if got := exitCode(j.outcome()); got != exitPerson {
		t.Errorf("a step is due: %d", got)
	}
	for i := range j.decision.Steps {
		j.decision.Steps[i].Due = j.decision.Day.AddDays(3)
	}
	if got := exitCode(j.outcome()); got != exitPerson {
		t.Errorf("a reminder: %d", got)
	}
	j.decision.Reminders = nil
	if got := exitCode(j.outcome()); got != exitPerson {
		t.Errorf("a machine without an objective has no copy offsite: %d", got)
	}
	j.decision.Exposure = j.decision.Exposure[:2]
	if got := exitCode(j.outcome()); got != exitDone {
		t.Errorf("nothing is due: %d", got)
	}
	j.decision.Doubt = "the clock went back"
	if got := exitCode(j.outcome()); got != exitPerson {
		t.Errorf("the clock is doubted: %d", got)
	}
}

func TestTheAnswerNamesWhatIsNowhereElse(t *testing.T) {
	j := aWeek(t)
	j.decision.Exposure = j.decision.Exposure[2:]
	if got := j.answer(); !strings.Contains(got, "everything of a-machine") {
		t.Error(got)
	}
	j.decision.Exposure = nil
	if got := j.answer(); !strings.Contains(got, "No machine has a restore point") {
		t.Error(got)
	}
}

func TestAStepIsSignedOnlyWhenItsTimeHasCome(t *testing.T) {
	j := aWeek(t)
	for name, want := range map[string]string{
		"export/A":           "is done already",
		"depart/A":           "is done already: Fri 20 Nov 13:00, signed by Anna",
		"collect/B":          "collect/B comes after deposit/A, which is not done",
		"2026-W47/collect/B": "comes after deposit/A",
		"4":                  "comes after deposit/A",
		"deposit/A":          "",
		"3":                  "",
	} {
		s, err := j.step(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		err = j.maySign(s, j.now)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	for _, name := range []string{"deposit/B", "0", "5", "depositA"} {
		if _, err := j.step(name); err == nil || !strings.Contains(err.Error(), "has no step") {
			t.Errorf("%s: %v", name, err)
		}
	}
	s, _ := j.step("deposit/A")
	if err := j.maySign(s, j.now.Add(time.Hour)); err == nil || !strings.Contains(err.Error(), "has not come yet") {
		t.Error(err)
	}
	if err := j.maySign(s, j.now.Add(-30*day)); err == nil || !strings.Contains(err.Error(), "came to where it is only at") {
		t.Error(err)
	}
	s.Waits = "drive A was not read back"
	if err := j.maySign(s, j.now); err == nil || !strings.Contains(err.Error(), "must not be done now: drive A was not read back") {
		t.Error(err)
	}
}

func TestTheExampleOfARotationCanBeUsedAsItIs(t *testing.T) {
	for _, zone := range []string{"Local", "Europe/Berlin"} {
		text := rotationExample([]string{"USB 1", `B"2`, "C: #x"}, zone)
		p, err := readRotationText(t, strings.TrimPrefix(strings.ReplaceAll(text, "\n  ", "\n"), "rotation:\n"))
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if got := p.Scheme.Sets; len(got) != 3 || got[0].Drives[0] != "USB 1" || got[1].Drives[0] != `B"2` || got[2].Drives[0] != "C: #x" {
			t.Errorf("%+v", got)
		}
	}
}

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares a page with the one in testdata.
func golden(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join("testdata", "rotate", name)
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text); diff != "" {
		t.Errorf("%s: (-want +got)\n%s", path, diff)
	}
}

// Whoever has nothing offsite never ends with 0: with 13 until the first swap day,
// with 3 from then on.
func TestNothingOffsiteIsNeverDone(t *testing.T) {
	objective := []rotation.Exposure{{MachineID: "1", Machine: "db", Objective: 7 * day, Missed: true}}
	for name, c := range map[string]struct {
		exposure []rotation.Exposure
		missed   int
		day      int
		exit     int
		what     string
	}{
		"no point, before the first swap":  {nil, 0, 18, exitPerson, "the first swap is on Fri 20 Nov"},
		"no point, on the swap day":        {nil, 0, 20, exitPartial, "no machine has a restore point yet"},
		"no point, after a missed swap":    {nil, 1, 18, exitPartial, "no machine has a restore point yet"},
		"nothing offsite before the first": {objective, 0, 18, exitPerson, "the first swap is on Fri 20 Nov"},
		"nothing offsite from then on":     {objective, 0, 20, exitPartial, "no verified copy is offsite: db"},
	} {
		j := aWeek(t)
		j.shelf.Drives = j.shelf.Drives[:1]
		j.decision = rotation.Decision{Day: rotation.Date{Year: 2026, Month: 11, Day: c.day}, SwapOn: j.decision.SwapOn, Missed: c.missed, Exposure: c.exposure}
		err := j.outcome()
		if got := exitCode(err); got != c.exit || err == nil || !strings.Contains(problemOf(err).What, c.what) {
			t.Errorf("%s: %d, %v", name, got, err)
		}
	}
}
