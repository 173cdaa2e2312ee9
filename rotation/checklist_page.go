package rotation

import (
	"cmp"
	"embed"
	"fmt"
	"html/template"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"lifeboat/custody"
)

//go:embed checklist.html label.html
var rotationPages embed.FS

var rotationTemplates = template.Must(template.New("").Funcs(template.FuncMap{
	"next":   func(i int) int { return i + 1 },
	"groups": func(h custody.Hash) string { return groups(string(h)) },
}).ParseFS(rotationPages, "checklist.html", "label.html"))

// ChecklistFacts are what a printed checklist says. No secret is among them: the
// page goes along with a drive.
type ChecklistFacts struct {
	// Site is what the page is headed with. Empty where drives do not say whose
	// they are either.
	Site string
	// Summary is one sentence: what is lost if the building burns down now.
	Summary   string
	PrintedAt time.Time
	Zone      *time.Location
	Decision  Decision
	Policy    Policy
	// Drives are those that stand on the page, for comparing a sticker.
	Drives []ShelfDrive
	// Head is the ledger's when the page was printed.
	Head  custody.Head
	Trial bool
}

// checklistPage is what the page is filled with.
type checklistPage struct {
	ChecklistFacts
	Printed string
	Lines   []checklistLine
	Stock   []stockLine
	People  []Person
	Places  []Location
	// HeadText is what `rotate audit --head` takes; HeadCode is its QR code.
	HeadText string
	HeadCode template.HTML
}

type checklistLine struct {
	Step
	Number int
	Text   string
	DueDay string
	// By says who did it and when; empty while it is not done.
	By string
	// Signs says that a person signs on the paper; Seal that a seal's number is
	// written down.
	Signs, Seal bool
}

type stockLine struct {
	Label, ID, Where string
	Code             template.HTML
}

// ChecklistHTML is the checklist as a page of HTML that needs no network and
// prints on A4 and Letter: boxes, names, days, a place for signatures and seals,
// codes to compare stickers with, and the head of the ledger.
func ChecklistHTML(f ChecklistFacts) (string, error) {
	if f.Zone == nil {
		f.Zone = time.UTC
	}
	p := checklistPage{ChecklistFacts: f, Printed: f.PrintedAt.In(f.Zone).Format("2 January 2006, 15:04 MST"), HeadText: headText(f.Head)}
	for i, s := range f.Decision.Steps {
		p.Lines = append(p.Lines, f.line(i+1, s))
	}
	people, places := map[string]bool{}, map[string]bool{}
	for _, s := range f.Decision.Steps {
		people[s.Person], places[s.Location] = true, true
		if s.To.Location != "" {
			places[s.To.Location] = true
		}
	}
	for _, person := range f.Policy.People {
		if people[person.Name] {
			p.People = append(p.People, person)
		}
	}
	for _, place := range f.Policy.Locations {
		if places[place.Name] {
			p.Places = append(p.Places, place)
		}
	}
	var err error
	if p.Stock, err = stock(f.Drives); err != nil {
		return "", err
	}
	if p.HeadCode, err = qrCode(strings.Join([]string{"Lifeboat checklist " + f.Decision.Period, "ledger head " + p.HeadText}, "\n")); err != nil {
		return "", err
	}
	return fillPage("checklist.html", p)
}

func (f ChecklistFacts) line(number int, s Step) checklistLine {
	l := checklistLine{Step: s, Number: number, Text: sentence(s.Words()), DueDay: dayWords(s.Due), Signs: !s.Seen,
		Seal: s.Kind == StepDeposit || s.Kind == StepCollect}
	if s.Done != nil {
		l.By = s.Done.At.In(f.Zone).Format("Mon 2 Jan, 15:04")
		if s.Done.Signer != "" {
			l.By = s.Done.Signer + ", " + l.By
		} else {
			l.By = "seen, " + l.By
		}
	}
	return l
}

func stock(drives []ShelfDrive) ([]stockLine, error) {
	drives = slices.Clone(drives)
	slices.SortFunc(drives, func(a, b ShelfDrive) int {
		return cmp.Or(strings.Compare(a.Label, b.Label), strings.Compare(a.ID, b.ID))
	})
	var lines []stockLine
	for _, d := range drives {
		code, err := qrCode(stickerText(d.Label, d.ID))
		if err != nil {
			return nil, err
		}
		lines = append(lines, stockLine{Label: d.Label, ID: short(d.ID), Where: placeWords(d.Place), Code: code})
	}
	return lines, nil
}

// stickerText is what the code of a drive says: on its sticker and on every page
// that names it.
func stickerText(label, id string) string { return "Lifeboat drive " + label + "\n" + id }

// headText is a head as it is typed.
func headText(h custody.Head) string {
	if h.Sequence == 0 {
		return ""
	}
	return fmt.Sprintf("%d:%s", h.Sequence, h.Hash)
}

// Words say a step as what somebody does: "bring drive A to bank".
func (s Step) Words() string {
	at := func(word, otherwise string) string {
		if s.Location == "" {
			return otherwise
		}
		return word + " " + s.Location
	}
	switch s.Kind {
	case StepAttach:
		return fmt.Sprintf("attach drive %s to the computer", s.Label)
	case StepExport:
		return fmt.Sprintf("export to drive %s", s.Label)
	case StepVerify:
		return fmt.Sprintf("read everything on drive %s", s.Label)
	case StepEject:
		return fmt.Sprintf("read back and unmount drive %s", s.Label)
	case StepDepart:
		return fmt.Sprintf("take drive %s out of the house", s.Label)
	case StepDeposit:
		return fmt.Sprintf("bring drive %s %s", s.Label, at("to", "to its place offsite"))
	case StepRecall:
		return fmt.Sprintf("call %s: drive %s is to come home", cmp.Or(s.Location, "the place"), s.Label)
	case StepCollect:
		return fmt.Sprintf("fetch drive %s %s", s.Label, at("at", "where it is"))
	case StepArrive:
		return fmt.Sprintf("bring drive %s home%s", s.Label, at(", to", ""))
	}
	return fmt.Sprintf("%s drive %s", s.Kind, s.Label)
}

// sentence begins with a capital letter.
func sentence(text string) string {
	first, size := utf8.DecodeRuneInString(text)
	return string(unicode.ToUpper(first)) + text[size:]
}

// dayWords is a day as people write it on a wall.
func dayWords(d Date) string {
	if d.IsZero() {
		return ""
	}
	return d.noon().Format("Mon 2 Jan")
}

// placeWords says where something is.
func placeWords(p custody.Place) string {
	words := string(p.State)
	if p.Location != "" {
		words += ", " + p.Location
	}
	if p.Box != "" {
		words += ", box " + p.Box
	}
	if p.Holder != "" {
		words += ", " + p.Holder
	}
	return words
}

func fillPage(name string, data any) (string, error) {
	var out strings.Builder
	if err := rotationTemplates.ExecuteTemplate(&out, name, data); err != nil {
		return "", fmt.Errorf("fill %s: %w", name, err)
	}
	return out.String(), nil
}
