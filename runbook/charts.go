package runbook

import (
	"cmp"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"
	"time"
)

const (
	// chartWidth is that of every chart in its own units; the page scales it.
	chartWidth = 960.0
	// chartLabels is the width of the labels on the left, chartRight is free for
	// figures on the right.
	chartLabels, chartRight = 170.0, 90.0
	rowHeight               = 24.0
	// shownRows is how many rows of a chart a person reads.
	shownRows = 60
	// shownRuns is how many runs the trend shows.
	shownRuns = 24
)

// drawing is an SVG that grows. Whatever a record says, each of its numbers is
// finite and each of its texts escaped.
type drawing struct{ out strings.Builder }

// num is a coordinate: no record can bring one that is no number, or that a
// browser cannot draw.
func num(v float64) string {
	if math.IsNaN(v) {
		v = 0
	}
	return fmt.Sprintf("%.1f", min(max(v, -1e6), 1e6))
}

func (d *drawing) rect(class string, x, y, width, height float64, title string) {
	fmt.Fprintf(&d.out, `<rect class="%s" x="%s" y="%s" width="%s" height="%s"><title>%s</title></rect>`,
		class, num(x), num(y), num(max(width, 1.5)), num(height), template.HTMLEscapeString(title))
}

func (d *drawing) line(class string, x1, y1, x2, y2 float64) {
	fmt.Fprintf(&d.out, `<line class="%s" x1="%s" y1="%s" x2="%s" y2="%s"/>`, class, num(x1), num(y1), num(x2), num(y2))
}

// text draws a text; anchor is start, middle or end.
func (d *drawing) text(class, anchor string, x, y float64, text string) {
	fmt.Fprintf(&d.out, `<text class="%s" text-anchor="%s" x="%s" y="%s">%s</text>`, class, anchor, num(x), num(y), template.HTMLEscapeString(text))
}

// svg is the drawing as part of a page; says is what it shows, for who cannot see it.
func (d *drawing) svg(height float64, says string) template.HTML {
	const hatch = `<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">` +
		`<rect class="person" width="6" height="6"/><line class="hatch" x1="0" y1="0" x2="0" y2="6"/></pattern></defs>`
	head := fmt.Sprintf(`<svg viewBox="0 0 %s %s" role="img" aria-label="%s" xmlns="http://www.w3.org/2000/svg">`,
		num(chartWidth), num(height), template.HTMLEscapeString(says))
	// All that was written into it is numbers, our own words and escaped texts.
	return template.HTML(head + hatch + d.out.String() + "</svg>")
}

// scale leads from times to a range of coordinates.
type scale struct {
	span     time.Duration
	from, to float64
}

func (s scale) at(d time.Duration) float64 {
	part := float64(min(max(d, 0), s.span)) / float64(s.span)
	return s.from + part*(s.to-s.from)
}

// tickSteps are the distances that people read a clock by.
var tickSteps = []time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 15 * time.Second, 30 * time.Second,
	time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute,
	time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour, 48 * time.Hour, 7 * 24 * time.Hour}

// ticks are at most so many marks of a span, from 0 on.
func ticks(span time.Duration, most int) (marks []time.Duration) {
	step := tickSteps[0]
	for i := 0; span/step > time.Duration(most); i++ {
		if i < len(tickSteps) {
			step = tickSteps[i]
		} else {
			step *= 2
		}
	}
	for at := time.Duration(0); at <= span && len(marks) <= most; at += step {
		marks = append(marks, at)
	}
	return marks
}

// bar is one step of the timeline.
type bar struct {
	from, to time.Duration
	class    string
	title    string
	failed   bool
}

type ganttRow struct {
	label string
	bars  []bar
}

// kindClass is how a kind of step is drawn: its colour, and for what waits for
// people a pattern, so that nobody needs the colour.
func kindClass(k StepKind) string {
	switch k {
	case StepBoot:
		return "boot"
	case StepCheck:
		return "service"
	case StepConfirm, StepPause:
		return "people"
	case StepSettle, StepConnect, StepShutdown:
		return "move"
	}
	return "work"
}

