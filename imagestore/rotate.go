package imagestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"lifeboat"
	"lifeboat/imagestore/format"
	"lifeboat/internal/durable"
)

// RotateOptions say who opens the drive after it was given a new key.
type RotateOptions struct {
	// Secrets open the passphrase slots that stay, by the slot's name: a new slot
	// can only be made for a passphrase that is known. Recipients need none.
	Secrets map[string]Secret
	// Drop names the slots that are not taken over.
	Drop []string
}

// Rotate gives the store a new master key, which seals every file from now on.
// What is there stays sealed with the keys it has. Every slot that is not
// dropped is made anew with all keys, and the old slots go. The store must have
// been opened Alone.
//
// A power cut leaves the old key in use or the new one, and each secret that
// opened the drive before, and was not dropped, opens it. The errors wrap
// lifeboat.ErrWrongSecret where a passphrase is missing or wrong; then nothing
// was changed.
func (s *Store) Rotate(ctx context.Context, o RotateOptions) error {
	if err := s.begin(); err != nil {
		return err
	}
	defer s.end()
	s.commitMu.Lock()
	defer s.commitMu.Unlock()
	if s.mode != Alone {
		return fmt.Errorf("the store at %s was not opened alone", s.dir)
	}
	slots, err := s.slotsToKeep(o)
	if err != nil {
		return err
	}
	keyring := s.presentKeys()
	if len(keyring.Past)+len(keyring.Masters) >= format.MaxKeys {
		return s.keyringFull()
	}
	next := newMaster(s.super.Generation + 1)
	keyring.Masters = append(slices.Clip(keyring.Masters), next)
	files, err := s.wrapAnew(ctx, keyring, slots)
	if err != nil {
		return err
	}
	err = s.writeRotation(ctx, keyring, files)
	if err != nil && err == ctx.Err() {
		return err // no write failed
	}
	return s.wrote(err)
}

// keyringFull refuses a key more than a reader takes.
func (s *Store) keyringFull() error {
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s was given a new key %d times, which is the limit of a drive", s.label(), format.MaxKeys-1),
		Safe: "nothing was changed on it; it goes on with the key that it has",
		Next: "make another drive with: lifeboat drive init; then copy the restore points to it with: lifeboat copy",
		Err:  errKeyringFull,
	}
}

var errKeyringFull = errors.New("the keyring is full")

// keptSlot is a slot that is made anew.
type keptSlot struct {
	NewSlot
	made time.Time
}

// slotsToKeep decides which slots are taken over, and checks that all of them
// can be.
func (s *Store) slotsToKeep(o RotateOptions) ([]keptSlot, error) {
	files, err := s.slotFiles()
	if err != nil {
		return nil, err
	}
	own := firstOfEachName(files.own)
	for _, name := range o.Drop {
		if !slices.ContainsFunc(own, named(name)) {
			return nil, fmt.Errorf("there is no key slot named %q", name)
		}
	}
	if err := s.nothingIsAhead(files, own); err != nil {
		return nil, err
	}
	var keep []keptSlot
	for _, f := range own {
		if slices.Contains(o.Drop, f.note.Name) {
			continue
		}
		n, err := anew(f, o.Secrets)
		if err != nil {
			return nil, err
		}
		keep = append(keep, keptSlot{n, time.Unix(0, f.note.CreatedAt)})
	}
	if len(keep) == 0 {
		return nil, errors.New("no key slot would be left: nothing would open the drive any more")
	}
	return keep, nil
}

// nothingIsAhead refuses a store whose superblock is older than what is in it:
// somebody put an older one back. Its newer slots are the only way to files that
// were sealed since, and a rotation would remove them.
func (s *Store) nothingIsAhead(files slotFiles, own []slotFile) error {
	for _, f := range files.ahead {
		if !slices.ContainsFunc(own, named(f.note.Name)) {
			return s.putBack(f.path())
		}
	}
	for _, folder := range []string{"heads", "points", "index", "marks", checksFolder, enclosuresFolder, partsFolder} {
		entries, err := s.dir.List(folder)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("list %s: %w", folder, err)
		}
		for _, e := range entries {
			name := folder + "/" + e.Name()
			if h, err := s.headerOf(name); err == nil && h.Drive == s.driveID && h.Generation > s.super.Generation {
				return s.putBack(name)
			}
		}
	}
	return nil
}

func (s *Store) putBack(name string) error {
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s was put back into an older state: %s is sealed with a later key than the one it uses", s.label(), name),
		Safe: "nothing was changed on it; what was stored under the later key can still be read with a slot that has it",
		Next: "use another drive, and find out who had this one; read what is on it with: lifeboat point list",
		Err:  lifeboat.ErrDamaged,
	}
}

// headerOf reads the header of a file, which says with which key it is sealed.
func (s *Store) headerOf(name string) (format.Header, error) {
	f, err := s.dir.Open(name)
	if err != nil {
		return format.Header{}, err
	}
	defer f.Close()
	var b [format.HeaderSize]byte
	if err := readFull(f, b[:], 0); err != nil {
		return format.Header{}, err
	}
	return format.DecodeHeader(b[:])
}

