package imagestore

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"lifeboat/imagestore/format"
)

// badSector is a file in memory with one byte that cannot be read.
type badSector struct {
	memoryFile
	at    int64
	reads int
}

var errSector = errors.New("a sector cannot be read")

func (f *badSector) ReadAt(p []byte, offset int64) (int, error) {
	f.reads++
	if f.at >= offset && f.at < offset+int64(len(p)) {
		return 0, errSector
	}
	return f.memoryFile.ReadAt(p, offset)
}

func TestOneBadPlaceOfAPackTakesOneFrameAndNoMore(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	data := make([]byte, 20<<20)
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	var d format.Directory
	for at := uint32(format.HeaderSize); ; {
		size := 1 + r.Uint32N(format.MaxFrameSize)
		if int(at+size) > len(data) {
			break
		}
		d = append(d, format.DirectoryFrame{Offset: at, Size: size})
		at += size
	}
	bad := d[len(d)/2]
	file := &badSector{memoryFile: memoryFile{bytes.NewReader(data)}, at: int64(bad.Offset) + int64(bad.Size)/2}
	w := packWindow{turn: &sync.Mutex{}, o: &openPack{file: file}, end: framesEnd(d)}
	for i, f := range d {
		b, err := w.frame(f)
		if f.Offset == bad.Offset {
			if !errors.Is(err, errSector) {
				t.Errorf("the frame that cannot be read: %v", err)
			}
			continue
		}
		if err != nil || !bytes.Equal(b, data[f.Offset:f.Offset+f.Size]) {
			t.Fatalf("frame %d of %d bytes at %d: %v", i, f.Size, f.Offset, err)
		}
	}
	if limit := len(data)/windowSize + 2*windowSize/(format.MaxFrameSize/2); file.reads > limit {
		t.Errorf("%d reads", file.reads)
	}
}
