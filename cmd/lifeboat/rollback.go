package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"lifeboat"
	"lifeboat/hypervisor"
	"lifeboat/runbook"
)

// rollbackFile says, in the folder of a recovery, that it was taken back, and where
// what its machines wrote is.
const rollbackFile = "rollback.json"

// rolledBack is that file.
type rolledBack struct {
	Run      string          `json:"run"`
	At       time.Time       `json:"at"`
	Machines []rolledMachine `json:"machines"`
}

// rolledMachine is one machine of a recovery that was taken back.
type rolledMachine struct {
	Machine string `json:"machine"`
	Host    string `json:"host"`
	// Folder is where the host keeps the machine now; empty: it stands on the host
	// without power, because this kind of host cannot set machines aside.
	Folder string `json:"folder,omitempty"`

	err error
}

// rollback takes a recovery back that went wrong: its machines are stopped, what
// they wrote is set aside, and the drive is not touched. Another recovery can then
// bring them back from another point.
func (a *app) rollback(ctx context.Context, f executionFlags, id string) error {
	if id == "" {
		return usagef("say which recovery to take back; see: lifeboat run list")
	}
	found, err := a.findRun(id)
	if err != nil {
		return err
	}
	if found.Kind != string(runbook.Recover) {
		return usagef("run %s is no recovery, it is: %s", short(found.ID), found.Kind)
	}
	if err := refuseRunning(found); err != nil {
		return err
	}
	dir := filepath.Join(a.runsDir(), found.ID)
	var plan runbook.Plan
	if err := loadJSON(filepath.Join(dir, planFile), &plan); err != nil {
		return fmt.Errorf("read the plan of run %s: %w", short(found.ID), err)
	}
	machines, err := a.machinesOfRun(ctx, found.ID, dir)
	if err != nil {
		return err
	}
	if f.dryRun {
		a.showRollback(rolledBack{Run: found.ID, Machines: rolledRows(machines)}, "would be stopped and set aside")
		return nil
	}
	if f.yesSite != plan.Site {
		if err := a.confirmWord(ctx, false, rollbackPlan(found.ID, machines), plan.Site); err != nil {
			return err
		}
	}
	done := rolledBack{Run: found.ID, At: a.now().UTC(), Machines: takeBack(ctx, machines)}
	err = errors.Join(a.stopServers(dir), a.closeLab(dir), saveJSON(filepath.Join(dir, rollbackFile), done))
	a.showRollback(done, "stopped")
	return errors.Join(rollbackProblem(done), err)
}

// machinesOfRun are the machines of a recovery that are on its hosts, also those
// that were moved to local disk since.
func (a *app) machinesOfRun(ctx context.Context, run, dir string) ([]hostedMachine, error) {
	hosts, err := hostsOfRun(dir)
	if err != nil {
		return nil, err
	}
	machines, err := a.machinesLeft(ctx, run, hosts)
	failed := []error{err}
	for _, folder := range bootFolders(dir) {
		b, err := readBooted(folder)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		there, err := a.machinesOf(ctx, b)
		failed = append(failed, err)
		for _, m := range b.Machines {
			l, ok := there[m.Name]
			// By its name alone, a plain QEMU machine may be the original that came back.
			if !ok || b.hostOf(m).Kind == kindQEMU && l.Recovery != run && l.Settled != run {
				continue
			}
			// Another host of the run may have a machine of that name that is nobody's
			// to touch: each is stopped on its own host alone.
			host, err := a.openHostOf(b, b.hostOf(m))
			if err != nil {
				failed = append(failed, err)
				continue
			}
			same := func(m hostedMachine) bool { return m.host == host && m.HostID == l.HostID }
			if !slices.ContainsFunc(machines, same) {
				machines = append(machines, hostedMachine{host, l})
			}
		}
	}
	slices.SortFunc(machines, func(x, y hostedMachine) int {
		return cmp.Or(cmp.Compare(x.Machine.Name, y.Machine.Name), cmp.Compare(x.host.Name(), y.host.Name()))
	})
	return machines, errors.Join(failed...)
}

func rollbackPlan(run string, machines []hostedMachine) string {
	text := fmt.Sprintf("Recovery %s is taken back: these machines are stopped, and what they wrote is set aside:\n", short(run))
	for _, m := range machines {
		text += fmt.Sprintf("  %s on host %s (%s)\n", m.Machine.Name, m.host.Name(), m.Power)
	}
	return text + "The drive is not touched.\n"
}

// takeBack stops the machines side by side, because guests take their time, and
// sets them aside.
func takeBack(ctx context.Context, machines []hostedMachine) []rolledMachine {
	rows := rolledRows(machines)
	var g errgroup.Group
	for i, m := range machines {
		g.Go(func() error {
			rows[i].Folder, rows[i].err = m.setAside(ctx)
			return nil
		})
	}
	g.Wait()
	return rows
}

func rolledRows(machines []hostedMachine) []rolledMachine {
	rows := []rolledMachine{}
	for _, m := range machines {
		rows = append(rows, rolledMachine{Machine: m.Machine.Name, Host: m.host.Name()})
	}
	return rows
}

// setAside stops a machine and takes it off its host, where the host can do that.
func (m hostedMachine) setAside(ctx context.Context) (folder string, err error) {
	if err := m.still(ctx); err != nil {
		return "", err
	}
	if err := m.host.PowerOff(ctx, m.HostID, stopGrace); err != nil {
		return "", err
	}
	shelver, ok := m.host.(hypervisor.Shelver)
	if !ok {
		return "", nil
	}
	return shelver.Shelve(ctx, m.HostID)
}

// still says that the host has the machine as it was found: a person may have
// thought long, and put another in its place.
func (m hostedMachine) still(ctx context.Context) error {
	listed, err := m.host.List(ctx)
	for _, l := range listed {
		if l.HostID == m.HostID && l.Machine.Name == m.Machine.Name && l.Machine.ID == m.Machine.ID && l.Recovery == m.Recovery && l.Settled == m.Settled {
			return nil
		}
	}
	return cmp.Or(err, fmt.Errorf("host %s does not have it any more as it was when this command began", m.host.Name()))
}

func (a *app) showRollback(r rolledBack, what string) {
	if a.json {
		a.printJSON(r)
		return
	}
	var rows [][]string
	for _, m := range r.Machines {
		state, where := what, m.Folder
		if m.err != nil {
			state, where = "failed", m.err.Error()
		} else if where == "" && !r.At.IsZero() {
			where = "on its host still; to free its name: lifeboat stop " + shellWord(m.Machine) + " --remove"
		}
		rows = append(rows, []string{m.Machine, m.Host, state, where})
	}
	a.print("%s", table([]string{"MACHINE", "HOST", "STATE", "WHAT IT WROTE IS"}, rows))
	if !r.At.IsZero() {
		a.note("to try again from another point: lifeboat recover --point MACHINE=POINT")
	}
}

// rollbackProblem says which machines could not be taken back.
func rollbackProblem(r rolledBack) error {
	var failed []string
	var errs []error
	for _, m := range r.Machines {
		if m.err != nil {
			failed, errs = append(failed, m.Machine), append(errs, m.err)
		}
	}
	if len(errs) == 0 {
		return nil
	}
	if len(errs) < len(r.Machines) {
		errs = append(errs, lifeboat.ErrPartial)
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("%d of %d machines were taken back; not: %s (%v)", len(r.Machines)-len(failed), len(r.Machines), list(failed), errs[0]),
		Safe: "the drive was only read; what the machines wrote is kept",
		Next: "run the command again; it goes on with those that are left",
		Err:  errors.Join(errs...),
	}
}
