package format

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
)

// Kind is what a file holds.
type Kind uint16

// The kinds of files.
const (
	KindSuperblock Kind = 1
	KindSlot       Kind = 2
	KindPoint      Kind = 3
	KindHead       Kind = 4
	KindMark       Kind = 5
	KindChecks     Kind = 6
	KindEnclosure  Kind = 7
	KindPart       Kind = 8
	KindBundle     Kind = 9
	KindDataPack   Kind = 16
	KindTreePack   Kind = 17
	KindParity     Kind = 18
	KindRun        Kind = 32
)

const magic = "LIFEBOAT"

// HeaderSize is the length of the header that every file begins with.
const HeaderSize = 64

// Header begins every file.
type Header struct {
	Kind       Kind
	Generation uint32
	Drive      ShortID
	File       ID
}

// Append writes the header behind b.
func (h Header) Append(b []byte) []byte {
	b = append(b, magic...)
	b = le.AppendUint16(b, Version)
	b = le.AppendUint16(b, uint16(h.Kind))
	b = le.AppendUint32(b, h.Generation)
	b = append(b, h.Drive[:]...)
	return append(b, h.File[:]...)
}

// DecodeHeader reads the header at the start of b.
func DecodeHeader(b []byte) (Header, error) {
	var h Header
	if len(b) < HeaderSize {
		return h, corrupt("%d bytes are too few for a header", len(b))
	}
	if string(b[:8]) != magic {
		return h, corrupt("it does not begin with %s", magic)
	}
	if v := le.Uint16(b[8:]); v != Version {
		if v > Version {
			return h, fmt.Errorf("%w: version %d", ErrNewer, v)
		}
		return h, corrupt("version %d", v)
	}
	h.Kind = Kind(le.Uint16(b[10:]))
	h.Generation = le.Uint32(b[12:])
	copy(h.Drive[:], b[16:])
	copy(h.File[:], b[32:])
	return h, nil
}

// FileKey derives the key of one file from the master key of its generation.
func (h Header) FileKey(master [32]byte) (cipher.AEAD, error) {
	info := le.AppendUint16([]byte("lifeboat/1 file "), uint16(h.Kind))
	key, err := hkdf.Key(sha256.New, master[:], h.File[:], string(info), 32)
	if err != nil {
		return nil, err
	}
	return newGCM(key)
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// DeriveKey derives a key of 32 bytes for a purpose other than a file.
func DeriveKey(secret [32]byte, salt []byte, purpose string) [32]byte {
	key, err := hkdf.Key(sha256.New, secret[:], salt, "lifeboat/1 "+purpose, 32)
	if err != nil {
		panic(err) // only for lengths that HKDF cannot give
	}
	return [32]byte(key)
}
