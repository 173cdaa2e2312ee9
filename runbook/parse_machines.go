package runbook

import (
	"slices"
	"strings"
	"time"

	"lifeboat/yamlfile"
)

func (r *reader) machines(n *yamlfile.Node) (all []Machine) {
	ids := map[string]bool{}
	for _, p := range r.named(n, "machines") {
		if len(all) == machineLimit {
			r.Wrong(p.Key, "machines: more than %d", machineLimit)
			return all
		}
		m := r.machine(p)
		if m.ID != "" && ids[m.ID] {
			r.Wrong(p.Key, "machine %s: another one has the id %s as well", m.Name, m.ID)
		}
		ids[m.ID] = true
		all = append(all, m)
	}
	return all
}

var machineFields = []string{"id", "point", "tier", "after", "host", "memory", "cpus", "addresses", "objectives", "checks", "on_failure", "settle"}

// failWords are the ways on after a failed check; the first is the default.
var failWords = []string{string(FailStop), string(FailContinue), string(FailOlderPoint), string(FailOtherBus)}

func (r *reader) machine(p yamlfile.Pair) Machine {
	f := r.fields(p.Value, "a machine", machineFields...)
	m := Machine{
		Name: p.Key.Value, Line: p.Key.Line,
		ID:          r.machineID(f["id"]),
		Point:       r.point(f["point"]),
		Tier:        max(1, r.tier(f["tier"], "tier")),
		After:       r.refers(f["after"], "after", toMachine),
		Host:        r.Text(f["host"], "host"),
		MemoryBytes: r.size(f["memory"], "memory"),
		CPUs:        r.count(f["cpus"], "cpus", cpuLimit),
		Objectives:  r.objectives(f["objectives"], "objectives"),
		Checks:      r.checks(f["checks"]),
		OnFailure:   OnFailure(r.Choice(f["on_failure"], "on_failure", failWords...)),
		Settle:      r.Yes(f["settle"], "settle"),
	}
	for _, a := range r.named(f["addresses"], "addresses") {
		if m.Addresses == nil {
			m.Addresses = map[string]string{}
		}
		m.Addresses[r.refer(a.Key, "addresses", toNetwork)] = r.address(a.Value, "addresses: "+a.Key.Value)
	}
	return m
}

func (r *reader) machineID(n *yamlfile.Node) string {
	text := r.Text(n, "id")
	if n != nil && (len(text) != 32 || strings.Trim(text, "0123456789abcdef") != "") {
		r.Wrong(n, "id: %q is not Lifeboat's id of a machine, 32 digits of 0 to 9 and a to f: lifeboat machine list --json shows them", text)
	}
	return text
}

// pointWords stand in a mistake's proposal.
var pointWords = []string{string(PointLatest), string(PointVerified)}

func (r *reader) point(n *yamlfile.Node) PointChoice {
	text := r.Text(n, "point")
	if n == nil || slices.Contains(pointWords, text) {
		return max(PointChoice(text), PointLatest)
	}
	if _, err := PointChoice(text).moment(time.UTC); err != nil {
		r.Wrong(n, "point: %q is not latest, latest-verified, a day such as 2026-11-20 or a moment such as 2026-11-20T22:00:00Z%s", text, yamlfile.Meant(text, pointWords))
	}
	return PointChoice(text)
}

// checkKinds are the keys that say what a check asks, in the order of the manual.
var checkKinds = []CheckKind{CheckTCP, CheckHTTP, CheckHTTPS, CheckDNS, CheckPing, CheckAgent, CheckConsole, CheckCommand, CheckGuest}

func (r *reader) checks(n *yamlfile.Node) (all []Check) {
	for _, item := range r.list(n, "checks", checkLimit) {
		all = append(all, r.check(item))
	}
	return all
}

func (r *reader) check(n *yamlfile.Node) Check {
	known := []string{}
	for _, k := range checkKinds {
		known = append(known, string(k))
	}
	f := r.fields(n, "a check", append(known, "within", "timeout", "passes")...)
	kind, value := r.theKind(n, f, "a check", known)
	c := Check{
		Kind: CheckKind(kind), Line: n.Line,
		Within:  r.span(f["within"], "within"),
		Timeout: r.span(f["timeout"], "timeout"),
		Passes:  r.count(f["passes"], "passes", 1000),
	}
	if c.Timeout > c.Within && c.Within > 0 {
		r.Wrong(f["timeout"], "timeout is that of one try, and has to fit into within")
	}
	if value != nil {
		r.askedOf(&c, value)
	}
	return c
}

