package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/imagestore"
	"lifeboat/rotation"
)

// sheetOrder is a recovery sheet as it was asked for.
type sheetOrder struct {
	withSecret, text, html bool
	out                    string
}

func (a *app) keySheetCommand() *cobra.Command {
	var drive string
	var o sheetOrder
	c := &cobra.Command{
		Use: "sheet", Short: "Print the recovery sheet of a drive",
		Long: "Prints what a stranger needs beside the drive: the exact command lines of a recovery and the\n" +
			"SHA-256 of the program on the drive, which only proves something on paper. As plain text, or\n" +
			"with --html as two pages for A4 or Letter with QR codes, which need no network. --with-secret\n" +
			"adds the secret, after opening the drive with it: such a sheet is never kept with a drive.",
		Example:     "  lifeboat key sheet --drive A | lp\n  lifeboat key sheet --drive A --html --with-secret --out sheet-A.html",
		Annotations: exits(exitNoDrive, exitPerson, exitStopped), Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if o.text && o.html {
				return usagef("give one of --text and --html")
			}
			return a.keySheet(c.Context(), drive, o)
		},
	}
	c.Flags().BoolVar(&o.withSecret, "with-secret", false, "print the secret as well: the site's, the one of --passphrase-file, or one that is typed")
	c.Flags().BoolVar(&o.text, "text", false, "as plain text, which is what happens without --html too")
	c.Flags().BoolVar(&o.html, "html", false, "as two pages of HTML with QR codes")
	c.Flags().StringVar(&o.out, "out", "", "write it to this file, which only you can read")
	a.driveFlag(c, &drive)
	return c
}

// secretThatOpens returns the secret to print on a drive's sheet, which opened
// the drive just now: the one of --passphrase-file, else the site's, else one
// that a person types. A sheet with a wrong secret would be found out on the
// worst day.
func (a *app) secretThatOpens(ctx context.Context, found rotation.Found) (string, error) {
	text, given, err := a.givenPassphrase()
	if err != nil {
		return "", err
	}
	which := "the secret in " + a.passphraseFile
	switch {
	case given:
	case a.hasSiteSecrets():
		_, secrets, err := a.loadSiteSecrets()
		if err != nil {
			return "", err
		}
		which, text = "the site's secret", secrets.Passphrase
	default:
		if text, err = a.askPassphrase(ctx, "Secret of drive "+found.Drive.Label); err != nil {
			return "", err
		}
		which = "the secret that was typed"
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

// slotNamesOf are the names of a drive's key slots, where it opens without a
// question. A sheet is of use without them.
func (a *app) slotNamesOf(ctx context.Context, found rotation.Found) []string {
	keys, err := a.keys()
	if err != nil {
		return nil
	}
	d, err := a.openFound(ctx, found, keys, imagestore.Read, nil)
	if err != nil {
		return nil
	}
	defer d.Close()
	slots, _ := d.store.Slots(ctx)
	return slotNames(slots)
}

func (a *app) keySheet(ctx context.Context, want string, o sheetOrder) error {
	found, err := a.findDrive(ctx, want)
	if err != nil {
		return err
	}
	facts, err := a.sheetFacts(found)
	if err != nil {
		return err
	}
	if o.withSecret {
		if facts.Secret, err = a.secretThatOpens(ctx, found); err != nil {
			return err
		}
	}
	facts.Slots = a.slotNamesOf(ctx, found)
	sheet := rotation.RecoverySheet(facts)
	if o.html {
		if sheet, err = rotation.RecoverySheetHTML(facts); err != nil {
			return err
		}
	}
	a.enterSheet(ctx, found.Drive, o.withSecret)
	if o.out != "" {
		if err := writeFile(o.out, []byte(sheet), 0o600); err != nil {
			return err
		}
		a.note("the sheet is in %s: print it, delete the file, and keep the paper apart from the drive", o.out)
		return nil
	}
	if a.json {
		a.printJSON(struct {
			Drive lifeboat.Drive `json:"drive"`
			Sheet string         `json:"sheet"`
		}{found.Drive, sheet})
		return nil
	}
	a.print("%s", sheet)
	return nil
}
