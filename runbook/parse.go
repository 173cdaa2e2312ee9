package runbook

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"lifeboat/yamlfile"
)

// Mistakes are what cannot be meant in a runbook's file, by lines.
type Mistakes struct {
	Name string
	All  []yamlfile.Mistake
}

// Error names the first mistake, and says how many more there are.
func (m *Mistakes) Error() string {
	text := fmt.Sprintf("%s: %s", m.Name, m.All[0])
	if more := len(m.All) - 1; more > 0 {
		text += fmt.Sprintf(" (and %d more)", more)
	}
	return text
}

// Parse reads the text of a runbook, strictly. Name is what it is called if it does
// not say so itself. What the text says of itself is right in a book that comes back:
// machines that groups, steps and forwards speak of are there, and names are unique.
// What depends on anything else (points, hosts, loops) is for [Resolve].
//
// The error is *[Mistakes], also for a text that nobody meant well: it may have a
// megabyte, some levels, and aliases within bounds.
func Parse(name string, text []byte) (*Book, error) {
	root, bad := yamlfile.Read(text)
	if root == nil {
		if len(bad) == 0 {
			bad = []yamlfile.Mistake{{Text: "the file is empty: lifeboat runbook new writes a first draft"}}
		}
		return nil, &Mistakes{Name: name, All: bad}
	}
	r := &reader{}
	b := r.book(root, name)
	if r.Err == nil {
		r.checkNames(root, b)
	}
	if r.Err != nil {
		return nil, &Mistakes{Name: name, All: r.Mistakes()}
	}
	b.Text = slices.Clone(text)
	return b, nil
}

// reader reads the parts of the file.
type reader struct {
	yamlfile.Reader
	// refs are looked at when all names are known.
	refs []reference
}

// reference is a place that speaks of something by its name.
type reference struct {
	node *yamlfile.Node
	what string
	name string
	kind referenceKind
}

type referenceKind int

const (
	toMachine referenceKind = iota
	toNetwork
	toStep
)

// Limits of counts, far beyond what anybody writes.
const (
	machineLimit = 2000
	stepsLimit   = 5000
	listLimit    = 2000
	checkLimit   = 100
	commandLimit = 100
)

// Limits of texts, in characters.
const (
	messageLimit  = 4000
	argumentLimit = 8000
	bodyLimit     = 500
)

func (r *reader) book(n *yamlfile.Node, name string) *Book {
	f := r.fields(n, "the runbook", topFields...)
	b := &Book{Name: name}
	r.version(n, f["version"], b)
	if f["name"] != nil {
		b.Name = r.Text(f["name"], "name")
	}
	if !nameText.MatchString(b.Name) {
		r.Wrong(f["name"], "%q cannot be the name of a runbook: it has lower-case letters, digits and '-'; write one with name:", b.Name)
	}
	b.Purpose = r.Lines(f["purpose"], "purpose", messageLimit)
	b.Contacts = r.contacts(f["contacts"])
	if f["period"] != nil {
		if b.Period = r.span(f["period"], "period"); b.Period < day && b.Period > 0 {
			r.Wrong(f["period"], "period: %q is shorter than a day; months are written mo, such as 3mo", f["period"].Value)
		}
	}
	b.Objectives = r.objectives(f["objectives"], "objectives")
	b.Tiers = r.tiers(f["tiers"])
	for _, p := range r.named(f["lead_times"], "lead_times") {
		b.LeadTimes = append(b.LeadTimes, LeadTime{Name: p.Key.Value, Time: r.span(p.Value, "lead_times: "+p.Key.Value)})
	}
	b.Hosts = r.hosts(f["hosts"])
	b.Networks = r.networks(f["networks"])
	b.Machines = r.machines(f["machines"])
	b.Groups = r.groups(f["groups"])
	if len(b.Machines) == 0 && r.Err == nil {
		r.Wrong(n, "machines is missing: a runbook brings at least one machine back")
	}
	b.Steps = r.steps(f["steps"], b.Machines)
	return b
}

var topFields = []string{"version", "name", "purpose", "contacts", "period", "objectives", "tiers", "lead_times", "hosts", "networks", "groups", "machines", "steps"}

// version comes first: of a file of the future nothing else may be believed.
func (r *reader) version(root, n *yamlfile.Node, b *Book) {
	if n == nil {
		r.Wrong(root, "version is missing: the first line is version: %d", Version)
		return
	}
	if b.Version = r.Number(n, "version"); b.Version < 1 || b.Version > Version {
		r.Wrong(n, "version %q is not one that this program knows: it reads %d", n.Value, Version)
	}
}

