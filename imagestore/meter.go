package imagestore

import (
	"sync"
	"sync/atomic"
	"time"
)

// Progress is how far a long operation has come.
type Progress struct {
	// TotalBytes is what there is to do and DoneBytes what of it is done, both
	// in bytes of the disks (Capture, Restore) or of the drive (Verify).
	TotalBytes int64 `json:"totalBytes"`
	DoneBytes  int64 `json:"doneBytes"`
	// ReadBytes came from the source, NewBytes of it were not on the drive
	// before, and WrittenBytes went to the drive.
	ReadBytes    int64 `json:"readBytes"`
	NewBytes     int64 `json:"newBytes"`
	WrittenBytes int64 `json:"writtenBytes"`
}

// meter counts what many goroutines do.
type meter struct {
	total, done, read, fresh atomic.Int64
	// written counts what chunks of disks took up on the drive, trees the rest.
	written, trees atomic.Int64
}

func (m *meter) progress() Progress {
	return Progress{TotalBytes: m.total.Load(), DoneBytes: m.done.Load(), ReadBytes: m.read.Load(),
		NewBytes: m.fresh.Load(), WrittenBytes: m.written.Load() + m.trees.Load()}
}

const reportEvery = 100 * time.Millisecond

// report calls f until the returned function is called, and once then.
func (m *meter) report(f func(Progress)) (stop func()) {
	if f == nil {
		return func() {}
	}
	quit := make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		tick := time.NewTicker(reportEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				f(m.progress())
			case <-quit:
				f(m.progress())
				return
			}
		}
	})
	return func() {
		close(quit)
		wait.Wait()
	}
}
