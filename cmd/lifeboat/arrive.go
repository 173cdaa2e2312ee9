package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/rotation"
)

// arrived is what happens first whenever a drive of the site is opened for
// writing: it has to be the one drive of its id, and then what waited for its
// return is done. What fails of that is said, and stops nothing: an export is
// never lost for its bookkeeping. The caller has compared it with what is
// remembered of it (recallDrive), and cat is not nil.
func (a *app) arrived(ctx context.Context, cat *catalog.Catalog, d *openedDrive) error {
	return a.onlyOfItsID(ctx, d)
}

// onlyOfItsID refuses a drive that is attached twice: one is a copy of the other,
// and what is written to one of them makes two histories of one drive.
func (a *app) onlyOfItsID(ctx context.Context, d *openedDrive) error {
	found, err := a.attachedDrives(ctx)
	if err != nil {
		return err
	}
	for _, f := range found {
		if f.Drive.ID == d.found.Drive.ID && !sameMedium(f.Path, d.found.Path) {
			return &lifeboat.Problem{
				What: fmt.Sprintf("%s is there twice, at %s and at %s: one is a copy of the other", d.name(), d.found.Path, f.Path),
				Safe: "nothing was written to either",
				Next: "detach the copy, and never attach it again; to have two drives make a new one: lifeboat drive init, then lifeboat copy",
				Err:  lifeboat.ErrWrongDrive,
			}
		}
	}
	return nil
}

// sameMedium says whether two paths lead to one store.
func sameMedium(x, y string) bool {
	one, err := os.Stat(filepath.Join(x, rotation.Folder))
	if err != nil {
		return false
	}
	other, err := os.Stat(filepath.Join(y, rotation.Folder))
	return err == nil && os.SameFile(one, other)
}
