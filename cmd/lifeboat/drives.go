package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/imagestore"
	"lifeboat/internal/durable"
	"lifeboat/rotation"
)

// driveFlag adds --drive to a command.
func (a *app) driveFlag(c *cobra.Command, drive *string) {
	c.Flags().StringVarP(drive, "drive", "d", "", "label or path of the drive; without it the one that is attached")
	c.RegisterFlagCompletionFunc("drive", a.completeDrives)
}

func (a *app) completeDrives(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	found, err := a.attachedDrives(c.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, f := range found {
		names = append(names, f.Drive.Label+"\t"+f.Path)
	}
	return names, cobra.ShellCompDirectiveDefault
}

// openedDrive is a drive whose store is open.
type openedDrive struct {
	found rotation.Found
	store *imagestore.Store
	dir   durable.Dir
	// keys opened it, and may open it again.
	keys secretKeys
	// keepsOwn: a change of the site's passphrase was not meant for it.
	keepsOwn bool
	// now is the clock of the command that opened it.
	now func() time.Time
	// speed is what the drive was measured to write, in bytes per second; several
	// machines may ask for it at the same time.
	speedMu sync.Mutex
	speed   float64
}

// name is how messages call the drive.
func (d *openedDrive) name() string { return "drive " + d.found.Drive.Label }

func (d *openedDrive) Close() error {
	err := d.store.Close()
	closeDir(d.dir)
	return err
}

func closeDir(dir durable.Dir) {
	if c, ok := dir.(io.Closer); ok {
		c.Close()
	}
}

// attachedDrives lists the drives that can be seen: mounted ones, and folders
// that the site names.
func (a *app) attachedDrives(ctx context.Context) ([]rotation.Found, error) {
	site, err := a.siteOrNone()
	if err != nil {
		return nil, err
	}
	var folders []string
	if site != nil {
		folders = site.Drives
	}
	return rotation.Attached(ctx, folders)
}

// findDrive finds the drive that a label or a path means, or the one of this site
// that is attached.
func (a *app) findDrive(ctx context.Context, want string) (rotation.Found, error) {
	found, err := a.attachedDrives(ctx)
	if err != nil {
		return rotation.Found{}, err
	}
	if want == "" {
		found = a.withoutForeign(found)
	}
	return rotation.Select(found, want)
}

// withoutForeign leaves out the drives of other sites where there is one of ours:
// a visitor's drive is in nobody's way.
func (a *app) withoutForeign(found []rotation.Found) []rotation.Found {
	site, err := a.siteOrNone()
	if err != nil || site == nil || site.Site.ID == "" {
		return found
	}
	foreign := func(f rotation.Found) bool { return f.Drive.SiteID != "" && f.Drive.SiteID != site.Site.ID }
	if ours := slices.DeleteFunc(slices.Clone(found), foreign); len(ours) > 0 {
		return ours
	}
	return found
}

// openDrive finds a drive of this site and opens its store: with the passphrase
// file if one is given, else with this computer's identity, else by asking.
func (a *app) openDrive(ctx context.Context, want string, mode imagestore.Mode) (*openedDrive, error) {
	found, err := a.findDrive(ctx, want)
	if err != nil {
		return nil, err
	}
	d, err := a.openAsking(ctx, found, mode)
	if err != nil {
		return nil, err
	}
	if err := a.checkSite(d); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// openAsking opens a drive that was found, of whatever site.
func (a *app) openAsking(ctx context.Context, found rotation.Found, mode imagestore.Mode) (*openedDrive, error) {
	keys, err := a.keys()
	if err != nil {
		return nil, err
	}
	d, err := a.openFound(ctx, found, keys, mode, nil)
	if !errors.Is(err, lifeboat.ErrWrongSecret) || keys.Passphrase != "" {
		return d, err
	}
	for _, known := range a.siteSecretsFor(ctx, found) {
		if d, err := a.openFound(ctx, found, known, mode, nil); !errors.Is(err, lifeboat.ErrWrongSecret) {
			return d, err
		}
	}
	for try := 1; ; try++ {
		text, aerr := a.askPassphrase(ctx, "Secret of drive "+found.Drive.Label)
		if ctx.Err() != nil {
			return nil, aerr
		}
		if aerr != nil && try > 1 {
			return nil, err // nobody types any more
		}
		if aerr != nil {
			return nil, errors.Join(aerr, err)
		}
		d, err = a.openFound(ctx, found, secretKeys{Passphrase: text}, mode, nil)
		if !errors.Is(err, lifeboat.ErrWrongSecret) || try == secretTries {
			return d, err
		}
		a.asked = nil
		a.ask("It does not open the drive.\n")
	}
}

// siteSecretsFor are the secrets of the site for a drive that is to let this
// computer in and was away when it joined: it opens with the site's secret, or with
// one that was replaced since, until it has the slot.
func (a *app) siteSecretsFor(ctx context.Context, found rotation.Found) (all []secretKeys) {
	if !a.hasSiteSecrets() || !a.hasMemory() {
		return nil
	}
	id, s, err := a.loadSiteSecrets()
	cat := a.remembered(ctx)
	if err != nil || cat == nil || found.Drive.SiteID != s.Site.ID {
		return nil
	}
	pending, err := cat.PendingKeyChanges(ctx, found.Drive.ID)
	waits := slices.ContainsFunc(pending, func(c catalog.PendingKeyChange) bool {
		return c.Kind == catalog.KeyAdd && slices.Contains(c.Recipients, id.String())
	})
	if err != nil || !waits {
		return nil
	}
	_, replaced, _ := a.loadPendingSecrets() // what is damaged opens nothing
	for _, text := range knownPassphrases("", s.Passphrase, replaced) {
		all = append(all, secretKeys{Passphrase: text})
	}
	return all
}

// openDriveByID opens the very drive that machines were booted from, at the path
// where it was or wherever it is attached by now.
func (a *app) openDriveByID(ctx context.Context, drive lifeboat.Drive, path string) (*openedDrive, error) {
	found, err := a.findDriveByID(ctx, drive.ID, path)
	if err != nil {
		return nil, &lifeboat.Problem{
			What: fmt.Sprintf("drive %s, which the machines run from, is not attached", drive.Label),
			Safe: "nothing was started; what the machines wrote is kept",
			Next: fmt.Sprintf("attach drive %s and run the command again", drive.Label),
			Err:  errors.Join(lifeboat.ErrNoDrive, err),
		}
	}
	return a.openAsking(ctx, found, imagestore.Read)
}

func (a *app) findDriveByID(ctx context.Context, id, path string) (rotation.Found, error) {
	found, err := rotation.Identify(path)
	if err == nil && found.Drive.ID == id {
		return found, nil
	}
	all, err := a.attachedDrives(ctx)
	if err != nil {
		return rotation.Found{}, err
	}
	i := slices.IndexFunc(all, func(f rotation.Found) bool { return f.Drive.ID == id })
	if i < 0 {
		return rotation.Found{}, lifeboat.ErrDriveGone
	}
	return all[i], nil
}

// openDriveQuietly is for completion: it never asks.
func (a *app) openDriveQuietly(ctx context.Context, want string) (*openedDrive, error) {
	found, err := a.findDrive(ctx, want)
	if err != nil {
		return nil, err
	}
	keys, err := a.keys()
	if err != nil {
		return nil, err
	}
	return a.openFound(ctx, found, keys, imagestore.Read, nil)
}

// openFound opens the store of a drive. count, if given, counts what is read.
func (a *app) openFound(ctx context.Context, found rotation.Found, keys secretKeys, mode imagestore.Mode, count *readCounter) (*openedDrive, error) {
	secrets, err := keys.secrets()
	if err != nil {
		return nil, err
	}
	// On a computer that is no control machine a drive is only ever read. On one
	// that is, even a reader takes its lock, so that nothing is removed under it.
	dir, err := rotation.OpenStore(found.Path, mode == imagestore.Read && !a.hasState())
	if err != nil {
		return nil, &lifeboat.Problem{
			What: fmt.Sprintf("drive %s at %s: its store cannot be opened: %v", found.Drive.Label, found.Path, err),
			Safe: "nothing was changed on it",
			Next: "look at its cable, attach it again and run: lifeboat drive list",
			Err:  errors.Join(lifeboat.ErrDriveGone, err),
		}
	}
	opened := dir
	if count != nil {
		opened = countedDir{dir, count}
	}
	store, err := imagestore.Open(ctx, opened, secrets, imagestore.OpenOptions{Mode: mode, Now: a.now})
	if err != nil {
		closeDir(dir)
		return nil, openProblem(found, err)
	}
	d := &openedDrive{found: found, store: store, dir: dir, keys: keys, now: a.now}
	if err := a.confirmDrive(d); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// openProblem names the drive as its sticker does: a store that does not open
// knows no more than where it lies.
func openProblem(found rotation.Found, err error) error {
	if !errors.Is(err, lifeboat.ErrWrongSecret) {
		return err
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("the secret that was given does not open drive %s at %s", found.Drive.Label, found.Path),
		Safe: "nothing was changed on it; its restore points are as they were",
		Next: "type the secret of this drive, as it stands on its recovery sheet, or give its file: --passphrase-file FILE",
		Err:  err,
	}
}

// confirmDrive compares what the drive says outside with what is sealed in its
// store, which is the truth.
func (a *app) confirmDrive(d *openedDrive) error {
	remark, err := d.found.Confirm(d.store.Drive(), "")
	if err != nil {
		return err
	}
	if remark != "" {
		a.warn("%s", remark)
	}
	d.found.Drive = d.store.Drive()
	return nil
}

// checkSite refuses a drive of another site on a control machine.
func (a *app) checkSite(d *openedDrive) error {
	site, err := a.siteOrNone()
	if err != nil || site == nil || site.Site.ID == "" || site.Site.ID == d.store.Site().ID {
		return err
	}
	if err := checkTrial(site.Site, d.store.Drive()); err != nil {
		return err
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("drive %s belongs to another site (%s), not to %s", d.found.Drive.Label, d.store.Site().Name, site.Site.Name),
		Safe: "nothing was changed on it",
		Next: "attach a drive of this site, or use another state folder: --state DIR",
		Err:  lifeboat.ErrWrongDrive,
	}
}

// openServedDrive opens a drive of a boot run for the server of its disks.
func (a *app) openServedDrive(ctx context.Context, b bootedDrive, keys secretKeys, count *readCounter) (*openedDrive, error) {
	found, err := a.findDriveByID(ctx, b.Drive.ID, b.Path)
	if err != nil {
		return nil, err
	}
	d, err := a.openFound(ctx, found, keys, imagestore.Read, count)
	if err != nil {
		return nil, err
	}
	if d.store.Drive().ID != b.Drive.ID {
		d.Close()
		return nil, lifeboat.ErrWrongDrive
	}
	return d, nil
}

// openCatalog opens what this control machine remembers.
func (a *app) openCatalog(ctx context.Context) (*catalog.Catalog, error) {
	if err := os.MkdirAll(a.stateDir, 0o700); err != nil {
		return nil, fmt.Errorf("make the state folder: %w", err)
	}
	return catalog.Open(ctx, filepath.Join(a.stateDir, "catalog.db"))
}
