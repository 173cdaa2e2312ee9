package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/imagestore"
	"lifeboat/rotation"
)

func (a *app) keyCommand() *cobra.Command {
	return group("key", "Say who can open a drive, and print the recovery sheet",
		"  lifeboat key list --drive A\n  lifeboat key sheet --drive A", "look",
		a.keyListCommand(), a.keyAddCommand(), a.keyRemoveCommand(), a.keySheetCommand())
}

func (a *app) keyListCommand() *cobra.Command {
	var drive string
	c := &cobra.Command{
		Use: "list", Short: "List the key slots of a drive",
		Example:     "  lifeboat key list\n  lifeboat key list --drive A --json",
		Annotations: exits(exitNoDrive), Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			d, err := a.openDrive(c.Context(), drive, imagestore.Read)
			if err != nil {
				return err
			}
			defer d.Close()
			slots, err := d.store.Slots(c.Context())
			if err != nil {
				return err
			}
			if a.json {
				a.printJSON(slots)
				return nil
			}
			var rows [][]string
			for _, s := range slots {
				rows = append(rows, []string{s.Name, s.Kind, stamp(s.CreatedAt), s.Recipient})
			}
			a.print("%s", table([]string{"NAME", "KIND", "MADE", "PUBLIC KEY"}, rows))
			return nil
		},
	}
	a.driveFlag(c, &drive)
	return c
}

func (a *app) keyAddCommand() *cobra.Command {
	var drive, recipient, newFile string
	c := &cobra.Command{
		Use: "add NAME", Short: "Let another secret open a drive",
		Long: "Adds a key slot: a passphrase from --new-passphrase-file (made up and shown if neither it nor\n" +
			"--recipient is given), or a colleague's public key. The drive is opened with this computer's\n" +
			"identity or with --passphrase-file.",
		Example:     "  lifeboat key add board --drive A\n  lifeboat key add anna --recipient age1... --drive A",
		Annotations: exits(exitNoDrive, exitHeld), Args: exactArgs("a name for the slot"),
		RunE: func(c *cobra.Command, args []string) error {
			slot, shown, err := a.newSlot(args[0], recipient, newFile)
			if err != nil {
				return err
			}
			d, err := a.openDrive(c.Context(), drive, imagestore.Write)
			if err != nil {
				return err
			}
			defer d.Close()
			if err := d.store.AddSlot(c.Context(), slot); err != nil {
				return slotProblem(d, err)
			}
			if a.json {
				a.printJSON(slotChange{args[0], d.store.Drive().ID, shown})
			} else if shown != "" {
				a.print("%s\n", shown)
			}
			a.note("%s opens %s from now on", args[0], d.name())
			return nil
		},
	}
	c.Flags().StringVar(&recipient, "recipient", "", "public key (age1...) of a person or a hardware key")
	c.Flags().StringVar(&newFile, "new-passphrase-file", "", "read the new passphrase from this file")
	a.driveFlag(c, &drive)
	return c
}

// slotChange is the JSON of a key slot that was added or removed.
type slotChange struct {
	Name  string `json:"name"`
	Drive string `json:"driveId"`
	// Passphrase is the one that was made up; it is shown once.
	Passphrase string `json:"passphrase,omitempty"`
}

// newSlot makes the slot to add; shown is a passphrase that was made up.
func (a *app) newSlot(name, recipient, newFile string) (slot imagestore.NewSlot, shown string, err error) {
	slot.Name = name
	if recipient != "" {
		slot.Recipient, err = imagestore.ParseRecipient(recipient)
		if err != nil {
			return slot, "", usagef("--recipient: %v", err)
		}
		return slot, "", nil
	}
	text := imagestore.GeneratePassphrase()
	shown = text
	if newFile != "" {
		data, err := os.ReadFile(newFile)
		if err != nil {
			return slot, "", usagef("--new-passphrase-file: %v", err)
		}
		text, shown = string(data), ""
		if err := imagestore.CheckPassphrase(text); err != nil {
			return slot, "", weakPassphrase(err)
		}
	}
	slot.Secret, err = imagestore.Passphrase(text)
	return slot, shown, err
}

