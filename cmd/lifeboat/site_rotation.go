package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"lifeboat/rotation"
	"lifeboat/yamlfile"
)

// readRotation reads the section `rotation` of site.yaml strictly. What cannot be
// meant is named with its line and, for a word that is not known, with the
// nearest one that is. Without a section the policy has no sets, and keeps all.
func readRotation(n *yaml.Node) (rotation.Policy, error) {
	r := &rotationReader{}
	p := rotation.Policy{RetentionOf: map[string]rotation.Retention{}, RetentionOn: map[string]rotation.Retention{}}
	f := r.Fields(n, "rotation", "scheme", "calendar", "locations", "people", "objectives", "retention", "wrongDrive", "standing", "verifyEvery", "proveEvery")
	p.Scheme = r.scheme(f["scheme"])
	p.Calendar = r.calendar(f["calendar"])
	p.People = r.people(f["people"])
	p.Locations = r.locations(f["locations"], p.People)
	p.Objectives = r.objectives(f["objectives"])
	r.retentions(f["retention"], &p)
	p.ExportToWrongDrive = r.Choice(f["wrongDrive"], "wrongDrive", "refuse", "export") == "export"
	p.Standing = r.Text(f["standing"], "standing")
	if p.Standing != "" && !filepath.IsAbs(p.Standing) {
		r.Wrong(f["standing"], "standing: %q has to be a whole path, from the root", p.Standing)
	}
	p.VerifyEvery, p.ProveEvery = r.span(f["verifyEvery"], "verifyEvery"), r.span(f["proveEvery"], "proveEvery")
	if yamlfile.Followed(n) != nil {
		r.checkRotation(yamlfile.Followed(n), p)
	}
	return p, r.Err
}

// checkRotation refuses a rotation that nobody could keep to.
func (r *rotationReader) checkRotation(n *yaml.Node, p rotation.Policy) {
	offsite := slices.ContainsFunc(p.Locations, func(l rotation.Location) bool { return l.Offsite })
	switch {
	case len(p.Scheme.Sets) < 2:
		r.Wrong(n, "rotation: scheme.sets needs at least two: while one is brought home, the other has to be away")
	case !offsite:
		r.Wrong(n, "rotation: none of the locations is offsite: say where drives are kept outside the house, with offsite: true")
	case len(p.People) == 0:
		r.Wrong(n, "rotation: people is empty: somebody has to carry the drives")
	}
}

// rotationReader reads the parts of the section.
type rotationReader struct{ yamlfile.Reader }

// span reads a span of time; nothing is 0.
func (r *rotationReader) span(n *yaml.Node, what string) time.Duration {
	text := r.Text(n, what)
	if text == "" {
		return 0
	}
	d, err := parseSpan(text)
	if err != nil {
		r.Wrong(n, "%s: %v", what, err)
	}
	return d
}

func (r *rotationReader) scheme(n *yaml.Node) rotation.Scheme {
	f := r.Fields(n, "scheme", "kind", "sets", "change", "swapDay", "start")
	s := rotation.Scheme{
		Kind: rotation.SchemeKind(r.Choice(f["kind"], "scheme.kind",
			string(rotation.SchemeRoundRobin), string(rotation.SchemeGFS), string(rotation.SchemeHanoi))),
		Weekly:  r.Choice(f["change"], "scheme.change", "weekly", "daily") == "weekly",
		SwapDay: time.Friday,
	}
	if f["swapDay"] != nil {
		s.SwapDay = r.weekday(f["swapDay"], "scheme.swapDay")
		if !s.Weekly {
			r.Wrong(f["swapDay"], "scheme.swapDay goes with change: weekly")
		}
	}
	if f["start"] != nil {
		s.Start = r.date(f["start"], "scheme.start")
	}
	names, labels := map[string]bool{}, map[string]bool{}
	for _, item := range r.Items(f["sets"], "scheme.sets") {
		set := r.set(item, s.Kind)
		if names[set.Name] {
			r.Wrong(item, "scheme.sets: the name %q stands twice", set.Name)
		}
		names[set.Name] = true
		for _, label := range set.Drives {
			if labels[label] {
				r.Wrong(item, "scheme.sets: drive %q is in two sets", label)
			}
			labels[label] = true
		}
		s.Sets = append(s.Sets, set)
	}
	return s
}

// set reads one set: the label of its one drive, or fields.
func (r *rotationReader) set(n *yaml.Node, kind rotation.SchemeKind) rotation.Set {
	if n.Kind == yaml.ScalarNode {
		label := r.name(n, "scheme.sets")
		return rotation.Set{Name: label, Drives: []string{label}}
	}
	f := r.Fields(n, "a set", "name", "drives", "role")
	set := rotation.Set{Drives: r.names(f["drives"], "drives")}
	if len(set.Drives) == 0 {
		r.Wrong(n, "a set needs drives: the labels of its drives")
		return set
	}
	set.Name = set.Drives[0]
	if f["name"] != nil {
		set.Name = r.name(f["name"], "the name of a set")
	}
	switch {
	case kind == rotation.SchemeGFS && f["role"] != nil:
		set.Role = r.Choice(f["role"], "role", rotation.RoleSon, rotation.RoleFather, rotation.RoleGrandfather)
	case f["role"] != nil:
		r.Wrong(f["role"], "role goes with kind: gfs")
	}
	return set
}

