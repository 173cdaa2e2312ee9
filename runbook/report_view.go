package runbook

import (
	"fmt"
	"html/template"
	"regexp"
	"strings"
	"time"
)

// Bounds of what a report shows of texts.
const (
	shownWords = 200
	shownText  = 1000
	shownBook  = 256 << 10
)

// reportView is a report as its page shows it: everything in words.
type reportView struct {
	CSS, Footer           template.CSS
	Title, Kind, Book     string
	Verdict, Sign, Class  string
	Sentence              string
	Notes                 []note
	Figures               []figure
	Facts                 []fact
	Machines              []machineView
	Timeline, Spent       template.HTML
	MoreRows, MoreSpent   int
	Trend                 template.HTML
	Past                  []pastView
	Steps                 []stepView
	Outputs               []outputView
	Drives                []driveView
	Hosts                 []fact
	Findings              []fact
	Before                string
	Changes               []Change
	Text, BookHash, Means string
	Signatures            []signatureView
	Seal                  Seal
	SealedAt              string
	Lines                 []string // for signatures in ink
}

// note is something that has to be known before the figures are believed.
type note struct{ Class, Sign, Head, Text string }

// figure is a number of the summary, with what was promised.
type figure struct{ Name, Value, Goal, Class, Sign string }

type fact struct{ Name, Value string }

type machineView struct {
	Name, Host, Point, Age, Form         string
	RTA, RTO, RTAClass, RPO, RPOClass    string
	Result, Class, Sign, Checks, Console string
	Tier                                 int
	Parts                                []string
	Read                                 string
	Shot                                 shot
}

type pastView struct{ Day, Mode, RTA, Result, Class, Run string }

type stepView struct{ ID, Machine, Began, Took, Outcome, Class, Sign, Seen string }

type outputView struct{ ID, Text string }

type driveView struct{ Label, ID, Model, Custody, Verified, Read, Head string }

type signatureView struct{ Name, At, By, Note string }

// newReportView puts a record into words.
func newReportView(r *Record, past []PastRun, o ReportOptions) reportView {
	g := gallery{record: r, file: o.File}
	v := reportView{CSS: template.CSS(reportCSS), Book: tidy(r.Plan.Book, shownWords), Text: tidyLines(r.BookText, shownBook),
		BookHash: tidy(r.BookHash, shownWords), Means: tidy(r.BookMeaning, shownWords), Seal: o.Seal, Lines: []string{"", "", ""}}
	v.Seal.Hash, v.Seal.Broken = tidy(v.Seal.Hash, shownWords), tidy(v.Seal.Broken, shownText)
	v.Kind = "Drill"
	if r.Mode == Recover {
		v.Kind = "Recovery"
	}
	v.verdict(r)
	v.notes(r, o)
	v.figures(r)
	v.facts(r, o.Zone)
	v.machines(r, o.Zone, &g)
	v.Timeline, v.MoreRows = timeline(r)
	v.Spent, v.MoreSpent = spentChart(r.Machines)
	v.past(r, past, o.Zone)
	v.steps(r)
	v.ranOn(r, o.Zone)
	if o.Before != nil {
		v.Before = fmt.Sprintf("%s of %s", o.Before.Mode, stamped(o.Before.Began, o.Zone))
		v.Changes = Changes(o.Before, r)
	}
	v.signatures(o)
	v.Title = fmt.Sprintf("%s of %s, %s, run %s, record %s", v.Kind, v.Book, r.Began.In(o.Zone).Format(time.DateOnly), shortText(r.RunID, 8), shortText(o.Seal.Hash, 16))
	v.Footer = footer(fmt.Sprintf("run %s   record SHA-256 %s", tidy(r.RunID, 64), v.Seal.Hash))
	return v
}

// stamped is a moment in the zone of the report.
func stamped(t time.Time, zone *time.Location) string {
	if t.IsZero() {
		return "-"
	}
	return t.In(zone).Format("2006-01-02 15:04:05 MST")
}

func shortText(text string, most int) string {
	runes := []rune(tidy(text, 2*most))
	return string(runes[:min(len(runes), most)])
}

// footer is what every printed page has at its foot. It becomes part of a style
// sheet: nothing is left of it that could end a text there.
func footer(text string) template.CSS {
	text = regexp.MustCompile(`[^A-Za-z0-9 .:-]`).ReplaceAllString(text, "")
	return template.CSS(`@page { @bottom-left { content: "` + text + `" } }`)
}

