package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/imagestore"
)

// keyRotation is a rotation of a drive's key, as it was asked for.
type keyRotation struct {
	drop        []string
	secretOf    []string
	yes, dryRun bool
}

func (a *app) keyRotateCommand() *cobra.Command {
	var drive string
	var r keyRotation
	c := &cobra.Command{
		Use: "rotate", Short: "Give a drive a new master key",
		Long: "Seals everything that is written from now on with a new key, and makes every key slot anew.\n" +
			"Recipients are taken over by themselves. A passphrase is needed once more: the site's is known\n" +
			"here, others are asked for by name or read with --secret-of NAME=FILE; --drop NAME leaves a\n" +
			"slot behind. What was stored before stays sealed with the older key.\n" +
			"Nothing of this helps against copies that were taken already.",
		Example:     "  lifeboat key rotate --drive A --drop anna\n  lifeboat key rotate --drive A --secret-of board=board.txt --yes",
		Annotations: exits(exitNoDrive, exitHeld, exitDamage, exitPerson, exitStopped), Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.keyRotate(c.Context(), drive, r)
		},
	}
	c.Flags().StringArrayVar(&r.drop, "drop", nil, "a slot that is not taken over; may be given several times")
	c.Flags().StringArrayVar(&r.secretOf, "secret-of", nil, "NAME=FILE: the file with the passphrase of a slot; may be given several times")
	c.Flags().BoolVar(&r.yes, "yes", false, "do not ask")
	c.Flags().BoolVar(&r.dryRun, "dry-run", false, "say what would be done")
	c.RegisterFlagCompletionFunc("drop", a.completeSlots)
	a.driveFlag(c, &drive)
	return c
}

func (a *app) keyRotate(ctx context.Context, drive string, r keyRotation) error {
	files, err := secretFiles(r.secretOf)
	if err != nil {
		return err
	}
	open, mode := a.changeKeys, imagestore.Alone
	if r.dryRun {
		open, mode = a.openDrive, imagestore.Read
	}
	d, err := open(ctx, drive, mode)
	if err != nil {
		return err
	}
	defer d.Close()
	left, err := slotsWithout(ctx, d, r.drop...)
	if err != nil {
		return err
	}
	if r.dryRun {
		a.showRotation(d, r.drop, left)
		return nil
	}
	secrets, err := a.secretsOf(ctx, d, passphraseSlots(left), files)
	if err != nil {
		return err
	}
	if err := a.confirmShutOut(ctx, r.yes, d, left, rotationPlan(d, r.drop, left)); err != nil {
		return err
	}
	if err := d.store.Rotate(ctx, imagestore.RotateOptions{Secrets: secrets, Drop: r.drop}); err != nil {
		return slotProblem(d, err)
	}
	// This computer follows its own rotation; others follow by the drive's proof.
	if err := a.knowDrive(ctx, d); err != nil {
		return err
	}
	if !a.json {
		generations := d.store.Generations()
		a.print("%s has a new key, number %d; it opens for %s\n", d.name(), generations[len(generations)-1], list(slotNames(left)))
		return nil
	}
	a.showRotation(d, r.drop, left)
	return nil
}

func rotationPlan(d *openedDrive, drop []string, left []imagestore.Slot) string {
	var plan strings.Builder
	fmt.Fprintf(&plan, "This gives %s a new key. It then opens for %s.\n", d.name(), list(slotNames(left)))
	if len(drop) > 0 {
		fmt.Fprintf(&plan, "Shut out: %s.\n", list(drop))
	}
	plan.WriteString("What was stored before stays sealed with the older key. None of this helps against copies already taken.\n")
	return plan.String()
}

// showRotation says what was done, or what would be.
func (a *app) showRotation(d *openedDrive, drop []string, left []imagestore.Slot) {
	if a.json {
		a.printJSON(struct {
			Drive       string   `json:"driveId"`
			Generations []uint32 `json:"generations"`
			Left        []string `json:"left"`
			Dropped     []string `json:"dropped"`
		}{d.store.Drive().ID, d.store.Generations(), slotNames(left), append([]string{}, drop...)})
		return
	}
	a.print("%s", rotationPlan(d, drop, left))
}

// secretFiles reads the files of --secret-of.
func secretFiles(given []string) (map[string]string, error) {
	texts := map[string]string{}
	for _, g := range given {
		name, file, ok := strings.Cut(g, "=")
		if !ok || name == "" || file == "" {
			return nil, usagef("--secret-of takes NAME=FILE, and got %q", g)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, usagef("--secret-of %s: %v", name, err)
		}
		texts[name] = string(data)
	}
	return texts, nil
}

// secretsOf finds the passphrase of each slot: in its file, among the secrets
// that are known here, or by asking.
func (a *app) secretsOf(ctx context.Context, d *openedDrive, names []string, files map[string]string) (map[string]imagestore.Secret, error) {
	for name := range files {
		if !slices.Contains(names, name) {
			return nil, slotProblem(d, fmt.Errorf("no passphrase slot that stays is named %q", name))
		}
	}
	known := []string{d.keys.Passphrase}
	if a.hasSiteSecrets() {
		_, secrets, err := a.loadSiteSecrets()
		if err != nil {
			return nil, err
		}
		known = append(known, secrets.Passphrase)
	}
	found := map[string]imagestore.Secret{}
	for _, name := range names {
		tries := known
		text, given := files[name]
		if given {
			tries = []string{text}
		}
		secret, err := firstThatOpens(ctx, d, name, tries)
		if errors.Is(err, lifeboat.ErrWrongSecret) && !given {
			secret, err = a.askSecretOf(ctx, d, name)
		}
		if err != nil {
			return nil, slotProblem(d, err)
		}
		found[name] = secret
	}
	return found, nil
}

// firstThatOpens returns the first of the texts that opens a slot, or an error
// that wraps lifeboat.ErrWrongSecret.
func firstThatOpens(ctx context.Context, d *openedDrive, slot string, texts []string) (imagestore.Secret, error) {
	for _, text := range texts {
		secret, err := imagestore.Passphrase(text)
		if err != nil {
			continue // there is none
		}
		if err = d.store.CheckSecret(ctx, slot, secret); !errors.Is(err, lifeboat.ErrWrongSecret) {
			return secret, err
		}
	}
	return imagestore.Secret{}, fmt.Errorf("%w: key slot %q does not open with the secret that was given for it", lifeboat.ErrWrongSecret, slot)
}

// secretTries is how often a person may mistype a secret.
const secretTries = 3

func (a *app) askSecretOf(ctx context.Context, d *openedDrive, slot string) (imagestore.Secret, error) {
	if a.passphraseFile != "" || !isTerminal(a.stdin) {
		return imagestore.Secret{}, &lifeboat.Problem{
			What: fmt.Sprintf("%s: the passphrase of key slot %q is needed, and nobody is here to type it", d.name(), slot),
			Safe: "nothing was changed: what opened the drive before opens it now",
			Next: fmt.Sprintf("give it in a file: --secret-of %s=FILE; or leave that slot behind: --drop %s", shellWord(slot), shellWord(slot)),
			Err:  errNeedsPerson,
		}
	}
	for try := 1; ; try++ {
		text, err := a.typeSecret(ctx, fmt.Sprintf("Secret of key slot %q of %s", slot, d.name()))
		if err != nil {
			return imagestore.Secret{}, err
		}
		secret, err := firstThatOpens(ctx, d, slot, []string{text})
		if !errors.Is(err, lifeboat.ErrWrongSecret) || try == secretTries {
			return secret, err
		}
		a.ask("It does not open that slot.\n")
	}
}
