package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/hypervisor"
)

// runningRow is one booted machine, as `ps` shows it.
type runningRow struct {
	Run      string        `json:"run"`
	Machine  string        `json:"machine"`
	Power    string        `json:"power"`
	Drive    string        `json:"drive"`
	Point    string        `json:"point"`
	TakenAt  time.Time     `json:"takenAt"`
	Settled  bool          `json:"settled,omitempty"`
	Forwards []bootForward `json:"forwards,omitempty"`
	// Disks says how the machine's disks are served.
	Disks string `json:"disks"`
	// Damage holds what could not be read as it was written.
	Damage []string `json:"damage,omitempty"`
}

func (a *app) psCommand() *cobra.Command {
	return &cobra.Command{
		Use: "ps", Short: "Show the machines that were booted from a drive", GroupID: "back",
		Example:     "  lifeboat ps\n  lifeboat ps --json",
		Annotations: exits(exitDamage), Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			rows, err := a.runningRows(c.Context())
			if err != nil {
				return err
			}
			a.showRunning(rows)
			for _, r := range rows {
				if len(r.Damage) > 0 {
					return damageUnder(r)
				}
			}
			return nil
		},
	}
}

func (a *app) runningRows(ctx context.Context) ([]runningRow, error) {
	runs, err := a.bootedRuns()
	if err != nil {
		return nil, err
	}
	rows := []runningRow{}
	for _, b := range runs {
		there, err := a.machinesOf(ctx, b)
		if err != nil {
			a.warn("run %s: %v", short(b.Run), err)
		}
		serving, serr := readServing(b.dir(a))
		for _, m := range b.Machines {
			l, ok := there[m.Name]
			if !ok {
				continue
			}
			rows = append(rows, runningRow{Run: b.Run, Machine: m.Name, Power: string(l.Power), Drive: b.Drive.Label, Point: m.Point, TakenAt: m.TakenAt,
				Settled: m.Settled, Forwards: m.Forwards, Disks: servingWords(serving, serr, m.Settled), Damage: serving.Damage})
		}
	}
	return rows, nil
}

// machinesOf returns the machines of a run that are still on their hosts, by name.
// What can be listed is returned beside an error about the rest.
func (a *app) machinesOf(ctx context.Context, b *bootedRun) (map[string]hypervisor.Listed, error) {
	there := map[string]hypervisor.Listed{}
	var errs []error
	for _, file := range b.hosts() {
		host, err := a.openHostOf(b, file)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		listed, err := host.List(ctx)
		errs = append(errs, err)
		for _, m := range b.Machines {
			if b.hostOf(m) != file {
				continue
			}
			for _, l := range listed {
				if b.made(m, l) {
					there[m.Name] = l
				}
			}
		}
	}
	return there, errors.Join(errs...)
}

// servingWords says in a few words how a machine's disks are served.
func servingWords(s diskServing, err error, settled bool) string {
	switch {
	case settled:
		return "on local disk"
	case err != nil || !s.Process.alive():
		return "their server does not run"
	case !s.WaitingSince.IsZero():
		return "waiting for the drive for " + humanDuration(time.Since(s.WaitingSince))
	default:
		return "from the drive, " + humanBytes(s.ReadBytes) + " read"
	}
}

func (a *app) showRunning(rows []runningRow) {
	if a.json {
		a.printJSON(rows)
		return
	}
	if len(rows) == 0 {
		a.note("no machine was booted from a drive")
		return
	}
	var cells [][]string
	for _, r := range rows {
		cells = append(cells, []string{r.Machine, short(r.Run), r.Power, r.Drive, stamp(r.TakenAt), r.Disks, forwardWords(r.Forwards)})
	}
	a.print("%s", table([]string{"MACHINE", "RUN", "POWER", "DRIVE", "STATE OF", "DISKS", "FORWARDS"}, cells))
}

func damageUnder(r runningRow) error {
	return &lifeboat.Problem{
		What: fmt.Sprintf("a machine of run %s could not read part of its disk: %s", short(r.Run), r.Damage[0]),
		Safe: fmt.Sprintf("nothing on drive %s was changed; the other blocks are checked each time they are read", r.Drive),
		Next: "boot the machine from another point or another drive, and run: lifeboat verify --drive " + shellWord(r.Drive),
		Err:  lifeboat.ErrDamaged,
	}
}
