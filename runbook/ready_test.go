package runbook

import (
	"slices"
	"strings"
	"testing"
	"time"

	"lifeboat"
)

// rehearsed is a drill of the shop that passed on that night, with the disks that
// the machines have.
func rehearsed(b *Book, n int) PastRun {
	p := PastRun{RunID: "drill", Book: b.Name, Meaning: Meaning(b), Mode: Drill, Began: night(n), Passed: true, HostKind: "qemu", Disks: map[string][]string{}}
	for _, m := range b.Machines {
		p.Disks["id-"+m.Name] = []string{"root"}
	}
	return p
}

func TestReadyIsWhatADrillOfThisMeaningProvedAndNothingChangedSince(t *testing.T) {
	// Each case changes a book and a situation in which the runbook is ready.
	cases := []struct {
		name   string
		change func(b *Book, s *Situation)
		// why is a part of the only reason; empty: it is ready.
		why string
	}{
		{"a drill that passed", func(*Book, *Situation) {}, ""},
		{"never rehearsed", func(_ *Book, s *Situation) { s.Past = nil }, "never rehearsed"},
		{"another runbook's drill", func(_ *Book, s *Situation) { s.Past[0].Book = "office" }, "never rehearsed"},
		{"a recovery proves no drill", func(_ *Book, s *Situation) { s.Past[0].Mode = Recover }, "never rehearsed"},
		{"it failed", func(_ *Book, s *Situation) { s.Past[0].Passed = false }, "of 2026-11-15, did not pass"},
		{"a partial drill", func(_ *Book, s *Situation) { s.Past[0].Partial = "opened by this computer's identity" }, "a partial one: opened by this computer's identity"},
		{"another step", func(b *Book, _ *Situation) { b.Machines[0].Checks[0].Port = 5432 }, "changed since its last drill, of 2026-11-15"},
		{"another message", func(b *Book, _ *Situation) {
			b.Purpose, b.Contacts = "all of it", []Contact{{Name: "Eva"}}
		}, ""},
		{"a failed drill since", func(b *Book, s *Situation) {
			later := rehearsed(b, 17)
			later.Passed = false
			s.Past = append(s.Past, later)
		}, "a drill since then did not pass: 2026-11-17"},
		{"a failed drill before", func(b *Book, s *Situation) {
			earlier := rehearsed(b, 12)
			earlier.Passed = false
			s.Past = append(s.Past, earlier)
		}, ""},
		{"a failed drill of another meaning since", func(b *Book, s *Situation) {
			later := rehearsed(b, 17)
			later.Passed, later.Meaning = false, "other"
			s.Past = append(s.Past, later)
		}, ""},
		{"within the usual period", func(_ *Book, s *Situation) { s.Now = night(15).Add(DefaultPeriod) }, ""},
		{"after the usual period", func(_ *Book, s *Situation) { s.Now = night(15).Add(DefaultPeriod + time.Second) }, "has to be repeated every 92 days"},
		{"after its own period", func(b *Book, _ *Situation) { b.Period = 48 * time.Hour }, "is 5 days old, and it has to be repeated every 2 days"},
		{"a drill of the future", func(_ *Book, s *Situation) { s.Past[0].Began = s.Now.AddDate(10, 0, 0) }, "of 2036-11-21, is later than now, so a clock was wrong"},
		{"a drill of the future does not hide one that failed", func(b *Book, s *Situation) {
			failed, future := rehearsed(b, 17), rehearsed(b, 18)
			failed.Passed, future.Began = false, s.Now.AddDate(10, 0, 0)
			s.Past = append(s.Past, failed, future)
		}, "a drill since then did not pass: 2026-11-17"},
		{"another machine of that name", func(_ *Book, s *Situation) {
			delete(s.Machines, "id-db")
			p := onLAN(pointAt("db", 20, "a"), "10.0.5.21/24")
			p.ID, p.Machine.ID = "rebuilt-20", "rebuilt"
			s.Machines["rebuilt"] = p.Machine
			s.Points = append(s.Points, p)
		}, "db is another machine than the one that the last drill brought back"},
		{"no point of a machine", func(_ *Book, s *Situation) {
			s.Points = slices.DeleteFunc(s.Points, func(p KnownPoint) bool { return p.Machine.Name == "app" })
		}, "app: no drive that is known has a restore point of it"},
		{"a machine that nobody knows", func(b *Book, s *Situation) {
			delete(s.Machines, "id-app")
			s.Points = slices.DeleteFunc(s.Points, func(p KnownPoint) bool { return p.Machine.Name == "app" })
		}, "app: no machine of that name is known"},
		{"a machine that nothing checks", func(b *Book, s *Situation) {
			b.Machines[1].Checks = nil
			s.Past[0].Meaning = Meaning(b)
		}, "nothing checks that app serves"},
		{"a host that is away", func(b *Book, s *Situation) {
			b.Machines[2].Host = "rescue"
			s.Past[0].Meaning = Meaning(b)
		}, "web may run on host rescue only"},
		{"no host was looked at", func(_ *Book, s *Situation) { s.Hosts = nil }, ""},
		{"a host that is full today", func(_ *Book, s *Situation) { s.Hosts[0].FreeMemoryBytes = 1 << 30 }, ""},
		{"a disk added", func(_ *Book, s *Situation) {
			m := s.Machines["id-db"]
			m.Disks = append(slices.Clone(m.Disks), lifeboat.Disk{Key: "data"})
			s.Machines["id-db"] = m
		}, "db got the disk data since the last drill"},
		{"a disk added that is left out", func(_ *Book, s *Situation) {
			m := s.Machines["id-db"]
			m.Disks = append(slices.Clone(m.Disks), lifeboat.Disk{Key: "swap", Excluded: "swap space"})
			s.Machines["id-db"] = m
		}, ""},
		{"a disk taken away", func(_ *Book, s *Situation) {
			m := s.Machines["id-db"]
			m.Disks = nil
			s.Machines["id-db"] = m
		}, ""},
		{"another kind of host", func(_ *Book, s *Situation) { s.Hosts[0].Kind = "libvirt" }, "rehearsed on qemu, and would run on libvirt"},
		{"a group without one instant", func(b *Book, s *Situation) {
			b.Groups = []Group{{Name: "orders", Line: 30, Machines: []string{"db", "web"}}}
			s.Past[0].Meaning = Meaning(b)
			s.Points = slices.DeleteFunc(s.Points, func(p KnownPoint) bool { return p.ID == "db-20" || p.ID == "web-19" })
		}, "orders"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b, s := shopBook(), shopSituation(Drill)
			s.Past = []PastRun{rehearsed(b, 15)}
			c.change(b, &s)
			got := Ready(b, s)
			switch {
			case c.why == "" && (!got.Ready || len(got.Why) > 0 || got.LastPassed != "drill" || got.At != night(15)):
				t.Errorf("not ready: %+v", got)
			case c.why != "" && (got.Ready || len(got.Why) != 1 || !strings.Contains(got.Why[0], c.why)):
				t.Errorf("readiness %+v, want the one reason %q", got, c.why)
			}
		})
	}
}

