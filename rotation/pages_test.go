package rotation_test

import (
	"html"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"lifeboat"
	"lifeboat/custody"
	"lifeboat/rotation"
)

const hostileText = `<script>alert("A&B")</script>`

func checklistFacts() rotation.ChecklistFacts {
	friday := rotation.Date{Year: 2026, Month: time.November, Day: 27}
	at := time.Date(2026, 11, 27, 15, 4, 0, 0, time.UTC)
	a := rotation.ShelfDrive{Drive: lifeboat.Drive{ID: strings.Repeat("a1", 16), Label: "A"}, Place: custody.Place{State: custody.Onsite, Location: "office"}}
	b := rotation.ShelfDrive{Drive: lifeboat.Drive{ID: strings.Repeat("b2", 16), Label: "B"}, Place: custody.Place{State: custody.Offsite, Location: "bank", Box: "17"}}
	return rotation.ChecklistFacts{
		Site: "Müller & Söhne", Summary: "You would lose 8 days.", PrintedAt: at, Drives: []rotation.ShelfDrive{b, a},
		Head: custody.Head{Sequence: 42, Hash: custody.Hash(strings.Repeat("0123abcd", 8))},
		Policy: rotation.Policy{
			People: []rotation.Person{{Name: "Anna", Contact: "+49 30 1", Deputies: []string{"Ben", "Cem"}}, {Name: "Nobody here"}},
			Locations: []rotation.Location{{Name: "bank", Offsite: true, Contact: "+49 30 2", Hours: "Mon to Fri 9 to 16", Authorised: []string{"Anna"}},
				{Name: "Elsewhere Ltd"}},
		},
		Decision: rotation.Decision{Period: "2026-W48",
			Reminders: []string{"drive B was last verified 40 days ago"}, Blocked: []string{"drive C stays where it is: it has the only copy of mail"},
			Steps: []rotation.Step{
				{ID: "2026-W48/export/A", Kind: rotation.StepExport, Label: "A", Due: friday, Seen: true, Done: &rotation.DoneStep{At: at}},
				{ID: "2026-W48/eject/A", Kind: rotation.StepEject, Label: "A", Due: friday, Seen: true, Why: "so that what was written is known to be there"},
				{ID: "2026-W48/deposit/A", Kind: rotation.StepDeposit, Label: "A", Due: friday, Person: "Anna", Location: "bank", Waits: "for the step before"},
				{ID: "2026-W48/collect/B", Kind: rotation.StepCollect, Label: "B", Due: friday, Person: "Anna", Location: "bank", Ask: true},
			}},
	}
}

