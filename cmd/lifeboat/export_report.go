package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"lifeboat"
	"lifeboat/hypervisor"
)

// exportOutcome turns the results into the command's own: 3 when some machines
// failed and others did not.
func exportOutcome(ctx context.Context, results []exportResult) error {
	var failed, stuck []string
	var first error
	good, machines := 0, 0
	for _, r := range results {
		if r.Machine != hostRow {
			machines++
		}
		if r.stuck || errors.Is(r.err, hypervisor.ErrMachineGone) {
			stuck = append(stuck, r.Machine)
		}
		switch {
		case r.err != nil:
			failed = append(failed, r.Machine)
			if first == nil {
				first = r.err
			}
		case r.Point != nil:
			good++
		case r.LeftOut != "":
			machines--
		case r.Skipped != "" && ctx.Err() == nil:
			failed = append(failed, r.Machine)
		}
	}
	switch {
	case ctx.Err() != nil:
		return &lifeboat.Problem{
			What: fmt.Sprintf("stopped; %d of %d machines were exported", good, machines),
			Safe: "the points that are listed are whole; what was written of the others is used by the next try",
			Next: "run the export again",
			Err:  context.Cause(ctx),
		}
	case len(failed) == 0:
		return nil
	case len(results) == 1 && first != nil:
		return first
	default:
		p := &lifeboat.Problem{
			What: fmt.Sprintf("%d of %d machines were exported; not exported: %s", good, machines, list(failed)),
			Safe: "the points that are listed are whole, and the machines are as they were",
			Next: "read the lines above, then run: lifeboat export " + quoted(failed),
			Err:  errors.Join(lifeboat.ErrPartial, first),
		}
		if len(stuck) > 0 {
			p.Safe = "the points that are listed are whole; whether all machines run as before is not known: look at " + list(stuck)
		}
		if slices.Contains(failed, hostRow) {
			p.What = fmt.Sprintf("%d of %d machines were exported, and a host did not tell all that it has; not exported: %s", good, machines, list(failed))
			p.Next = "read the lines above, see what works: lifeboat host check, and run the export again"
		}
		return p
	}
}

func (a *app) exportSummary(results []exportResult) string {
	good, machines, read, stored := 0, 0, int64(0), int64(0)
	for _, r := range results {
		if r.Machine != hostRow && r.LeftOut == "" {
			machines++
		}
		if r.Point != nil {
			good++
		}
		read += r.ReadBytes
		stored += r.WrittenBytes
	}
	return fmt.Sprintf("%d of %d machines, read %s, stored %s", good, machines, humanBytes(read), humanBytes(stored))
}

// showExport prints what became of each machine.
func (a *app) showExport(r *run, results []exportResult, err error) {
	if a.json {
		a.printJSON(event{Event: "result", Time: a.now().UTC(), Run: r.ID, Result: struct {
			Machines []exportResult `json:"machines"`
			Exit     int            `json:"exit"`
		}{results, exitCode(err)}})
		return
	}
	if len(results) == 0 {
		return
	}
	var rows [][]string
	for _, res := range results {
		rows = append(rows, res.row())
	}
	a.print("%s", remarks(a.columns(), []string{"MACHINE", "POINT", "CONSISTENT", "READ", "NEW", "STORED", "PAUSED", "TIME", ""}, rows))
	for _, res := range results {
		if res.err != nil && len(results) > 1 {
			a.printProblem("export", res.err)
		}
	}
}

func (r exportResult) row() []string {
	switch {
	case r.Skipped+r.LeftOut != "":
		return []string{r.Machine, "-", "-", "-", "-", "-", "-", "-", r.Skipped + r.LeftOut}
	case r.stopped:
		return []string{r.Machine, "-", "-", humanBytes(r.ReadBytes), "-", "-", "-", humanSeconds(r.Seconds), "stopped"}
	case r.Point == nil:
		return []string{r.Machine, "-", "-", humanBytes(r.ReadBytes), "-", "-", "-", humanSeconds(r.Seconds), "failed"}
	}
	note := r.brief
	if r.Anomaly != nil {
		note = strings.TrimSpace(fmt.Sprintf("UNUSUAL CHANGES (%d of 100) %s", r.Anomaly.Score, note))
	}
	for _, w := range r.Warnings {
		note = strings.TrimSpace(note + " " + w)
	}
	for _, d := range r.Point.Machine.Disks {
		if d.Excluded != "" {
			note += " " + d.Key + " excluded (" + d.Excluded + ")"
		}
	}
	return []string{r.Machine, short(r.Point.ID), string(r.Point.Consistency), humanBytes(r.ReadBytes), humanBytes(r.NewBytes),
		humanBytes(r.WrittenBytes), pausedWord(r.PausedSeconds), humanSeconds(r.Seconds), note}
}

// toldSeconds is a time of a still in seconds, or nil where the host tells none.
func toldSeconds(d time.Duration) *float64 {
	if d < 0 {
		return nil
	}
	s := d.Seconds()
	return &s
}

func pausedWord(seconds *float64) string {
	if seconds == nil {
		return "-"
	}
	return humanSeconds(*seconds)
}

func humanSeconds(s float64) string { return humanDuration(time.Duration(s * float64(time.Second))) }

// readingWarnings says which disks were not read as usual: whole, although the
// host tracked changes since the point before, or because its list of changes
// was found to be wrong.
func (e *exportRun) readingWarnings(j exportJob, p lifeboat.RestorePoint, since map[string]string) []string {
	var all []string
	for _, d := range p.Disks {
		switch {
		case d.ChangeListWrong:
			w := d.Key + ": THE HOST'S LIST OF CHANGES WAS WRONG, everything was read"
			all = append(all, w)
			e.run.log(event{Event: "warning", Machine: j.name, Text: w})
			e.a.warn("%s: disk %s: the host's list of changed blocks left out blocks that had changed. Everything was read, and this point is right; "+
				"older points of this machine may lack changes that the host kept to itself", j.name, d.Key)
		case d.FullRead != "" && since[d.Key] != "":
			all = append(all, d.Key+" read whole ("+d.FullRead+")")
		}
	}
	return all
}