// ganttRows are the steps that were begun: a row for each machine, and one for
// each step about none, in the order in which they began.
func ganttRows(r *Record) (rows []ganttRow, span time.Duration) {
	at := map[string]int{}
	steps := slices.SortedStableFunc(slices.Values(r.Steps), func(x, y StepRecord) int { return x.Began.Compare(y.Began) })
	for _, s := range steps {
		if s.Began.IsZero() {
			continue
		}
		from := max(s.Began.Sub(r.Began), 0)
		to := from
		if !s.Ended.IsZero() {
			to = max(s.Ended.Sub(r.Began), from)
		}
		span = max(span, to)
		key, label := "machine "+s.Machine, s.Machine
		if s.Machine == "" {
			key, label = "step "+s.ID, s.ID
		}
		i, known := at[key]
		if !known {
			i = len(rows)
			at[key], rows = i, append(rows, ganttRow{label: tidy(label, 22)})
		}
		words := fmt.Sprintf("%s: %s, %s after the begin, took %s", tidy(s.ID, 60), tidy(string(s.Outcome), 20), spell(from), spell(to-from))
		rows[i].bars = append(rows[i].bars, bar{from: from, to: to, class: kindClass(s.Kind), title: words,
			failed: s.Outcome == OutcomeFailed})
	}
	return rows, span
}

// timeline is the recovery as it went: who was started when, and who was waited
// for. It is empty where nothing was begun.
func timeline(r *Record) (chart template.HTML, left int) {
	rows, span := ganttRows(r)
	if len(rows) == 0 {
		return "", 0
	}
	if len(rows) > shownRows {
		left = len(rows) - shownRows
		rows = rows[left:] // those that came last are the ones that were waited for
	}
	span = max(span, r.RTA, time.Second)
	goal := r.Plan.Objectives.RTO
	shown := goal > 0 && goal/3 <= span
	if shown {
		span = max(span, goal)
	}
	var d drawing
	const top = 26.0
	bottom := top + rowHeight*float64(len(rows))
	x := scale{span, chartLabels, chartWidth - chartRight}
	for _, t := range ticks(span, 8) {
		d.line("grid", x.at(t), top-4, x.at(t), bottom)
		d.text("tick", "middle", x.at(t), bottom+16, spell(t))
	}
	for i, row := range rows {
		y := top + rowHeight*float64(i)
		d.text("label", "end", chartLabels-8, y+16, row.label)
		for _, b := range row.bars {
			d.rect(b.class, x.at(b.from), y+4, x.at(b.to)-x.at(b.from), rowHeight-9, b.title)
			if b.failed {
				d.text("fault", "start", x.at(b.to)+4, y+16, "✗ failed")
			}
		}
	}
	if r.RTA > 0 {
		d.line("reached", x.at(r.RTA), top-6, x.at(r.RTA), bottom)
		d.text("reached", anchorAt(x, r.RTA), x.at(r.RTA), top-10, "RTA "+spell(r.RTA))
	}
	if shown {
		d.line("goal", x.at(goal), top-6, x.at(goal), bottom)
		d.text("goal", "start", x.at(goal)+4, bottom-4, "RTO "+spell(goal))
	}
	return d.svg(bottom+24, fmt.Sprintf("Timeline of %s over %s", plural(len(rows), "row"), spell(span))), left
}

// anchorAt keeps a text that stands at a mark inside the drawing.
func anchorAt(x scale, at time.Duration) string {
	if x.at(at) > chartWidth/2 {
		return "end"
	}
	return "start"
}

// spendings are the parts of a machine's time in their order, and how each is drawn.
var spendings = []struct {
	part  Spending
	class string
}{{SpentWaiting, "wait"}, {SpentFind, "find"}, {SpentOpen, "open"}, {SpentDefine, "define"}, {SpentBoot, "boot"}, {SpentService, "service"}}

