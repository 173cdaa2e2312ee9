package imagestore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"lifeboat"
	"lifeboat/imagestore/format"
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
	// Alone also changes and removes what others might be reading: it writes
	// beside nobody, and is refused while anybody has the store open.
	Alone
)

// writes says whether anything may be written in this mode.
func (m Mode) writes() bool { return m != Read }

// OpenOptions say how to open a store. The zero value reads.
type OpenOptions struct {
	Mode Mode
	// CacheBytes bounds the decoded frames that are kept for all disks of the
	// store together; 0 means 64 MiB, less on a drive whose index is large.
	CacheBytes int64
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Log takes notes for the run's log; nil drops them.
	Log *slog.Logger

	// limits are smaller in tests.
	limits limits
}

// limits are the sizes that decide how often a drive is synced.
type limits struct {
	packBytes   int64
	runEntries  int
	reserveFree bool
	// missing is how many chunks of a lost index are looked for one by one.
	missing int
}

// Store is one drive's worth of images, opened. Its methods may be called from
// several goroutines.
type Store struct {
	dir     durable.Dir
	mode    Mode
	now     func() time.Time
	log     *slog.Logger
	driveID format.ShortID
	super   format.Superblock
	// keyring is what the slot held; masters are its keys, of which the store's
	// generation seals new files.
	keyring format.Keyring
	masters format.Masters
	// usedSlot is the name of the slot that opened the store.
	usedSlot string
	limits   limits

	packs  *packs
	frames *frameCache
	index  *index
	marks  *marks
	// writer is nil in a store that only reads.
	writer *writer

	// buffers are those that were made and are free; bufferTurns bounds how many
	// are in use.
	buffers     chan []byte
	bufferTurns chan struct{}
	// aheadSlots are as many as may be decoding ahead of readers.
	aheadSlots chan struct{}

	locks []io.Closer

	// enclosing is held while a document is written or removed.
	enclosing sync.Mutex

	commitMu sync.Mutex
	state    *commitState

	// moving is held shared by what adds chunks and alone by what moves or
	// removes them.
	moving sync.RWMutex

	// machines remembers which machine a point is of.
	machines sync.Map // from format.ShortID to string

	scanMu sync.Mutex
	// scanned: packs that no run covers were looked at. caughtUp is the newest
	// commit whose index runs a reader knows.
	scanned  atomic.Bool
	caughtUp uint64

	// life is held shared by every operation, and alone by Close.
	life     sync.RWMutex
	closed   bool
	closeErr error
}

// Open opens the store in dir with the first secret that fits one of its slots.
//
// Errors wrap lifeboat.ErrWrongSecret, lifeboat.ErrWrongDrive (not a store, or
// of a newer format), lifeboat.ErrDriveHeld (another writer, named with its
// host), lifeboat.ErrDamaged or lifeboat.ErrDriveGone; those that an operator
// meets are a *lifeboat.Problem. A read-only dir is opened without any
// write; it too is refused while somebody has it Alone.
func Open(ctx context.Context, dir durable.Dir, secrets []Secret, o OpenOptions) (*Store, error) {
	s := newStore(dir, o)
	if err := s.unlock(secrets); err != nil {
		return nil, err
	}
	if err := s.lock(); err != nil {
		return nil, err
	}
	err := s.load(ctx)
	if err != nil {
		s.abandon(err)
		return nil, s.explain(err)
	}
	return s, nil
}

// Mode is how the store was opened.
func (s *Store) Mode() Mode { return s.mode }

// abandon ends a store that did not come to be ready: nothing more is written,
// and no file of the drive stays open, so that it can be unmounted.
func (s *Store) abandon(why error) {
	if s.writer != nil {
		s.writer.fail(why)
		s.writer.close()
	}
	s.index.close()
	s.packs.close()
	s.unlockFiles()
}

func newStore(dir durable.Dir, o OpenOptions) *Store {
	s := &Store{dir: dir, mode: o.Mode, now: o.Now, log: o.Log, limits: o.limits}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.limits == (limits{}) {
		s.limits = limits{packBytes: format.MaxPackSize, runEntries: 128 << 10, reserveFree: true, missing: maxMissing}
	}
	s.buffers, s.bufferTurns = make(chan []byte, regionBuffers), make(chan struct{}, regionBuffers)
	s.aheadSlots = newAheadSlots()
	s.marks = newMarks()
	s.packs = newPacks(s)
	s.frames = newFrameCache(s.packs, o.CacheBytes)
	s.index = newIndex(s)
	return s
}

// The features that this program knows.
const (
	knownReadOnlyCompatible = 0
	knownIncompatible       = format.FeatureParts
)

func (s *Store) checkFeatures() error {
	if s.super.Drive != s.driveID {
		return s.notAStore(format.ErrForeign)
	}
	if s.super.Incompatible&^knownIncompatible != 0 {
		return s.newer()
	}
	if s.mode.writes() && s.super.ReadOnlyCompatible&^knownReadOnlyCompatible != 0 {
		return s.newer()
	}
	return nil
}

