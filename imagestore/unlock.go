package imagestore

import (
	"errors"
	"fmt"

	"lifeboat"
	"lifeboat/imagestore/format"
	"lifeboat/internal/durable"
)

// unlock finds the keys of the store, and reads its superblock with them.
//
// A rotation that was cut off leaves several slots for one secret, and possibly
// superblocks of two generations. The first slot serves whose keys open the
// newest superblock that is whole. If no slot's do, one that opens the other
// copy serves: then the rotation never came to an end, or somebody who has no
// key wrote that superblock.
func (s *Store) unlock(secrets []Secret) error {
	slots, _, err := listSlots(s.dir)
	if err != nil || len(slots) == 0 {
		return s.notAStore(err)
	}
	copies := s.superCopies()
	var second *unlocked
	var failed error // why a keyring opened no superblock
	for _, secret := range secrets {
		for _, f := range slots {
			keyring, err := openSlot(f.slot, secret)
			if err != nil {
				continue
			}
			u, err := copies.open(f, keyring)
			switch {
			case err != nil && !errors.Is(failed, errOldKey):
				failed = err
			case err == nil && !u.outdated:
				return s.use(u)
			case err == nil && second == nil:
				second = &u
			}
		}
	}
	switch {
	case second != nil:
		return s.use(*second)
	case errors.Is(failed, errOldKey):
		return &lifeboat.Problem{
			What: fmt.Sprintf("the drive at %s was given a new key, and the secret that was given opens only an older one", s.dir),
			Safe: "nothing was changed on it; its restore points are as they were",
			Next: "use a secret that was taken over, as it stands on the newest recovery sheet, with --passphrase-file",
			Err:  fmt.Errorf("%w: %w", lifeboat.ErrWrongSecret, failed),
		}
	case failed != nil:
		return s.notAStore(failed)
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("the drive at %s does not open with the secret that was given", s.dir),
		Safe: "nothing was changed on it; its restore points are as they were",
		Next: "type the passphrase of this drive, as it stands on its recovery sheet, or give its file with --passphrase-file",
		Err:  lifeboat.ErrWrongSecret,
	}
}

// errOldKey: a slot has a keyring, and the store uses a later key.
var errOldKey = errors.New("the slot is older than the store's key")

// unlocked is a store's superblock, opened with the keyring of a slot.
type unlocked struct {
	slot    slotFile
	keyring format.Keyring
	super   format.Superblock
	// outdated: another copy of the superblock claims a later generation.
	outdated bool
}

// use takes over what was unlocked.
func (s *Store) use(u unlocked) error {
	s.driveID, s.keyring, s.super = u.slot.slot.Header.Drive, u.keyring, u.super
	s.masters = u.keyring.Masters
	s.openNote(&u.slot)
	s.usedSlot = u.slot.note.Name
	if u.outdated {
		s.log.Warn("a superblock of a later key was passed over")
	}
	return s.checkFeatures()
}

// superCopy is one copy of the superblock as it lies on the drive.
type superCopy struct {
	bytes  []byte
	header format.Header
	err    error // why it is not whole
}

type superCopies []superCopy

func (s *Store) superCopies() superCopies {
	var copies superCopies
	for _, suffix := range []string{copyA, copyB} {
		var c superCopy
		c.bytes, c.err = durable.ReadWhole(s.dir, superblockName+suffix, format.MaxSmallFile)
		if c.err == nil {
			c.header, c.err = format.CheckSmall(c.bytes)
		}
		if c.err != nil {
			c.err = fmt.Errorf("read %s: %w", superblockName+suffix, c.err)
			s.log.Warn("a copy of the superblock cannot be used", "why", c.err)
		}
		copies = append(copies, c)
	}
	return copies
}

// open opens the newest superblock that the keyring opens.
func (c superCopies) open(slot slotFile, keyring format.Keyring) (unlocked, error) {
	u := unlocked{slot: slot, keyring: keyring}
	var failed error
	newest, found := uint32(0), false
	for _, one := range c {
		if one.err != nil {
			failed = errors.Join(failed, one.err)
			continue
		}
		super, err := openSuper(one.bytes, slot.slot.Header.Drive, keyring.Masters)
		switch {
		case err != nil && one.header.Generation > keyring.Masters.Newest().Generation:
			newest = max(newest, one.header.Generation)
			failed = errOldKey
		case err != nil:
			failed = errors.Join(failed, err)
		case !found || super.Generation > u.super.Generation:
			u.super, found = super, true
		}
	}
	if !found {
		return u, failed
	}
	u.outdated = newest > u.super.Generation
	return u, nil
}

// openSuper opens a superblock, which is sealed with the key that it names.
func openSuper(b []byte, drive format.ShortID, masters format.Masters) (format.Superblock, error) {
	h, body, err := format.OpenSmall(b, drive, format.KindSuperblock, masters)
	if err != nil {
		return format.Superblock{}, err
	}
	super, err := format.DecodeSuperblock(body)
	if err == nil && super.Generation != h.Generation {
		err = fmt.Errorf("%w: a superblock of generation %d, sealed with %d", format.ErrCorrupt, super.Generation, h.Generation)
	}
	return super, err
}

// sameSuper says whether bytes are the superblock that the store was opened with.
func (s *Store) sameSuper(b []byte) error {
	super, err := openSuper(b, s.driveID, s.masters)
	if err == nil && super.Generation != s.super.Generation {
		err = fmt.Errorf("%w: the superblock of an older key", format.ErrForeign)
	}
	return err
}

// superSettled says whether no copy of the superblock is that of another key. Until
// a rotation has written both, its key seals no other file: should the new copy get
// lost, such a file would look like one from the future.
func (s *Store) superSettled() bool {
	for _, c := range s.superCopies() {
		if c.err == nil && c.header.Generation != s.super.Generation {
			return false
		}
	}
	return true
}
