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
