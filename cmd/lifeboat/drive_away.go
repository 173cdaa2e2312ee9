package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"lifeboat/catalog"
)

// awayDrive is what is remembered of a drive that is not attached.
type awayDrive struct {
	catalog.Drive
	Attached bool            `json:"attached"`
	Points   []catalog.Point `json:"points"`
	Known    *knownDrive     `json:"known,omitempty"`
}

// showAway shows what is remembered of the drives that a label or an id means. It
// says whether there were any.
func (a *app) showAway(ctx context.Context, want string) (shown bool, err error) {
	if want == "" || !a.hasState() {
		return false, nil
	}
	cat, err := a.openCatalog(ctx)
	if err != nil {
		return false, err
	}
	defer cat.Close()
	drives, err := cat.Drives(ctx)
	if err != nil {
		return false, err
	}
	facts, err := a.knownDrives(ctx, cat)
	if err != nil {
		a.warn("where the drives are is not known: %v", err)
	}
	all := []awayDrive{}
	for _, d := range drives {
		if d.Label != want && d.ID != want {
			continue
		}
		away := awayDrive{Drive: d, Points: []catalog.Point{}}
		points, err := cat.Points(ctx, catalog.PointFilter{DriveID: d.ID})
		if err != nil {
			return false, err
		}
		away.Points = append(away.Points, points...)
		if k, known := facts[d.ID]; known {
			away.Known = &k
		}
		all = append(all, away)
	}
	if len(all) == 0 {
		return false, nil
	}
	if a.json {
		a.printJSON(all)
		return true, nil
	}
	for _, d := range all {
		a.print("%s", d.words(a.now()))
	}
	return true, nil
}

// words tell a person of it, as drive show does of a drive that is attached.
func (d awayDrive) words(now time.Time) string {
	var out strings.Builder
	fmt.Fprintf(&out, "drive %s is not attached; this is what is remembered of it\n", d.Label)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&out, "  %-11s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("id", "%s", d.ID)
	line("seen", "%s, %s, at %s", stamp(d.SeenAt), humanAge(now, d.SeenAt), oneLine(plainText(d.SeenPath)))
	line("made", "%s, %s", d.CreatedAt.Local().Format(time.DateOnly), humanAge(now, d.CreatedAt))
	if d.Known != nil {
		if d.Known.Last != nil && d.Known.Last.Model != "" {
			line("disk", "%s", oneLine(plainText(d.Known.Last.Model)))
		}
		out.WriteString(d.Known.lines(now))
	}
	newest, machines := map[string]catalog.Point{}, []string{}
	for _, p := range d.Points { // oldest first
		if _, seen := newest[p.MachineID]; !seen {
			machines = append(machines, p.MachineID)
		}
		newest[p.MachineID] = p
	}
	line("points", "%d of %d machines", len(d.Points), len(machines))
	line("space", "%s of %s free", humanBytes(d.FreeBytes), humanBytes(d.TotalBytes))
	line("verified", "%s", driveVerifiedWords(now, d.VerifiedAt))
	for _, id := range machines {
		p := newest[id]
		line("newest", "%s  %s, %s", oneLine(plainText(p.MachineName)), stamp(p.TakenAt), humanAge(now, p.TakenAt))
	}
	return out.String()
}
