package imagestore

import (
	"sync"

	"lifeboat/imagestore/format"
)

// windowSize is one read of whoever reads packs from front to end: long enough
// that a disk which seeks spends its time reading.
const windowSize = 4 << 20

// packWindow reads the frames of a pack in order, many at a time.
type packWindow struct {
	// turn is held while the drive is read: several goroutines that each go
	// through a pack take turns at the drive, and work on what they have read
	// while others read.
	turn *sync.Mutex
	o    *openPack
	// end is where the frames of the pack end, at most.
	end int64
	buf []byte
	// have is what of buf was read, from start of the pack on.
	have  []byte
	start int64
}

// frame returns the bytes of a frame, to be opened in place. Frames are asked
// for in ascending order, each once. What cannot be read together with its
// neighbours is read alone, so that a bad place takes one frame and no more.
func (w *packWindow) frame(f format.DirectoryFrame) ([]byte, error) {
	from, to := int64(f.Offset), int64(f.Offset)+int64(f.Size)
	if from >= w.start && to <= w.start+int64(len(w.have)) {
		return w.have[from-w.start : to-w.start], nil
	}
	if err := w.read(from, max(to, min(from+windowSize, w.end))); isGone(err) {
		return nil, err
	} else if err != nil {
		if err := w.read(from, to); err != nil {
			return nil, err
		}
	}
	return w.have[:to-from], nil
}

func (w *packWindow) read(from, to int64) error {
	if w.buf == nil {
		w.buf = make([]byte, windowSize)
	}
	w.have = nil
	b := w.buf[:to-from]
	w.turn.Lock()
	err := readFull(w.o.file, b, from)
	w.turn.Unlock()
	if err == nil {
		w.have, w.start = b, from
	}
	return err
}

// framesEnd is where the last frame of a pack ends.
func framesEnd(d format.Directory) int64 {
	if len(d) == 0 {
		return format.HeaderSize
	}
	last := d[len(d)-1]
	return int64(last.Offset) + int64(last.Size)
}