func (s *Store) notAStore(err error) error {
	if errors.Is(err, format.ErrNewer) {
		return s.newer()
	}
	if errors.Is(err, lifeboat.ErrDriveGone) {
		return s.explain(err)
	}
	if err == nil {
		err = errors.New("there is no key slot that can be read")
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s is not a Lifeboat store that can be read", s.dir),
		Safe: "nothing was written to it",
		Next: "check that the right drive is mounted there with: lifeboat drive list",
		Err:  fmt.Errorf("%w: %w", lifeboat.ErrWrongDrive, err),
	}
}

func (s *Store) newer() error {
	return &lifeboat.Problem{
		What: fmt.Sprintf("the store at %s was written by a newer Lifeboat", s.dir),
		Safe: "nothing was changed on it; its restore points are as they were",
		Next: "use the program that is on the drive itself, in lifeboat/bin",
		Err:  fmt.Errorf("%w: %w", lifeboat.ErrWrongDrive, format.ErrNewer),
	}
}

// load makes the store ready for use, once it is unlocked and locked.
func (s *Store) load(ctx context.Context) error {
	s.index.namers = newNamers(s.super.ChunkKey)
	if s.mode == Alone {
		if err := s.completeFolders(ctx); err != nil {
			return err
		}
	}
	if s.mode.writes() {
		folders := []string{"slots", "index", "points", "heads", "."}
		if s.mode == Alone {
			folders = append(folders, "marks") // a reader that verifies may be writing one just now
		}
		for _, folder := range folders {
			if err := durable.RemoveTemps(s.dir, folder); err != nil {
				return err
			}
		}
	}
	if err := s.marks.load(s); err != nil {
		return err
	}
	if err := s.index.load(ctx); err != nil {
		return err
	}
	s.fitCaches()
	state, _, err := s.readState()
	if err != nil {
		return err
	}
	s.state = state
	if s.mode.writes() {
		s.index.distrustMarked()
		err := s.healCopies()
		if errors.Is(err, lifeboat.ErrDriveFull) {
			s.log.Warn("second copies cannot be completed", "why", err)
		} else if err != nil {
			return err
		}
		s.writer = newWriter(s)
		return s.tidy(ctx)
	}
	return nil
}

// completeFolders makes the folders that got lost, which would stop a repair.
func (s *Store) completeFolders(ctx context.Context) error {
	there, err := s.dir.List(".")
	if err != nil {
		return fmt.Errorf("list the store: %w", err)
	}
	packs, err := s.dir.List("packs")
	if err == nil && len(packs) >= 256 && !slices.ContainsFunc(storeFolders, func(name string) bool {
		return !slices.ContainsFunc(there, func(e fs.DirEntry) bool { return e.Name() == name })
	}) {
		return nil
	}
	return makeFolders(ctx, s.dir)
}

// tidy takes in or removes what an earlier writer left unfinished.
func (s *Store) tidy(ctx context.Context) error {
	folders, err := s.tidyPacks(ctx)
	if err != nil {
		return err
	}
	if err := s.salvage(ctx); err != nil {
		return err
	}
	return s.makeMissingParity(ctx, folders, parityAtOpening)
}

// Close ends the use of the store, once the operations under way have returned.
// A writer first makes what it has written findable for the next try. It is
// safe to call twice.
func (s *Store) Close() error {
	s.life.Lock()
	defer s.life.Unlock()
	if s.closed {
		return s.closeErr
	}
	s.closed = true
	var errs []error
	if s.writer != nil {
		errs = append(errs, s.writer.close())
	}
	s.index.close()
	s.packs.close()
	errs = append(errs, s.unlockFiles())
	s.closeErr = s.explain(errors.Join(errs...))
	return s.closeErr
}

var errStoreClosed = errors.New("the store was closed")

// begin keeps the store open until end.
func (s *Store) begin() error {
	s.life.RLock()
	if s.closed {
		s.life.RUnlock()
		return errStoreClosed
	}
	return nil
}

func (s *Store) end() { s.life.RUnlock() }

// Drive is the drive's identity as it is sealed in the store.
func (s *Store) Drive() lifeboat.Drive {
	return lifeboat.Drive{
		ID: s.driveID.String(), Label: s.super.Label, SiteID: s.super.Site.String(),
		CreatedAt: time.Unix(0, s.super.CreatedAt).UTC(),
	}
}

// Site is the site that the drive belongs to, with its keys.
func (s *Store) Site() Site {
	return Site{ID: s.super.Site.String(), Name: s.super.SiteName, ChunkKey: s.super.ChunkKey, CutKey: s.super.CutKey}
}

// Head is the newest commit. A drive whose head is older than one that was seen
// before, or has another hash at the same sequence, was rolled back or forked.
// The zero Head is that of an empty store.
func (s *Store) Head() Head {
	s.commitMu.Lock()
	defer s.commitMu.Unlock()
	if s.state.head.Sequence == 0 {
		return Head{}
	}
	return Head{s.state.head.Sequence, hex.EncodeToString(s.state.headHash[:])}
}

// Head names one state of a store.
type Head struct {
	Sequence uint64 `json:"sequence"`
	Hash     string `json:"hash"`
}

func (s *Store) writable() error {
	if !s.mode.writes() {
		return fmt.Errorf("the store at %s was opened for reading", s.dir)
	}
	return nil
}
