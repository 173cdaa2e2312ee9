package runbook

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"lifeboat"
	"lifeboat/yamlfile"
)

// DraftInput is what is known when a first draft of a runbook is written.
type DraftInput struct {
	Name, Site string
	Now        time.Time
	// Machines are those to bring back, as of their newest points.
	Machines []lifeboat.Machine
	// Points say which machines were exported together, and how old the data would
	// be; Past what drills measured.
	Points []KnownPoint
	Past   []PastRun
}

// Draft writes the first draft of a runbook, with comments that say what is a guess
// and what only people know. [Parse] reads it. It is the same for the same input.
func Draft(in DraftInput) []byte {
	d := &draft{DraftInput: in}
	d.gather()
	d.head()
	d.networks()
	d.groups()
	d.machines()
	d.steps()
	return []byte(d.out.String())
}

// draft is a draft on its way.
type draft struct {
	DraftInput
	out   strings.Builder
	known []*draftMachine
	// left are the names that cannot be written into a file.
	left  []string
	tiers int
}

// draftMachine is a machine with what is guessed of it.
type draftMachine struct {
	lifeboat.Machine
	key   string
	twice bool
	guess serviceGuess
	sure  bool
	tier  int
	// run is the export run of its newest point, whose moment is takenAt.
	run     string
	takenAt time.Time
}

func (d *draft) line(format string, args ...any) { fmt.Fprintf(&d.out, format+"\n", args...) }

// gather orders the machines by what they seem to serve, and then by name.
func (d *draft) gather() {
	names := map[string]int{}
	for _, m := range d.Machines {
		names[m.Name]++
	}
	used := map[string]bool{}
	for _, m := range slices.SortedFunc(slices.Values(d.Machines), func(x, y lifeboat.Machine) int {
		return cmp.Or(strings.Compare(x.Name, y.Name), strings.Compare(x.ID, y.ID))
	}) {
		if !writable(m.Name) {
			d.left = append(d.left, m.ID)
			continue
		}
		k := &draftMachine{Machine: m, key: m.Name, twice: names[m.Name] > 1}
		for n := 2; used[k.key]; n++ {
			k.key = fmt.Sprintf("%s-%d", m.Name, n)
		}
		used[k.key] = true
		k.guess, k.sure = guessService(m)
		for _, p := range d.Points {
			if p.Machine.ID == m.ID && p.TakenAt.After(k.takenAt) {
				k.run, k.takenAt = p.RunID, p.TakenAt
			}
		}
		d.known = append(d.known, k)
	}
	slices.SortStableFunc(d.known, func(x, y *draftMachine) int { return cmp.Compare(x.guess.tier, y.guess.tier) })
	last := -1
	for _, k := range d.known {
		if k.guess.tier != last {
			d.tiers++
			last = k.guess.tier
		}
		k.tier = d.tiers
	}
}

// writable says that a name can stand in the file, which is plain text.
func writable(name string) bool {
	b, err := Parse("x", []byte("version: 1\nmachines:\n  "+quoted(name)+":\n"))
	return err == nil && b.Machines[0].Name == name
}

func (d *draft) head() {
	d.line("# The recovery of %s, first written on %s from what Lifeboat knew.", comment(cmp.Or(d.Site, "this site")), d.Now.Format(time.DateOnly))
	d.line("# Whatever is a guess says so. Correct it, then rehearse it: lifeboat drill %s", d.Name)
	d.line("# Every field is in docs/reference/runbook.md. Never write a secret into this file.")
	d.line("version: %d\nname: %s", Version, d.Name)
	d.line("purpose: %s", quoted("Bring "+comment(cmp.Or(d.Site, "this site"))+" back on any Linux host"))
	d.line("\n# Whom to call. Changes here need no new drill.\n# contacts:\n#   - {name: Eva Example, role: managing director, phone: \"+49 30 1234567\"}")
	d.line("\n# How often a drill has to pass.\nperiod: 90d")
	d.line("\n# What the company promised itself. These are placeholders: ask those who pay.\nobjectives:")
	d.line("  rto: 4h   # until everything serves%s", d.measured())
	d.line("  rpo: 24h  # how old the data may be%s", d.ages())
	d.line("\n# Time that passes before anybody can begin.\n# lead_times: {travel: 45m, rental of a server: 2h}")
}

