package imagestore

import (
	"context"
	"log/slog"
	"time"

	"lifeboat"
	"lifeboat/internal/durable"
)

// Mode is what an opened store may do.
type Mode int

// The modes.
const (
	// Read lists, reads, restores and verifies.
	Read Mode = iota
	// Write captures as well. One writer at a time, beside any readers.
	Write
)

// OpenOptions say how to open a store. The zero value reads.
type OpenOptions struct {
	Mode Mode
	// CacheBytes bounds the decoded frames that are kept for all disks of the
	// store together; 0 means 64 MiB.
	CacheBytes int64
	// Host and Program name the writer in its lock's note and in its points.
	Host, Program string
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Log takes notes for the run's log; nil drops them.
	Log *slog.Logger
}

// Store is one drive's worth of images, opened. Its methods may be called from
// several goroutines.
type Store struct {
}

// Open opens the store in dir with the first secret that fits one of its slots.
//
// Errors wrap lifeboat.ErrWrongSecret, lifeboat.ErrWrongDrive (not a store, or
// of a newer format), lifeboat.ErrDriveHeld (another writer, named with its
// host), lifeboat.ErrDamaged or lifeboat.ErrDriveGone; those that an operator
// meets are a *lifeboat.Problem. A read-only dir is opened without a lock and
// without any write.
func Open(ctx context.Context, dir durable.Dir, secrets []Secret, o OpenOptions) (*Store, error) {
	panic("not written yet")
}

// Close ends the use of the store. A writer first makes what it has written
// findable for the next try. It is safe to call twice.
func (s *Store) Close() error { panic("not written yet") }

// Drive is the drive's identity as it is sealed in the store.
func (s *Store) Drive() lifeboat.Drive { panic("not written yet") }

// Site is the site that the drive belongs to, with its keys.
func (s *Store) Site() Site { panic("not written yet") }

// Fingerprint identifies the drive's master key. A control machine remembers it
// and refuses a drive whose fingerprint changed.
func (s *Store) Fingerprint() string { panic("not written yet") }

// Head is the newest commit. A drive whose head is older than one that was seen
// before, or has another hash at the same sequence, was rolled back or forked.
// The zero Head is that of an empty store.
func (s *Store) Head() Head { panic("not written yet") }

// Head names one state of a store.
type Head struct {
	Sequence uint64 `json:"sequence"`
	Hash     string `json:"hash"`
}

// Slot is a key slot of the drive.
type Slot struct {
	Name string `json:"name"`
	// Kind is "passphrase" or "recipient".
	Kind      string    `json:"kind"`
	CreatedAt time.Time `json:"createdAt"`
	// Recipient is the public key, for a recipient's slot.
	Recipient string `json:"recipient,omitempty"`
}

// Slots lists the key slots, oldest first.
func (s *Store) Slots(ctx context.Context) ([]Slot, error) { panic("not written yet") }

// AddSlot makes another secret open the drive. A name that exists is refused.
func (s *Store) AddSlot(ctx context.Context, n NewSlot) error { panic("not written yet") }

// RemoveSlot makes a secret no longer open the drive as it is now; copies taken
// earlier it opens for ever. The last slot is refused.
func (s *Store) RemoveSlot(ctx context.Context, name string) error { panic("not written yet") }

// Usage is what the store takes up.
type Usage struct {
	// StoredBytes counts all files of the store, PackBytes its packs.
	StoredBytes int64 `json:"storedBytes"`
	PackBytes   int64 `json:"packBytes"`
	Packs       int   `json:"packs"`
	// Chunks counts distinct chunks, including those of the trees.
	Chunks     int64 `json:"chunks"`
	FreeBytes  int64 `json:"freeBytes"`
	TotalBytes int64 `json:"totalBytes"`
}

// Usage measures the store.
func (s *Store) Usage(ctx context.Context) (Usage, error) { panic("not written yet") }
