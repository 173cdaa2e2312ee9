//go:build cgo

package format

import (
	"slices"
	"sync"

	"github.com/DataDog/zstd"
)

var codec zstdCodec = cZstd{}

// cZstd is libzstd, the library of zstd's own authors in C.
type cZstd struct{}

// cLevel is the level of libzstd: the one after which more time buys little, by
// the figures in docs/decisions/0004-libzstd.md.
const cLevel = 2

// cContexts are libzstd's workspaces: heavy to make, light to reuse, each for
// one goroutine at a time. Their memory is C's and is freed by a finalizer.
var cContexts = sync.Pool{New: func() any { return zstd.NewCtx() }}

func (cZstd) compress(b, plain []byte) ([]byte, error) {
	c := cContexts.Get().(zstd.Ctx)
	defer cContexts.Put(c)
	// The library writes into the free space only if that holds the worst case.
	start := len(b)
	b = slices.Grow(b, zstd.CompressBound(len(plain)))
	out, err := c.CompressLevel(b[start:], plain, cLevel)
	if err != nil {
		return nil, err
	}
	return b[:start+len(out)], nil
}

func (cZstd) decompress(b, packed []byte, size int) (int, error) {
	c := cContexts.Get().(zstd.Ctx)
	defer cContexts.Put(c)
	start := len(b)
	return c.DecompressInto(b[start:start+size], packed)
}
