package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/imagestore"
)

func (a *app) initCommand() *cobra.Command {
	var names siteNames
	var fromDrive string
	c := &cobra.Command{
		Use: "init --site NAME | --from-drive PATH", Short: "Make this computer the control machine of a site", GroupID: "set",
		Long: "Makes the state folder: the site's file, this computer's identity (so that night jobs need no\n" +
			"secret) and the site's secret, which opens every drive. The secret is made up and shown once,\n" +
			"unless --passphrase-file gives one. Whoever has a drive and this secret has the company.\n" +
			"Where only the site's file was lost, it is written anew and the secrets stay what they were.\n" +
			"With --trial it is a trial, to try weeks of rotation in an hour: its commands may be told the time\n" +
			"with --now, its drives say TRIAL, and no real site takes them.\n" +
			"Where the control machine itself was lost, --from-drive joins its site from one drive and the\n" +
			"drive's secret: keys, catalogue, rules and hosts. Passwords of hosts are asked again, and the\n" +
			"drive gets a key slot for this computer.",
		Example: "  lifeboat init --site head-office --contact '+49 30 1234567'\n  lifeboat init --site head-office --passphrase-file secret.txt\n" +
			"  lifeboat init --trial --site try-out --state /tmp/try-out\n  lifeboat init --from-drive /media/lifeboat-a",
		Annotations: exits(exitNoDrive, exitHeld, exitPerson), Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if fromDrive != "" {
				if names != (siteNames{}) {
					return usagef("--from-drive takes everything from the drive: leave the other flags away")
				}
				return a.joinSite(c.Context(), fromDrive)
			}
			if names.Name == "" {
				return usagef("say what the site is called: --site NAME; or join one that there is: --from-drive PATH")
			}
			return a.init(c.Context(), names)
		},
	}
	c.Flags().StringVar(&names.Name, "site", "", "the site's name; on drives it is sealed")
	c.Flags().StringVar(&names.Contact, "contact", "", "phone number that stands on every drive, for a finder and for a stranger who recovers")
	c.Flags().BoolVar(&names.Trial, "trial", false, "make a trial: it may be told the time (--now), and no real site takes its drives")
	c.Flags().BoolVar(&names.NameOnDrives, "name-on-drives", false, "put the site's name on every drive, for everybody to read")
	c.Flags().StringVar(&fromDrive, "from-drive", "", "join the site of the drive in this folder, with the drive's secret")
	return c
}

func (a *app) init(_ context.Context, names siteNames) error {
	before, err := a.siteOfHosts()
	if _, there := os.Stat(a.sitePath()); there == nil && (err != nil || before.Site.ID != "") {
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
	if a.hasSiteSecrets() {
		return a.initAgain(names, passphrase, given)
	}
	if !given {
		passphrase = imagestore.GeneratePassphrase()
	} else if err := imagestore.CheckPassphrase(passphrase); err != nil {
		return weakPassphrase(err)
	}
	if err := a.makeStateFolders(); err != nil {
		return err
	}
	site, err := a.makeIdentity(names, passphrase)
	if err != nil {
		return err
	}
	names.ID = site.ID
	before.Site = names
	if err := a.saveSite(before); err != nil {
		return err
	}
	a.showInit(names, passphrase, given)
	return nil
}

func (a *app) makeStateFolders() error {
	for _, dir := range []string{a.stateDir, a.secretsDir(), a.runsDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make the state folder: %w", err)
		}
	}
	return nil
}

// hasSiteSecrets says whether the keys of a site are here.
func (a *app) hasSiteSecrets() bool {
	_, err := os.Stat(a.siteSecretsPath())
	return err == nil
}

