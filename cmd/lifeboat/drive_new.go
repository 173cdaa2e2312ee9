package main

import (
	"context"
	"fmt"
	"os"
	"slices"

	"lifeboat"
	"lifeboat/custody"
	"lifeboat/imagestore"
	"lifeboat/rotation"
)

// driveSecret is the passphrase of a new drive: its own, or the site's.
func (a *app) driveSecret(site siteSecrets) (imagestore.Secret, error) {
	text, given, err := a.givenPassphrase()
	if err != nil {
		return imagestore.Secret{}, err
	}
	if !given && site.Borrowed != "" {
		return imagestore.Secret{}, &lifeboat.Problem{
			What: fmt.Sprintf("this computer joined the site with the secret of %q, and does not have the site's own: a drive that is made now would open for that person for good", site.Borrowed),
			Safe: "nothing was written",
			Next: "give the site a new secret: lifeboat key replace passphrase; or the drive its own: --passphrase-file FILE",
		}
	}
	if !given {
		return imagestore.Passphrase(site.Passphrase)
	}
	if err := imagestore.CheckPassphrase(text); err != nil {
		return imagestore.Secret{}, weakPassphrase(err)
	}
	return imagestore.Passphrase(text)
}

// labelIsFree refuses a label that another drive of the site in sight has, and says when one
// that is away has it: two stickers that say the same get mixed up. A drive at path is not
// another one: that path is a drive already, which Init says.
func (a *app) labelIsFree(ctx context.Context, site *siteFile, label, path string) error {
	found, err := a.attachedDrives(ctx)
	if err != nil {
		return err
	}
	sameSticker := func(d lifeboat.Drive) bool {
		return d.Label == label && (d.SiteID == "" || d.SiteID == site.Site.ID)
	}
	for _, f := range found {
		if sameSticker(f.Drive) && !sameFolder(f.Path, path) {
			return &lifeboat.Problem{
				What: fmt.Sprintf("the label %s is taken: drive %s (%s) is attached at %s", label, label, short(f.Drive.ID), f.Path),
				Safe: "nothing was written",
				Next: "choose another label: --label LABEL",
			}
		}
	}
	away, err := a.addKnownDrives(ctx, nil)
	if err != nil {
		return err
	}
	for _, r := range away {
		if sameSticker(r.Drive) {
			a.warn("another drive %s (%s) was last seen %s; if it still exists, give one of the two another label", label, short(r.ID), humanAge(a.now(), r.SeenAt))
		}
	}
	return nil
}

func sameFolder(one, other string) bool {
	a, err := os.Stat(one)
	if err != nil {
		return false
	}
	b, err := os.Stat(other)
	return err == nil && os.SameFile(a, b)
}

// rememberDrive writes a new drive into the catalogue, so that it is known when
// it is away, and known for the same when it is back.
func (a *app) rememberDrive(ctx context.Context, path string) error {
	cat, err := a.openCatalog(ctx)
	if err != nil {
		return err
	}
	defer cat.Close()
	found, err := a.findDrive(ctx, path)
	if err != nil {
		return err
	}
	keys, err := a.keys()
	if err != nil {
		return err
	}
	d, err := a.openFound(ctx, found, keys, imagestore.Write, nil)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := a.sawDrive(ctx, cat, d); err != nil {
		return err
	}
	entries, err := cat.Ledger(ctx)
	if err != nil {
		return err
	}
	// One whose making was cut off at its end may have been used since.
	kept := custody.Replay(entries)
	if _, known := kept.Of(d.store.Drive().ID); !known {
		place := a.homePlace()
		_, err = a.record(ctx, cat, custody.Entry{Act: custody.ActMade, Item: item(d.store.Drive()), To: &place})
	}
	a.leaveOn(ctx, cat, d)
	return err
}

// rememberFolder keeps the path of a drive that is no mounted file system, so
// that it is found again without --drive.
func (a *app) rememberFolder(ctx context.Context, site *siteFile, path string) error {
	found, err := rotation.Attached(ctx, nil)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(found, func(f rotation.Found) bool { return f.Path == path }) || slices.Contains(site.Drives, path) {
		return nil
	}
	return a.changeSite(func(s *siteFile) error {
		if !slices.Contains(s.Drives, path) {
			s.Drives = append(s.Drives, path)
		}
		return nil
	})
}
