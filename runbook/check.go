package runbook

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"lifeboat"
	"lifeboat/yamlfile"
)

// clockSlack is how far a clock may be behind the newest point without a word.
const clockSlack = time.Minute

// What a machine writes until it has been moved to local disk, or taken away: room
// for it is asked for, as a share of its data, and at least this much.
const (
	overlayShare = 10
	overlayBytes = 256 << 20
)

// check finds what would go wrong with a plan that was made.
func (r *resolver) check() {
	for _, m := range r.subjects {
		r.checkMachine(m)
	}
	r.checkHosts()
	r.checkDrives()
	r.checkClock()
	r.checkSpace()
	if len(r.s.Only) == 0 {
		r.checkNew()
	}
	r.checkLastDrill()
}

func (r *resolver) checkMachine(m *subject) {
	if len(r.checksOf(m)) == 0 {
		r.find(Warns, "no-check", m, m.Name+": nothing checks that it serves", "add checks: to it, such as tcp: 22")
	}
	if m.chosen == nil {
		return
	}
	if age := r.s.Now.Sub(m.chosen.TakenAt); m.Objectives.RPO > 0 && age > m.Objectives.RPO {
		r.find(Warns, "old-point", m, fmt.Sprintf("%s: its point is %s old, and the objective is %s", m.Name, lasting(age), lasting(m.Objectives.RPO)),
			"export it, or attach the drive with a newer point: lifeboat point list")
	}
	for _, key := range r.disksAdded(m) {
		r.find(Warns, "disk-added", m, fmt.Sprintf("%s: its disk %s is newer than the last drill that passed", m.Name, key), "rehearse it: lifeboat drill "+r.book.Name)
	}
}

// disksAdded are the disks that a machine has now and had not in the last drill of
// this runbook that passed.
func (r *resolver) disksAdded(m *subject) (keys []string) {
	had, measured := r.proven.Disks[m.id]
	if !measured {
		return nil
	}
	now, protected := r.s.Machines[m.id]
	if !protected && m.chosen != nil {
		now = m.chosen.Machine
	}
	for _, d := range now.Disks {
		if d.Excluded == "" && !slices.Contains(had, d.Key) {
			keys = append(keys, d.Key)
		}
	}
	return keys
}

// checkHosts tells of hosts that do not answer, and of those where machines would
// crawl.
func (r *resolver) checkHosts() {
	for _, rule := range r.book.Hosts {
		h, known := r.host(rule.Name)
		switch {
		case rule.Name == "*":
		case !known:
			var names []string
			for _, h := range r.s.Hosts {
				names = append(names, h.Name)
			}
			r.findAt(Warns, "host-unreached", "", rule.Line, fmt.Sprintf("host %s is not known here%s", rule.Name, yamlfile.Meant(rule.Name, names)), "see the hosts: lifeboat host list")
		case !h.Reached:
			r.findAt(Warns, "host-unreached", "", rule.Line, fmt.Sprintf("host %s does not answer: %s", h.Name, h.Why), "see what is wrong: lifeboat host check "+h.Name)
		}
	}
	for _, m := range r.plan.Machines {
		if h, known := r.host(m.Host); known {
			r.checkAbilities(m, h)
		}
	}
	for _, planned := range r.plan.Hosts {
		h, _ := r.host(planned.Name)
		if len(planned.Machines) == 0 {
			continue
		}
		if !h.KVM {
			r.noKVM(h)
		}
		for _, n := range r.plan.Networks {
			wanted := n.Cable.Kind == CableBridge || n.Cable.Kind == CableNetwork
			if wanted && len(h.Networks) > 0 && !slices.Contains(h.Networks, n.Cable.Name) && r.onNetwork(planned, n.Name) {
				r.findAt(Stops, "unknown-network", "", r.lineOfNetwork(n.Name), fmt.Sprintf("network %s leads to %s, which host %s does not have; it has %s", n.Name, n.Cable.Name, h.Name, strings.Join(h.Networks, ", ")),
					"correct recover: of that network, or make it on the host")
			}
		}
	}
}

