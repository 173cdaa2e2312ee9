package format

import (
	"bytes"

	"github.com/cespare/xxhash/v2"
)

var zeroBlock [BlockSize]byte

// IsZeroBlock says that a block, which may be a short one, is all zeros.
func IsZeroBlock(b []byte) bool { return bytes.Equal(b, zeroBlock[:len(b)]) }

// Cutter finds where chunks end. It keeps nothing between calls and serves one
// goroutine at a time.
type Cutter struct {
	seed   uint64
	digest xxhash.Digest
}

// NewCutter makes a cutter for the cut key of a site.
func NewCutter(cutKey [32]byte) *Cutter {
	return &Cutter{seed: le.Uint64(cutKey[:])}
}

// Next returns the blocks of the first chunk at or after block from of a region
// whose bytes are b (short at the end of a disk): it begins at start and ends
// before end. start is len(b) in blocks when there is none.
func (c *Cutter) Next(b []byte, from int) (start, end int) {
	blocks := Blocks(len(b))
	for start = from; start < blocks && IsZeroBlock(block(b, start)); start++ {
	}
	if start == blocks {
		return blocks, blocks
	}
	for end = start + 1; end < blocks; end++ {
		if end-start == MaxChunkBlocks || c.CutsAfter(b, end-1) || IsZeroBlock(block(b, end)) {
			break
		}
	}
	return start, end
}

// CutsAfter says whether block i of a region whose bytes are b ends a chunk by
// its content.
func (c *Cutter) CutsAfter(b []byte, i int) bool {
	c.digest.ResetWithSeed(c.seed)
	c.digest.Write(block(b, i))
	return c.digest.Sum64()&7 == 0
}

// IsZero says whether block i of a region whose bytes are b is all zeros.
func (c *Cutter) IsZero(b []byte, i int) bool { return IsZeroBlock(block(b, i)) }

// Blocks is how many blocks n bytes are.
func Blocks(n int) int { return (n + BlockSize - 1) / BlockSize }

func block(b []byte, i int) []byte {
	return b[i*BlockSize : min((i+1)*BlockSize, len(b))]
}
