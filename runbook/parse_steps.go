package runbook

import (
	"fmt"
	"slices"
	"strings"

	"lifeboat/yamlfile"
)

// What a place in the file is made of.
const (
	mapping  = yamlfile.Mapping
	sequence = yamlfile.Sequence
)

// stepKinds are the keys that say what a step does, in the order of the manual.
var stepKinds = []StepKind{StepBoot, StepCheck, StepRun, StepGuest, StepConfirm, StepMessage, StepPause, StepSettle, StepConnect, StepShutdown}

// waitWord is another word for check: a step that waits until checks pass.
const waitWord = "wait"

// stepFields are what every step may have, and what those of a kind have beside.
var (
	stepFields = []string{"id", "after", "when"}
	workFields = []string{"done", "repeat", "limit", "env", "essential", "retries", "on_failure"}
	fieldsOf   = map[StepKind][]string{
		StepBoot:     {"on_failure"},
		StepCheck:    {"checks", "on_failure"},
		StepRun:      workFields,
		StepGuest:    append([]string{"command"}, workFields...),
		StepConfirm:  {"who", "limit"},
		StepShutdown: {"limit"},
	}
)

func (r *reader) steps(n *yamlfile.Node, machines []Machine) (all []Step) {
	kinds := []string{}
	for _, k := range stepKinds {
		kinds = append(kinds, string(k))
	}
	for _, item := range r.list(n, "steps", stepsLimit) {
		all = append(all, r.step(item, append(kinds, waitWord)))
	}
	r.nameSteps(machines, all)
	return all
}

func (r *reader) step(n *yamlfile.Node, kinds []string) Step {
	if n.Kind != mapping {
		r.Wrong(n, "a step says what it does with a key, such as boot: db")
		return Step{}
	}
	// What a step may have depends on its kind, which has to be known first.
	var kind StepKind
	for i := 0; i+1 < len(n.Content); i += 2 {
		if key := n.Content[i].Value; slices.Contains(kinds, key) {
			kind = StepKind(key)
			break
		}
	}
	f := r.fields(n, "a step", slices.Concat(kinds, stepFields, allowed(kind))...)
	word, value := r.theKind(n, f, "a step", kinds)
	if word == waitWord {
		word = string(StepCheck)
	}
	s := Step{Line: n.Line, Kind: StepKind(word), After: r.refers(f["after"], "after", toStep), Essential: true}
	if f["id"] != nil {
		s.ID = r.stepID(f["id"])
	}
	switch r.Choice(f["when"], "when", "always", string(WhenDrill), string(WhenRecover)) {
	case string(WhenDrill):
		s.When = WhenDrill
	case string(WhenRecover):
		s.When = WhenRecover
	}
	if value != nil {
		r.about(&s, f, n, value)
	}
	return s
}

