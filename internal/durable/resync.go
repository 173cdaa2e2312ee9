package durable

import "fmt"

// Resyncer is a [ReadFile] that can make durable what another process wrote to
// it and may never have synced: a process that was killed leaves bytes that
// everybody can read and that a power cut still takes away.
type Resyncer interface {
	ReadFile
	// Sync returns once every byte of the file is on the medium.
	Sync() error
}

// Sync makes durable what another process wrote. On Linux that works through a
// file that was opened for reading.
func (f *readFile) Sync() error {
	if f.dir.readOnly {
		return fmt.Errorf("sync %s: %w", f.file.Name(), ErrReadOnly)
	}
	return explain(f.file.Sync())
}

var _ Resyncer = (*readFile)(nil)
