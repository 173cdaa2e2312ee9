package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/imagestore"
)

func (a *app) keyRemoveCommand() *cobra.Command {
	var drive string
	var yes, dryRun, everywhere bool
	c := &cobra.Command{
		Use: "remove NAME", Short: "Close the drives to a secret",
		Long: "Removes a key slot: that secret no longer opens the drive as it is now. A control machine removes\n" +
			"it from every drive of the site: at once where the drive is attached, and when it returns where\n" +
			"it is away. With --drive it is that drive alone. It helps against nobody who copied a drive\n" +
			"before, nor against who opened it and kept its master key: for that see `lifeboat key rotate`.\n" +
			"The last passphrase goes from one drive at a time, and only after its label was typed: a drive\n" +
			"that only this computer opens is lost with this computer. This computer's own slot goes only\n" +
			"after a word was typed, too.",
		Example:     "  lifeboat key remove anna\n  lifeboat key remove anna --drive A --yes",
		Annotations: exits(exitPartial, exitNoDrive, exitHeld, exitPerson, exitStopped), Args: exactArgs("the name of a slot"),
		ValidArgsFunction: a.completeSlots,
		RunE: func(c *cobra.Command, args []string) error {
			all, err := a.everyDrive(drive, everywhere)
			switch {
			case err != nil:
				return err
			case all:
				return a.removeEverywhere(c.Context(), args[0], yes, dryRun)
			}
			return a.keyRemove(c.Context(), drive, args[0], yes, dryRun)
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be closed to whom")
	a.driveFlag(c, &drive)
	everywhereFlag(c, &everywhere)
	return c
}

func (a *app) keyRemove(ctx context.Context, drive, name string, yes, dryRun bool) error {
	open, mode := a.changeKeys, imagestore.Write
	if dryRun {
		open, mode = a.openDrive, imagestore.Read
	}
	d, err := open(ctx, drive, mode)
	if err != nil {
		return err
	}
	defer d.Close()
	left, err := slotsWithout(ctx, d, name)
	if err != nil {
		return err
	}
	if dryRun {
		a.showRemoval(d, name, left)
		return nil
	}
	agree := a.confirmShutOut
	if d.store.UsedSlot() == name && d.keys.Passphrase == "" {
		agree = a.confirmOwnSlot
	}
	if err := agree(ctx, yes, d, left, fmt.Sprintf("This closes %s to %q.\n", d.name(), name)); err != nil {
		return err
	}
	if err := d.store.RemoveSlot(ctx, name); err != nil {
		return slotProblem(d, err)
	}
	if a.json {
		a.printJSON(slotChange{Name: name, Drive: d.store.Drive().ID})
	}
	a.note("%s no longer opens %s as it is now; copies of it that were taken before it still opens", name, d.name())
	if err := a.changedKeys(ctx, d, "removed", name); err != nil {
		return err
	}
	return a.warnOfStraySlots(ctx, d)
}

// confirmOwnSlot asks before this computer shuts itself out; --yes does not answer.
func (a *app) confirmOwnSlot(ctx context.Context, _ bool, d *openedDrive, left []imagestore.Slot, plan string) error {
	plan += "That is this computer: its night jobs would need a typed secret.\n"
	if len(passphraseSlots(left)) == 0 {
		return a.confirmShutOut(ctx, false, d, left, plan)
	}
	return a.agree(ctx, keyOrder{plan: plan, typed: d.found.Drive.Label})
}

// slotsWithout lists the slots that stay when some are removed: at least one.
func slotsWithout(ctx context.Context, d *openedDrive, names ...string) ([]imagestore.Slot, error) {
	slots, err := d.store.Slots(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if !slices.ContainsFunc(slots, func(s imagestore.Slot) bool { return s.Name == name }) {
			return nil, slotProblem(d, fmt.Errorf("there is no key slot named %q", name))
		}
	}
	left := slices.DeleteFunc(slots, func(s imagestore.Slot) bool { return slices.Contains(names, s.Name) })
	if len(left) == 0 {
		return nil, slotProblem(d, errors.New("the last key slot cannot be removed: nothing would open the drive any more"))
	}
	return left, nil
}

func slotNames(slots []imagestore.Slot) []string {
	names := []string{}
	for _, s := range slots {
		names = append(names, s.Name)
	}
	return names
}

// showRemoval says what removing a slot would do.
func (a *app) showRemoval(d *openedDrive, name string, left []imagestore.Slot) {
	names := slotNames(left)
	if a.json {
		a.printJSON(struct {
			Name  string   `json:"name"`
			Drive string   `json:"driveId"`
			Left  []string `json:"left"`
		}{name, d.store.Drive().ID, names})
		return
	}
	a.print("would close %s to %q; %s would still open it\n", d.name(), name, list(names))
	if len(passphraseSlots(left)) == 0 {
		a.note("no passphrase would be left; a person has to type the drive's label for that")
	}
}

// confirmShutOut asks before somebody is shut out. When no passphrase is left,
// --yes does not answer: what remains may be lost with one computer.
func (a *app) confirmShutOut(ctx context.Context, yes bool, d *openedDrive, left []imagestore.Slot, plan string) error {
	if len(passphraseSlots(left)) > 0 {
		return a.confirm(ctx, yes, plan)
	}
	plan += fmt.Sprintf("No passphrase would open %s any more, only %s. If that burns with its computer, the drive is lost.\n", d.name(), list(slotNames(left)))
	if !isTerminal(a.stdin) {
		return &lifeboat.Problem{
			What: oneLine(plan),
			Safe: "nothing was changed: what opened the drive before opens it now",
			Next: fmt.Sprintf("keep a passphrase: lifeboat key add NAME --generate --drive %s; or run this at a terminal and type the drive's label", shellWord(d.found.Drive.Label)),
			Err:  errNeedsPerson,
		}
	}
	return a.confirmWord(ctx, false, plan, d.found.Drive.Label)
}