// measured says what the newest drill that passed took.
func (d *draft) measured() string {
	for _, p := range slices.Backward(d.Past) {
		if p.Passed && p.RTA > 0 {
			return fmt.Sprintf("; the %s of %s took %s", p.Mode, p.Began.Format(time.DateOnly), spanWords(p.RTA.Round(time.Second)))
		}
	}
	return "; no drill has measured it yet"
}

// ages says how old the data would be now, at worst.
func (d *draft) ages() string {
	var oldest *draftMachine
	for _, k := range d.known {
		if !k.takenAt.IsZero() && (oldest == nil || k.takenAt.Before(oldest.takenAt)) {
			oldest = k
		}
	}
	if oldest == nil || !oldest.takenAt.Before(d.Now) {
		return ""
	}
	return fmt.Sprintf("; today it would be up to %s, of %s", cmp.Or(spanWords(d.Now.Sub(oldest.takenAt).Round(time.Minute)), "1m"), comment(oldest.Name))
}

// networksOf are the networks of a machine's cards that can be written.
func (k *draftMachine) networksOf() (names []string) {
	for _, n := range k.NICs {
		if n.Network != "" && writable(n.Network) && !slices.Contains(names, n.Network) {
			names = append(names, n.Network)
		}
	}
	return names
}

func (d *draft) networks() {
	var names []string
	ranges := map[string][]string{}
	for _, k := range d.known {
		for _, n := range k.networksOf() {
			if !slices.Contains(names, n) {
				names = append(names, n)
			}
		}
		for _, n := range k.NICs {
			for _, a := range n.Addresses {
				if p, err := netip.ParsePrefix(a); err == nil && p.Addr().Is4() && !slices.Contains(ranges[n.Network], p.Masked().String()) {
					ranges[n.Network] = append(ranges[n.Network], p.Masked().String())
				}
			}
		}
	}
	if len(names) == 0 {
		return
	}
	slices.Sort(names)
	d.line("\n# The networks of the source. In a drill each is isolated. In a recovery one without")
	d.line("# recover: leads through this host's address (nat); or say where it leads:")
	d.line("#   recover: {bridge: br0}     recover: {network: VM Network}     recover: isolated")
	d.line("# Nothing is reached from outside but what stands under forwards, with recover: nat:")
	d.line("#   forwards: [\"0.0.0.0:443:MACHINE:443\"]     vpn: 51820\nnetworks:")
	for _, n := range names {
		d.line("  %s:", quoted(n))
		if len(ranges[n]) == 1 {
			d.line("    cidr: %s", quoted(ranges[n][0]))
		}
	}
}

// groups puts together what was exported in one run and shares a network.
func (d *draft) groups() {
	members := map[string][]string{}
	var names []string
	runs := map[string]string{}
	for _, k := range d.known {
		networks := k.networksOf()
		if k.run == "" || len(networks) == 0 {
			continue
		}
		name := networks[0]
		if run, ok := runs[name]; ok && run != k.run {
			name = fmt.Sprintf("%s (run %s)", name, comment(k.run[:min(8, len(k.run))]))
		}
		if _, ok := runs[name]; !ok {
			runs[name] = k.run
			names = append(names, name)
		}
		members[name] = append(members[name], k.key)
	}
	names = slices.DeleteFunc(names, func(name string) bool { return len(members[name]) < 2 || !writable(name) })
	if len(names) == 0 {
		return
	}
	d.line("\n# Machines that belong together come back from one export run, the newest that has")
	d.line("# them all. A guess: they were exported together and share a network.\ngroups:")
	for _, name := range names {
		d.line("  %s:\n    machines:", quoted(name))
		for _, m := range members[name] {
			d.line("      - %s", quoted(m))
		}
	}
}

