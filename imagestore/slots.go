package imagestore

import (
	"bytes"
	"cmp"
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

	"lifeboat/imagestore/format"
	"lifeboat/internal/durable"
)

// scryptWorkFactor costs 64 MiB and about a fifth of a second: little enough
// for a small rescue machine, while generated passphrases of 80 bits need no
// more. A slot that asks for more is refused, because a hostile drive could ask
// for all memory there is.
const scryptWorkFactor = 16

const (
	// maxSlots is how many slots a drive may have.
	maxSlots = 32
	// maxSlotFiles bounds how long a hostile drive can make somebody wait who
	// types a passphrase: each slot costs its work factor. A rotation that was
	// cut off leaves twice as many as there are slots.
	maxSlotFiles = 3 * maxSlots
)

// slotFile is a key slot on the drive.
type slotFile struct {
	name string
	slot format.Slot
	// note and generation are known of slots whose note this store's keys open:
	// generation is the newest that the slot opens, or 0.
	note       format.SlotNote
	generation uint32
}

func (f slotFile) path() string { return "slots/" + f.name }

// kind is how people call what opens a slot.
func (f slotFile) kind() string {
	if f.slot.Type == format.SlotPassphrase {
		return "passphrase"
	}
	return "recipient"
}

// slotFiles are the files in slots/.
type slotFiles struct {
	// own are the slots that open the store as it is now, oldest first.
	own []slotFile
	// ahead were made by a rotation that was cut off, with a key that the opened
	// keyring has and the store does not use yet.
	ahead []slotFile
	// stale open only what an older key opened, and not the store any more.
	stale []slotFile
	// stray are the names of those of unknown keys or of another drive,
	// unreadable those of files that are no slot any more.
	stray, unreadable []string
}

// slotFiles reads all slots and says which of them belong to the store's keys.
func (s *Store) slotFiles() (slotFiles, error) {
	var sorted slotFiles
	all, unreadable, err := listSlots(s.dir)
	if err != nil {
		return sorted, s.explain(err)
	}
	sorted.unreadable = unreadable
	for _, f := range all {
		s.openNote(&f)
		switch {
		case f.generation == 0:
			sorted.stray = append(sorted.stray, f.name)
		case f.generation == s.super.Generation:
			sorted.own = append(sorted.own, f)
		case f.generation > s.super.Generation:
			sorted.ahead = append(sorted.ahead, f)
		default:
			sorted.stale = append(sorted.stale, f)
		}
	}
	slices.SortFunc(sorted.own, func(a, b slotFile) int {
		return cmp.Or(cmp.Compare(a.note.CreatedAt, b.note.CreatedAt), strings.Compare(a.note.Name, b.note.Name))
	})
	return sorted, nil
}

// openNote finds out whose slot it is.
func (s *Store) openNote(f *slotFile) {
	if f.slot.Header.Drive != s.driveID {
		return
	}
	for _, m := range s.keyring.Masters {
		if note, err := f.slot.OpenNote(m.Key); err == nil {
			f.note, f.generation = note, m.Generation
			return
		}
	}
}

// listSlots reads every slot that can be read, each once, and names the others.
func listSlots(dir durable.Dir) (slots []slotFile, unreadable []string, err error) {
	names, err := listTwins(dir, "slots")
	if err != nil {
		return nil, nil, fmt.Errorf("list the key slots: %w", err)
	}
	for _, name := range names[:min(len(names), maxSlotFiles)] {
		var slot format.Slot
		_, err := readTwin(dir, "slots/"+name, format.MaxSlotFile, func(b []byte) (err error) {
			slot, err = format.DecodeSlot(b)
			return err
		})
		if isGone(err) {
			return nil, nil, fmt.Errorf("read the key slots: %w", err)
		}
		if err != nil {
			unreadable = append(unreadable, name)
			continue
		}
		slots = append(slots, slotFile{name: name, slot: slot})
	}
	return slots, unreadable, nil
}

// newSlot makes a key slot for n, and the name of its file.
func newSlot(drive format.ShortID, keyring format.Keyring, n NewSlot, made time.Time) (name string, file []byte, err error) {
	if n.Name == "" {
		return "", nil, errors.New("a key slot needs a name")
	}
	slot := format.Slot{Header: format.Header{Kind: format.KindSlot, Drive: drive, File: newFileID()}, Type: format.SlotRecipient}
	note := format.SlotNote{Name: n.Name, CreatedAt: made.UnixNano()}
	recipient, err := n.recipient()
	if err != nil {
		return "", nil, err
	}
	if _, ok := recipient.age.(*age.ScryptRecipient); ok {
		slot.Type = format.SlotPassphrase
	}
	note.Recipient = recipient.text
	slot.Age, err = sealAge(recipient.age, keyring.Append(nil, drive))
	if err != nil {
		return "", nil, fmt.Errorf("make key slot %q: %w", n.Name, err)
	}
	if err := slot.SealNote(note, keyring.Masters.Newest().Key); err != nil {
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

// errOtherKind: a passphrase opens no recipient's slot, nor an identity a
// passphrase's.
var errOtherKind = errors.New("another kind of secret opens this slot")

// openSlot returns the keyring in a slot that the secret opens.
func openSlot(slot format.Slot, secret Secret) (format.Keyring, error) {
	var none format.Keyring
	if (slot.Type == format.SlotPassphrase) != (secret.identity == nil) {
		return none, errOtherKind
	}
	identity := secret.identity
	if identity == nil {
		scrypt, err := age.NewScryptIdentity(secret.passphrase)
		if err != nil {
			return none, err
		}
		scrypt.SetMaxWorkFactor(scryptWorkFactor)
		identity = scrypt
		// The 64 MiB of a passphrase are not kept for the rest of the run.
		defer debug.FreeOSMemory()
	}
	r, err := age.Decrypt(bytes.NewReader(slot.Age), identity)
	if err != nil {
		return none, err
	}
	plain, err := io.ReadAll(io.LimitReader(r, format.MaxSlotFile))
	if err != nil {
		return none, err
	}
	keyring, err := format.DecodeKeyring(plain, slot.Header.Drive)
	if err != nil {
		return none, err
	}
	// An attacker who knows a public key can make a slot, but not one whose
	// note was sealed with the key that is inside.
	_, err = slot.OpenNote(keyring.Masters.Newest().Key)
	return keyring, err
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