// checkAbilities finds what a host cannot do for a machine that would run there. Of
// several of its cards or checks the first is told.
func (r *resolver) checkAbilities(m PlannedMachine, h KnownHost) {
	at := r.subjects[slices.IndexFunc(r.subjects, func(s *subject) bool { return s.Name == m.Name })]
	leads := func(kinds ...CableKind) (string, bool) {
		for _, c := range m.Cards {
			for _, n := range r.plan.Networks {
				if n.Name == c.Network && slices.Contains(kinds, n.Cable.Kind) {
					return n.Name, true
				}
			}
		}
		return "", false
	}
	if network, ok := leads(CableNAT, CableIsolated); ok && !h.Segments {
		r.find(Stops, "no-isolation", at, fmt.Sprintf("%s needs network %s apart from all others, and host %s has no such networks", m.Name, network, h.Name),
			"let another host run it, with host: of the machine or tiers: and machines: in hosts:")
	}
	if network, ok := leads(CableBridge, CableNetwork); ok && !h.Links {
		r.find(Stops, "no-links", at, fmt.Sprintf("%s comes back unplugged from network %s, and host %s cannot plug it in", m.Name, network, h.Name),
			"let another host run it, with host: of the machine or tiers: and machines: in hosts:")
	}
	if r.s.Mode != Drill || !h.Remote {
		return
	}
	for _, c := range r.checksOf(at) {
		switch c.Kind {
		case CheckDNS, CheckPing, CheckCommand:
			r.find(Stops, "check-needs-agent", at, fmt.Sprintf("%s: host %s is another computer, where a drill asks through the guest agent alone, and it cannot ask the check %s so", m.Name, h.Name, c.Kind),
				"use tcp, http, agent, console or guest, or rehearse on this computer")
			return
		case CheckTCP, CheckHTTP, CheckHTTPS:
			r.find(Warns, "check-needs-agent", at, fmt.Sprintf("%s: host %s is another computer, where a drill asks the check %s through the guest agent: it has to run in the machine", m.Name, h.Name, c.Kind),
				"install the QEMU guest agent or VMware Tools in it")
			return
		}
	}
}

func (r *resolver) lineOfNetwork(name string) int {
	if i := r.ruleOrder(name); i < len(r.book.Networks) {
		return r.book.Networks[i].Line
	}
	return 0
}

// onNetwork says that a machine of a host has a card on a network.
func (r *resolver) onNetwork(h PlannedHost, network string) bool {
	return slices.ContainsFunc(r.plan.Machines, func(m PlannedMachine) bool {
		return m.Host == h.Name && slices.ContainsFunc(m.Cards, func(c PlannedCard) bool { return c.Network == network })
	})
}

func (r *resolver) noKVM(h KnownHost) {
	severity, next := Warns, "turn on virtualisation in its firmware, or take another host"
	what := fmt.Sprintf("host %s has no hardware virtualisation: machines are many times slower there", h.Name)
	if r.s.Mode == Recover && !r.s.AllowEmulation {
		severity, next = Stops, next+"; to do without: --allow-emulation"
	}
	r.findAt(severity, "no-kvm", "", 0, what, next)
}

// checkDrives tells which drives have to be fetched, and which of them nobody
// should believe.
func (r *resolver) checkDrives() {
	for _, planned := range r.plan.Drives {
		d := r.drives[planned.ID]
		if !planned.Attached {
			what := fmt.Sprintf("drive %s is not attached: %s", planned.Label, cmp.Or(planned.Where, "nobody knows where it is"))
			if d.FetchTime > 0 {
				what += fmt.Sprintf("; it takes about %s to have it here", lasting(d.FetchTime))
			}
			r.findAt(Warns, "drive-away", "", 0, what, fmt.Sprintf("fetch drive %s and attach it", planned.Label))
		}
	}
}

// checkClock compares the clocks with the newest point: a guest that starts before
// its own data was written may refuse to, and certificates are not valid yet.
func (r *resolver) checkClock() {
	var newest *subject
	for _, m := range r.subjects {
		if m.chosen != nil && (newest == nil || m.chosen.TakenAt.After(newest.chosen.TakenAt)) {
			newest = m
		}
	}
	if newest == nil {
		return
	}
	at := newest.chosen.TakenAt
	if r.s.Now.Add(clockSlack).Before(at) {
		r.find(Warns, "clock", newest, fmt.Sprintf("this computer's clock says %s, and the newest point, of %s, is of %s", r.day(r.s.Now), newest.Name, r.day(at)),
			"set the clock before machines start")
	}
	for _, planned := range r.plan.Hosts {
		h, _ := r.host(planned.Name)
		if clock := r.s.Now.Add(h.ClockAhead); h.ClockAhead < 0 && len(planned.Machines) > 0 && clock.Add(clockSlack).Before(at) {
			r.findAt(Warns, "clock", "", 0, fmt.Sprintf("the clock of host %s says %s, and the newest point, of %s, is of %s", h.Name, r.day(clock), newest.Name, r.day(at)),
				"set that host's clock before machines start")
		}
	}
}

