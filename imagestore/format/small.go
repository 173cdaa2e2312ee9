package format

import (
	"github.com/zeebo/blake3"
)

// The limits of a small sealed file.
const (
	// MaxSmallFile is the length of the longest file: a body that compression
	// does not make shorter, and what is around it.
	MaxSmallFile  = maxSmallPlain + minSmallFile
	maxSmallPlain = 16 << 20
	smallPreface  = HeaderSize + 16
	checksumSize  = 32
	tagSize       = 16
	minSmallFile  = smallPreface + tagSize + checksumSize
)

var zeroNonce [12]byte

// SealSmall writes a small sealed file.
func SealSmall(h Header, master [32]byte, body []byte) ([]byte, error) {
	key, err := h.FileKey(master)
	if err != nil {
		return nil, err
	}
	if len(body) > maxSmallPlain {
		return nil, corrupt("a body of %d bytes is too long", len(body))
	}
	packed, codec := Compress(nil, body)
	b := h.Append(make([]byte, 0, minSmallFile+len(packed)))
	b = le.AppendUint32(b, uint32(len(packed)+tagSize))
	b = le.AppendUint32(b, uint32(len(body)))
	b = append(b, byte(codec), 0, 0, 0, 0, 0, 0, 0)
	b = key.Seal(b, zeroNonce[:], packed, b[:smallPreface])
	return appendChecksum(b), nil
}

// OpenSmall reads a small sealed file of the given drive and kind. Masters
// gives the master key of a generation.
func OpenSmall(b []byte, drive ShortID, kind Kind, masters Masters) (Header, []byte, error) {
	h, n, err := checkSmall(b)
	if err != nil {
		return h, nil, err
	}
	if h.Drive != drive || h.Kind != kind {
		return h, nil, ErrForeign
	}
	master, ok := masters.Key(h.Generation)
	if !ok {
		return h, nil, corrupt("no key of generation %d", h.Generation)
	}
	key, err := h.FileKey(master)
	if err != nil {
		return h, nil, err
	}
	packed, err := key.Open(nil, zeroNonce[:], b[smallPreface:smallPreface+n], b[:smallPreface])
	if err != nil {
		return h, nil, corrupt("the seal does not fit")
	}
	body, err := Decompress(nil, packed, Codec(b[72]), int(le.Uint32(b[68:])))
	return h, body, err
}

// CheckSmall says, without a key, whether a small sealed file is whole.
func CheckSmall(b []byte) (Header, error) {
	h, _, err := checkSmall(b)
	return h, err
}

func checkSmall(b []byte) (h Header, sealed int, err error) {
	if h, err = DecodeHeader(b); err != nil {
		return h, 0, err
	}
	if len(b) < minSmallFile || len(b) > MaxSmallFile {
		return h, 0, corrupt("a small file of %d bytes", len(b))
	}
	sealed = int(le.Uint32(b[64:]))
	if sealed < tagSize || sealed != len(b)-smallPreface-checksumSize {
		return h, 0, corrupt("%d bytes, but %d are sealed", len(b), sealed)
	}
	if le.Uint32(b[68:]) > maxSmallPlain || !allZero(b[73:80]) {
		return h, 0, corrupt("the preface")
	}
	return h, sealed, checkChecksum(b)
}

func appendChecksum(b []byte) []byte {
	sum := blake3.Sum256(b)
	return append(b, sum[:]...)
}

func checkChecksum(b []byte) error {
	end := len(b) - checksumSize
	if sum := blake3.Sum256(b[:end]); string(sum[:]) != string(b[end:]) {
		return corrupt("the checksum does not fit")
	}
	return nil
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