// verdict says in a word and in a sentence how it went.
func (v *reportView) verdict(r *Record) {
	passed := 0
	var failed []string
	for _, m := range r.Machines {
		if m.Passed {
			passed++
		} else {
			failed = append(failed, tidy(m.Name, 64))
		}
	}
	v.Verdict, v.Class, v.Sign = string(r.Verdict()), "bad", "✗"
	switch r.Verdict() {
	case VerdictPassed:
		v.Class, v.Sign = "good", "✓"
	case VerdictPartial, VerdictWaiting:
		v.Class, v.Sign = "half", "◐"
	}
	v.Sentence = fmt.Sprintf("%d of %s came back and passed their checks, %s after the command.", passed, plural(len(r.Machines), "machine"), spell(r.RTA))
	if len(failed) > 0 {
		most := min(len(failed), 8)
		v.Sentence += " Not: " + strings.Join(failed[:most], ", ")
		if len(failed) > most {
			v.Sentence += fmt.Sprintf(" and %d more", len(failed)-most)
		}
		v.Sentence += "."
	}
	if len(r.Machines) == 0 {
		v.Sentence = "No machine was started."
	}
}

// notes are what a reader has to know before the figures.
func (v *reportView) notes(r *Record, o ReportOptions) {
	add := func(class, sign, head, text string) {
		v.Notes = append(v.Notes, note{class, sign, head, tidy(text, shownText)})
	}
	if o.Seal.Broken != "" {
		add("bad", "✗", "This record is not the one that was kept", o.Seal.Broken)
	}
	if r.Mode == Recover && r.Declared+r.Reason != "" {
		add("plain", "!", "Declared", fmt.Sprintf("by %s: %s", orNone(r.Declared), orNone(r.Reason)))
	}
	if r.Ended.IsZero() {
		add("half", "◐", "Not ended", "the run did not come to its end when this record was made")
	}
	for _, m := range r.Missed[:min(len(r.Missed), 50)] {
		add("bad", "✗", "Objective missed", m)
	}
	if r.Partial != "" {
		add("half", "◐", "Partial", "it does not make the runbook ready: "+r.Partial)
	}
	if r.NotRepresentative != "" {
		add("half", "◐", "Not representative", "the times are not those of a recovery: "+r.NotRepresentative)
	}
	for _, d := range r.Damage[:min(len(r.Damage), 50)] {
		add("bad", "✗", "Damage on the drive", d)
	}
	for _, left := range r.Left[:min(len(r.Left), 50)] {
		add("bad", "✗", "Left over", left)
	}
	if r.Mode == Drill && !r.Cleaned && len(r.Left) == 0 {
		add("half", "◐", "Cleanup", "it is not recorded that the drill left nothing behind")
	}
}

// figures are the numbers of the summary beside what was promised.
func (v *reportView) figures(r *Record) {
	promise := r.Plan.Objectives
	rta := figure{Name: "RTA, from the command to the last check", Value: spell(r.RTA), Goal: "no objective"}
	if promise.RTO > 0 {
		rta.Goal = "objective (RTO): " + spell(promise.RTO)
		rta.met(r.Passed && r.RTA <= promise.RTO)
	}
	v.Figures = append(v.Figures, rta)
	if r.Lead > 0 {
		v.Figures = append(v.Figures, figure{Name: "RTA with declared lead times", Value: spell(bounded(r.RTA) + bounded(r.Lead)), Goal: "declared, not measured: " + spell(r.Lead)})
	}
	oldest := time.Duration(0)
	for _, m := range r.Machines {
		oldest = max(oldest, m.RPA)
	}
	rpa := figure{Name: "RPA, the age of the oldest data", Value: spell(oldest), Goal: "no objective"}
	if promise.RPO > 0 {
		rpa.Goal = "objective (RPO): " + spell(promise.RPO)
		rpa.met(oldest <= promise.RPO)
	}
	v.Figures = append(v.Figures, rpa,
		figure{Name: "waited for people, and for nothing else", Value: spell(waitedForPeople(r)), Goal: "part of the RTA"})
}

func (f *figure) met(met bool) {
	f.Class, f.Sign = "bad", "✗ missed"
	if met {
		f.Class, f.Sign = "good", "✓ met"
	}
}