// allowed are the fields of a kind beside those of every step. A kind that is not
// known has them all, so that one mistake is not called several.
func allowed(kind StepKind) []string {
	if kind == waitWord {
		kind = StepCheck
	}
	if kind != "" {
		return fieldsOf[kind]
	}
	all := []string{}
	for _, fields := range fieldsOf {
		all = append(all, fields...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (r *reader) stepID(n *yamlfile.Node) string {
	text := r.Text(n, "id")
	if !idText.MatchString(text) {
		r.Wrong(n, "id: %q cannot be the id of a step: it has letters, digits, '.', '-' and '_'", text)
	}
	return text
}

// about reads what stands at the key of a step, and what goes with its kind.
func (r *reader) about(s *Step, f map[string]*yamlfile.Node, n, value *yamlfile.Node) {
	what := string(s.Kind)
	switch s.Kind {
	case StepRun:
		s.Command = r.command(value, what)
	case StepGuest:
		r.subject(s, value)
		if f["command"] == nil {
			r.Wrong(n, "guest needs command: what to run in the machine, as a list")
		} else {
			s.Command = r.command(f["command"], "command")
		}
	case StepConfirm, StepMessage:
		if s.Text = r.Lines(value, what, messageLimit); strings.TrimSpace(s.Text) == "" {
			r.Wrong(value, "%s needs the text that people read", what)
		}
		s.Who = r.Text(f["who"], "who")
	case StepPause:
		s.Limit = r.span(value, what)
		return
	default:
		r.subject(s, value)
	}
	s.Checks = r.checks(f["checks"])
	s.Limit = r.span(f["limit"], "limit")
	r.work(s, f)
}

// subject reads the machines of a step: a name, a list, or a tier.
func (r *reader) subject(s *Step, n *yamlfile.Node) {
	if n.Kind == mapping {
		r.fields(n, string(s.Kind), "tier")
		if number := r.needed(n, string(s.Kind), "tier"); number != nil {
			s.Tier = r.tier(number, "tier")
		}
		return
	}
	if s.Machines = r.refers(n, string(s.Kind), toMachine); len(s.Machines) == 0 {
		r.Wrong(n, "%s needs a machine, a list of machines, or {tier: N}", s.Kind)
	}
}

// work reads what run and guest have, and on_failure.
func (r *reader) work(s *Step, f map[string]*yamlfile.Node) {
	ways := failWords
	if s.Kind != StepBoot && s.Kind != StepCheck {
		ways = failWords[:2]
	}
	if f["on_failure"] != nil {
		s.OnFailure = OnFailure(r.Choice(f["on_failure"], "on_failure", ways...))
	}
	if f["essential"] != nil {
		s.Essential = r.Yes(f["essential"], "essential")
	}
	s.Retries = r.count(f["retries"], "retries", 100)
	if f["done"] != nil {
		s.Done = r.command(f["done"], "done")
	}
	if f["repeat"] != nil {
		r.Choice(f["repeat"], "repeat", "safe")
		s.RepeatSafe = true
	}
	for _, p := range r.named(f["env"], "env") {
		if !envText.MatchString(p.Key.Value) {
			r.Wrong(p.Key, "env: %q cannot be the name of a variable", p.Key.Value)
		}
		if s.Env == nil {
			s.Env = map[string]string{}
		}
		s.Env[p.Key.Value] = r.Lines(p.Value, "env: "+p.Key.Value, argumentLimit)
	}
}

// nameSteps gives an id to each step without one, as [Step] says. It refuses an id
// that means something else: after: could not tell the two apart.
func (r *reader) nameSteps(machines []Machine, steps []Step) {
	used, counts := map[string]bool{}, map[StepKind]int{}
	for _, s := range steps {
		if s.ID != "" && used[s.ID] {
			r.Wrong(&yamlfile.Node{Line: s.Line}, "the id %q stands twice", s.ID)
		}
		if what := otherMeaning(s, machines); what != "" {
			r.Wrong(&yamlfile.Node{Line: s.Line}, "the id %q means %s: choose another one", s.ID, what)
		}
		used[s.ID] = true
	}
	for i := range steps {
		s := &steps[i]
		counts[s.Kind]++
		if s.ID != "" {
			continue
		}
		base := fmt.Sprintf("%s-%d", s.Kind, counts[s.Kind])
		switch {
		case len(s.Machines) == 1:
			base = fmt.Sprintf("%s-%s", s.Kind, s.Machines[0])
		case s.Tier > 0:
			base = fmt.Sprintf("%s-tier-%d", s.Kind, s.Tier)
		}
		s.ID = base
		for again := 2; used[s.ID] || len(s.Machines) != 1 && otherMeaning(*s, machines) != ""; again++ {
			s.ID = fmt.Sprintf("%s-%d", base, again)
		}
		used[s.ID] = true
	}
}

// impliedKinds are the steps that follow from a machine, without standing in the
// file.
var impliedKinds = []StepKind{StepBoot, StepConnect, StepCheck, StepSettle}

// machineKinds are the steps that are done once for each machine that they are
// about.
var machineKinds = slices.Concat(impliedKinds, []StepKind{StepGuest, StepShutdown})

// otherMeaning says what the id of a step means beside that step: a machine, a step
// that a machine has, or the release of a tier. Empty: nothing.
func otherMeaning(s Step, machines []Machine) string {
	if tier, ok := strings.CutPrefix(s.ID, releasePrefix); ok {
		if _, number := wholeNumber(tier); number {
			return "the release of tier " + tier
		}
	}
	for _, m := range machines {
		if s.ID == m.Name {
			return "the machine " + m.Name
		}
		kind, ok := strings.CutSuffix(s.ID, "-"+m.Name)
		if !ok || !slices.Contains(machineKinds, StepKind(kind)) {
			continue
		}
		alone := len(s.Machines) == 1 && s.Machines[0] == m.Name && string(s.Kind) == kind
		if !alone || slices.Contains(impliedKinds, s.Kind) && !s.ownStep(m) {
			return fmt.Sprintf("the %s step of machine %s", kind, m.Name)
		}
	}
	return ""
}

// checkNames refuses what speaks of nothing.
func (r *reader) checkNames(root *yamlfile.Node, b *Book) {
	known := map[referenceKind][]string{}
	for _, m := range b.Machines {
		known[toMachine] = append(known[toMachine], m.Name)
	}
	for _, n := range b.Networks {
		known[toNetwork] = append(known[toNetwork], n.Name)
	}
	for _, s := range b.Steps {
		known[toStep] = append(known[toStep], s.ID)
	}
	known[toStep] = append(known[toStep], known[toMachine]...)
	is := map[referenceKind]map[string]bool{}
	for kind, names := range known {
		is[kind] = map[string]bool{}
		for _, name := range names {
			is[kind][name] = true
		}
	}
	called := map[referenceKind]string{toMachine: "no machine", toNetwork: "no network", toStep: "no step and no machine"}
	for _, ref := range r.refs {
		if r.Full() || is[ref.kind][ref.name] || ref.kind == toStep && follows(ref.name, b) {
			continue
		}
		r.Wrong(ref.node, "%s: there is %s called %q%s", ref.what, called[ref.kind], ref.name, yamlfile.Meant(ref.name, known[ref.kind]))
	}
	tiers := map[int]bool{}
	for _, m := range b.Machines {
		tiers[m.Tier] = true
	}
	for _, s := range b.Steps {
		if s.Tier > 0 && !tiers[s.Tier] {
			r.Wrong(&yamlfile.Node{Line: s.Line}, "%s: no machine is of tier %d", s.Kind, s.Tier)
		}
	}
}

// follows says that a name is the id of a step that follows from a machine, the part
// of a step with several machines that is about one, or, where everything is checked
// in isolation first, the release of a tier.
func follows(id string, b *Book) bool {
	return slices.ContainsFunc(b.Machines, func(m Machine) bool {
		kind, ok := strings.CutSuffix(id, "-"+m.Name)
		said := slices.ContainsFunc(b.Steps, func(s Step) bool {
			return string(s.Kind) == kind && s.perMachine() && (slices.Contains(s.Machines, m.Name) || s.Tier == m.Tier)
		})
		return id == releaseOf(m.Tier) || ok && (said || slices.Contains(impliedKinds, StepKind(kind)))
	})
}
