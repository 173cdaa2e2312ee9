package imagestore

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"filippo.io/age"

	"lifeboat"
	"lifeboat/imagestore/format"
	"lifeboat/internal/durable"
)

// scryptWorkFactor costs 64 MiB and about a fifth of a second: little enough
// for a small rescue machine, while generated passphrases of 80 bits need no
// more. A slot that asks for more is refused, because a hostile drive could ask
// for all memory there is.
const scryptWorkFactor = 16

// maxSlots bounds how long a hostile drive can make somebody wait who types a
// passphrase: each slot costs its work factor.
const maxSlots = 64

// Slot is a key slot of the drive.
type Slot struct {
	Name string `json:"name"`
	// Kind is "passphrase" or "recipient".
	Kind      string    `json:"kind"`
	CreatedAt time.Time `json:"createdAt"`
	// Recipient is the public key, for a recipient's slot.
	Recipient string `json:"recipient,omitempty"`
}

// Slots lists the key slots, oldest first.
func (s *Store) Slots(ctx context.Context) ([]Slot, error) {
	files, err := s.ownSlots()
	if err != nil {
		return nil, err
	}
	slots := make([]Slot, len(files))
	for i, f := range files {
		slots[i] = Slot{Name: f.note.Name, Kind: "recipient", CreatedAt: time.Unix(0, f.note.CreatedAt).UTC(), Recipient: f.note.Recipient}
		if f.slot.Type == format.SlotPassphrase {
			slots[i].Kind = "passphrase"
		}
	}
	return slots, nil
}

// AddSlot makes another secret open the drive. A name that exists is refused.
func (s *Store) AddSlot(ctx context.Context, n NewSlot) error {
	if err := s.writable(); err != nil {
		return err
	}
	files, err := s.ownSlots()
	if err != nil {
		return err
	}
	for _, f := range files {
		if f.note.Name == n.Name {
			return fmt.Errorf("there is a key slot named %q already", n.Name)
		}
	}
	if len(files) >= maxSlots {
		return fmt.Errorf("the drive has %d key slots, which is the limit", len(files))
	}
	name, slot, err := newSlot(s.driveID, s.masters, n, s.now())
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
	files, err := s.ownSlots()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(files, func(f slotFile) bool { return f.note.Name == name })
	if i < 0 {
		return fmt.Errorf("there is no key slot named %q", name)
	}
	if len(files) == 1 {
		return errors.New("the last key slot cannot be removed: nothing would open the drive any more")
	}
	if err := s.wrote(removeTwin(s.dir, "slots/"+files[i].name)); err != nil {
		return fmt.Errorf("remove key slot %q: %w", name, err)
	}
	return nil
}

// wrote passes on the result of a write beside the exports. One that went wrong
// ends all writing: nothing is known any more about what the medium holds.
func (s *Store) wrote(err error) error {
	if err != nil && s.writer != nil {
		s.writer.fail(err)
	}
	return s.explain(err)
}

// slotFile is a slot that belongs to this store's keys.
type slotFile struct {
	name string
	slot format.Slot
	note format.SlotNote
}

func (s *Store) ownSlots() ([]slotFile, error) {
	all, err := listSlots(s.dir)
	if err != nil {
		return nil, s.explain(err)
	}
	var own []slotFile
	for _, f := range all {
		note, err := f.slot.OpenNote(s.masters.Newest().Key)
		if err != nil || f.slot.Header.Drive != s.driveID {
			continue // somebody else's; it cannot open this store
		}
		f.note = note
		own = append(own, f)
	}
	slices.SortFunc(own, func(a, b slotFile) int {
		return cmp.Or(cmp.Compare(a.note.CreatedAt, b.note.CreatedAt), strings.Compare(a.note.Name, b.note.Name))
	})
	return own, nil
}

// listSlots reads every slot that can be read, each once.
func listSlots(dir durable.Dir) ([]slotFile, error) {
	names, err := listTwins(dir, "slots")
	if err != nil {
		return nil, fmt.Errorf("list the key slots: %w", err)
	}
	var slots []slotFile
	for _, name := range names[:min(len(names), maxSlots)] {
		var slot format.Slot
		_, err := readTwin(dir, "slots/"+name, format.MaxSlotFile, func(b []byte) (err error) {
			slot, err = format.DecodeSlot(b)
			return err
		})
		if err == nil {
			slots = append(slots, slotFile{name: name, slot: slot})
		}
	}
	return slots, nil
}

