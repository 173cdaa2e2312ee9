package rotation

import (
	"errors"
	"fmt"
	"io"

	"lifeboat"
	"lifeboat/internal/durable"
)

// CompleteNote writes drive.json anew where it is missing or cannot be read,
// from what is sealed in the store of the drive at path, and says whether it did.
// Contact and company are not known to the store, and stay away. A note of a newer
// program is left alone.
func CompleteNote(path string, sealed lifeboat.Drive) (made bool, err error) {
	dir, err := durable.OpenOS(path, false)
	if err != nil {
		return false, fmt.Errorf("open the drive at %s: %w", path, err)
	}
	defer dir.(io.Closer).Close()
	_, err = readNote(dir)
	if err == nil || errors.Is(err, errNewerNote) {
		return false, nil
	}
	if errors.Is(err, lifeboat.ErrDriveGone) {
		return false, err
	}
	n := note{Layout: LayoutVersion, ID: sealed.ID, Label: sealed.Label, SiteID: sealed.SiteID, CreatedAt: sealed.CreatedAt}
	if _, err := decodeNote(encodeNote(n)); err != nil {
		return false, err
	}
	return true, durable.WriteFileAtomic(dir, noteFile, encodeNote(n))
}
