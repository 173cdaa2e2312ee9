package imagestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"lifeboat"
	"lifeboat/imagestore/format"
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

const superblockName = "store"

// Create makes an empty store in dir, which holds no store yet. Once it returns
// nil the store is there after a power cut. On error the folder may hold the
// beginnings of a store, which Open refuses and the next Create takes over.
func Create(ctx context.Context, dir durable.Dir, o CreateOptions) error {
	super, err := o.superblock()
	if err != nil {
		return fmt.Errorf("create a store: %w", err)
	}
	for _, suffix := range []string{copyA, copyB} {
		if _, err := dir.Stat(superblockName + suffix); err == nil {
			return fmt.Errorf("create a store: %s holds a store already", dir)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("create a store: %w", err)
		}
	}
	if err := makeFolders(ctx, dir); err != nil {
		return fmt.Errorf("create a store: %w", err)
	}
	if err := removeSlots(dir); err != nil {
		return fmt.Errorf("create a store: %w", err)
	}
	keyring := format.Keyring{Masters: format.Masters{newMaster(1)}}
	for _, slot := range o.Slots {
		name, file, err := newSlot(super.Drive, keyring, slot, o.Now)
		if err == nil {
			err = writeTwin(dir, name, file)
		}
		if err != nil {
			return fmt.Errorf("create a store: %w", err)
		}
	}
	header := format.Header{Kind: format.KindSuperblock, Generation: 1, Drive: super.Drive, File: newFileID()}
	sealed, err := format.SealSmall(header, keyring.Masters.Newest().Key, super.Append(nil))
	if err != nil {
		return fmt.Errorf("create a store: %w", err)
	}
	// The superblock comes last: without it there is no store.
	if err := writeTwin(dir, superblockName, sealed); err != nil {
		return fmt.Errorf("create a store: %w", err)
	}
	return nil
}

func (o CreateOptions) superblock() (format.Superblock, error) {
	var none format.Superblock
	drive, err := format.ParseShortID(o.Drive.ID)
	if err != nil {
		return none, fmt.Errorf("the drive's id: %w", err)
	}
	site, err := format.ParseShortID(o.Site.ID)
	if err != nil {
		return none, fmt.Errorf("the site's id: %w", err)
	}
	if o.Site.ChunkKey == (Key{}) || o.Site.CutKey == (Key{}) {
		return none, errors.New("the site has no keys")
	}
	if len(o.Slots) == 0 || len(o.Slots) > maxSlots {
		return none, fmt.Errorf("one to %d secrets must open it, not %d", maxSlots, len(o.Slots))
	}
	names := map[string]bool{}
	for _, slot := range o.Slots {
		if names[slot.Name] {
			return none, fmt.Errorf("two key slots are named %q", slot.Name)
		}
		names[slot.Name] = true
	}
	return format.Superblock{
		Compatible: format.FeatureParity,
		Generation: 1, Drive: drive, Site: site,
		ChunkKey: o.Site.ChunkKey, CutKey: o.Site.CutKey,
		CreatedAt: o.Now.UnixNano(),
		Label:     o.Drive.Label, SiteName: o.Site.Name, Program: o.Program,
	}, nil
}

// storeFolders are the folders of a store; that of the packs has 256 more.
var storeFolders = []string{"slots", "packs", "index", "points", "heads", "marks"}

// makeFolders makes every folder once, so that an export never has to.
func makeFolders(ctx context.Context, dir durable.Dir) error {
	for _, name := range storeFolders {
		if err := dir.Mkdir(name); err != nil {
			return err
		}
	}
	for i := range 256 {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := dir.Mkdir(path.Join("packs", fmt.Sprintf("%02x", i))); err != nil {
			return err
		}
	}
	if err := dir.SyncDir("packs"); err != nil {
		return err
	}
	return dir.SyncDir(".")
}

// removeSlots removes what an earlier try left: such slots would never open this
// store, but they confuse.
func removeSlots(dir durable.Dir) error {
	slots, err := listTwins(dir, "slots")
	if err != nil {
		return err
	}
	for _, name := range slots {
		if err := removeTwin(dir, "slots/"+name); err != nil {
			return err
		}
	}
	return nil
}