// facts are who, when and with what.
func (v *reportView) facts(r *Record, zone *time.Location) {
	add := func(name, value string) {
		if value != "" {
			v.Facts = append(v.Facts, fact{name, tidy(value, shownText)})
		}
	}
	add("Site", r.Plan.Site)
	add("Began", stamped(r.Began, zone))
	add("Ended", stamped(r.Ended, zone))
	add("By", fmt.Sprintf("%s on %s", orNone(r.User), orNone(r.Computer)))
	add("Program", "Lifeboat "+r.Program)
	add("Drive opened with", map[string]string{"typed": "the secret, typed by a person", "sheet": "the recovery sheet",
		"identity": "this computer's own key, not the secret of a person"}[r.OpenedWith])
	if r.Mode == Drill && r.Cleaned {
		add("Cleanup", "compared before and after: nothing was left behind")
	}
	add("Run", r.RunID)
	for _, f := range r.Plan.Findings[:min(len(r.Plan.Findings), 50)] {
		v.Findings = append(v.Findings, fact{tidy(string(f.Severity), 20), tidy(f.What, shownText)})
	}
}

// machines are all machines in the order of the record. Where there are too many
// pictures, those of the machines that failed are shown.
func (v *reportView) machines(r *Record, zone *time.Location, g *gallery) {
	for _, m := range r.Machines {
		v.Machines = append(v.Machines, newMachineView(m, zone))
	}
	for _, passed := range []bool{false, true} {
		for i, m := range r.Machines {
			if m.Passed == passed {
				picture, console := evidenceOfMachine(m, r)
				v.Machines[i].Shot, v.Machines[i].Console = g.shot(picture), g.console(console)
			}
		}
	}
}

// newMachineView is one machine as it came back, without its console.
func newMachineView(m MachineRecord, zone *time.Location) machineView {
	w := machineView{Name: tidy(m.Name, 64), Host: tidy(m.Host, 64), Form: tidy(m.Form, shownWords), Tier: m.Tier, RTA: spell(m.RTA), RTO: "-",
		Point: fmt.Sprintf("%s (%s)", stamped(m.TakenAt, zone), shortText(m.PointID, 8)), Age: spell(m.RPA), RPO: "-"}
	w.Result, w.Class, w.Sign = "passed", "good", "✓"
	w.Checks = plural(m.Checked, "check")
	switch {
	case !m.Passed:
		w.Result, w.Class, w.Sign, w.RTA = "failed", "bad", "✗", "-"
	case m.Checked == 0:
		w.Result, w.Class, w.Sign, w.Checks = "started, nothing checked", "half", "◐", "no check"
	}
	if m.Objectives.RTO > 0 {
		w.RTO, w.RTAClass = spell(m.Objectives.RTO)+" "+metSign(m.Passed && m.RTA <= m.Objectives.RTO), metClass(m.Passed && m.RTA <= m.Objectives.RTO)
	}
	if m.Objectives.RPO > 0 {
		w.RPO, w.RPOClass = spell(m.Objectives.RPO)+" "+metSign(m.RPA <= m.Objectives.RPO), metClass(m.RPA <= m.Objectives.RPO)
	}
	for _, s := range spendings {
		w.Parts = append(w.Parts, spellOrDash(m.Spent[s.part]))
	}
	if m.ReadBytes > 0 {
		w.Read = size(m.ReadBytes)
	}
	return w
}

// evidenceOfMachine is the last look at a machine's console: that of the machine,
// or of its last step that has any.
func evidenceOfMachine(m MachineRecord, r *Record) (picture, console string) {
	picture, console = m.Evidence.Screenshot, m.Evidence.Console
	for i := len(r.Steps) - 1; i >= 0 && (picture == "" || console == ""); i-- {
		s := r.Steps[i]
		if s.Machine != m.Name {
			continue
		}
		if picture == "" {
			picture = s.Evidence.Screenshot
		}
		if console == "" {
			console = s.Evidence.Console
		}
	}
	return picture, console
}

func metSign(met bool) string {
	if met {
		return "✓"
	}
	return "✗"
}

func metClass(met bool) string {
	if met {
		return "good"
	}
	return "bad"
}

func spellOrDash(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return spell(d)
}

