package imagestore

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"

	"lifeboat"
	"lifeboat/imagestore/format"
	"lifeboat/internal/durable"
)

// Destroyed says what Destroy did.
type Destroyed struct {
	// Slots are the files of key slots that were destroyed, both copies counted.
	Slots int `json:"slots"`
	// Overwritten says that their bytes were written over where they lay, and
	// read back as the new ones. Else they were removed only.
	Overwritten bool `json:"overwritten"`
	// FromMemory says why what was read back may not have come from the medium;
	// empty: it did.
	FromMemory string `json:"fromMemory,omitempty"`
}

// Destroy destroys the key wraps of the drive driveID, whose store lies in dir: every
// file of a key slot, both copies, is written over with random bytes, read back as
// those, removed, and the folder read back as empty. The master key is nowhere
// else on the drive, so nothing on it can be read by anybody from then on. It
// needs no secret, takes the drive alone, and begins again where it was cut off. A
// store that is not that drive's, or does not say whose it is, is left as it is: an
// error that wraps [lifeboat.ErrWrongDrive].
//
// What it does not reach: copies of the drive, or of a slot, that were made before;
// and older bytes that the medium or its file system keeps elsewhere.
func Destroy(ctx context.Context, dir durable.Dir, driveID string) (Destroyed, error) {
	for _, name := range []string{lockUse, lockWrite} {
		lock, err := dir.Lock(name, true)
		if errors.Is(err, durable.ErrLocked) {
			err = fmt.Errorf("%w: %w", lifeboat.ErrDriveHeld, err)
		}
		if err != nil {
			return Destroyed{}, err
		}
		defer lock.Close()
	}
	if err := storeIs(dir, driveID); err != nil {
		return Destroyed{}, err
	}
	names, err := slotFolder(dir)
	if err != nil {
		return Destroyed{}, err
	}
	over, can := dir.(durable.Overwriter)
	done := Destroyed{Overwritten: can, FromMemory: dir.Cached()}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return done, err
		}
		if can {
			if err := writeOver(dir, over, name); err != nil {
				return done, err
			}
		}
		done.Slots++
	}
	// Only when no slot opens any more are their names taken away.
	for _, name := range names {
		if err := dir.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return done, fmt.Errorf("remove %s: %w", name, err)
		}
	}
	if err := dir.SyncDir("slots"); err != nil {
		return done, fmt.Errorf("sync the folder of the key slots: %w", err)
	}
	left, err := slotFolder(dir)
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("%d files of key slots are still there", len(left))
	}
	return done, err
}

// storeIs refuses a store that is not that of a drive. No key is needed for it, and
// none may be left.
func storeIs(dir durable.Dir, driveID string) error {
	named := false
	for _, suffix := range []string{copyA, copyB} {
		b, err := durable.ReadWhole(dir, superblockName+suffix, format.MaxSmallFile)
		if isGone(err) {
			return err
		}
		h, herr := format.DecodeHeader(b)
		if err != nil || herr != nil {
			continue // the other copy says it
		}
		if id := hex.EncodeToString(h.Drive[:]); id != driveID {
			return fmt.Errorf("the store there is that of the drive %s, not of %s: %w", id, driveID, lifeboat.ErrWrongDrive)
		}
		named = true
	}
	if !named {
		return fmt.Errorf("nothing there says that it is the store of the drive %s: %w", driveID, lifeboat.ErrWrongDrive)
	}
	return nil
}

// KeysGone says that no file on the drive can be read as a key slot: Destroy was
// there, ended or cut off.
func KeysGone(dir durable.Dir) (bool, error) {
	slots, _, err := listSlots(dir)
	return err == nil && len(slots) == 0, err
}

// slotFolder lists whatever lies among the key slots, left-over files included:
// any of them may be a wrap of the key.
func slotFolder(dir durable.Dir) (names []string, err error) {
	entries, err := dir.List("slots")
	if err != nil {
		return nil, fmt.Errorf("list the key slots: %w", err)
	}
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, "slots/"+e.Name())
		}
	}
	return names, nil
}

// writeOver writes random bytes over a file and reads them back from the medium.
func writeOver(dir durable.Dir, over durable.Overwriter, name string) error {
	info, err := dir.Stat(name)
	if err != nil {
		return fmt.Errorf("look at %s: %w", name, err)
	}
	// What is longer is no key slot, whoever put it there.
	noise := make([]byte, min(info.Size(), format.MaxSlotFile))
	rand.Read(noise)
	if err := over.Overwrite(name, noise); err != nil {
		return err
	}
	f, err := dir.Open(name)
	if err != nil {
		return fmt.Errorf("read %s back: %w", name, err)
	}
	defer f.Close()
	if err := f.DropCache(0, int64(len(noise))); err != nil {
		return fmt.Errorf("read %s back: %w", name, err)
	}
	back := make([]byte, len(noise))
	if n, err := f.ReadAt(back, 0); n < len(back) {
		return fmt.Errorf("read %s back: %w", name, err)
	}
	if !bytes.Equal(back, noise) {
		return fmt.Errorf("%s reads back as something else than what was written over it: %w", name, lifeboat.ErrDamaged)
	}
	return nil
}
