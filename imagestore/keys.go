package imagestore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"lifeboat"
	"lifeboat/imagestore/format"
)

// Slot is a key slot of the drive.
type Slot struct {
	Name string `json:"name"`
	// Kind is "passphrase" or "recipient".
	Kind      string    `json:"kind"`
	CreatedAt time.Time `json:"createdAt"`
	// Recipient is the public key, for a recipient's slot.
	Recipient string `json:"recipient,omitempty"`
	// Generations are those of the master key that the slot opens, the newest
	// last.
	Generations []uint32 `json:"generations"`
	// Used says that it opened the store just now.
	Used bool `json:"used"`
}

// Slots lists the key slots, oldest first.
func (s *Store) Slots(ctx context.Context) ([]Slot, error) {
	files, err := s.slotFiles()
	if err != nil {
		return nil, err
	}
	var slots []Slot
	for _, f := range firstOfEachName(files.own) {
		slots = append(slots, Slot{Name: f.note.Name, Kind: f.kind(), CreatedAt: time.Unix(0, f.note.CreatedAt).UTC(),
			Recipient: f.note.Recipient, Generations: s.Generations(), Used: f.note.Name == s.usedSlot})
	}
	return slots, nil
}

// Generations are those of the master keys that open the drive's files, the one
// that seals new files last.
func (s *Store) Generations() []uint32 {
	var all []uint32
	for _, m := range s.presentKeys().Masters {
		all = append(all, m.Generation)
	}
	return all
}

// StraySlots names the files among the key slots that are not of the drive's
// present key: of a rotation that was cut off, of another drive, damaged, or put
// there by somebody. A rotation removes them.
func (s *Store) StraySlots(ctx context.Context) ([]string, error) {
	files, err := s.slotFiles()
	names := slices.Concat(files.stray, files.unreadable)
	for _, f := range slices.Concat(files.ahead, files.stale) {
		names = append(names, f.name)
	}
	slices.Sort(names)
	return names, err
}

// firstOfEachName drops the second of two slots of one name, which a rotation
// that was cut off may leave: they open the same.
func firstOfEachName(files []slotFile) []slotFile {
	seen := map[string]bool{}
	return slices.DeleteFunc(slices.Clone(files), func(f slotFile) bool {
		again := seen[f.note.Name]
		seen[f.note.Name] = true
		return again
	})
}

// UsedSlot is the name of the slot that opened the store.
func (s *Store) UsedSlot() string { return s.usedSlot }

// AddSlot makes another secret open the drive. A name that exists is refused.
func (s *Store) AddSlot(ctx context.Context, n NewSlot) error {
	if err := s.writable(); err != nil {
		return err
	}
	files, err := s.slotFiles()
	if err != nil {
		return err
	}
	own := firstOfEachName(files.own)
	if slices.ContainsFunc(own, named(n.Name)) {
		return fmt.Errorf("there is a key slot named %q already", n.Name)
	}
	if len(own) >= maxSlots {
		return fmt.Errorf("the drive has %d key slots, which is the limit", len(own))
	}
	name, slot, err := newSlot(s.driveID, s.presentKeys(), n, s.now())
	if err != nil {
		return err
	}
	return s.wrote(writeTwin(s.dir, name, slot))
}

// RemoveSlot makes a secret no longer open the drive as it is now; copies taken
// earlier it opens for ever. The last slot is refused.
func (s *Store) RemoveSlot(ctx context.Context, name string) error {
	if err := s.writable(); err != nil {
		return err
	}
	files, err := s.slotFiles()
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(files.own, named(name)) {
		return fmt.Errorf("there is no key slot named %q", name)
	}
	if !slices.ContainsFunc(files.own, func(f slotFile) bool { return f.note.Name != name }) {
		return errors.New("the last key slot cannot be removed: nothing would open the drive any more")
	}
	return s.removeSlots(name, files)
}

// ReplaceSlot gives the slot of a name another secret or recipient, or makes it
// where there is none. A power cut leaves the old way, both, or the new one, and
// never none: then it can be done again.
func (s *Store) ReplaceSlot(ctx context.Context, n NewSlot) error {
	if err := s.writable(); err != nil {
		return err
	}
	files, err := s.slotFiles()
	if err != nil {
		return err
	}
	own := firstOfEachName(files.own)
	if len(own) >= maxSlots && !slices.ContainsFunc(own, named(n.Name)) {
		return fmt.Errorf("the drive has %d key slots, which is the limit", len(own))
	}
	name, slot, err := newSlot(s.driveID, s.presentKeys(), n, s.now())
	if err != nil {
		return err
	}
	if err := s.wrote(writeTwin(s.dir, name, slot)); err != nil {
		return err
	}
	return s.removeSlots(n.Name, files)
}

// removeSlots removes all slots of a name that were read before: a rotation or a
// replacement that was cut off may have made it twice.
func (s *Store) removeSlots(name string, files slotFiles) error {
	for _, f := range slices.Concat(files.ahead, files.own) {
		if f.note.Name != name {
			continue
		}
		if err := s.wrote(removeTwin(s.dir, f.path())); err != nil {
			return fmt.Errorf("remove key slot %q: %w", name, err)
		}
	}
	return nil
}

// CheckSecret says whether a secret opens the slot of that name; the error wraps
// lifeboat.ErrWrongSecret where it does not.
func (s *Store) CheckSecret(ctx context.Context, name string, secret Secret) error {
	files, err := s.slotFiles()
	if err != nil {
		return err
	}
	for _, f := range files.own {
		if f.note.Name != name {
			continue
		}
		if _, err := openSlot(f.slot, secret); err != nil {
			return fmt.Errorf("%w: key slot %q does not open with it", lifeboat.ErrWrongSecret, name)
		}
		return nil
	}
	return fmt.Errorf("there is no key slot named %q", name)
}

func named(name string) func(slotFile) bool {
	return func(f slotFile) bool { return f.note.Name == name }
}

// presentKeys is the keyring without keys that the store does not use yet: a
// rotation that was cut off made them.
func (s *Store) presentKeys() format.Keyring {
	return format.Keyring{Past: s.keyring.Past, Masters: s.masters.Until(s.super.Generation)}
}

// wrote passes on the result of a write beside the exports. One that went wrong
// ends all writing: nothing is known any more about what the medium holds.
func (s *Store) wrote(err error) error {
	if err != nil && s.writer != nil {
		s.writer.fail(err)
	}
	return s.explain(err)
}

// Fingerprint identifies the drive's master key. A control machine remembers it
// and refuses a drive whose fingerprint changed, unless the one that it remembers
// is among EarlierFingerprints.
func (s *Store) Fingerprint() string { return s.presentKeys().Masters.Newest().Fingerprint(s.driveID) }

// EarlierFingerprints are those of the drive's master keys before the present
// one. Only who had such a key can make a drive that lists it, so a drive that
// lists the fingerprint somebody remembers was given its new key by somebody who
// could open it.
func (s *Store) EarlierFingerprints() []string {
	var all []string
	for _, p := range s.keyring.Past {
		all = append(all, p.Fingerprint())
	}
	masters := s.presentKeys().Masters
	for _, m := range masters[:len(masters)-1] {
		all = append(all, m.Fingerprint(s.driveID))
	}
	return all
}
