package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"lifeboat/runbook"
)

// planWidth is how wide a plan is written where no screen says so: it is printed,
// and read in the log of a recovery.
const planWidth = 80

// planWords writes a plan for people: machines and their points, drives to fetch,
// hosts, networks, the order, how long it takes, and what would go wrong.
func planWords(p *runbook.Plan, columns int) string {
	w := planWriter{p: p, columns: cmp.Or(columns, planWidth)}
	isolated := ""
	if p.Isolated {
		isolated = " (isolated first)"
	}
	w.line("runbook %s: a %s of %s, as of %s%s", p.Book, modeWord(p.Mode), cmp.Or(p.Site, "an unknown site"), moment(p.MadeAt, p.MadeAt), isolated)
	w.machines()
	w.drives()
	w.hosts()
	w.networks()
	w.order()
	w.times()
	w.findings()
	return w.out.String()
}

type planWriter struct {
	p       *runbook.Plan
	columns int
	out     strings.Builder
}

func (w *planWriter) line(format string, args ...any) {
	fmt.Fprintf(&w.out, "%s\n", oneLine(fmt.Sprintf(format, args...)))
}

func modeWord(m runbook.Mode) string {
	if m == runbook.Recover {
		return "recovery"
	}
	return "drill"
}

// moment writes a moment to the minute, in the zone of another.
func moment(t, zone time.Time) string { return t.In(zone.Location()).Format("2006-01-02 15:04") }

func (w *planWriter) machines() {
	labels := map[string]string{}
	for _, d := range w.p.Drives {
		labels[d.ID] = d.Label
	}
	var rows [][]string
	for _, m := range w.p.Machines {
		row := []string{m.Name, strconv.Itoa(m.Tier), "no point", "", "", cmp.Or(m.Host, "nowhere"), humanBytes(m.Memory)}
		if m.Point.ID != "" {
			var drives []string
			for _, id := range m.DriveIDs {
				drives = append(drives, labels[id])
			}
			row[2], row[3], row[4] = moment(m.Point.TakenAt, w.p.MadeAt), humanAge(w.p.MadeAt, m.Point.TakenAt), strings.Join(drives, "+")
		}
		rows = append(rows, row)
	}
	w.out.WriteString("\n" + table([]string{"MACHINE", "TIER", "POINT OF", "AGE", "DRIVE", "HOST", "MEMORY"}, rows))
	grouped := map[string]bool{}
	for _, g := range w.p.Groups {
		for _, name := range g.Machines {
			grouped[name] = g.Why != ""
		}
	}
	for _, m := range w.p.Machines {
		if m.Why != "" && !grouped[m.Name] {
			w.wrap(m.Name + ": " + m.Why)
		}
	}
	for _, g := range w.p.Groups {
		text := fmt.Sprintf("group %s (%s): of one run, %s apart", g.Name, list(g.Machines), humanDuration(g.Skew))
		if g.RunID == "" {
			text = fmt.Sprintf("group %s (%s): of several runs, %s apart", g.Name, list(g.Machines), humanDuration(g.Skew))
		}
		if g.Why != "" {
			text += "; " + g.Why
		}
		w.wrap(text)
	}
}

// wrap writes a sentence that may take several lines.
func (w *planWriter) wrap(text string) { w.out.WriteString(wrapped(oneLine(text), w.columns)) }

func (w *planWriter) drives() {
	var rows [][]string
	for _, d := range w.p.Drives {
		state, where := "fetch it", cmp.Or(d.Where, "nobody knows where it is")
		if d.Attached {
			state, where = "attached", d.Path
		}
		rows = append(rows, []string{d.Label, state, where})
	}
	if len(rows) > 0 {
		w.out.WriteString("\n" + remarks(w.columns, []string{"DRIVE", "STATE", "WHERE"}, rows))
	}
}

func (w *planWriter) hosts() {
	var rows [][]string
	for _, h := range w.p.Hosts {
		var memory int64
		for _, m := range w.p.Machines {
			if m.Host == h.Name {
				memory += m.Memory
			}
		}
		of := ""
		if h.MemoryBytes > 0 {
			of = " of " + humanBytes(h.MemoryBytes)
		}
		speed := "hardware"
		if !h.KVM {
			speed = "EMULATION"
		}
		rows = append(rows, []string{h.Name, h.Kind, speed, humanBytes(memory) + of, strconv.Itoa(h.Boots), count(len(h.Machines), "machine")})
	}
	if len(rows) > 0 {
		w.out.WriteString("\n" + table([]string{"HOST", "KIND", "RUNS ON", "MEMORY", "STARTS AT ONCE", ""}, rows))
	}
}

