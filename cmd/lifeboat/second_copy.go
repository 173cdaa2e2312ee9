package main

import (
	"context"
	"fmt"
	"os"

	"lifeboat"
	"lifeboat/imagestore"
	"lifeboat/internal/durable"
	"lifeboat/rotation"
)

// secondCopy copies points of a drive to a folder, which becomes a drive of the same
// site that the same secret opens. It needs no control machine. Done again it goes
// on where it was; what is there already is not copied twice, and each block is
// checked on the way.
func (a *app) secondCopy(ctx context.Context, from *openedDrive, folder string, ids []string) error {
	to, err := a.openSecond(ctx, from, folder)
	if err != nil {
		return err
	}
	defer to.Close()
	return a.copyNow(ctx, nil, from, to, ids)
}

// openSecond opens the drive in a folder, or makes it.
func (a *app) openSecond(ctx context.Context, from *openedDrive, folder string) (*openedDrive, error) {
	if from.keys.Passphrase == "" {
		return nil, &lifeboat.Problem{
			What: fmt.Sprintf("%s was opened with this computer's own key, which cannot be given to a copy", from.name()),
			Safe: "nothing was copied",
			Next: "give the secret of the drive: --passphrase-file FILE",
			Err:  errNeedsPerson,
		}
	}
	found, err := rotation.Identify(folder)
	if err != nil {
		if err := a.initSecond(ctx, from, folder); err != nil {
			return nil, err
		}
		if found, err = rotation.Identify(folder); err != nil {
			return nil, err
		}
	}
	to, err := a.openFound(ctx, found, from.keys, imagestore.Write, nil)
	if err != nil {
		return nil, err
	}
	if to.store.Site().ID != from.store.Site().ID {
		to.Close()
		return nil, &lifeboat.Problem{
			What: fmt.Sprintf("the drive in %s belongs to another site (%s)", folder, to.store.Site().Name),
			Safe: "nothing was changed on it", Next: "name another folder", Err: lifeboat.ErrWrongDrive}
	}
	return to, nil
}

// initSecond makes a drive of an empty folder, for the secret that opened the first.
func (a *app) initSecond(ctx context.Context, from *openedDrive, folder string) error {
	secret, err := imagestore.Passphrase(from.keys.Passphrase)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("make the folder of the copy: %w", err)
	}
	site := from.store.Site()
	label := from.found.Drive.Label
	if longer := label + "-copy"; rotation.CheckLabel(longer) == nil {
		label = longer
	}
	_, err = rotation.Init(ctx, folder, rotation.InitOptions{
		Label: label, SiteID: site.ID, Now: a.now(),
		CreateStore: func(ctx context.Context, dir durable.Dir, drive lifeboat.Drive) error {
			return imagestore.Create(ctx, dir, imagestore.CreateOptions{Drive: drive, Site: site, Program: version, Now: a.now(),
				Slots: []imagestore.NewSlot{{Name: passphraseSlot, Secret: secret}}})
		},
	})
	return err
}
