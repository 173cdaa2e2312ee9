package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"lifeboat"
	"lifeboat/runbook"
)

// demoBook brings back the three servers of the demo: db, then web; files beside them.
const demoBook = `version: 1
name: demo
objectives: {rto: 30m, rpo: 24h}
lead_times: {travel: 45m}
networks:
  lan:
    recover: nat
    forwards: ["8080:web:80"]
groups:
  shop: {machines: [db, web]}
machines:
  db: {tier: 1, checks: [{tcp: 5432}]}
  web: {tier: 2, checks: [{http: /}]}
  files: {tier: 2, settle: true}
steps:
  - confirm: Declare the disaster and call the insurer?
    id: declare
    when: recover
  - boot: {tier: 1}
    after: declare
`

// demoSituation is the demo's site after a night in which the export of db failed.
func demoSituation(t *testing.T, mode runbook.Mode) (*runbook.Book, runbook.Situation) {
	t.Helper()
	book, err := runbook.Parse("demo", []byte(demoBook))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)
	s := runbook.Situation{Now: now, Mode: mode, SiteID: strings.Repeat("5", 32), Site: "head-office", Uplinks: 1, UplinkBitsPerSecond: 40e6,
		Machines: map[string]lifeboat.Machine{}, PortsTaken: []runbook.TakenPort{{Port: 8080}}}
	s.Drives = []runbook.KnownDrive{
		{Drive: lifeboat.Drive{ID: "a", Label: "A"}, Attached: true, Path: "/media/lifeboat-a", ReadBytesPerSecond: 120 << 20},
		{Drive: lifeboat.Drive{ID: "b", Label: "B"}, Where: "offsite at bank, with Eva Lindt, box 4711; call +49 30 7654321", FetchTime: 4 * time.Hour},
	}
	s.Hosts = []runbook.KnownHost{
		{Name: "local", Kind: "qemu", Reached: true, KVM: true, TotalMemoryBytes: 16 << 30, FreeMemoryBytes: 14 << 30, CPUs: 8, FreeDiskBytes: 200 << 30, Segments: true, BootNBD: true, Links: true},
	}
	past := runbook.PastRun{RunID: "drill", Book: "demo", Meaning: runbook.Meaning(book), HostKind: "qemu", Mode: runbook.Drill, Began: now.AddDate(0, -1, 0), Passed: true, Machines: map[string]runbook.Measured{}, Disks: map[string][]string{}}
	for i, name := range []string{"db", "web", "files"} {
		for night, drive := range map[int]string{19: "b", 20: "a"} {
			if name == "db" && night == 20 {
				continue
			}
			p := runbook.KnownPoint{DriveIDs: []string{drive}, DataBytes: int64(i+1) << 30, StoredBytes: int64(i+1) << 29}
			p.ID, p.RunID, p.TakenAt = fmt.Sprint(name, night), fmt.Sprint("run", night), time.Date(2026, 11, night, 22, i, 0, 0, time.UTC)
			p.Failed = []string{"db"}
			p.Machine = lifeboat.Machine{ID: strings.Repeat(fmt.Sprint(i), 32), Name: name, MemoryBytes: 2 << 30, CPUs: 2,
				NICs: []lifeboat.NIC{{MAC: fmt.Sprintf("52:54:00:00:00:%02d", i), Network: "lan", Addresses: []string{fmt.Sprintf("10.0.5.%d/24", 21+i)}, Gateway: "10.0.5.1"}}}
			s.Points = append(s.Points, p)
			s.Machines[p.Machine.ID] = p.Machine
			past.Disks[p.Machine.ID] = nil
		}
		if name != "files" {
			past.Machines[name] = runbook.Measured{RTA: 3 * time.Minute, Spent: map[runbook.Spending]time.Duration{runbook.SpentBoot: 40 * time.Second, runbook.SpentService: 20 * time.Second}}
		}
	}
	s.Past = []runbook.PastRun{past}
	return book, s
}

func TestPlansOfTheDemosServersReadAsTheyShould(t *testing.T) {
	for _, c := range []struct {
		name     string
		mode     runbook.Mode
		isolated bool
	}{{"drill", runbook.Drill, false}, {"recover", runbook.Recover, false}, {"isolated", runbook.Recover, true}} {
		book, s := demoSituation(t, c.mode)
		s.Isolated = c.isolated
		p, err := runbook.Resolve(book, s)
		if err != nil {
			t.Fatal(err)
		}
		text := planWords(p, 0) + "\n" + readyWords(book.Name, runbook.Ready(book, s), len(p.Findings))
		golden(t, "../plan_"+c.name+".txt", text)
		for line := range strings.Lines(text) {
			if utf8.RuneCountInString(line) > planWidth+1 && !strings.HasPrefix(line, "demo is") {
				t.Errorf("%s: a line is wider than %d columns: %s", c.name, planWidth, line)
			}
		}
	}
}

// A name from a drive does not drive the terminal or make lines of its own.
func TestAPlanKeepsHostileNamesOnTheirLine(t *testing.T) {
	book, s := demoSituation(t, runbook.Recover)
	s.Drives[1].Where = "here\nstops  nothing\x1b[2J"
	s.Site = "evil\nMACHINE"
	p, err := runbook.Resolve(book, s)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(planWords(p, 0)) {
		if strings.HasPrefix(line, "stops  nothing") || strings.TrimSpace(line) == "MACHINE" {
			t.Errorf("a name made a line of its own: %q", line)
		}
	}
}

func TestRatesOfLines(t *testing.T) {
	for text, want := range map[string]int64{"40Mbit": 40e6, "1.5 Gbit/s": 15e8, "500kbit": 5e5, "40": 0, "-1Mbit": 0, "0Mbit": 0, "infMbit": 0, "NaNMbit": 0, "": 0} {
		if got, err := parseRate(text); got != want || (err == nil) != (want > 0) {
			t.Errorf("%q is %d (%v), not %d", text, got, err, want)
		}
	}
}
