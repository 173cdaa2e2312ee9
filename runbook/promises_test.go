package runbook

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lifeboat"
)

// anySite draws a book and a situation in which anything may be missing, broken or
// too small.
func anySite(t *rapid.T) (*Book, Situation) {
	b := &Book{Version: 1, Name: "any"}
	s := Situation{Now: night(20), SiteID: "site", Mode: rapid.SampledFrom([]Mode{Drill, Recover}).Draw(t, "mode"),
		Uplinks: rapid.IntRange(0, 2).Draw(t, "uplinks"), Isolated: rapid.Bool().Draw(t, "isolated"), Machines: map[string]lifeboat.Machine{}}
	for i := range rapid.IntRange(1, 4).Draw(t, "drives") {
		d := driveNamed(fmt.Sprint("d", i), rapid.Bool().Draw(t, "attached"))
		if rapid.IntRange(0, 4).Draw(t, "suspect") == 0 {
			d.Suspect = "rolled back"
		}
		s.Drives = append(s.Drives, d)
	}
	for i := range rapid.IntRange(0, 4).Draw(t, "hosts") {
		h := hostNamed(fmt.Sprint("h", i), rapid.Int64Range(1, 16).Draw(t, "GiB"))
		h.Reached, h.KVM, h.CPUs = rapid.IntRange(0, 5).Draw(t, "reached") > 0, rapid.Bool().Draw(t, "kvm"), rapid.IntRange(0, 4).Draw(t, "cpus")
		s.Hosts = append(s.Hosts, h)
		if rapid.IntRange(0, 3).Draw(t, "ruled") == 0 {
			b.Hosts = append(b.Hosts, HostRule{Name: h.Name, Line: 50 + i, MemoryBytes: rapid.Int64Range(0, 4).Draw(t, "most") << 30, CPUs: rapid.IntRange(0, 3).Draw(t, "most CPUs")})
		}
	}
	var names []string
	for i := range rapid.IntRange(1, 8).Draw(t, "machines") {
		names = append(names, fmt.Sprint("m", i))
	}
	for i, name := range names {
		m := Machine{Name: name, Line: 10 + i, Tier: rapid.IntRange(0, 3).Draw(t, "tier"), Settle: rapid.Bool().Draw(t, "settle"),
			Point: rapid.SampledFrom([]PointChoice{PointLatest, PointVerified, "2026-11-18"}).Draw(t, "point"),
			After: rapid.SliceOfNDistinct(rapid.SampledFrom(names), 0, 1, rapid.ID).Draw(t, "after")}
		if rapid.Bool().Draw(t, "checked") {
			m.Checks = []Check{{Kind: rapid.SampledFrom([]CheckKind{CheckTCP, CheckAgent}).Draw(t, "check")}}
		}
		b.Machines = append(b.Machines, m)
		for n := 16; n <= 20; n++ {
			for copies := rapid.IntRange(0, 2).Draw(t, "copies"); copies > 0; copies-- {
				p := onLAN(pointAt(name, n, rapid.SampledFrom(s.Drives).Draw(t, "drive").ID), fmt.Sprintf("10.0.5.%d/24", 21+i))
				p.TakenAt = p.TakenAt.Add(time.Duration(i) * time.Minute)
				p.Machine.MemoryBytes = rapid.Int64Range(1, 4).Draw(t, "memory") << 30
				if rapid.IntRange(0, 3).Draw(t, "damaged") == 0 {
					p.Damage = "3 blocks"
				}
				if rapid.Bool().Draw(t, "unverified") {
					p.VerifiedAt = time.Time{}
				}
				s.Points = append(s.Points, p)
			}
		}
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "groups") {
		b.Groups = append(b.Groups, Group{Name: fmt.Sprint("g", i), Line: 40 + i, SkewAllowed: rapid.IntRange(0, 3).Draw(t, "skew") == 0,
			Machines: rapid.SliceOfNDistinct(rapid.SampledFrom(names), 1, -1, rapid.ID).Draw(t, "members")})
	}
	kinds := []StepKind{StepBoot, StepCheck, StepRun, StepGuest, StepConfirm, StepMessage, StepSettle, StepConnect, StepShutdown}
	for i := range rapid.IntRange(0, 5).Draw(t, "steps") {
		st := Step{ID: fmt.Sprint("s", i), Line: 60 + i, Kind: rapid.SampledFrom(kinds).Draw(t, "kind"), When: rapid.SampledFrom([]When{WhenAlways, WhenDrill, WhenRecover}).Draw(t, "when"),
			Machines: rapid.SliceOfNDistinct(rapid.SampledFrom(names), 0, 2, rapid.ID).Draw(t, "about")}
		if i > 0 && rapid.Bool().Draw(t, "ordered") {
			st.After = []string{fmt.Sprint("s", rapid.IntRange(0, i-1).Draw(t, "before"))}
		}
		b.Steps = append(b.Steps, st)
	}
	return b, s
}

func TestEveryPlanKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b, s := anySite(t)
		p, err := Resolve(b, s)
		if err != nil {
			t.Fatal(err)
		}
		again, _ := Resolve(b, s)
		if !reflect.DeepEqual(p, again) {
			t.Fatalf("the same situation makes another plan:\n%+v\n%+v", p, again)
		}
		checkOrder(t, b, p)
		checkLimits(t, p)
		checkPoints(t, b, s, p)
		for _, f := range p.Findings {
			known := slices.ContainsFunc(b.Machines, func(m Machine) bool { return m.Name == f.Machine })
			if f.Machine != "" && !known || f.Code == "" || f.What == "" {
				t.Fatalf("finding %+v", f)
			}
		}
		gone := fmt.Sprint("h", rapid.IntRange(0, 3).Draw(t, "gone"))
		next, findings := Place(p, gone)
		checkLimits(t, next)
		for i, m := range next.Machines {
			was := p.Machines[i]
			switch {
			case m.Host == gone:
				t.Fatalf("%s stays on %s, which is gone", m.Name, gone)
			case was.Host != gone && was.Host != "" && m.Host != was.Host:
				t.Fatalf("%s moves from %s to %s though its host is there", m.Name, was.Host, m.Host)
			case was.Host == gone && m.Host == "" && !slices.ContainsFunc(findings, func(f Finding) bool { return f.Machine == m.Name }):
				t.Fatalf("%s has no place, and nothing says so", m.Name)
			}
		}
	})
}

// checkOrder: what a step waits for stands before it, exists, and is what the file
// asks for, unless the plan says that it goes round in a loop.
func checkOrder(t *rapid.T, b *Book, p *Plan) {
	loop := slices.ContainsFunc(p.Findings, func(f Finding) bool { return f.Code == "loop" })
	at := map[string]int{}
	for i, s := range p.Steps {
		if _, twice := at[s.ID]; twice {
			t.Fatalf("two steps are called %s", s.ID)
		}
		at[s.ID] = i
	}
	for i, s := range p.Steps {
		for _, before := range s.After {
			if j, there := at[before]; !there || !loop && j >= i {
				t.Fatalf("step %s waits for %s, which stands at %d of %d", s.ID, before, j, i)
			}
		}
	}
	if loop {
		return
	}
	for _, m := range b.Machines {
		checks := stepOf(p, m.Name, StepCheck)
		boot := stepOf(p, m.Name, StepBoot)
		if boot < 0 || checks < boot {
			t.Fatalf("%s is checked at %d and booted at %d", m.Name, checks, boot)
		}
		for _, o := range b.Machines {
			later := m.Tier != 0 && o.Tier > m.Tier || slices.Contains(o.After, m.Name)
			if booted := stepOf(p, o.Name, StepBoot); later && booted < checks {
				t.Fatalf("%s is booted at %d, before %s is checked at %d", o.Name, booted, m.Name, checks)
			}
		}
	}
}

func stepOf(p *Plan, machine string, kind StepKind) int {
	return slices.IndexFunc(p.Steps, func(s PlannedStep) bool { return s.Machine == machine && s.Kind == kind })
}

// checkLimits: no host has more than it can take, and each machine is where it may.
func checkLimits(t *rapid.T, p *Plan) {
	memory, cpus := map[string]int64{}, map[string]int{}
	for _, m := range p.Machines {
		memory[m.Host] += m.Memory
		cpus[m.Host] += m.CPUs
		if m.Host != "" && !slices.Contains(m.MayRunOn, m.Host) {
			t.Fatalf("%s is on %s, and may run on %v", m.Name, m.Host, m.MayRunOn)
		}
		said := slices.ContainsFunc(p.Findings, func(f Finding) bool { return f.Machine == m.Name && f.Severity == Stops })
		if m.Host == "" && m.Point.ID == "" && !said {
			t.Fatalf("%s has neither host nor point, and nothing says so", m.Name)
		}
	}
	for _, h := range p.Hosts {
		if h.MemoryBytes > 0 && memory[h.Name] > h.MemoryBytes || h.CPUs > 0 && cpus[h.Name] > h.CPUs || h.Boots < 1 {
			t.Fatalf("host %+v has %d bytes and %d CPUs of machines", h, memory[h.Name], cpus[h.Name])
		}
	}
}

