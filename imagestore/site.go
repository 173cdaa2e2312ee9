package imagestore

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"lifeboat"
)

// Site is what all drives of one company share. The keys decide where a disk is
// cut into chunks and how chunks are named, so that a sibling drive can heal a
// chunk; they do not open any drive. It is carried sealed in every drive.
type Site struct {
	// ID is 32 lower-case hex digits.
	ID string `json:"id"`
	// Name is the company's own word; on a drive it exists sealed only.
	Name     string `json:"name"`
	ChunkKey Key    `json:"chunkKey"`
	CutKey   Key    `json:"cutKey"`
}

// NewSite makes a site with fresh keys.
func NewSite(name string) Site {
	s := Site{ID: NewID(), Name: name}
	// One in a million million would be taken for that of a trial.
	for lifeboat.IsTrial(s.ID) {
		s.ID = NewID()
	}
	rand.Read(s.ChunkKey[:])
	rand.Read(s.CutKey[:])
	return s
}

// NewID returns a fresh id for a drive, a machine, a run or a point: 32
// lower-case hex digits.
func NewID() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// Key is 32 secret bytes. It prints as nothing; as JSON it is hex digits.
type Key [32]byte

// String hides the key from logs.
func (Key) String() string { return "(key)" }

// GoString hides the key from %#v.
func (Key) GoString() string { return "(key)" }

// MarshalText returns the key as 64 hex digits.
func (k Key) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, k[:]), nil }

// UnmarshalText reads 64 hex digits.
func (k *Key) UnmarshalText(text []byte) error {
	if len(text) != 2*len(k) {
		return fmt.Errorf("a key has %d hex digits, not %d", 2*len(k), len(text))
	}
	_, err := hex.Decode(k[:], text)
	return err
}