func (d *draft) machines() {
	for _, id := range d.left {
		d.line("\n# Left out: the machine with the id %s, whose name cannot be written here. Rename it.", comment(id))
	}
	d.line("\n# A tier starts when the checks of the one before have passed.\nmachines:")
	if len(d.known) == 0 {
		d.line("  # None is known. This one stands for the first: write its name.\n  server:\n    tier: 1")
		return
	}
	for _, k := range d.known {
		d.line("  %s:", quoted(k.key))
		if k.twice {
			d.line("    id: %s  # two machines have this name", quoted(k.ID))
		}
		if k.sure {
			d.line("    tier: %d  # a guess: its name looks like %s", k.tier, k.guess.what)
		} else {
			d.line("    tier: %d", k.tier)
		}
		d.checks(k)
	}
}

// checks writes what a machine is asked, as far as it can be.
func (d *draft) checks(k *draftMachine) {
	reached := slices.ContainsFunc(k.NICs, func(n lifeboat.NIC) bool { return len(n.Addresses) > 0 })
	if !reached && len(k.networksOf()) > 0 && writable(k.networksOf()[0]) {
		d.line("    # Nobody knows its addresses: addresses: {%s: 10.0.0.5}", comment(k.networksOf()[0]))
	}
	var checks []string
	if k.Agent {
		checks = append(checks, "agent: true  # its guest agent answers")
	}
	if reached {
		checks = append(checks, k.guess.checks...)
	}
	if len(checks) == 0 {
		d.line("    # No check is known: without one nobody knows whether it serves, such as")
		d.line("    #   checks: [{tcp: 22}]")
		return
	}
	d.line("    checks:")
	for _, c := range checks {
		d.line("      - %s", c)
	}
}

func (d *draft) steps() {
	d.line("\n# What stands beside starting and checking the machines. A step without after: begins")
	d.line("# at once; questions are asked in a recovery only.\nsteps:")
	d.line("  - id: declare\n    confirm: |\n      Declare the disaster: the site is lost, or will not be back in time. Nothing that is\n      recovered here may run there as well.\n    when: recover")
	d.line("  - id: insurer\n    confirm: Tell the insurer, and photograph what is damaged before anybody clears it away\n    after: declare\n    when: recover")
	for tier := 1; tier <= max(1, d.tiers); tier++ {
		after := "declare"
		if tier > 1 {
			after = fmt.Sprintf("tier-%d-serves", tier-1)
		}
		d.line("  - boot: {tier: %d}\n    after: %s", tier, after)
		d.line("  - id: tier-%d-serves\n    check: {tier: %d}", tier, tier)
		if tier == 1 {
			d.line("  - id: clocks\n    confirm: The clocks of the recovered machines are right (directories refuse to sign in otherwise)\n    after: tier-1-serves\n    when: recover")
		}
	}
	last := fmt.Sprintf("tier-%d-serves", max(1, d.tiers))
	for _, c := range []struct{ id, text string }{
		{"licences", "Licences: programs that count processors or cards still start"},
		{"dns-and-mx", "Public DNS and MX records lead to the addresses of this host"},
		{"vpn", "Staff can come in: the VPN leads here, and their file was handed out"},
		{"next-export", "The first export of the recovered machines is planned for tonight, onto another drive"},
	} {
		d.line("  - id: %s\n    confirm: %s\n    after: %s\n    when: recover", c.id, quoted(c.text), last)
	}
}

var plainWord = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]*$`)

// reserved are words that YAML, old or new, takes for something else.
var reserved = []string{"true", "false", "yes", "no", "on", "off", "null", "y", "n"}

// quoted is text as a word of YAML.
func quoted(s string) string {
	if plainWord.MatchString(s) && !slices.Contains(reserved, strings.ToLower(s)) {
		return s
	}
	return strconv.Quote(s)
}

// comment is text of others that may stand in a comment.
func comment(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !strconv.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if all := []rune(s); len(all) > yamlfile.TextLimit/2 {
		return string(all[:yamlfile.TextLimit/2])
	}
	return s
}