// initAgain writes a lost site.yaml anew for the site whose keys are here: they
// open its drives, and are never written over.
func (a *app) initAgain(names siteNames, passphrase string, given bool) error {
	_, kept, err := a.loadSiteSecrets()
	if err != nil {
		return err
	}
	refused := ""
	switch {
	case names.Name != kept.Site.Name:
		refused = fmt.Sprintf("%s holds the secrets of the site %s, not of %s", a.stateDir, kept.Site.Name, names.Name)
	case names.Trial != lifeboat.IsTrial(kept.Site.ID):
		refused = fmt.Sprintf("%s holds the secrets of the site %s, and a trial and a real site are never one", a.stateDir, kept.Site.Name)
	case given && lineOf(passphrase) != lineOf(kept.Passphrase):
		refused = fmt.Sprintf("%s holds the secrets of the site %s, and its secret is not the one in %s", a.stateDir, kept.Site.Name, a.passphraseFile)
	}
	if refused != "" {
		trial := ""
		if lifeboat.IsTrial(kept.Site.ID) {
			trial = " --trial"
		}
		return &lifeboat.Problem{
			What: refused,
			Safe: "nothing was changed; the secrets that are there open the site's drives",
			Next: fmt.Sprintf("to write its site.yaml anew: lifeboat init --site %s%s; for another site, another folder: --state DIR", shellWord(kept.Site.Name), trial),
		}
	}
	names.ID = kept.Site.ID
	if err := a.saveSite(&siteFile{Version: siteVersion, Site: names}); err != nil {
		return err
	}
	a.warn("site.yaml is written anew for the site whose secrets were in %s; they are as they were. Its hosts, folders and exclusions have to be said again", a.secretsDir())
	a.showInit(names, lineOf(kept.Passphrase), given)
	return nil
}

// lineOf takes away the line end of a secret that was read from a file.
func lineOf(text string) string {
	return strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
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
	id, err := a.identity()
	if err == nil && id == nil {
		id, err = a.newIdentity()
	}
	if err != nil {
		return imagestore.Site{}, err
	}
	site := imagestore.NewSite(names.Name)
	if names.Trial {
		site.ID = lifeboat.AsTrial(site.ID)
	}
	return site, a.saveSiteSecrets(id, siteSecrets{Version: 1, Site: site, Passphrase: passphrase})
}

// newIdentity makes this computer's key. One that is there already may open
// drives: it is used, and not replaced.
func (a *app) newIdentity() (*imagestore.Identity, error) {
	id, err := imagestore.NewIdentity()
	if err != nil {
		return nil, err
	}
	return id, writeFile(filepath.Join(a.secretsDir(), "identity"), []byte(id.SecretText()+"\n"), 0o600)
}

func (a *app) showInit(names siteNames, passphrase string, given bool) {
	if a.json {
		out := struct {
			Site       string `json:"site"`
			ID         string `json:"id"`
			Trial      bool   `json:"trial,omitempty"`
			State      string `json:"state"`
			Passphrase string `json:"passphrase,omitempty"`
		}{Site: names.Name, ID: names.ID, Trial: names.Trial, State: a.stateDir}
		if !given {
			out.Passphrase = passphrase
		}
		a.printJSON(out)
		return
	}
	a.print("site %s is set up in %s\n", names.Name, a.stateDir)
	if names.Trial {
		a.print("TRIAL: it is a trial. Its clock can be set with --now, and no real site takes its drives.\n")
	}
	if !given {
		a.print("\nThe secret that opens every drive of this site:\n\n    %s\n\n"+
			"Write it down twice, on paper, and keep it where no drive is kept. It is not shown again\n"+
			"(lifeboat key sheet --with-secret prints it with the recovery steps).\n", passphrase)
	}
	a.note("next: say where the machines run, for example\n" +
		"  lifeboat host add kvm1 --kind libvirt --uri qemu+ssh://root@kvm1/system\n" +
		"  lifeboat host add vc --kind vsphere --url https://vc.example.com --user lifeboat@vsphere.local\n" +
		"  lifeboat host add lab --dir /srv/machines\n" +
		"then prepare a drive: lifeboat drive init PATH --label A")
}

// hasState says whether this computer is a control machine.
func (a *app) hasState() bool {
	_, err := a.loadSite()
	return !errors.Is(err, errNoSite)
}
