package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/imagestore"
)

// newKey says what a new slot is for.
type newKey struct {
	name, recipient, file string
	generate, dryRun      bool
}

func (a *app) keyAddCommand() *cobra.Command {
	var drive string
	var everywhere bool
	var k newKey
	c := &cobra.Command{
		Use: "add NAME", Short: "Let another secret open the drives",
		Long: "Adds a key slot: a passphrase that is typed twice, read from --new-passphrase-file, or made up\n" +
			"by --generate and shown once; or a public key: a person's, a hardware key's, or another control\n" +
			"machine's (there: lifeboat key identity). A control machine adds it to every drive of the site:\n" +
			"at once where the drive is attached, and when it returns where it is away. With --drive it is\n" +
			"that drive alone. Drives are opened with this computer's identity or with --passphrase-file, so\n" +
			"that a lost secret can be replaced.",
		Example:     "  lifeboat key add board --generate\n  lifeboat key add anna --recipient age1... --drive A",
		Annotations: exits(exitPartial, exitNoDrive, exitHeld, exitPerson, exitStopped), Args: exactArgs("a name for the slot"),
		RunE: func(c *cobra.Command, args []string) error {
			k.name = args[0]
			all, err := a.everyDrive(drive, everywhere)
			if err != nil {
				return err
			}
			return a.keyAdd(c.Context(), drive, all, k)
		},
	}
	c.Flags().StringVar(&k.recipient, "recipient", "", "public key (age1...) of a person, a hardware key or a control machine")
	c.Flags().StringVar(&k.file, "new-passphrase-file", "", "read the new passphrase from this file")
	c.Flags().BoolVar(&k.generate, "generate", false, "make a passphrase up and show it once")
	c.Flags().BoolVar(&k.dryRun, "dry-run", false, "say what would be added")
	a.driveFlag(c, &drive)
	everywhereFlag(c, &everywhere)
	return c
}

func (a *app) keyAdd(ctx context.Context, drive string, everywhere bool, k newKey) error {
	ways := 0
	for _, given := range []bool{k.recipient != "", k.file != "", k.generate} {
		if given {
			ways++
		}
	}
	if ways > 1 {
		return usagef("give one of --recipient, --new-passphrase-file and --generate")
	}
	if everywhere {
		return a.addEverywhere(ctx, k)
	}
	if k.dryRun {
		return a.planAddSlot(ctx, drive, k)
	}
	slot, _, shown, err := a.newSlot(ctx, k)
	if err != nil {
		return err
	}
	d, err := a.changeKeys(ctx, drive, imagestore.Write)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.store.AddSlot(ctx, slot); err != nil {
		return slotProblem(d, err)
	}
	if a.json {
		a.printJSON(slotChange{k.name, d.store.Drive().ID, shown})
	} else if shown != "" {
		a.print("%s\n", shown)
	}
	a.note("%s opens %s from now on", k.name, d.name())
	return a.changedKeys(ctx, d, "added", k.name)
}

// planAddSlot says what adding a slot would do.
func (a *app) planAddSlot(ctx context.Context, drive string, k newKey) error {
	if k.recipient != "" {
		if _, err := imagestore.ParseRecipient(k.recipient); err != nil {
			return usagef("--recipient: %v", err)
		}
	}
	d, err := a.openDrive(ctx, drive, imagestore.Read)
	if err != nil {
		return err
	}
	defer d.Close()
	slots, err := d.store.Slots(ctx)
	if err != nil {
		return err
	}
	for _, s := range slots {
		if s.Name == k.name {
			return slotProblem(d, fmt.Errorf("there is a key slot named %q already", k.name))
		}
	}
	if a.json {
		a.printJSON(slotChange{Name: k.name, Drive: d.store.Drive().ID})
		return nil
	}
	a.print("would let %q open %s\n", k.name, d.name())
	return nil
}

// newSlot makes the slot to add; text is its passphrase if it has one, and shown
// is the same where it was made up.
func (a *app) newSlot(ctx context.Context, k newKey) (slot imagestore.NewSlot, text, shown string, err error) {
	slot.Name = k.name
	switch {
	case k.recipient != "":
		if slot.Recipient, err = imagestore.ParseRecipient(k.recipient); err != nil {
			return slot, "", "", usagef("--recipient: %v", err)
		}
		return slot, "", "", nil
	case k.generate:
		shown = imagestore.GeneratePassphrase()
		text = shown
	case k.file != "":
		data, err := os.ReadFile(k.file)
		if err != nil {
			return slot, "", "", usagef("--new-passphrase-file: %v", err)
		}
		text = string(data)
	default:
		if text, err = a.typeNewPassphrase(ctx, k.name); err != nil {
			return slot, "", "", err
		}
	}
	if err := imagestore.CheckPassphrase(text); err != nil {
		return slot, "", "", &lifeboat.Problem{
			What: fmt.Sprintf("that secret is too weak: %v", err),
			Safe: "nothing was done",
			Next: "choose a longer one, or have one made up: --generate",
			Err:  err,
		}
	}
	slot.Secret, err = imagestore.Passphrase(text)
	return slot, lineOf(text), shown, err
}

// typeNewPassphrase lets a person type a new passphrase twice, so that nobody
// shuts himself out with a slip of the finger.
func (a *app) typeNewPassphrase(ctx context.Context, name string) (string, error) {
	if !isTerminal(a.stdin) {
		return "", &lifeboat.Problem{
			What: fmt.Sprintf("the new secret of key slot %q is needed, and nobody is here to type it", name),
			Safe: "nothing was done",
			Next: "give it in a file: --new-passphrase-file FILE; or have one made up: --generate",
			Err:  errNeedsPerson,
		}
	}
	first, err := a.typeSecret(ctx, "New secret "+name)
	if err != nil {
		return "", err
	}
	second, err := a.typeSecret(ctx, "The same once more")
	if ctx.Err() != nil {
		return "", err
	}
	if err != nil || first != second {
		return "", &lifeboat.Problem{
			What: "the new secret was not typed the same way twice",
			Safe: "nothing was done",
			Next: "run the command again, or have a secret made up: --generate",
			Err:  errors.Join(errNeedsPerson, err),
		}
	}
	return first, nil
}
