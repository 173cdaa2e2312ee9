package format

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
)

const (
	keyringMagic = "LBKEYS01"
	// MaxKeys bounds a keyring: a key each day for years. Those whose master key
	// was dropped count.
	MaxKeys = 1024
	// pastBit marks a generation in a keyring of which the seed alone is left.
	pastBit = 1 << 31
)

// Keyring is what a key slot holds: the master keys of a drive, and the seeds of
// those that nothing on the drive needs any more.
type Keyring struct {
	// Past are the generations whose master key was dropped; they come before
	// the others.
	Past    []PastKey
	Masters Masters
}

// PastKey is what a keyring keeps of a master key that was dropped: it opens no
// file, and still proves that whoever has it had that key.
type PastKey struct {
	Generation uint32
	Seed       [32]byte
}

// Masters are the master keys of a drive, the oldest first.
type Masters []Master

// Master is the master key of one generation.
type Master struct {
	Generation uint32
	Key        [32]byte
}

// Key returns the key of a generation.
func (m Masters) Key(generation uint32) ([32]byte, bool) {
	for _, k := range m {
		if k.Generation == generation {
			return k.Key, true
		}
	}
	return [32]byte{}, false
}

// Newest returns the key of the highest generation.
func (m Masters) Newest() Master { return m[len(m)-1] }

// Until returns the keys up to a generation.
func (m Masters) Until(generation uint32) Masters {
	n := 0
	for n < len(m) && m[n].Generation <= generation {
		n++
	}
	return m[:n:n]
}

// Fingerprint names a drive's master key for people and for the memory of a
// control machine: 32 hex digits.
func (m Master) Fingerprint(drive ShortID) string {
	return PastKey{m.Generation, m.seed(drive)}.Fingerprint()
}

// seed is HKDF's first step towards the fingerprint. No key of a file can be
// derived from it.
func (m Master) seed(drive ShortID) [32]byte {
	seed, err := hkdf.Extract(sha256.New, m.Key[:], drive[:])
	if err != nil {
		panic(err) // only for keys that HKDF cannot take
	}
	return [32]byte(seed)
}

// Fingerprint is that of the master key that was dropped.
func (p PastKey) Fingerprint() string {
	key, err := hkdf.Expand(sha256.New, p.Seed[:], "lifeboat/1 fingerprint", 16)
	if err != nil {
		panic(err) // only for lengths that HKDF cannot give
	}
	return hex.EncodeToString(key)
}

// DropBefore returns the keyring without the master keys before a generation:
// their seeds are left.
func (k Keyring) DropBefore(generation uint32, drive ShortID) Keyring {
	out := Keyring{Past: k.Past[:len(k.Past):len(k.Past)]}
	for _, m := range k.Masters {
		if m.Generation < generation {
			out.Past = append(out.Past, PastKey{m.Generation, m.seed(drive)})
		} else {
			out.Masters = append(out.Masters, m)
		}
	}
	return out
}

// Append writes the keyring of a drive behind b.
func (k Keyring) Append(b []byte, drive ShortID) []byte {
	b = append(b, keyringMagic...)
	b = append(b, drive[:]...)
	b = le.AppendUint32(b, uint32(len(k.Past)+len(k.Masters)))
	for _, p := range k.Past {
		b = le.AppendUint32(b, p.Generation|pastBit)
		b = append(b, p.Seed[:]...)
	}
	for _, m := range k.Masters {
		b = le.AppendUint32(b, m.Generation)
		b = append(b, m.Key[:]...)
	}
	return b
}

// DecodeKeyring reads the keyring of the given drive.
func DecodeKeyring(b []byte, drive ShortID) (Keyring, error) {
	var k Keyring
	r := reader{b: b}
	if string(r.take(8)) != keyringMagic {
		return k, corrupt("no keyring")
	}
	var got ShortID
	r.bytes(got[:])
	n := r.count(4, 36)
	if r.err == nil && got != drive {
		return k, ErrForeign
	}
	if n < 1 || n > MaxKeys {
		return k, corrupt("a keyring of %d keys", n)
	}
	last := uint32(0)
	for range n {
		g := r.u32()
		var key [32]byte
		r.bytes(key[:])
		past := g&pastBit != 0
		g &^= pastBit
		if g <= last || last == 0 && g != 1 {
			return k, corrupt("a keyring whose generations do not ascend from 1")
		}
		last = g
		switch {
		case !past:
			k.Masters = append(k.Masters, Master{g, key})
		case len(k.Masters) > 0:
			return k, corrupt("a keyring that dropped a key later than one that it kept")
		default:
			k.Past = append(k.Past, PastKey{g, key})
		}
	}
	if r.err == nil && len(k.Masters) == 0 {
		return k, corrupt("a keyring without a key")
	}
	return k, r.end()
}