// name reads what stands on a page and in the id of a step.
func (r *rotationReader) name(n *yaml.Node, what string) string {
	text := r.Text(n, what)
	if text == "" || strings.Contains(text, "/") {
		r.Wrong(n, "%s: %q cannot be a name: it has to be text without a slash", what, text)
	}
	return text
}

func (r *rotationReader) names(n *yaml.Node, what string) []string {
	for _, item := range r.Items(n, what) {
		r.name(item, what)
	}
	return r.Texts(n, what)
}

func (r *rotationReader) people(n *yaml.Node) (all []rotation.Person) {
	items := r.Items(n, "people")
	for _, item := range items {
		f := r.Fields(item, "a person", "name", "contact", "deputies", "left")
		p := rotation.Person{Name: r.name(f["name"], "the name of a person"), Contact: r.Text(f["contact"], "contact"), Deputies: r.Texts(f["deputies"], "deputies")}
		if f["left"] != nil {
			p.Left = r.date(f["left"], "left")
		}
		if slices.ContainsFunc(all, func(other rotation.Person) bool { return other.Name == p.Name }) {
			r.Wrong(item, "people: %q stands twice", p.Name)
		}
		all = append(all, p)
	}
	for i, p := range all {
		r.arePeople(items[i], "the deputies of "+p.Name, p.Deputies, all)
	}
	return all
}

// arePeople refuses a name that nobody has.
func (r *rotationReader) arePeople(n *yaml.Node, what string, names []string, people []rotation.Person) {
	var known []string
	for _, p := range people {
		known = append(known, p.Name)
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			r.Wrong(n, "%s: there is nobody called %q under people%s", what, name, yamlfile.Meant(name, known))
		}
	}
}

func (r *rotationReader) locations(n *yaml.Node, people []rotation.Person) (all []rotation.Location) {
	for _, item := range r.Items(n, "locations") {
		f := r.Fields(item, "a location", "name", "offsite", "contact", "hours", "openDays", "leadTime", "authorised")
		l := rotation.Location{
			Name: r.name(f["name"], "the name of a location"), Offsite: r.Yes(f["offsite"], "offsite"), Contact: r.Text(f["contact"], "contact"),
			Hours: r.Text(f["hours"], "hours"), OpenDays: r.weekdays(f["openDays"], "openDays"), LeadTime: r.span(f["leadTime"], "leadTime"),
			Authorised: r.Texts(f["authorised"], "authorised"),
		}
		r.arePeople(item, "location "+l.Name+": authorised", l.Authorised, people)
		if slices.ContainsFunc(all, func(other rotation.Location) bool { return other.Name == l.Name }) {
			r.Wrong(item, "locations: %q stands twice", l.Name)
		}
		all = append(all, l)
	}
	return all
}

func (r *rotationReader) objectives(n *yaml.Node) rotation.Objectives {
	f := r.Fields(n, "objectives", "offsite", "machines")
	o := rotation.Objectives{Offsite: r.span(f["offsite"], "objectives.offsite"), Of: map[string]time.Duration{}}
	for _, p := range r.Pairs(f["machines"], "objectives.machines") {
		o.Of[p.Key.Value] = r.span(p.Value, fmt.Sprintf("objectives.machines.%s", p.Key.Value))
	}
	return o
}

// retentionFields are the rules of one retention.
var retentionFields = []string{"last", "daily", "weekly", "monthly", "yearly", "within", "maxAge", "over"}

// retentions reads the rules for all, and those of machines and of drives.
func (r *rotationReader) retentions(n *yaml.Node, p *rotation.Policy) {
	f := r.Fields(n, "retention", append(slices.Clone(retentionFields), "machines", "drives")...)
	p.Retention = r.retention(f)
	for _, of := range r.Pairs(f["machines"], "retention.machines") {
		p.RetentionOf[of.Key.Value] = r.retention(r.Fields(of.Value, "the retention of "+of.Key.Value, retentionFields...))
	}
	for _, on := range r.Pairs(f["drives"], "retention.drives") {
		p.RetentionOn[on.Key.Value] = r.retention(r.Fields(on.Value, "the retention on "+on.Key.Value, retentionFields...))
	}
}

func (r *rotationReader) retention(f map[string]*yaml.Node) rotation.Retention {
	return rotation.Retention{
		Last: r.Number(f["last"], "last"), Daily: r.Number(f["daily"], "daily"), Weekly: r.Number(f["weekly"], "weekly"),
		Monthly: r.Number(f["monthly"], "monthly"), Yearly: r.Number(f["yearly"], "yearly"),
		Within: r.span(f["within"], "within"), MaxAge: r.span(f["maxAge"], "maxAge"),
		AllDrives: r.Choice(f["over"], "over", "each drive", "all drives") == "all drives",
	}
}
