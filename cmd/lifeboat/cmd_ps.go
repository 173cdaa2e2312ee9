package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
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
		host, err := a.openQEMU(b.Host)
		if err != nil {
			return nil, err
		}
		listed, err := host.List(ctx)
		if err != nil {
			return nil, err
		}
		serving, serr := readServing(b.dir(a))
		for _, m := range b.Machines {
			r := runningRow{Run: b.Run, Machine: m.Name, Power: "removed", Drive: b.Drive.Label, Point: m.Point, TakenAt: m.TakenAt,
				Settled: m.Settled, Forwards: m.Forwards, Disks: servingWords(serving, serr, m.Settled), Damage: serving.Damage}
			for _, l := range listed {
				if l.Machine.Name == m.Name {
					r.Power = string(l.Power)
				}
			}
			if r.Power != "removed" {
				rows = append(rows, r)
			}
		}
	}
	return rows, nil
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

// stopFlags are the answers that `stop` takes.
type stopFlags struct {
	all    bool
	remove bool
	now    bool
	yes    bool
	dryRun bool
}

func (a *app) stopCommand() *cobra.Command {
	var f stopFlags
	c := &cobra.Command{
		Use: "stop MACHINE... | --all", Short: "Stop machines that were booted from a drive", GroupID: "back",
		Long: "Shuts the machines down. What they wrote is kept: lifeboat boot --resume RUN starts them again.\n" +
			"--remove deletes it, after asking.",
		Example:           "  lifeboat stop web\n  lifeboat stop --all --remove --yes",
		Annotations:       exits(exitPerson),
		ValidArgsFunction: a.completeRunning,
		RunE: func(c *cobra.Command, args []string) error {
			if f.all == (len(args) > 0) {
				return usagef("say which machines to stop, or --all; see: lifeboat ps")
			}
			return a.stopMachines(c.Context(), f, args)
		},
	}
	c.Flags().BoolVar(&f.all, "all", false, "every machine that was booted from a drive")
	c.Flags().BoolVar(&f.remove, "remove", false, "delete the machines, and all they wrote since they were booted")
	c.Flags().BoolVar(&f.now, "now", false, "take the power away at once")
	c.Flags().BoolVar(&f.yes, "yes", false, "do not ask")
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "say what would be stopped")
	return c
}

// stopGrace is how long a guest may take to shut down.
const stopGrace = 60 * time.Second

func (a *app) stopMachines(ctx context.Context, f stopFlags, names []string) error {
	rows, err := a.runningRows(ctx)
	if err != nil {
		return err
	}
	picked := slices.DeleteFunc(rows, func(r runningRow) bool { return !f.all && !slices.Contains(names, r.Machine) })
	for _, name := range names {
		if !slices.ContainsFunc(picked, func(r runningRow) bool { return r.Machine == name }) {
			return usagef("no machine %q was booted from a drive; see: lifeboat ps", name)
		}
	}
	if f.dryRun {
		a.showRunning(picked)
		return nil
	}
	if f.remove && len(picked) > 0 {
		if err := a.confirm(f.yes, removePlan(picked)); err != nil {
			return err
		}
	}
	grace := stopGrace
	if f.now {
		grace = 0
	}
	for _, r := range picked {
		if err := a.stopOne(ctx, r, grace, f.remove); err != nil {
			return fmt.Errorf("%s: %w", r.Machine, err)
		}
	}
	return a.endIdleRuns(ctx)
}

func removePlan(rows []runningRow) string {
	text := "This deletes, with everything they wrote since they were booted:\n"
	for _, r := range rows {
		text += fmt.Sprintf("  %s (point %s of %s; the point itself stays on drive %s)\n", r.Machine, short(r.Point), stamp(r.TakenAt), r.Drive)
	}
	return text
}

func (a *app) stopOne(ctx context.Context, r runningRow, grace time.Duration, remove bool) error {
	b, err := readBooted(a.runsDir() + "/" + r.Run)
	if err != nil {
		return err
	}
	host, err := a.openQEMU(b.Host)
	if err != nil {
		return err
	}
	if err := host.PowerOff(ctx, r.Machine, grace); err != nil {
		return err
	}
	a.note("%s: stopped", r.Machine)
	if !remove {
		return nil
	}
	if err := host.Remove(ctx, r.Machine); err != nil && !errors.Is(err, hypervisor.ErrNoMachine) {
		return err
	}
	a.note("%s: removed", r.Machine)
	return nil
}

