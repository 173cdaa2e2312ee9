package durable

import (
	"fmt"
	"os"
)

// Overwriter is a [Dir] whose files can be written over where they lie. It exists
// for destroying keys and for nothing else: everything else is written anew and
// renamed.
type Overwriter interface {
	// Overwrite puts data in place of the first bytes of a file, and returns once
	// they are on the medium.
	Overwrite(name string, data []byte) error
}

// Overwrite puts data in place of the first bytes of a file, and returns once they
// are on the medium. A file system that copies on write, and flash below any, may
// keep the older bytes elsewhere.
func (d *OSDir) Overwrite(name string, data []byte) error {
	if err := d.checkWrite("overwrite", name); err != nil {
		return err
	}
	if err := d.checkFile("overwrite", name); err != nil {
		return err
	}
	f, err := d.root.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return explain(err)
	}
	_, err = f.WriteAt(data, 0)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("overwrite %s: %w", name, explain(err))
	}
	return nil
}