func page(t *testing.T, text string, err error) (markup, words string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	// Such as LIFEBOAT_PAGES=/tmp/pages: for looking at them in a browser.
	if dir := os.Getenv("LIFEBOAT_PAGES"); dir != "" {
		if err := os.WriteFile(dir+"/"+strings.ReplaceAll(t.Name(), "/", "-")+".html", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	plain := regexp.MustCompile(`(?s)<style>.*?</style>|<[^>]*>`).ReplaceAllString(text, " ")
	return text, strings.Join(strings.Fields(html.UnescapeString(plain)), " ")
}

func TestThePrintedChecklistHasStepsInOrderNamesDaysAndTheHead(t *testing.T) {
	text, err := rotation.ChecklistHTML(checklistFacts())
	markup, words := page(t, text, err)
	last := -1
	for _, want := range []string{
		"Rotation checklist 2026-W48", "Printed 27 November 2026, 15:04 UTC",
		"You would lose 8 days.", "it has the only copy of mail",
		"Export to drive A", "2026-W48/export/A", "Fri 27 Nov", "seen, Fri 27 Nov, 15:04",
		"Read back and unmount drive A", "so that what was written is known to be there", "the program sees it",
		"Bring drive A to bank", "Waits: for the step before", "rotate sign 2026-W48/deposit/A", "Anna", "name, time", "seal number",
		"Fetch drive B at bank", "Ask the computer first: lifeboat rotate must still show this step", "last verified 40 days ago", "A a1a1a1a1", "onsite, office", "B b2b2b2b2", "offsite, bank, box 17",
		"+49 30 1", "Ben, Cem", "Mon to Fri 9 to 16", "42 entries", "rotate audit --head 42:HASH", strings.TrimSpace(strings.Repeat("0123abcd ", 8)),
	} {
		i := strings.Index(words[max(last, 0):], want)
		if i < 0 {
			t.Fatalf("%q does not follow in: %s", want, words)
		}
		last = max(last, 0) + i
	}
	if strings.Contains(words, "Nobody here") || strings.Contains(words, "Elsewhere") {
		t.Error("it names people and places that have nothing to do")
	}
	if strings.Count(markup, "&#10007;") != 1 {
		t.Error("not exactly the done step is ticked")
	}
	codes := codesOf(t, markup)
	if len(codes) != 3 || !strings.Contains(codes[0], "42:"+strings.Repeat("0123abcd", 8)) || codes[1] != "Lifeboat drive A\n"+strings.Repeat("a1", 16) {
		t.Errorf("the codes say %q", codes)
	}
}

func TestPrintedPagesTakeNoMarkupFromNamesAndNeedNoNetwork(t *testing.T) {
	f := checklistFacts()
	f.Site, f.Summary, f.Decision.Doubt, f.Trial = hostileText, hostileText, hostileText, true
	f.Decision.Blocked, f.Decision.Reminders = []string{hostileText}, []string{hostileText}
	for i := range f.Decision.Steps {
		s := &f.Decision.Steps[i]
		s.ID, s.Label, s.Person, s.Location, s.Why, s.Waits = hostileText, hostileText, hostileText, hostileText, hostileText, hostileText
	}
	f.Policy.People = []rotation.Person{{Name: hostileText, Contact: hostileText, Deputies: []string{hostileText}}}
	f.Policy.Locations = []rotation.Location{{Name: hostileText, Contact: hostileText, Hours: hostileText, Authorised: []string{hostileText}}}
	f.Drives[0].Label, f.Drives[0].Place.Location = hostileText, hostileText
	checklist, err := rotation.ChecklistHTML(f)
	checklist, words := page(t, checklist, err)
	if !strings.Contains(words, "TRIAL") {
		t.Error("a trial's page does not say so")
	}
	label, err := rotation.LabelHTML(rotation.LabelFacts{Drive: lifeboat.Drive{ID: strings.Repeat("a1", 16), Label: hostileText},
		Contact: hostileText, CompanyName: hostileText, Set: hostileText})
	label, _ = page(t, label, err)
	for _, markup := range []string{checklist, label} {
		if strings.Contains(markup, "<script") || strings.Contains(markup, "http") || strings.Contains(markup, "<link") {
			t.Error("the page holds what it was given as markup, or needs the network")
		}
	}
}

func TestALabelNamesTheDriveAndWhoToCallButNotTheCompany(t *testing.T) {
	f := rotation.LabelFacts{Drive: lifeboat.Drive{ID: strings.Repeat("a1", 16), Label: "A", CreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)},
		Contact: "+49 30 1", Set: "odd"}
	text, err := rotation.LabelHTML(f)
	markup, words := page(t, text, err)
	for _, want := range []string{"for the drive", "for its case", "A " + f.Drive.ID, "set odd", "in use since 2026-01-02", "Please call +49 30 1"} {
		if !strings.Contains(words, want) {
			t.Errorf("it lacks %q: %s", want, words)
		}
	}
	if codes := codesOf(t, markup); len(codes) != 2 || codes[0] != "Lifeboat drive A\n"+f.Drive.ID || codes[1] != codes[0] {
		t.Errorf("the codes say %q", codes)
	}
}
