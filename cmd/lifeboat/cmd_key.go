package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/imagestore"
)

func (a *app) keyCommand() *cobra.Command {
	return group("key", "Say who can open a drive, and print the recovery sheet",
		"  lifeboat key list --drive A\n  lifeboat key sheet --drive A", "look",
		a.keyListCommand(), a.keyAddCommand(), a.keyRemoveCommand(), a.keyReplaceCommand(), a.keyRotateCommand(), a.keySheetCommand(), a.keyIdentityCommand())
}

func (a *app) keyListCommand() *cobra.Command {
	var drive string
	c := &cobra.Command{
		Use: "list", Short: "List who can open the drives, as of when",
		Long: "Lists what opens each drive of the site, each alone: passphrases, and the public keys of\n" +
			"computers and people. Drives that are attached are read now; of those that are away it is what\n" +
			"was seen last, and what waits for their return. KEYS are the generations of the drive's master\n" +
			"key that the slot opens; the last one seals what is written from now on. With --drive, and on a\n" +
			"computer without a site, it is one drive as it is now.",
		Example:     "  lifeboat key list\n  lifeboat key list --drive A --json",
		Annotations: exits(exitNoDrive), Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if drive == "" && a.hasState() {
				return a.keyListEverywhere(c.Context())
			}
			d, err := a.openDrive(c.Context(), drive, imagestore.Read)
			if err != nil {
				return err
			}
			defer d.Close()
			return a.keyList(c.Context(), d)
		},
	}
	a.driveFlag(c, &drive)
	return c
}

func (a *app) keyList(ctx context.Context, d *openedDrive) error {
	slots, err := d.store.Slots(ctx)
	if err != nil {
		return err
	}
	if a.json {
		a.printJSON(slots)
		return a.warnOfStraySlots(ctx, d)
	}
	var rows [][]string
	for _, s := range slots {
		used := ""
		if s.Used {
			used = "now"
		}
		rows = append(rows, []string{s.Name, s.Kind, stamp(s.CreatedAt), spanOf(s.Generations), used, s.Recipient})
	}
	a.print("%s", table([]string{"NAME", "KIND", "MADE", "KEYS", "USED", "PUBLIC KEY"}, rows))
	return a.warnOfStraySlots(ctx, d)
}

// spanOf writes ascending numbers as "1" or "1-3".
func spanOf(numbers []uint32) string {
	first, last := numbers[0], numbers[len(numbers)-1]
	if first == last {
		return fmt.Sprint(first)
	}
	return fmt.Sprintf("%d-%d", first, last)
}

// warnOfStraySlots tells of files among the key slots that are not of the
// drive's present key.
func (a *app) warnOfStraySlots(ctx context.Context, d *openedDrive) error {
	stray, err := d.store.StraySlots(ctx)
	if err == nil && len(stray) > 0 {
		a.warn("%s has %s more among its key slots, not of its present key: of a rotation that was cut off, damaged, or put there by somebody. A rotation removes them: lifeboat key rotate --drive %s",
			d.name(), count(len(stray), "file"), shellWord(d.found.Drive.Label))
	}
	return err
}

// changeKeys opens a drive to change who opens it. A control machine first
// compares it with what it remembers: nobody is let into, or shut out of, a
// drive that was put back into an older state. Then the drive gets what waited
// for its return, so that the order of changes is that of asking.
func (a *app) changeKeys(ctx context.Context, want string, mode imagestore.Mode) (*openedDrive, error) {
	d, err := a.openDrive(ctx, want, mode)
	if err != nil {
		return nil, err
	}
	err = a.withMemory(ctx, func(cat *catalog.Catalog) error {
		if err := a.sawDrive(ctx, cat, d); err != nil {
			return err
		}
		a.joinOrWarn(ctx, cat, d)
		return a.applyPendingKeys(ctx, cat, d)
	})
	if err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// changedKeys remembers that a person changed the slots of one drive, and leaves
// that on the drive.
func (a *app) changedKeys(ctx context.Context, d *openedDrive, change, slot string) error {
	a.enterKeys(ctx, d, change, slot)
	return a.withMemory(ctx, func(cat *catalog.Catalog) error {
		if err := a.sawDrive(ctx, cat, d); err != nil {
			return err
		}
		a.leaveOn(ctx, cat, d)
		return nil
	})
}

// withMemory does something with the catalogue, where there is one.
func (a *app) withMemory(ctx context.Context, work func(cat *catalog.Catalog) error) error {
	if !a.hasState() {
		return nil
	}
	cat, err := a.openCatalog(ctx)
	if err != nil {
		return err
	}
	defer cat.Close()
	return work(cat)
}

// slotChange is the JSON of a key slot that was added or removed.
type slotChange struct {
	Name  string `json:"name"`
	Drive string `json:"driveId"`
	// Passphrase is the one that was made up; it is shown once.
	Passphrase string `json:"passphrase,omitempty"`
}

// slotProblem says what a refused change of the key slots means.
func slotProblem(d *openedDrive, err error) error {
	var p *lifeboat.Problem
	if err == nil || errors.As(err, &p) || errors.Is(err, context.Canceled) {
		return err
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s: %v", d.name(), err),
		Safe: "nothing was changed: what opened the drive before opens it now",
		Next: "see who opens it: lifeboat key list --drive " + shellWord(d.found.Drive.Label),
		Err:  err,
	}
}

// passphraseSlots names the slots that a person with words can use.
func passphraseSlots(slots []imagestore.Slot) (names []string) {
	for _, s := range slots {
		if s.Kind == "passphrase" {
			names = append(names, s.Name)
		}
	}
	return names
}

// completeSlots completes the names of a drive's slots, where it opens without
// a question.
func (a *app) completeSlots(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	want, _ := c.Flags().GetString("drive")
	if want == "" && a.hasState() {
		return a.slotsAnywhere(c.Context()), cobra.ShellCompDirectiveNoFileComp
	}
	d, err := a.openDriveQuietly(c.Context(), want)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer d.Close()
	slots, _ := d.store.Slots(c.Context())
	var names []string
	for _, s := range slots {
		names = append(names, s.Name+"\t"+s.Kind)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) keyIdentityCommand() *cobra.Command {
	return &cobra.Command{
		Use: "identity", Short: "Print this computer's public key",
		Long: "Prints the public half of this control machine's identity. It may be seen by anybody: give it\n" +
			"to who keeps the drives, and this computer opens them after\n" +
			"`lifeboat key add NAME --recipient age1...`.",
		Example:     "  lifeboat key identity\n  lifeboat key identity --json",
		Annotations: exits(), Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			id, err := a.identity()
			if err != nil {
				return err
			}
			if id == nil {
				return &lifeboat.Problem{
					What: "this computer has no identity in " + strings.TrimSpace(a.secretsDir()),
					Safe: "nothing was done",
					Next: "make it a control machine: lifeboat init --site NAME",
				}
			}
			if a.json {
				a.printJSON(map[string]string{"recipient": id.String()})
				return nil
			}
			a.print("%s\n", id)
			return nil
		},
	}
}