func TestAPlanWarnsOfDisksClocksAndAddresses(t *testing.T) {
	cases := []struct {
		name   string
		change func(b *Book, s *Situation)
		// want is the only finding, as codes writes it, and what a part of its words.
		want, what string
	}{
		{"a disk added since the drill", func(b *Book, s *Situation) {
			s.Past = []PastRun{rehearsed(b, 15)}
			m := s.Machines["id-app"]
			m.Disks = append(slices.Clone(m.Disks), lifeboat.Disk{Key: "data"})
			s.Machines["id-app"] = m
		}, "warns:disk-added:app", "its disk data is newer than the last drill"},
		{"no drill, no disk that is new", func(_ *Book, s *Situation) {
			m := s.Machines["id-app"]
			m.Disks = append(slices.Clone(m.Disks), lifeboat.Disk{Key: "data"})
			s.Machines["id-app"] = m
		}, "", ""},
		{"a clock a minute behind is none", func(_ *Book, s *Situation) { s.Now = night(20).Add(-time.Minute) }, "", ""},
		{"a clock that is behind", func(_ *Book, s *Situation) { s.Now = night(20).Add(-time.Minute - time.Second) },
			"warns:clock:db", "clock says 2026-11-20 21:58, and the newest point, of db, is of 2026-11-20 22:00"},
		{"a host's clock that is behind", func(_ *Book, s *Situation) { s.Hosts[0].ClockAhead = -11 * time.Hour },
			"warns:clock", "the clock of host local says 2026-11-20 21:00"},
		{"a drill of the future", func(b *Book, s *Situation) {
			s.Past = []PastRun{rehearsed(b, 15)}
			s.Past[0].Began = s.Now.AddDate(10, 0, 0)
		}, "warns:clock", "the drill drill says that it began on 2036-11-21 08:00, which is later than now"},
		{"a host's clock that is ahead", func(_ *Book, s *Situation) { s.Hosts[0].ClockAhead = 11 * time.Hour }, "", ""},
		{"a host without machines", func(_ *Book, s *Situation) {
			spare := hostNamed("spare", 16)
			spare.ClockAhead = -11 * time.Hour
			s.Hosts = append(s.Hosts, spare)
		}, "", ""},
		{"one address twice", func(_ *Book, s *Situation) { readdress(s, "app", "10.0.5.21/24") },
			"warns:address-clash:app", "db and app both had the address 10.0.5.21 on network lan"},
		{"one address twice, another prefix", func(_ *Book, s *Situation) { readdress(s, "app", "10.0.5.21/16") },
			"warns:address-clash:app", "10.0.5.21"},
		{"one address on two networks", func(b *Book, s *Situation) {
			b.Networks = append(b.Networks, NetworkRule{Name: "dmz"})
			readdress(s, "app", "10.0.5.21/24")
			for i := range s.Points {
				if s.Points[i].Machine.Name == "app" {
					s.Points[i].Machine.NICs[0].Network = "dmz"
				}
			}
		}, "", ""},
		{"addresses of the link alone", func(_ *Book, s *Situation) {
			readdress(s, "app", "fe80::1/64")
			readdress(s, "web", "fe80::1/64")
		}, "", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b, s := shopBook(), shopSituation(Drill)
			c.change(b, &s)
			p := resolved(t, b, s)
			if got := strings.Join(codes(p), " "); got != c.want {
				t.Fatalf("findings %q, want %q: %v", got, c.want, p.Findings)
			}
			if c.want != "" && !strings.Contains(p.Findings[0].What, c.what) {
				t.Errorf("%q does not say %q", p.Findings[0].What, c.what)
			}
		})
	}
}

// readdress gives the only card of a machine another address, in all its points.
func readdress(s *Situation, machine, address string) {
	for i := range s.Points {
		if m := &s.Points[i].Machine; m.Name == machine {
			m.NICs = slices.Clone(m.NICs)
			m.NICs[0].Addresses = []string{address}
		}
	}
}
