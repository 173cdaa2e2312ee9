package format

import "slices"

// SlotType is what opens a key slot.
type SlotType byte

// The types of slots.
const (
	SlotPassphrase SlotType = 1
	SlotRecipient  SlotType = 2
)

const (
	maxSlotAge  = 64 << 10
	maxSlotNote = 64<<10 + tagSize
)

// MaxSlotFile is the length of the longest key slot.
const MaxSlotFile = smallPreface + maxSlotAge + maxSlotNote + checksumSize

// Slot is a key slot: a sealed keyring and a note that the keyring opens.
type Slot struct {
	Header Header
	Type   SlotType
	// Age is an age file that holds the keyring.
	Age []byte
	// Sealed is the sealed note.
	Sealed []byte
}

// SlotNote is what a slot says about itself.
type SlotNote struct {
	Name, Recipient string
	CreatedAt       int64
}

// Append writes the slot file behind b.
func (s Slot) Append(b []byte) []byte {
	start := len(b)
	b = append(b, s.preface()...)
	b = append(b, s.Age...)
	b = append(b, s.Sealed...)
	return append(b[:start], appendChecksum(slices.Clone(b[start:]))...)
}

func (s Slot) preface() []byte {
	b := s.Header.Append(nil)
	b = le.AppendUint32(b, uint32(len(s.Age)))
	b = le.AppendUint32(b, uint32(len(s.Sealed)))
	return append(b, byte(s.Type), 0, 0, 0, 0, 0, 0, 0)
}

// DecodeSlot reads a slot file; it does not open anything.
func DecodeSlot(b []byte) (Slot, error) {
	var s Slot
	h, err := DecodeHeader(b)
	if err != nil {
		return s, err
	}
	if h.Kind != KindSlot || h.Generation != 0 {
		return s, ErrForeign
	}
	if len(b) < minSmallFile || len(b) > MaxSlotFile {
		return s, corrupt("a key slot of %d bytes", len(b))
	}
	a, m := int(le.Uint32(b[64:])), int(le.Uint32(b[68:]))
	if a > maxSlotAge || m > maxSlotNote || m < tagSize || smallPreface+a+m+checksumSize != len(b) || !allZero(b[73:80]) {
		return s, corrupt("a key slot with impossible lengths")
	}
	s = Slot{Header: h, Type: SlotType(b[72]), Age: b[80 : 80+a], Sealed: b[80+a : 80+a+m]}
	if s.Type != SlotPassphrase && s.Type != SlotRecipient {
		return s, corrupt("a key slot of type %d", s.Type)
	}
	return s, checkChecksum(b)
}

// SealNote seals the note with the master key and sets it. The header, the type
// and the age file must be set before.
func (s *Slot) SealNote(n SlotNote, master [32]byte) error {
	key, err := s.Header.FileKey(master)
	if err != nil {
		return err
	}
	plain := le.AppendUint64(appendText(appendText(nil, n.Name), n.Recipient), uint64(n.CreatedAt))
	s.Sealed = make([]byte, len(plain)+tagSize) // the preface holds its length
	s.Sealed = key.Seal(nil, zeroNonce[:], plain, s.preface())
	return nil
}

// OpenNote opens the note, which proves that slot and master key belong
// together.
func (s Slot) OpenNote(master [32]byte) (SlotNote, error) {
	var n SlotNote
	key, err := s.Header.FileKey(master)
	if err != nil {
		return n, err
	}
	plain, err := key.Open(nil, zeroNonce[:], s.Sealed, s.preface())
	if err != nil {
		return n, corrupt("the seal of the key slot does not fit")
	}
	r := reader{b: plain}
	n.Name, n.Recipient = r.text(), r.text()
	n.CreatedAt = int64(r.u64())
	return n, r.end()
}