func (r *reader) contacts(n *yamlfile.Node) (all []Contact) {
	for _, item := range r.list(n, "contacts", listLimit) {
		f := r.fields(item, "a contact", "name", "role", "phone")
		c := Contact{Name: r.Text(f["name"], "name"), Role: r.Text(f["role"], "role"), Phone: r.Text(f["phone"], "phone")}
		if c.Name == "" {
			r.Wrong(item, "a contact needs a name")
		}
		all = append(all, c)
	}
	return all
}

func (r *reader) objectives(n *yamlfile.Node, what string) Objectives {
	f := r.fields(n, what, "rto", "rpo")
	return Objectives{RTO: r.span(f["rto"], what+": rto"), RPO: r.span(f["rpo"], what+": rpo")}
}

func (r *reader) tiers(n *yamlfile.Node) map[int]Objectives {
	all := map[int]Objectives{}
	for _, p := range r.named(n, "tiers") {
		all[r.tier(p.Key, "tiers")] = r.objectives(p.Value, "tier "+p.Key.Value)
	}
	return all
}

// tierLimit is more than anybody tells apart.
const tierLimit = 99

// tier reads the number of a tier; 0 stands for one that cannot be.
func (r *reader) tier(n *yamlfile.Node, what string) int {
	return r.count(n, what, tierLimit)
}

// fields reads a mapping that has these fields and no others. A field that is there
// and says nothing is a mistake: its author had something in mind.
func (r *reader) fields(n *yamlfile.Node, what string, known ...string) map[string]*yamlfile.Node {
	f := r.Fields(n, what, known...)
	if n = yamlfile.Followed(n); n == nil {
		return f
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if value, there := f[key.Value]; there && value == nil {
			r.Wrong(key, "%s is empty: give it a value, or take it away", key.Value)
		}
	}
	return f
}

// named reads a mapping whose keys are names that people chose.
func (r *reader) named(n *yamlfile.Node, what string) []yamlfile.Pair {
	all := r.Pairs(n, what)
	if len(all) > listLimit {
		r.Wrong(n, "%s has more than %d names", what, listLimit)
		return nil
	}
	for _, p := range all {
		if r.Text(p.Key, what+": a name") == "" {
			r.Wrong(p.Key, "%s: a name is empty", what)
		}
	}
	return all
}

// list reads a list of at most so many items. One alone is a list of one.
func (r *reader) list(n *yamlfile.Node, what string, most int) []*yamlfile.Node {
	n = yamlfile.Followed(n)
	if n != nil && len(n.Content) > most {
		r.Wrong(n, "%s has more than %d entries", what, most)
		return nil
	}
	return r.Items(n, what)
}

// span reads a span of time; nothing is 0.
func (r *reader) span(n *yamlfile.Node, what string) time.Duration {
	text := r.Text(n, what)
	if n == nil {
		return 0
	}
	d, err := parseSpan(text)
	if err != nil {
		r.Wrong(n, "%s: %v", what, err)
	}
	return d
}

// size reads an amount of memory; nothing is 0.
func (r *reader) size(n *yamlfile.Node, what string) int64 {
	text := r.Text(n, what)
	if n == nil {
		return 0
	}
	bytes, err := parseSize(text)
	if err != nil {
		r.Wrong(n, "%s: %v", what, err)
	}
	return bytes
}

// count reads a whole number from 1 to most; nothing is 0.
func (r *reader) count(n *yamlfile.Node, what string, most int) int {
	text := r.Text(n, what)
	if n == nil {
		return 0
	}
	value, ok := wholeNumber(text)
	if !ok || value < 1 || value > most {
		r.Wrong(n, "%s: %q is not a number from 1 to %d", what, text, most)
		return 0
	}
	return value
}

// wholeNumber reads digits alone, without a sign.
func wholeNumber(text string) (int, bool) {
	if text == "" || len(text) > 9 || strings.Trim(text, "0123456789") != "" {
		return 0, false
	}
	n := 0
	for _, digit := range text {
		n = n*10 + int(digit-'0')
	}
	return n, true
}

// refer keeps that something is spoken of here.
func (r *reader) refer(n *yamlfile.Node, what string, kind referenceKind) string {
	name := r.Text(n, what)
	if n != nil {
		r.refs = append(r.refs, reference{n, what, name, kind})
	}
	return name
}

// refers reads a list of names of one kind, each at most once.
func (r *reader) refers(n *yamlfile.Node, what string, kind referenceKind) (all []string) {
	for _, item := range r.list(n, what, listLimit) {
		name := r.refer(item, what, kind)
		if slices.Contains(all, name) {
			r.Wrong(item, "%s: %q stands twice", what, name)
		}
		all = append(all, name)
	}
	return all
}
