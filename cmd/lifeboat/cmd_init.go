package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/imagestore"
)

func (a *app) initCommand() *cobra.Command {
	var names siteNames
	c := &cobra.Command{
		Use: "init --site NAME", Short: "Make this computer the control machine of a site", GroupID: "set",
		Long: "Makes the state folder: the site's file, this computer's identity (so that night jobs need no\n" +
			"secret) and the site's secret, which opens every drive. The secret is made up and shown once,\n" +
			"unless --passphrase-file gives one. Whoever has a drive and this secret has the company.",
		Example:     "  lifeboat init --site head-office --contact '+49 30 1234567'\n  lifeboat init --site head-office --passphrase-file secret.txt",
		Annotations: exits(), Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if names.Name == "" {
				return usagef("say what the site is called: --site NAME")
			}
			return a.init(c.Context(), names)
		},
	}
	c.Flags().StringVar(&names.Name, "site", "", "the site's name; on drives it is sealed")
	c.Flags().StringVar(&names.Contact, "contact", "", "phone number that stands on every drive, for a finder and for a stranger who recovers")
	c.Flags().BoolVar(&names.NameOnDrives, "name-on-drives", false, "put the site's name on every drive, for everybody to read")
	return c
}

func (a *app) init(_ context.Context, names siteNames) error {
	if _, err := os.Stat(a.sitePath()); err == nil {
		return &lifeboat.Problem{
			What: fmt.Sprintf("%s holds a site already", a.stateDir),
			Safe: "nothing was changed",
			Next: "use it as it is, or choose another folder: --state DIR",
		}
	}
	passphrase, given, err := a.givenPassphrase()
	if err != nil {
		return err
	}
	if !given {
		passphrase = imagestore.GeneratePassphrase()
	} else if err := imagestore.CheckPassphrase(passphrase); err != nil {
		return weakPassphrase(err)
	}
	for _, dir := range []string{a.stateDir, a.secretsDir(), a.runsDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make the state folder: %w", err)
		}
	}
	site, err := a.makeIdentity(names, passphrase)
	if err != nil {
		return err
	}
	names.ID = site.ID
	if err := a.saveSite(&siteFile{Version: siteVersion, Site: names}); err != nil {
		return err
	}
	a.showInit(names, passphrase, given)
	return nil
}

func weakPassphrase(err error) error {
	return &lifeboat.Problem{
		What: fmt.Sprintf("that secret is too weak: %v", err),
		Safe: "nothing was done",
		Next: "leave --passphrase-file away, and a good one is made up",
		Err:  err,
	}
}

// makeIdentity makes the keys of this computer and of the site. site.yaml is
// written after it, so a start that was cut off is simply done again.
func (a *app) makeIdentity(names siteNames, passphrase string) (imagestore.Site, error) {
	id, err := imagestore.NewIdentity()
	if err != nil {
		return imagestore.Site{}, err
	}
	if err := writeFile(filepath.Join(a.secretsDir(), "identity"), []byte(id.SecretText()+"\n"), 0o600); err != nil {
		return imagestore.Site{}, err
	}
	site := imagestore.NewSite(names.Name)
	return site, a.saveSiteSecrets(id, siteSecrets{Version: 1, Site: site, Passphrase: passphrase})
}

func (a *app) showInit(names siteNames, passphrase string, given bool) {
	if a.json {
		out := struct {
			Site       string `json:"site"`
			ID         string `json:"id"`
			State      string `json:"state"`
			Passphrase string `json:"passphrase,omitempty"`
		}{Site: names.Name, ID: names.ID, State: a.stateDir}
		if !given {
			out.Passphrase = passphrase
		}
		a.printJSON(out)
		return
	}
	a.print("site %s is set up in %s\n", names.Name, a.stateDir)
	if !given {
		a.print("\nThe secret that opens every drive of this site:\n\n    %s\n\n"+
			"Write it down twice, on paper, and keep it where no drive is kept. It is not shown again\n"+
			"(lifeboat key sheet --with-secret prints it with the recovery steps).\n", passphrase)
	}
	a.note("next: lifeboat host add NAME --dir DIR, then: lifeboat drive init PATH --label A")
}

// hasState says whether this computer is a control machine.
func (a *app) hasState() bool {
	_, err := a.loadSite()
	return !errors.Is(err, errNoSite)
}
