package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/imagestore"
)

func (a *app) pointCommand() *cobra.Command {
	return group("point", "Look at the restore points of a drive, keep some, or forget some",
		"  lifeboat point list --drive A\n  lifeboat point show db", "look",
		a.pointListCommand(), a.pointShowCommand(), a.pointForgetCommand(), a.pointHoldCommand(), a.pointReleaseCommand())
}

func (a *app) pointListCommand() *cobra.Command {
	var drive, machine string
	c := &cobra.Command{
		Use: "list", Short: "List restore points, oldest first",
		Example:     "  lifeboat point list --drive A\n  lifeboat point list --machine db --json",
		Annotations: exits(exitNoDrive, exitDamage), Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			d, err := a.openDrive(c.Context(), drive, imagestore.Read)
			if err != nil {
				return err
			}
			defer d.Close()
			points, faults, err := d.store.Points(c.Context())
			if err != nil {
				return err
			}
			checked, err := d.store.Checked(c.Context())
			if err != nil {
				return err
			}
			k := a.keeping(c.Context(), d)
			checked = k.trusted(checked)
			if machine != "" {
				points = slices.DeleteFunc(points, func(p lifeboat.RestorePoint) bool { return p.Machine.Name != machine && p.Machine.ID != machine })
			}
			if a.json {
				a.printJSON(struct {
					Drive  lifeboat.Drive     `json:"drive"`
					Points []checkedPoint     `json:"points"`
					Faults []imagestore.Fault `json:"faults,omitempty"`
				}{d.store.Drive(), withChecks(points, checked, k), faults})
			} else {
				a.print("%s", pointTable(points, checked, func(id string) string { return k.note(a, id) }))
			}
			return lostPoints(d, faults)
		},
	}
	c.Flags().StringVar(&machine, "machine", "", "only this machine's")
	a.driveFlag(c, &drive)
	return c
}

// checkedPoint is a point together with when it was read back.
type checkedPoint struct {
	lifeboat.RestorePoint
	VerifiedAt time.Time `json:"verifiedAt,omitzero"`
	ReadSince  time.Time `json:"readSince,omitzero"`
	ProvenAt   time.Time `json:"provenAt,omitzero"`
	// Held is why somebody wants it kept, until HeldUntil; without that for good.
	Held      string    `json:"held,omitempty"`
	HeldUntil time.Time `json:"heldUntil,omitzero"`
}

func withChecks(points []lifeboat.RestorePoint, checked imagestore.Checked, k keeping) []checkedPoint {
	all := []checkedPoint{}
	for _, p := range points {
		c := checked.Points[p.ID]
		known := k.here[p.ID]
		all = append(all, checkedPoint{p, c.VerifiedAt, c.ReadSince, known.ProvenAt, known.Held, known.HeldUntil})
	}
	return all
}

func pointTable(points []lifeboat.RestorePoint, checked imagestore.Checked, noteOf func(id string) string) string {
	var rows [][]string
	for _, p := range points {
		var data, added int64
		note := noteOf(p.ID)
		for _, d := range p.Disks {
			data += d.DataBytes
			added += d.NewBytes
		}
		for _, d := range p.Machine.Disks {
			if d.Excluded != "" {
				note += fmt.Sprintf("%s excluded (%s) ", d.Key, d.Excluded)
			}
		}
		if p.IsPart() {
			note += "part: needs " + partLabels(p) + " "
		}
		if p.Change.Unusual() {
			note += fmt.Sprintf("unusual changes (%d of 100)", p.Change.Score)
		}
		rows = append(rows, []string{short(p.ID), p.Machine.Name, stamp(p.TakenAt), string(p.Consistency), humanBytes(data), humanBytes(added),
			readWords(checked.Points[p.ID]), short(p.RunID), strings.TrimSpace(note)})
	}
	return table([]string{"POINT", "MACHINE", "TAKEN", "CONSISTENT", "DATA", "NEW", "VERIFIED", "RUN", ""}, rows)
}

// otherParts are the parts of a point's machine that are on other drives.
func otherParts(p lifeboat.RestorePoint) (others []lifeboat.Part) {
	for _, part := range p.Together {
		if part.PointID != p.ID {
			others = append(others, part)
		}
	}
	return others
}