func (w *planWriter) networks() {
	var rows [][]string
	for _, n := range w.p.Networks {
		leads := map[runbook.CableKind]string{runbook.CableNAT: "NAT behind this computer", runbook.CableIsolated: "isolated", runbook.CableNone: "unplugged",
			runbook.CableBridge: "bridge " + n.Cable.Name, runbook.CableNetwork: "network " + n.Cable.Name}[n.Cable.Kind]
		var in []string
		for _, f := range n.Forwards {
			in = append(in, fmt.Sprintf("%s:%d to %s:%d", cmp.Or(f.Address, "127.0.0.1"), f.HostPort, f.Machine, f.Port))
		}
		if n.VPN != 0 {
			in = append(in, fmt.Sprintf("VPN on UDP %d", n.VPN))
		}
		rows = append(rows, []string{n.Name, leads, cmp.Or(n.CIDR, "unknown"), strings.Join(in, ", ")})
	}
	if len(rows) > 0 {
		w.out.WriteString("\n" + remarks(w.columns, []string{"NETWORK", "LEADS TO", "ADDRESSES", "LET IN"}, rows))
	}
}

// order writes the steps in waves: what is in one wave may be done at the same time,
// and each waits only for what it needs of the waves before.
func (w *planWriter) order() {
	waves := wavesOf(w.p)
	w.out.WriteString("\nORDER  (what stands at one number may be done at the same time)\n")
	for i, wave := range waves {
		number := fmt.Sprintf("%3d  ", i+1)
		var kinds []runbook.StepKind
		byKind := map[runbook.StepKind][]string{}
		for _, s := range wave {
			if byKind[s.Kind] == nil {
				kinds = append(kinds, s.Kind)
			}
			byKind[s.Kind] = append(byKind[s.Kind], stepWords(s))
		}
		for _, kind := range kinds {
			text := wrapped(fmt.Sprintf("%s %s", kind, strings.Join(byKind[kind], ", ")), w.columns-1)
			for line := range strings.Lines(text) {
				w.out.WriteString(number + strings.TrimPrefix(line, "    "))
				number = "     "
			}
		}
	}
}

// wavesOf are the steps of a plan by how many others come before them in a row.
func wavesOf(p *runbook.Plan) (waves [][]runbook.PlannedStep) {
	level := map[string]int{}
	for _, s := range p.Steps {
		for _, before := range s.After {
			level[s.ID] = max(level[s.ID], level[before]+1)
		}
		for len(waves) <= level[s.ID] {
			waves = append(waves, nil)
		}
		waves[level[s.ID]] = append(waves[level[s.ID]], s)
	}
	return slices.DeleteFunc(waves, func(w []runbook.PlannedStep) bool { return len(w) == 0 })
}

// textWords is how much of what a person is told or asked stands in a plan.
const textWords = 50

// stepWords is what a step is about: a machine, or what a person reads.
func stepWords(s runbook.PlannedStep) string {
	about := s.Machine
	switch text := []rune(oneLine(s.Step.Text)); {
	case len(text) > textWords:
		about = fmt.Sprintf("%q", string(text[:textWords])+"...")
	case len(text) > 0:
		about = fmt.Sprintf("%q", string(text))
	}
	switch {
	case s.Kind == runbook.StepPause:
		about = humanDuration(s.Step.Limit)
	case s.Kind == runbook.StepRun && len(s.Step.Command) > 0:
		about = s.Step.Command[0]
	}
	if s.ID == string(s.Kind)+"-"+s.Machine || about == "" {
		return cmp.Or(about, s.ID)
	}
	return oneLine(fmt.Sprintf("%s (%s)", about, s.ID))
}

func (w *planWriter) times() {
	w.out.WriteString("\n")
	if w.p.Known == 0 {
		w.line("time: unknown, none of the machines was measured before")
	} else {
		w.line("time: about %s to the last check; %d of %d machines were measured before", humanDuration(w.p.Estimate), w.p.Known, len(w.p.Machines))
	}
	if w.p.Lead > 0 {
		w.line("lead times beside it: %s", humanDuration(w.p.Lead))
	}
	var rows [][]string
	for _, t := range w.p.Transfer {
		rows = append(rows, []string{strconv.Itoa(t.Tier), humanBytes(t.Bytes), humanDuration(t.Time)})
	}
	if len(rows) > 0 {
		w.out.WriteString("\n" + table([]string{"TIER", "OVER THE LINE", "TAKES"}, rows))
	}
}

func (w *planWriter) findings() {
	if len(w.p.Findings) > 0 {
		w.out.WriteString("\n" + findingWords(w.p.Findings, w.columns))
	}
}

// findingWords lists what would go wrong, what stops a plan first.
func findingWords(findings []runbook.Finding, columns int) string {
	var out strings.Builder
	for _, f := range findings {
		where := ""
		if f.Line > 0 {
			where = fmt.Sprintf("  line %d", f.Line)
		}
		fmt.Fprintf(&out, "%s  %s%s\n%s", f.Severity, f.Code, where, wrapped(oneLine(f.What), columns))
		if f.Next != "" {
			out.WriteString(wrapped("next: "+oneLine(f.Next), columns))
		}
	}
	return out.String()
}
