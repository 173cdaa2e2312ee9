package runbook

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"lifeboat"
)

// night is when the export run of that number began.
func night(n int) time.Time { return time.Date(2026, 11, n, 22, 0, 0, 0, time.UTC) }

// pointAt is a point of a machine in the run of a night, on a drive.
func pointAt(machine string, n int, drives ...string) KnownPoint {
	p := KnownPoint{DriveIDs: drives, DataBytes: 4 << 30, StoredBytes: 2 << 30, VerifiedAt: night(n).Add(3 * time.Hour)}
	p.ID, p.RunID, p.TakenAt = fmt.Sprintf("%s-%d", machine, n), fmt.Sprintf("run-%d", n), night(n)
	p.Machine = lifeboat.Machine{ID: "id-" + machine, Name: machine, CPUs: 1, MemoryBytes: 1 << 30,
		Disks: []lifeboat.Disk{{Key: "root", SizeBytes: 8 << 30}}}
	return p
}

// onLAN gives a point's machine a card with an address.
func onLAN(p KnownPoint, address string) KnownPoint {
	p.Machine.NICs = append(p.Machine.NICs, lifeboat.NIC{MAC: "52:54:00:00:00:" + address[len(address)-5:len(address)-3], Network: "lan", Addresses: []string{address}, Gateway: "10.0.5.1", DNS: []string{"10.0.5.2"}})
	return p
}

// shopBook is db, then app, then web, in three tiers.
func shopBook() *Book {
	b := &Book{Version: 1, Name: "shop", Text: []byte("shop"), Networks: []NetworkRule{{Name: "lan", Line: 5}}}
	for i, name := range []string{"db", "app", "web"} {
		b.Machines = append(b.Machines, Machine{Name: name, Line: 10 + i, Tier: i + 1, Point: PointLatest, OnFailure: FailStop, Checks: []Check{{Kind: CheckTCP, Port: 22}}})
	}
	return b
}

// shopSituation has a point of each machine of two nights on drive A, which is
// attached, and one host.
func shopSituation(mode Mode) Situation {
	s := Situation{Now: night(20).Add(10 * time.Hour), Mode: mode, SiteID: "site", Site: "head-office", Uplinks: 1,
		Drives:   []KnownDrive{driveNamed("a", true), driveNamed("b", false)},
		Hosts:    []KnownHost{hostNamed("local", 16)},
		Machines: map[string]lifeboat.Machine{}}
	for i, name := range []string{"db", "app", "web"} {
		for _, n := range []int{19, 20} {
			s.Points = append(s.Points, onLAN(pointAt(name, n, "a"), fmt.Sprintf("10.0.5.%d/24", 21+i)))
		}
		s.Machines["id-"+name] = s.Points[len(s.Points)-1].Machine
	}
	return s
}

func driveNamed(id string, attached bool) KnownDrive {
	return KnownDrive{Drive: lifeboat.Drive{ID: id, Label: strings.ToUpper(id), SiteID: "site"}, Attached: attached, Where: "offsite at bank, with Eva", ReadBytesPerSecond: 120 << 20}
}

func hostNamed(name string, gib int64) KnownHost {
	return KnownHost{Name: name, Kind: "qemu", Reached: true, KVM: true, TotalMemoryBytes: gib << 30, FreeMemoryBytes: gib << 30, CPUs: 4, FreeDiskBytes: 100 << 30, Segments: true, BootNBD: true, Links: true}
}