// theKind is the one field that says what an entry is.
func (r *reader) theKind(n *yamlfile.Node, f map[string]*yamlfile.Node, what string, kinds []string) (kind string, value *yamlfile.Node) {
	var found []string
	for _, k := range kinds {
		if _, there := f[k]; there {
			found = append(found, k)
			kind, value = k, f[k]
		}
	}
	switch {
	case len(found) == 0:
		r.Wrong(n, "%s has to say what it does, with one of: %s", what, strings.Join(kinds, ", "))
	case len(found) > 1:
		r.Wrong(n, "%s does one thing, and this one says %s: make it several", what, strings.Join(found, " and "))
	}
	return kind, value
}

// askedOf reads what stands at the key of a check.
func (r *reader) askedOf(c *Check, n *yamlfile.Node) {
	what := string(c.Kind)
	switch c.Kind {
	case CheckTCP:
		if n.Kind == mapping {
			n = r.needed(n, what, "port")
		}
		c.Port = r.count(n, "tcp: port", 65535)
	case CheckHTTP, CheckHTTPS:
		r.askedOfWeb(c, n)
	case CheckDNS:
		if n.Kind == mapping {
			f := r.fields(n, what, "name", "port")
			c.Port = r.count(f["port"], "dns: port", 65535)
			n = r.needed(n, what, "name")
		}
		if n != nil {
			c.HostName = r.hostName(n, what)
		}
	case CheckPing, CheckAgent:
		if !r.Yes(n, what) {
			r.Wrong(n, "%s: write true, or take the check away", what)
		}
	case CheckConsole:
		if c.Text = r.Line(n, what, bodyLimit); c.Text == "" {
			r.Wrong(n, "console needs the text that the machine prints")
		}
	case CheckCommand, CheckGuest:
		c.Command = r.command(n, what)
	}
}

func (r *reader) askedOfWeb(c *Check, n *yamlfile.Node) {
	what := string(c.Kind)
	path := n
	if n.Kind == mapping {
		f := r.fields(n, what, webFields...)
		path = f["path"]
		c.Port, c.Status = r.count(f["port"], what+": port", 65535), r.count(f["status"], what+": status", 599)
		if c.Status > 0 && c.Status < 100 {
			r.Wrong(f["status"], "%s: status: %d is not one of HTTP", what, c.Status)
		}
		c.Body = r.Line(f["body"], what+": body", bodyLimit)
		if f["host"] != nil {
			c.HostName = r.hostName(f["host"], what+": host")
		}
	}
	c.Path = "/"
	if path != nil {
		c.Path = r.Line(path, what, bodyLimit)
	}
	if !pathText.MatchString(c.Path) {
		r.Wrong(path, "%s: %q is not a path: it begins with /, and its port and host are fields of their own", what, c.Path)
	}
}

var webFields = []string{"path", "port", "status", "body", "host"}

// needed is the field without which the fields say nothing.
func (r *reader) needed(n *yamlfile.Node, what, field string) *yamlfile.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == field {
			return yamlfile.Followed(n.Content[i+1])
		}
	}
	r.Wrong(n, "%s: %s is missing", what, field)
	return nil
}

// command reads a program and its arguments. One word alone is a program without
// any; a line that wants a shell has to ask for one.
func (r *reader) command(n *yamlfile.Node, what string) (words []string) {
	for _, item := range r.list(n, what, commandLimit) {
		words = append(words, r.Lines(item, what, argumentLimit))
	}
	switch {
	case len(words) == 0 || words[0] == "":
		r.Wrong(n, "%s: a program is missing: write [PROGRAM, ARGUMENT, ...]", what)
	case yamlfile.Followed(n).Kind != sequence && strings.ContainsAny(words[0], " \t\n"):
		r.Wrong(n, "%s: write the program and its arguments as a list: [%s]; or ask for a shell: [sh, -c, '...']", what, strings.Join(strings.Fields(words[0]), ", "))
	}
	return words
}