// checkPoints: a doubted point is taken only where there is no other, and a group
// comes back from one run.
func checkPoints(t *rapid.T, b *Book, s Situation, p *Plan) {
	suspect := map[string]bool{}
	for _, d := range s.Drives {
		suspect[d.ID] = d.Suspect != ""
	}
	runs := map[string]string{}
	for i, m := range p.Machines {
		runs[m.Name] = m.Point.RunID
		if m.Point.ID == "" {
			continue
		}
		doubted := func(k KnownPoint) bool { return k.Damage != "" || suspect[k.DriveIDs[0]] }
		limit, err := b.Machines[i].Point.moment(s.Now.Location())
		better := slices.ContainsFunc(s.Points, func(k KnownPoint) bool {
			return k.Machine.ID == m.ID && !doubted(k) && (err != nil || !k.TakenAt.After(limit))
		})
		chosen := slices.IndexFunc(s.Points, func(k KnownPoint) bool {
			return k.ID == m.Point.ID && slices.Equal(k.DriveIDs, m.DriveIDs) && !doubted(k)
		})
		if better && chosen < 0 {
			t.Fatalf("%s comes back from a doubted point %s though there is another", m.Name, m.Point.ID)
		}
		last := m.Point.TakenAt
		for _, o := range m.Older {
			if !o.TakenAt.Before(last) {
				t.Fatalf("%s would fall back from %s to %s", m.Name, last, o.TakenAt)
			}
			last = o.TakenAt
		}
	}
	for _, g := range p.Groups {
		for _, name := range g.Machines {
			if g.RunID != "" && runs[name] != "" && runs[name] != g.RunID {
				t.Fatalf("group %+v, and %s comes back from run %s", g, name, runs[name])
			}
		}
		if g.RunID == "" && !g.Allowed && len(g.Machines) > 1 && !slices.ContainsFunc(p.Findings, func(f Finding) bool { return f.Code == "skew" }) {
			t.Fatalf("group %+v mixes runs, and nothing says so", g)
		}
	}
}

// scaleSite is a company of so many machines in five tiers on so many hosts, with
// four nights of points each.
func scaleSite(machines, hosts, steps int) (*Book, Situation) {
	b := &Book{Version: 1, Name: "scale"}
	s := Situation{Now: night(20).Add(time.Hour), Mode: Recover, SiteID: "site", Uplinks: 1, Drives: []KnownDrive{driveNamed("a", true)}, Machines: map[string]lifeboat.Machine{}}
	for i := range hosts {
		s.Hosts = append(s.Hosts, hostNamed(fmt.Sprintf("h%02d", i), 64))
		s.Hosts[i].CPUs = 64
	}
	past := PastRun{RunID: "drill", Book: "scale", Mode: Drill, Began: night(10), Passed: true, Machines: map[string]Measured{}}
	for i := range machines {
		name := fmt.Sprintf("m%03d", i)
		b.Machines = append(b.Machines, Machine{Name: name, Line: i, Tier: 1 + i*5/machines, Checks: []Check{{Kind: CheckTCP, Port: 22}}})
		past.Machines[name] = Measured{RTA: time.Minute, Spent: map[Spending]time.Duration{SpentBoot: 30 * time.Second, SpentService: 20 * time.Second}}
		for n := 17; n <= 20; n++ {
			s.Points = append(s.Points, onLAN(pointAt(name, n, "a"), fmt.Sprintf("10.0.%d.%d/16", i/200, 10+i%200)))
		}
		s.Machines["id-"+name] = s.Points[len(s.Points)-1].Machine
		if i%10 == 9 {
			b.Groups = append(b.Groups, Group{Name: "g" + name, Machines: []string{name, b.Machines[i-1].Name, b.Machines[i-2].Name}})
		}
	}
	s.Past = []PastRun{past}
	for i := range steps - 3*machines {
		b.Steps = append(b.Steps, Step{ID: fmt.Sprint("run-", i), Kind: StepRun, Command: []string{"true"}, After: []string{b.Machines[i%machines].Name}})
	}
	return b, s
}

func TestAPlanOfFiveHundredMachinesIsWhole(t *testing.T) {
	b, s := scaleSite(500, 20, 2000)
	p := resolved(t, b, s)
	if len(p.Steps) != 2000 || len(p.Machines) != 500 || p.Estimate == 0 || len(p.Findings) > 0 {
		t.Errorf("%d steps, %d machines, estimate %s, findings %v", len(p.Steps), len(p.Machines), p.Estimate, codes(p))
	}
}

// BenchmarkResolve500 is what docs/reference/benchmarks.md gives for a plan of 500
// machines on 20 hosts with 2,000 steps.
func BenchmarkResolve500(b *testing.B) {
	book, s := scaleSite(500, 20, 2000)
	for b.Loop() {
		if _, err := Resolve(book, s); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "resolve-s")
}