// past is the trend: the runs of the same runbook up to this one.
func (v *reportView) past(r *Record, past []PastRun, zone *time.Location) {
	var runs []PastRun
	for _, p := range past {
		if p.Book == r.Plan.Book && p.RunID != r.RunID && p.Began.Before(r.Began) {
			runs = append(runs, p)
		}
	}
	runs = append(runs, r.Past())
	v.Trend = trend(runs, r.Plan.Objectives.RTO, zone)
	for i := len(runs) - 1; i >= max(0, len(runs)-shownRuns) && len(runs) > 1; i-- {
		p := runs[i]
		w := pastView{Day: stamped(p.Began, zone), Mode: tidy(string(p.Mode), 20), RTA: spell(p.RTA), Result: "✓ passed", Class: "good", Run: shortText(p.RunID, 8)}
		switch {
		case !p.Passed:
			w.Result, w.Class = "✗ failed", "bad"
		case p.Partial != "":
			w.Result, w.Class = "◐ partial: "+tidy(p.Partial, shownWords), "half"
		}
		v.Past = append(v.Past, w)
	}
}

// steps are all steps in the order of the record.
func (v *reportView) steps(r *Record) {
	for _, s := range r.Steps {
		w := stepView{ID: tidy(s.ID, 64), Machine: tidy(s.Machine, 64), Began: "-", Took: "-", Outcome: tidy(string(s.Outcome), 20), Class: "half", Sign: "◐"}
		switch s.Outcome {
		case OutcomeDone:
			w.Class, w.Sign = "good", "✓"
		case OutcomeFailed:
			w.Class, w.Sign = "bad", "✗"
		}
		if !s.Began.IsZero() {
			w.Began = "+" + spell(max(s.Began.Sub(r.Began), 0))
			if !s.Ended.IsZero() {
				w.Took = spell(max(s.Ended.Sub(s.Began), 0))
			}
		}
		w.Seen = tidy(stepSeen(s), shownText)
		v.Steps = append(v.Steps, w)
		if text := strings.TrimSpace(s.Result.Output); text != "" {
			v.Outputs = append(v.Outputs, outputView{w.ID, lastLines(tidyLines(text, 4000), 20)})
		}
	}
}

// stepSeen is what was seen of a step, or why it did not go well.
func stepSeen(s StepRecord) string {
	var words []string
	add := func(format, text string) {
		if text != "" {
			words = append(words, fmt.Sprintf(format, text))
		}
	}
	add("%s", s.Problem)
	add("skipped: %s", s.Reason)
	add("confirmed by %s", s.Result.Who)
	add("%s", s.Result.Detail)
	if s.Attempts > 1 {
		words = append(words, fmt.Sprintf("begun %d times", s.Attempts))
	}
	return strings.Join(words, "; ")
}

// ranOn are the drives that were read and the hosts that it ran on.
func (v *reportView) ranOn(r *Record, zone *time.Location) {
	for _, d := range r.Drives {
		w := driveView{Label: tidy(d.Label, 64), ID: shortText(d.ID, 8), Model: tidy(strings.TrimSuffix(d.Model+", "+d.Link, ", "), shownWords),
			Custody: tidy(d.Custody, shownWords), Verified: "never", Read: size(max(d.ReadBytes, 0)), Head: shortText(d.LedgerHead, 24)}
		if !d.VerifiedAt.IsZero() {
			w.Verified = stamped(d.VerifiedAt, zone)
		}
		v.Drives = append(v.Drives, w)
	}
	for _, h := range r.Hosts {
		words := hostWords(h)
		if h.CPUs > 0 {
			words += fmt.Sprintf(", %d CPUs", h.CPUs)
		}
		if h.MemoryBytes > 0 {
			words += ", " + size(h.MemoryBytes) + " of memory"
		}
		if h.System != "" {
			words += ", " + h.System
		}
		v.Hosts = append(v.Hosts, fact{tidy(h.Name, 64), tidy(words, shownWords)})
	}
}

// signatures are those of the ledger, and what seals the record.
func (v *reportView) signatures(o ReportOptions) {
	for _, s := range o.Signatures {
		w := signatureView{Name: tidy(s.Name, shownWords), At: stamped(s.At, o.Zone),
			By: fmt.Sprintf("entry %d of the ledger, recorded by %s on %s", s.Entry, tidy(s.User, shownWords), tidy(s.Computer, shownWords)), Note: tidy(s.Note, shownText)}
		if s.Other {
			w.Note = strings.TrimSuffix("another record of this run was signed; "+w.Note, "; ")
		}
		v.Signatures = append(v.Signatures, w)
	}
	if !o.Seal.At.IsZero() {
		v.SealedAt = stamped(o.Seal.At, o.Zone)
	}
}