// spentChart shows where the time of each machine went, the slowest first.
func spentChart(machines []MachineRecord) (chart template.HTML, left int) {
	total := func(m MachineRecord) (all time.Duration) {
		for _, s := range spendings {
			all += bounded(m.Spent[s.part])
		}
		return all
	}
	shown := slices.DeleteFunc(slices.Clone(machines), func(m MachineRecord) bool { return total(m) <= 0 })
	if len(shown) == 0 {
		return "", 0
	}
	slices.SortStableFunc(shown, func(x, y MachineRecord) int { return cmp.Compare(total(y), total(x)) })
	if len(shown) > shownRows {
		shown, left = shown[:shownRows], len(shown)-shownRows
	}
	var d drawing
	x := scale{max(total(shown[0]), time.Second), chartLabels, chartWidth - chartRight}
	for i, m := range shown {
		y, from := rowHeight*float64(i), time.Duration(0)
		d.text("label", "end", chartLabels-8, y+16, tidy(m.Name, 22))
		for _, s := range spendings {
			took := bounded(m.Spent[s.part])
			if took > 0 {
				d.rect(s.class, x.at(from), y+4, x.at(from+took)-x.at(from), rowHeight-9, fmt.Sprintf("%s: %s", s.part, spell(took)))
			}
			from += took
		}
		d.text("tick", "start", x.at(from)+6, y+16, spell(from))
	}
	return d.svg(rowHeight*float64(len(shown))+6, "Where the time of each machine went"), left
}

// bounded is a time that sums of a chart can hold.
func bounded(d time.Duration) time.Duration { return min(max(d, 0), 366*24*time.Hour) }

// trend shows the RTA of the runs of one runbook, with the line of its objective.
// One run is no trend.
func trend(runs []PastRun, goal time.Duration, zone *time.Location) template.HTML {
	if len(runs) < 2 {
		return ""
	}
	runs = runs[max(0, len(runs)-shownRuns):]
	highest := time.Second
	for _, p := range runs {
		highest = max(highest, bounded(p.RTA))
	}
	// An objective far above would press the curve flat: it is named instead.
	far := bounded(goal)/4 > highest
	if !far {
		highest = max(highest, bounded(goal))
	}
	highest += highest / 10
	const top, bottom = 20.0, 220.0
	var d drawing
	y := scale{highest, bottom, top}
	for _, t := range ticks(highest, 5) {
		d.line("grid", 80, y.at(t), chartWidth-20, y.at(t))
		d.text("tick", "end", 72, y.at(t)+4, spell(t))
	}
	if far {
		d.text("goal", "start", 84, top-4, "RTO "+spell(goal)+", far above this picture")
	} else if goal > 0 {
		d.line("goal", 80, y.at(bounded(goal)), chartWidth-20, y.at(bounded(goal)))
		d.text("goal", "start", 84, y.at(bounded(goal))-6, "RTO "+spell(goal))
	}
	step := (chartWidth - 160) / float64(max(len(runs)-1, 1))
	every := (len(runs) + 7) / 8
	for i, p := range runs {
		px, py := 110+step*float64(i), y.at(bounded(p.RTA))
		if i > 0 {
			d.line("curve", px-step, y.at(bounded(runs[i-1].RTA)), px, py)
		}
		if (len(runs)-1-i)%every == 0 {
			d.text("tick", "middle", px, bottom+18, p.Began.In(zone).Format(time.DateOnly))
		}
	}
	for i, p := range runs {
		px, py := 110+step*float64(i), y.at(bounded(p.RTA))
		mark, class := "●", "reached"
		if !p.Passed {
			mark, class = "✗", "fault"
		} else if p.Mode == Recover {
			mark = "◆"
		}
		d.text("mark "+class, "middle", px, py+5, mark)
		if i == len(runs)-1 {
			d.text("reached", "end", px, py-12, spell(p.RTA))
		}
	}
	return d.svg(bottom+28, fmt.Sprintf("RTA of the last %s", plural(len(runs), "run")))
}