// checkSpace finds hosts without room for what machines write, for the disks that
// are moved there, and for those that have to be copied before they start.
func (r *resolver) checkSpace() {
	for _, planned := range r.plan.Hosts {
		h, _ := r.host(planned.Name)
		if h.FreeDiskBytes == 0 {
			continue
		}
		var need int64
		for i, m := range r.plan.Machines {
			if m.Host != h.Name || r.subjects[i].chosen == nil {
				continue
			}
			data := r.subjects[i].chosen.DataBytes
			if !m.Settle && h.BootNBD {
				data = max(data/overlayShare, overlayBytes)
			}
			need += data
		}
		if need <= h.FreeDiskBytes {
			continue
		}
		severity := Warns
		if !h.BootNBD {
			severity = Stops
		}
		r.findAt(severity, "disk-space", "", 0, fmt.Sprintf("host %s has %s free, and its machines need about %s", h.Name, sizeWords(h.FreeDiskBytes), sizeWords(need)),
			"make room there, settle fewer machines, or add a host")
	}
}

// checkNew finds machines that are protected and that no runbook brings back.
func (r *resolver) checkNew() {
	for _, id := range sortedKeys(r.s.Machines) {
		name := r.s.Machines[id].Name
		known := slices.ContainsFunc(r.subjects, func(m *subject) bool { return m.id == id }) || slices.Contains(r.s.InOtherBooks, name)
		if !known {
			r.findAt(Warns, "new-machine", name, 0, fmt.Sprintf("%s is protected, and no runbook brings it back", name), "add it to machines: in the runbook")
		}
	}
}

// checkLastDrill tells which objectives the last drill missed, and which machine
// would miss its own by what was measured.
func (r *resolver) checkLastDrill() {
	for _, p := range ofTheFuture(r.book, r.s) {
		r.findAt(Warns, "clock", "", 0, fmt.Sprintf("the drill %s says that it began on %s, which is later than now: it counts for nothing", short(p.RunID), r.day(p.Began)),
			"correct the clock of this computer, or of the one that it ran on, and rehearse again: lifeboat drill "+r.book.Name)
	}
	if last, ok := lastRun(r.book, r.s, func(p PastRun) bool { return p.Mode == Drill }); ok {
		for _, missed := range last.Missed {
			r.findAt(Warns, "objective-missed", "", 0, fmt.Sprintf("the last drill, of %s, missed an objective: %s", r.day(last.Began), missed), "see its report: lifeboat drill report "+short(last.RunID))
		}
	}
	for i, m := range r.plan.Machines {
		if rto := m.Objectives.RTO; rto > 0 && m.Estimate > rto {
			r.find(Warns, "objective-at-risk", r.subjects[i], fmt.Sprintf("%s would be back after about %s by what was measured, and the objective is %s", m.Name, lasting(m.Estimate), lasting(rto)),
				"give it an earlier tier, or start fewer machines before it")
		}
	}
}

// find adds a finding about a machine, at its line of the runbook.
func (r *resolver) find(severity Severity, code string, m *subject, what, next string) {
	r.findAt(severity, code, m.Name, m.Line, what, next)
}

func (r *resolver) findAt(severity Severity, code, machine string, line int, what, next string) {
	r.plan.Findings = append(r.plan.Findings, Finding{severity, code, machine, line, what, next})
}

// sortFindings puts what stops a plan first, then the order of the file. What is
// found twice stands once.
func sortFindings(findings []Finding) []Finding {
	slices.SortStableFunc(findings, func(a, b Finding) int {
		return cmp.Or(boolOrder(a.Severity == Stops, b.Severity == Stops), cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Code, b.Code), cmp.Compare(a.What, b.What))
	})
	return slices.Compact(findings)
}

// StopsPlan returns a problem where a finding keeps a plan from being executed, and
// nil where none does. In a recovery whoever calls may let it be without the
// machines that it names: [Situation.Only].
func (p *Plan) StopsPlan() error {
	stops := filter(p.Findings, func(f Finding) bool { return f.Severity == Stops })
	if len(stops) == 0 {
		return nil
	}
	what := fmt.Sprintf("runbook %s: %s", p.Book, stops[0].What)
	if n := len(stops) - 1; n > 0 {
		what += fmt.Sprintf("; and %d more that stop it", n)
	}
	return &lifeboat.Problem{What: what, Safe: "nothing was started or changed", Next: cmp.Or(stops[0].Next, "see all: lifeboat runbook check "+p.Book)}
}
