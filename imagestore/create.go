package imagestore

import (
	"context"
	"time"

	"lifeboat"
	"lifeboat/internal/durable"
)

// CreateOptions say what a new store is.
type CreateOptions struct {
	// Drive is the identity to write. ID and Label must be set; SiteID and
	// CreatedAt are taken from Site and Now.
	Drive lifeboat.Drive
	Site  Site
	// Slots are the secrets that will open the store: at least one.
	Slots []NewSlot
	// Program is the version of Lifeboat that makes the store.
	Program string
	Now     time.Time
}

// NewSlot describes a key slot to be made: exactly one of Secret and Recipient
// is set.
type NewSlot struct {
	// Name is shown by Slots, for example "passphrase" or "control machine".
	Name      string
	Secret    Secret
	Recipient Recipient
}

// Create makes an empty store in dir, which must be an empty folder. Once it
// returns nil the store is there after a power cut. On error the folder may
// hold the beginnings of a store, which Open refuses and Create takes over.
func Create(ctx context.Context, dir durable.Dir, o CreateOptions) error { panic("not written yet") }