// anew is a slot of the same name for the same secret.
func anew(f slotFile, secrets map[string]Secret) (NewSlot, error) {
	n := NewSlot{Name: f.note.Name}
	if f.slot.Type == format.SlotRecipient {
		var err error
		if n.Recipient, err = ParseRecipient(f.note.Recipient); err != nil {
			return n, fmt.Errorf("key slot %q: %w", n.Name, err)
		}
		return n, nil
	}
	n.Secret = secrets[n.Name]
	if n.Secret.empty() {
		return n, fmt.Errorf("%w: the passphrase of key slot %q is needed to make the slot anew", lifeboat.ErrWrongSecret, n.Name)
	}
	if _, err := openSlot(f.slot, n.Secret); err != nil {
		return n, fmt.Errorf("%w: key slot %q does not open with its passphrase as it was given", lifeboat.ErrWrongSecret, n.Name)
	}
	return n, nil
}

// newSlotFile is a slot that is about to be written.
type newSlotFile struct {
	path string
	data []byte
}

// wrapAnew makes the files of the slots, with a keyring that a reader takes, and
// proves of each passphrase that it opens what was made for it. Nothing is written.
func (s *Store) wrapAnew(ctx context.Context, keyring format.Keyring, slots []keptSlot) ([]newSlotFile, error) {
	if _, err := format.DecodeKeyring(keyring.Append(nil, s.driveID), s.driveID); err != nil {
		return nil, fmt.Errorf("check the new keyring: %w", err)
	}
	var files []newSlotFile
	for _, n := range slots {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		path, data, err := newSlot(s.driveID, keyring, n.NewSlot, n.made)
		if err != nil {
			return nil, err
		}
		slot, err := format.DecodeSlot(data)
		if err == nil && !n.Secret.empty() {
			_, err = openSlot(slot, n.Secret)
		}
		if err != nil {
			return nil, fmt.Errorf("check the new key slot %q: %w", n.Name, err)
		}
		files = append(files, newSlotFile{path, data})
	}
	return files, nil
}

// writeRotation writes new slots, then the superblock that switches the new key
// on, and then removes every other slot: whatever they are, their keyrings lack
// the key that the store uses.
func (s *Store) writeRotation(ctx context.Context, keyring format.Keyring, files []newSlotFile) error {
	if err := s.writer.err(); err != nil {
		return err
	}
	// What an earlier try left goes first, so that tries do not add up.
	present, err := s.slotFiles()
	if err != nil {
		return err
	}
	for _, f := range slices.Concat(present.ahead, present.stale) {
		present.stray = append(present.stray, f.name)
	}
	for _, name := range present.stray {
		if err := removeTwin(s.dir, "slots/"+name); err != nil {
			return fmt.Errorf("remove a key slot that opens nothing: %w", err)
		}
	}
	if err := s.writeSlots(ctx, files); err != nil {
		return err
	}
	if err := s.writeSuper(keyring); err != nil {
		return err
	}
	return s.removeSlotsBut(files)
}

// writeSlots writes the new slots and reads them back.
func (s *Store) writeSlots(ctx context.Context, files []newSlotFile) error {
	for _, f := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := writeTwin(s.dir, f.path, f.data); err != nil {
			return fmt.Errorf("write a new key slot: %w", err)
		}
		for _, suffix := range []string{copyA, copyB} {
			b, err := durable.ReadWhole(s.dir, f.path+suffix, format.MaxSlotFile)
			if err == nil && !bytes.Equal(b, f.data) {
				err = fmt.Errorf("%w: it is not what was written", lifeboat.ErrDamaged)
			}
			if err != nil {
				return fmt.Errorf("read a new key slot back: %w", err)
			}
		}
	}
	return nil
}

// writeSuper switches the newest key of the keyring on.
func (s *Store) writeSuper(keyring format.Keyring) error {
	super := s.super
	super.Generation = keyring.Masters.Newest().Generation
	h := format.Header{Kind: format.KindSuperblock, Generation: super.Generation, Drive: s.driveID, File: newFileID()}
	sealed, err := format.SealSmall(h, keyring.Masters.Newest().Key, super.Append(nil))
	if err != nil {
		return fmt.Errorf("seal the superblock: %w", err)
	}
	if err := writeTwin(s.dir, superblockName, sealed); err != nil {
		return fmt.Errorf("write the superblock: %w", err)
	}
	s.super, s.keyring, s.masters = super, keyring, keyring.Masters
	return nil
}

// removeSlotsBut removes all slots but those that were just written.
func (s *Store) removeSlotsBut(files []newSlotFile) error {
	names, err := listTwins(s.dir, "slots")
	if err != nil {
		return fmt.Errorf("list the key slots: %w", err)
	}
	for _, name := range names {
		path := "slots/" + name
		if slices.ContainsFunc(files, func(f newSlotFile) bool { return f.path == path }) {
			continue
		}
		if err := removeTwin(s.dir, path); err != nil {
			return fmt.Errorf("remove an older key slot: %w", err)
		}
	}
	return nil
}