func resolved(t *testing.T, b *Book, s Situation) *Plan {
	t.Helper()
	p, err := Resolve(b, s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// What the company promised itself goes into the plan, as the record and the report
// compare with it.
func TestAPlanHasTheObjectivesOfItsRunbook(t *testing.T) {
	b := shopBook()
	b.Objectives = Objectives{RTO: 4 * time.Hour, RPO: 26 * time.Hour}
	b.Tiers = map[int]Objectives{1: {RTO: time.Hour}}
	p := resolved(t, b, shopSituation(Drill))
	if p.Objectives != b.Objectives {
		t.Errorf("the plan promises %+v, the runbook %+v", p.Objectives, b.Objectives)
	}
	for i, want := range []Objectives{{time.Hour, 26 * time.Hour}, b.Objectives, b.Objectives} {
		if got := p.Machines[i].Objectives; got != want {
			t.Errorf("%s is promised %+v, not %+v", p.Machines[i].Name, got, want)
		}
	}
}

// after checks that steps are in the plan and the second comes, by whatever way,
// after the first.
func after(t *testing.T, p *Plan, first, second string) {
	t.Helper()
	if !reaches(p, second, first) {
		t.Errorf("step %s does not come after %s in\n%s", second, first, stepsText(p))
	}
}

// reaches says that a step waits for another, by whatever way.
func reaches(p *Plan, from, to string) bool {
	i := slices.IndexFunc(p.Steps, func(s PlannedStep) bool { return s.ID == from })
	if i < 0 {
		return false
	}
	return slices.ContainsFunc(p.Steps[i].After, func(id string) bool { return id == to || reaches(p, id, to) })
}

func stepsText(p *Plan) string {
	var out strings.Builder
	for _, s := range p.Steps {
		fmt.Fprintf(&out, "%s after %s\n", s.ID, strings.Join(s.After, ", "))
	}
	return out.String()
}

// codes are the findings of a plan, as severity:code:machine.
func codes(p *Plan) (all []string) {
	for _, f := range p.Findings {
		all = append(all, strings.Trim(fmt.Sprintf("%s:%s:%s", f.Severity, f.Code, f.Machine), ":"))
	}
	return all
}

func finding(t *testing.T, p *Plan, code string) Finding {
	t.Helper()
	i := slices.IndexFunc(p.Findings, func(f Finding) bool { return f.Code == code })
	if i < 0 {
		t.Fatalf("no finding %s in %v", code, p.Findings)
	}
	return p.Findings[i]
}

func TestPlanOfTiersHasStepsOfEachMachineInTheirOrder(t *testing.T) {
	p := resolved(t, shopBook(), shopSituation(Drill))
	want := "boot-db after \ncheck-db after boot-db\nboot-app after check-db\ncheck-app after boot-app\nboot-web after check-app\ncheck-web after boot-web\n"
	if got := stepsText(p); got != want {
		t.Errorf("steps:\n%swant:\n%s", got, want)
	}
	if len(p.Findings) > 0 {
		t.Errorf("a plan with nothing wrong has findings: %v", p.Findings)
	}
	for _, m := range p.Machines {
		if m.Host != "local" || m.Point.TakenAt != night(20) || !slices.Equal(m.DriveIDs, []string{"a"}) || len(m.Older) != 1 {
			t.Errorf("%s: host %q, point %s on %v, older %v", m.Name, m.Host, m.Point.ID, m.DriveIDs, m.Older)
		}
	}
}

func TestRecoveryPlugsInBeforeChecksThatGoOverTheNetwork(t *testing.T) {
	b := shopBook()
	b.Machines[2].Checks = []Check{{Kind: CheckAgent}}
	p := resolved(t, b, shopSituation(Recover))
	after(t, p, "boot-db", "connect-db")
	after(t, p, "connect-db", "check-db")
	after(t, p, "check-web", "connect-web")
}

func TestIsolatedRecoveryChecksAllBeforeATierIsReleased(t *testing.T) {
	s := shopSituation(Recover)
	s.Isolated = true
	b := shopBook()
	b.Machines[0].Settle = true
	p := resolved(t, b, s)
	for _, name := range []string{"db", "app", "web"} {
		after(t, p, "check-"+name, "release-tier-1")
	}
	after(t, p, "release-tier-1", "connect-db")
	after(t, p, "connect-db", "release-tier-2")
	after(t, p, "connect-db", "settle-db")
	after(t, p, "release-tier-3", "connect-web")
	if !p.Isolated {
		t.Error("the plan does not say that it is isolated")
	}
}

func TestStepsOfTheFileJoinThoseOfTheirMachines(t *testing.T) {
	b := shopBook()
	b.Steps = []Step{
		{ID: "declare", Kind: StepConfirm, Text: "Declare the disaster?", When: WhenRecover},
		{ID: "boot-tier-1", Kind: StepBoot, Tier: 1, After: []string{"declare"}},
		{ID: "dns", Kind: StepRun, Command: []string{"true"}, After: []string{"web"}},
		{ID: "guest-1", Kind: StepGuest, Machines: []string{"db", "app"}, Command: []string{"true"}},
		{ID: "mail", Kind: StepMessage, Text: "done", After: []string{"guest-1", "connect-db"}},
	}
	p := resolved(t, b, shopSituation(Recover))
	after(t, p, "declare", "boot-db")
	after(t, p, "check-web", "dns")
	after(t, p, "check-db", "guest-db")
	after(t, p, "guest-app", "mail")
	after(t, p, "connect-db", "mail")
	// What is left out in a drill is passed through.
	b.Steps[1].After = nil
	b.Steps = append(b.Steps, Step{ID: "last", Kind: StepMessage, After: []string{"middle"}}, Step{ID: "middle", Kind: StepConfirm, When: WhenRecover, After: []string{"web"}})
	p = resolved(t, b, shopSituation(Drill))
	after(t, p, "check-web", "last")
	if slices.ContainsFunc(p.Steps, func(s PlannedStep) bool { return s.Kind == StepConnect || s.ID == "declare" || s.ID == "middle" }) {
		t.Errorf("a drill has steps of a recovery:\n%s", stepsText(p))
	}
}

func TestLoopsAreNamed(t *testing.T) {
	b := shopBook()
	b.Machines[0].After = []string{"web"}
	p := resolved(t, b, shopSituation(Drill))
	f := finding(t, p, "loop")
	if f.Severity != Stops || f.Line != 10 || !strings.Contains(f.What, "boot-db waits for check-web") {
		t.Errorf("loop: %+v", f)
	}
}

func TestMixedNightTakesTheRunThatHasAllOfTheGroup(t *testing.T) {
	b, s := shopBook(), shopSituation(Recover)
	b.Groups = []Group{{Name: "orders", Line: 30, Machines: []string{"db", "web"}}}
	s.Points = slices.DeleteFunc(s.Points, func(p KnownPoint) bool { return p.ID == "db-20" })
	for i := range s.Points {
		if s.Points[i].RunID == "run-20" {
			s.Points[i].Failed = []string{"db"}
		}
	}
	p := resolved(t, b, s)
	for i, want := range []string{"db-19", "app-20", "web-19"} {
		if got := p.Machines[i].Point.ID; got != want {
			t.Errorf("%s comes back from %s, not %s", p.Machines[i].Name, got, want)
		}
	}
	if g := p.Groups[0]; g.RunID != "run-19" || g.Skew != 0 || !strings.Contains(g.Why, "db failed in it") {
		t.Errorf("group: %+v", g)
	}
	if f := finding(t, p, "older-run"); f.Severity != Warns || f.Line != 30 {
		t.Errorf("finding: %+v", f)
	}
	b.Groups[0].SkewAllowed = true
	p = resolved(t, b, s)
	if g := p.Groups[0]; g.Skew != 24*time.Hour || !g.Allowed || p.Machines[2].Point.ID != "web-20" {
		t.Errorf("with skew: %+v, web from %s", g, p.Machines[2].Point.ID)
	}
	// No run has both.
	b.Groups[0].SkewAllowed = false
	s.Points = slices.DeleteFunc(s.Points, func(p KnownPoint) bool { return p.ID == "web-19" })
	if f := finding(t, resolved(t, b, s), "skew"); f.Severity != Stops {
		t.Errorf("finding: %+v", f)
	}
}

func TestPointsAreChosenByTheRunbooksWord(t *testing.T) {
	cases := []struct {
		name   string
		choice PointChoice
		change func(p *KnownPoint)
		want   string
		code   string
	}{
		{"latest", PointLatest, nil, "db-20", ""},
		{"the end of a day", "2026-11-19", nil, "db-19", ""},
		{"a moment", "2026-11-20T22:00:00Z", nil, "db-20", ""},
		{"before all points", "2026-11-01", nil, "", "stops:no-point:db"},
		{"verified", PointVerified, func(p *KnownPoint) {
			if p.ID == "db-20" {
				p.VerifiedAt = time.Time{}
			}
		}, "db-19", ""},
		{"none verified", PointVerified, func(p *KnownPoint) { p.VerifiedAt = time.Time{} }, "db-20", "warns:not-verified:db"},
		{"the newest is damaged", PointLatest, func(p *KnownPoint) {
			if p.ID == "db-20" {
				p.Damage = "3 blocks"
			}
		}, "db-19", "warns:damaged-point:db"},
		{"all are damaged", PointLatest, func(p *KnownPoint) { p.Damage = "3 blocks" }, "db-20", "warns:damaged-point:db"},
		{"the newest is on a suspect drive", PointLatest, func(p *KnownPoint) {
			if p.ID == "db-20" {
				p.DriveIDs = []string{"c"}
			}
		}, "db-19", "warns:drive-suspect:db"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b, s := shopBook(), shopSituation(Drill)
			b.Machines = b.Machines[:1]
			b.Machines[0].Point = c.choice
			suspect := driveNamed("c", true)
			suspect.Suspect = "it was rolled back"
			s.Drives = append(s.Drives, suspect)
			s.Only = []string{"db"}
			for i := range s.Points {
				if c.change != nil {
					c.change(&s.Points[i])
				}
			}
			p := resolved(t, b, s)
			if got := p.Machines[0].Point.ID; got != c.want {
				t.Errorf("point %q, want %q", got, c.want)
			}
			if got := strings.Join(codes(p), " "); got != c.code {
				t.Errorf("findings %q, want %q", got, c.code)
			}
		})
	}
}

func TestOfCopiesTheOneAtHandIsRead(t *testing.T) {
	s := shopSituation(Drill)
	s.Drives = append(s.Drives, driveNamed("0", false))
	for _, p := range slices.Clone(s.Points) {
		p.DriveIDs = []string{"0"}
		s.Points = append(s.Points, p)
	}
	p := resolved(t, shopBook(), s)
	if len(p.Drives) != 1 || p.Drives[0].ID != "a" || len(p.Machines[0].Older) != 1 {
		t.Errorf("drives %v, older %v", p.Drives, p.Machines[0].Older)
	}
}