// newSlot makes a key slot for n, and the name of its file.
func newSlot(drive format.ShortID, masters format.Masters, n NewSlot, now time.Time) (name string, file []byte, err error) {
	if n.Name == "" {
		return "", nil, errors.New("a key slot needs a name")
	}
	slot := format.Slot{Header: format.Header{Kind: format.KindSlot, Drive: drive, File: newFileID()}, Type: format.SlotRecipient}
	note := format.SlotNote{Name: n.Name, CreatedAt: now.UnixNano()}
	recipient, err := n.recipient()
	if err != nil {
		return "", nil, err
	}
	if _, ok := recipient.age.(*age.ScryptRecipient); ok {
		slot.Type = format.SlotPassphrase
	}
	note.Recipient = recipient.text
	slot.Age, err = sealAge(recipient.age, format.AppendKeyring(nil, drive, masters))
	if err != nil {
		return "", nil, fmt.Errorf("make key slot %q: %w", n.Name, err)
	}
	if err := slot.SealNote(note, masters.Newest().Key); err != nil {
		return "", nil, fmt.Errorf("make key slot %q: %w", n.Name, err)
	}
	return "slots/" + hex.EncodeToString(slot.Header.File[:8]), slot.Append(nil), nil
}

// recipient is whom the slot is for.
func (n NewSlot) recipient() (Recipient, error) {
	switch {
	case n.Secret.empty() == (n.Recipient.age == nil):
		return Recipient{}, fmt.Errorf("key slot %q needs either a secret or a recipient", n.Name)
	case n.Recipient.age != nil:
		return n.Recipient, nil
	case n.Secret.identity != nil:
		return n.Secret.recipient, nil
	}
	r, err := age.NewScryptRecipient(n.Secret.passphrase)
	if err != nil {
		return Recipient{}, fmt.Errorf("key slot %q: %w", n.Name, err)
	}
	r.SetWorkFactor(scryptWorkFactor)
	return Recipient{age: r}, nil
}

func sealAge(to age.Recipient, plain []byte) ([]byte, error) {
	var b bytes.Buffer
	w, err := age.Encrypt(&b, to)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// unlock finds the first secret that opens a slot, and returns the keys of the
// drive.
func unlock(slots []slotFile, secrets []Secret) (format.Masters, format.ShortID, error) {
	for _, secret := range secrets {
		for _, f := range slots {
			if (f.slot.Type == format.SlotPassphrase) != (secret.identity == nil) {
				continue
			}
			if masters, err := openSlot(f.slot, secret); err == nil {
				return masters, f.slot.Header.Drive, nil
			}
		}
	}
	return nil, format.ShortID{}, lifeboat.ErrWrongSecret
}

func openSlot(slot format.Slot, secret Secret) (format.Masters, error) {
	identity := secret.identity
	if identity == nil {
		scrypt, err := age.NewScryptIdentity(secret.passphrase)
		if err != nil {
			return nil, err
		}
		scrypt.SetMaxWorkFactor(scryptWorkFactor)
		identity = scrypt
		// The 64 MiB of a passphrase are not kept for the rest of the run.
		defer debug.FreeOSMemory()
	}
	r, err := age.Decrypt(bytes.NewReader(slot.Age), identity)
	if err != nil {
		return nil, err
	}
	plain, err := io.ReadAll(io.LimitReader(r, format.MaxSlotFile))
	if err != nil {
		return nil, err
	}
	masters, err := format.DecodeKeyring(plain, slot.Header.Drive)
	if err != nil {
		return nil, err
	}
	// An attacker who knows a public key can make a slot, but not one whose
	// note was sealed with the key that is inside.
	_, err = slot.OpenNote(masters.Newest().Key)
	return masters, err
}

func newMaster(generation uint32) format.Master {
	m := format.Master{Generation: generation}
	rand.Read(m.Key[:])
	return m
}

func newFileID() (id format.ID) {
	rand.Read(id[:])
	return id
}

func fingerprint(masters format.Masters, drive format.ShortID) string {
	key := format.DeriveKey(masters[0].Key, drive[:], "fingerprint")
	return hex.EncodeToString(key[:16])
}