// partLabels are the labels of the drives with the other parts of a point.
func partLabels(p lifeboat.RestorePoint) string {
	var labels []string
	for _, part := range otherParts(p) {
		labels = append(labels, part.Label)
	}
	return list(labels)
}

// partRemark says of a part, in a few words behind its point, what it needs.
func partRemark(p lifeboat.RestorePoint) string {
	if !p.IsPart() {
		return ""
	}
	return "  (a part: the others are on " + partLabels(p) + ")"
}

// lostPoints is the error for points whose record cannot be read any more.
func lostPoints(d *openedDrive, faults []imagestore.Fault) error {
	lost := 0
	for _, f := range faults {
		if f.Lost {
			lost++
		}
	}
	if lost == 0 {
		return nil
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s: %d restore point records cannot be read", d.name(), lost),
		Safe: "the points that are listed are there",
		Next: "run: lifeboat verify --drive " + shellWord(d.found.Drive.Label),
		Err:  lifeboat.ErrDamaged,
	}
}

// warnFaults says what is not as it was written, though work can go on.
func (a *app) warnFaults(d *openedDrive, faults []imagestore.Fault) {
	for _, f := range faults {
		a.warn("%s: %s: %s", d.name(), f.File, f.Why)
	}
}

func (a *app) pointShowCommand() *cobra.Command {
	var drive string
	c := &cobra.Command{
		Use: "show POINT|MACHINE", Short: "Show a restore point and the machine in it",
		Example:     "  lifeboat point show db\n  lifeboat point show 3f2a91c0 --json",
		Annotations: exits(exitNoDrive), Args: exactArgs("a point or a machine"),
		ValidArgsFunction: a.completePoints,
		RunE: func(c *cobra.Command, args []string) error {
			d, err := a.openDrive(c.Context(), drive, imagestore.Read)
			if err != nil {
				return err
			}
			defer d.Close()
			points, _, err := d.store.Points(c.Context())
			if err != nil {
				return err
			}
			p, err := pickPoint(points, newestPoints(points), args[0], d.found.Drive.Label)
			if err != nil {
				return err
			}
			checked, err := d.store.Checked(c.Context())
			if err != nil {
				return err
			}
			k := a.keeping(c.Context(), d)
			checked = k.trusted(checked)
			if a.json {
				a.printJSON(withChecks([]lifeboat.RestorePoint{p}, checked, k)[0])
				return nil
			}
			a.print("point %s on %s\n%s", p.ID, d.name(), describePoint(a.now(), p, checked.Points[p.ID], a.keptLines(c.Context(), d, k, p)))
			return nil
		},
	}
	a.driveFlag(c, &drive)
	return c
}

func describePoint(now time.Time, p lifeboat.RestorePoint, read imagestore.CheckedPoint, kept [][2]string) string {
	var out strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&out, "  %-10s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("machine", "%s", p.Machine.Name)
	line("taken", "%s, %s", stamp(p.TakenAt), p.Consistency)
	line("committed", "%s, sequence %d, run %s", stamp(p.CommittedAt), p.Sequence, short(p.RunID))
	line("verified", "%s", pointReadWords(now, read))
	for _, l := range kept {
		line(l[0], "%s", l[1])
	}
	if p.IsPart() {
		line("together", "%s; only all of them are the machine", togetherWords(p.Together))
	}
	if p.Change.Unusual() {
		line("unusual", "%d of 100: %s", p.Change.Score, p.Change.Why)
	}
	line("written by", "lifeboat %s", p.Program)
	for _, d := range p.Disks {
		how := "only changed blocks were read"
		if d.FullRead != "" {
			how = "everything was read: " + d.FullRead
		}
		line("blocks", "%s: %s of data, read %s, %s new; %s", d.Key, humanBytes(d.DataBytes), humanBytes(d.ReadBytes), humanBytes(d.NewBytes), how)
	}
	return out.String() + describeMachine(p.Machine)
}

func (a *app) completePoints(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	want, _ := c.Flags().GetString("drive")
	d, err := a.openDriveQuietly(c.Context(), want)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	defer d.Close()
	points, _, err := d.store.Points(c.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, p := range newestPoints(points) {
		names = append(names, p.Machine.Name+"\t"+stamp(p.TakenAt))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