func (a *app) keyRemoveCommand() *cobra.Command {
	var drive string
	var yes, dryRun bool
	c := &cobra.Command{
		Use: "remove NAME", Short: "Close a drive to a secret",
		Long: "Removes a key slot: that secret no longer opens the drive as it is now. It helps against nobody\n" +
			"who copied the drive before.",
		Example:     "  lifeboat key remove anna --drive A\n  lifeboat key remove anna --drive A --yes",
		Annotations: exits(exitNoDrive, exitHeld, exitPerson), Args: exactArgs("the name of a slot"),
		RunE: func(c *cobra.Command, args []string) error {
			mode := imagestore.Write
			if dryRun {
				mode = imagestore.Read
			}
			d, err := a.openDrive(c.Context(), drive, mode)
			if err != nil {
				return err
			}
			defer d.Close()
			if dryRun {
				return a.planRemoveSlot(c.Context(), d, args[0])
			}
			if err := a.confirm(c.Context(), yes, fmt.Sprintf("This closes %s to %q.\n", d.name(), args[0])); err != nil {
				return err
			}
			if err := d.store.RemoveSlot(c.Context(), args[0]); err != nil {
				return slotProblem(d, err)
			}
			if a.json {
				a.printJSON(slotChange{Name: args[0], Drive: d.store.Drive().ID})
			}
			a.note("%s no longer opens %s", args[0], d.name())
			return nil
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be closed to whom")
	a.driveFlag(c, &drive)
	return c
}

// planRemoveSlot says what removing a slot would do.
func (a *app) planRemoveSlot(ctx context.Context, d *openedDrive, name string) error {
	slots, err := d.store.Slots(ctx)
	if err != nil {
		return err
	}
	left := []string{}
	for _, s := range slots {
		if s.Name != name {
			left = append(left, s.Name)
		}
	}
	switch {
	case len(left) == len(slots):
		return slotProblem(d, fmt.Errorf("there is no key slot %q", name))
	case len(left) == 0:
		return slotProblem(d, errors.New("the last key slot cannot be removed: nothing would open the drive"))
	case a.json:
		a.printJSON(struct {
			Name  string   `json:"name"`
			Drive string   `json:"driveId"`
			Left  []string `json:"left"`
		}{name, d.store.Drive().ID, left})
	default:
		a.print("would close %s to %q; %s would still open it\n", d.name(), name, list(left))
	}
	return nil
}

// slotProblem says what a refused change of the key slots means.
func slotProblem(d *openedDrive, err error) error {
	var p *lifeboat.Problem
	if errors.As(err, &p) {
		return err
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s: %v", d.name(), err),
		Safe: "nothing was changed: what opened the drive before opens it now",
		Next: "see who opens it: lifeboat key list --drive " + shellWord(d.found.Drive.Label),
		Err:  err,
	}
}

func (a *app) keySheetCommand() *cobra.Command {
	var drive string
	var withSecret bool
	c := &cobra.Command{
		Use: "sheet", Short: "Print the recovery sheet of a drive",
		Long: "Prints what a stranger needs beside the drive: the exact command lines of a recovery and the\n" +
			"SHA-256 of the program on the drive, which only proves something on paper. --with-secret adds\n" +
			"the secret, after opening the drive with it: such a sheet is never kept with a drive.",
		Example:     "  lifeboat key sheet --drive A | lp\n  lifeboat key sheet --drive A --with-secret",
		Annotations: exits(exitNoDrive), Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.keySheet(c.Context(), drive, withSecret)
		},
	}
	c.Flags().BoolVar(&withSecret, "with-secret", false, "print the secret as well: the site's, or the one of --passphrase-file")
	a.driveFlag(c, &drive)
	return c
}

// secretThatOpens returns the secret to print on a drive's sheet, which opened
// the drive just now: the one of --passphrase-file, or else the site's. A sheet
// with a wrong secret would be found out on the worst day.
func (a *app) secretThatOpens(ctx context.Context, found rotation.Found) (string, error) {
	text, given, err := a.givenPassphrase()
	if err != nil {
		return "", err
	}
	which := "the secret in " + a.passphraseFile
	if !given {
		_, secrets, err := a.loadSiteSecrets()
		if err != nil {
			return "", err
		}
		which, text = "the site's secret", secrets.Passphrase
	}
	d, err := a.openFound(ctx, found, secretKeys{Passphrase: text}, imagestore.Read, nil)
	if errors.Is(err, lifeboat.ErrWrongSecret) {
		return "", &lifeboat.Problem{
			What: fmt.Sprintf("%s does not open drive %s: no sheet is printed with it", which, found.Drive.Label),
			Safe: "nothing was changed on the drive; whatever opened it before opens it now",
			Next: "give the file with the drive's own secret: --passphrase-file FILE; or add the secret to the drive: lifeboat key add",
			Err:  err,
		}
	}
	if err != nil {
		return "", err
	}
	return lineOf(text), d.Close()
}

func (a *app) keySheet(ctx context.Context, want string, withSecret bool) error {
	found, err := a.findDrive(ctx, want)
	if err != nil {
		return err
	}
	facts, err := a.sheetFacts(found)
	if err != nil {
		return err
	}
	if withSecret {
		if facts.Secret, err = a.secretThatOpens(ctx, found); err != nil {
			return err
		}
	}
	text := rotation.RecoverySheet(facts)
	if a.json {
		a.printJSON(struct {
			Drive lifeboat.Drive `json:"drive"`
			Sheet string         `json:"sheet"`
		}{found.Drive, text})
		return nil
	}
	a.print("%s", text)
	return nil
}