// endIdleRuns ends the servers of disks that no machine needs any more. A run
// whose machines are only stopped keeps its folder, so that it can be resumed.
func (a *app) endIdleRuns(ctx context.Context) error {
	runs, err := a.bootedRuns()
	if err != nil {
		return err
	}
	for _, b := range runs {
		host, err := a.openQEMU(b.Host)
		if err != nil {
			return err
		}
		listed, err := host.List(ctx)
		if err != nil {
			return err
		}
		there, on := 0, 0
		for _, l := range listed {
			if l.Recovery != b.Run {
				continue
			}
			there++
			if l.Power != hypervisor.PowerOff {
				on++
			}
		}
		if on > 0 {
			continue
		}
		if err := a.rest(b, there == 0); err != nil {
			return err
		}
	}
	return nil
}

// rest stops what a run kept going; for good when none of its machines is left.
func (a *app) rest(b *bootedRun, forGood bool) error {
	if err := a.stopServing(b, b.dir(a)); err != nil {
		return err
	}
	if forGood {
		return nil
	}
	// Its machines still exist: ps shows them, and resume finds the run.
	b.Ended = false
	return b.save(b.dir(a))
}

// confirm shows what is about to happen and asks.
func (a *app) confirm(yes bool, plan string) error {
	if yes {
		return nil
	}
	if !isTerminal(a.stdin) {
		return &lifeboat.Problem{
			What: "a person has to say yes to this, and none is here: " + oneLine(plan),
			Safe: "nothing was done",
			Next: "if that is meant, run it again with --yes",
			Err:  errNeedsPerson,
		}
	}
	fmt.Fprintf(a.stderr, "%sGo on? Type yes: ", plan)
	var answer string
	if _, err := fmt.Fscanln(a.stdin, &answer); err != nil || answer != "yes" {
		return &lifeboat.Problem{What: "not confirmed", Safe: "nothing was done", Next: "run the command again and type yes", Err: errNeedsPerson}
	}
	return nil
}

func (a *app) completeRunning(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	rows, err := a.runningRows(c.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, r := range rows {
		names = append(names, r.Machine+"\t"+r.Power)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) consoleCommand() *cobra.Command {
	var shot string
	c := &cobra.Command{
		Use: "console MACHINE", Short: "Say how to reach a machine's screen and serial line", GroupID: "back",
		Example:     "  lifeboat console web\n  lifeboat console web --screenshot web.png",
		Annotations: exits(), Args: exactArgs("the name of a machine"),
		ValidArgsFunction: a.completeMachines,
		RunE: func(c *cobra.Command, args []string) error {
			return a.console(c.Context(), args[0], shot)
		},
	}
	c.Flags().StringVar(&shot, "screenshot", "", "write the screen to this PNG file instead")
	return c
}

func (a *app) console(ctx context.Context, name, shot string) error {
	s, err := a.siteOrNone()
	if err != nil {
		return err
	}
	all, unreachable := a.machines(ctx, s)
	found, err := findMachines(all, []string{name})
	if err != nil {
		return errors.Join(err, unreachable)
	}
	m := found[0]
	if shot != "" {
		png, err := m.host.Screenshot(ctx, m.HostID)
		if err != nil {
			return fmt.Errorf("%s: take a picture of its screen: %w", name, err)
		}
		return writeFile(shot, png, 0o644)
	}
	con, err := m.host.Console(ctx, m.HostID)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if a.json {
		a.printJSON(con)
		return nil
	}
	hostname, _ := os.Hostname()
	a.print("%s has its screen on a Unix socket of this computer. From where you sit:\n\n", name)
	a.print("  ssh -N -L 5901:%s %s@%s\n  then point a VNC viewer at localhost:5901\n", con.VNCSocket, userName(), hostname)
	if con.SerialLog != "" {
		a.print("\nIts serial line, so far:  tail -n 50 %s\n", shellWord(con.SerialLog))
	}
	if con.SerialSocket != "" {
		a.print("Its serial line, to type:  socat -,raw,echo=0,escape=0x1d UNIX-CONNECT:%s   (Ctrl-] leaves)\n", shellWord(con.SerialSocket))
	}
	return nil
}

func userName() string {
	if u := os.Getenv("USER"); u != "" {
		return u
	}
	return "root"
}
