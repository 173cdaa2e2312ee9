package rotation

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"lifeboat"
	"lifeboat/internal/durable"
)

// ErrNotEmpty: the path that was to become a drive holds something.
var ErrNotEmpty = errors.New("not empty")

// ErrIsDrive: the path that was to become a drive is one.
var ErrIsDrive = errors.New("already a drive")

// InitOptions say what drive to make.
type InitOptions struct {
	Label  string
	SiteID string
	// Contact is who a finder calls: a phone number, or what else fits a line.
	Contact string
	// CompanyName is written onto the drive for a finder to read; empty by
	// default, because it tells a thief what was stolen.
	CompanyName string
	// Programs are the static programs that the drive carries.
	Programs []ProgramSource
	// NotEmpty allows a place that holds other files already. They are left
	// alone; an existing START-HERE.txt is replaced.
	NotEmpty bool
	// CreateStore makes the empty store of that drive in dir; it usually is
	// imagestore.Create.
	CreateStore func(ctx context.Context, dir durable.Dir, drive lifeboat.Drive) error
	// LeaveStartHere, if given, writes the text of START-HERE.txt to a second place
	// before the drive exists: a part of the disk that any PC reads.
	LeaveStartHere func(text []byte) error
	Now            time.Time
}

// Init makes the folder or file system at a path a drive. The drive exists when
// its drive.json does, which is written last: after an error, a cancel or a
// power cut Init can simply be called again.
//
// It refuses a path that is a drive, whatever state that is in, with a
// [lifeboat.Problem] that wraps [ErrIsDrive], and one that holds anything else,
// unless told, with one that wraps [ErrNotEmpty].
func Init(ctx context.Context, at string, o InitOptions) (lifeboat.Drive, error) {
	if err := checkNewLabel(o.Label); err != nil {
		return lifeboat.Drive{}, err
	}
	n := note{Layout: LayoutVersion, ID: newID(), Label: o.Label, SiteID: o.SiteID,
		CreatedAt: o.Now.UTC().Truncate(time.Second), Contact: o.Contact, Company: o.CompanyName}
	if _, err := decodeNote(encodeNote(n)); err != nil {
		return lifeboat.Drive{}, fmt.Errorf("make a drive: %w", err)
	}
	found, err := mayInit(at, o.NotEmpty)
	if err != nil {
		return lifeboat.Drive{}, err
	}
	dir, err := durable.OpenOS(at, false)
	if err != nil {
		return lifeboat.Drive{}, fmt.Errorf("make a drive of %s: %w", at, err)
	}
	defer dir.(io.Closer).Close()
	if err := writeDrive(ctx, dir, n, found.Filesystem, o); err != nil {
		return lifeboat.Drive{}, initProblem(at, err)
	}
	return n.drive(), nil
}

// CheckInit says what keeps [Init] from making a drive with that label of a path,
// and writes nothing.
func CheckInit(at, label string) error {
	if err := checkNewLabel(label); err != nil {
		return err
	}
	_, err := mayInit(at, false)
	return err
}

func checkNewLabel(label string) error {
	if err := CheckLabel(label); err != nil {
		return &lifeboat.Problem{
			What: err.Error(),
			Safe: nothingChanged,
			Next: "choose another label, such as A or 2026-1",
			Err:  err,
		}
	}
	return nil
}

// mayInit refuses a path that is a drive, cannot be written, or holds anything
// else.
func mayInit(at string, notEmpty bool) (Found, error) {
	found, err := mayBecomeDrive(at)
	if err != nil {
		return found, err
	}
	dir, err := durable.OpenOS(at, true)
	if err != nil {
		return found, fmt.Errorf("make a drive of %s: %w", at, err)
	}
	defer dir.(io.Closer).Close()
	return found, checkEmpty(dir, notEmpty || found.Kind == KindUnfinished)
}

func mayBecomeDrive(path string) (Found, error) {
	found, err := Identify(path)
	if errors.Is(err, fs.ErrNotExist) {
		return found, &lifeboat.Problem{
			What: fmt.Sprintf("there is no folder %s", path),
			Safe: nothingChanged,
			Next: "mount the drive there, or make the folder: mkdir " + path,
			Err:  err,
		}
	}
	if err != nil {
		return found, fmt.Errorf("make a drive of %s: %w", path, err)
	}
	if found.Kind != KindNone && found.Kind != KindUnfinished {
		name := found.Drive.Label
		if name == "" {
			name = "one without a readable label"
		}
		return found, &lifeboat.Problem{
			What: fmt.Sprintf("%s is a drive already: %s (%s)", path, name, short(found.Drive.ID)),
			Safe: "it was not touched",
			Next: "choose another folder; to give this drive up for good, make a new file system on it first",
			Err:  ErrIsDrive,
		}
	}
	if found.ReadOnly {
		return found, &lifeboat.Problem{
			What: fmt.Sprintf("%s cannot be written: it is mounted read-only, or belongs to another user", path),
			Safe: nothingChanged,
			Next: "mount it for writing, or run this as root",
			Err:  durable.ErrReadOnly,
		}
	}
	return found, nil
}

// clutter is what file systems and desktops put onto an empty medium.
var clutter = []string{"lost+found", "System Volume Information", "$RECYCLE.BIN", ".Trashes", ".fseventsd", ".Spotlight-V100"}

func checkEmpty(dir durable.Dir, allowed bool) error {
	entries, err := dir.List(".")
	if err != nil {
		return fmt.Errorf("look into %s: %w", dir, err)
	}
	var names []string
	for _, e := range entries {
		if !slices.Contains(clutter, e.Name()) {
			names = append(names, e.Name())
		}
	}
	if len(names) == 0 || allowed {
		return nil
	}
	shown := strings.Join(names[:min(3, len(names))], ", ")
	if len(names) > 3 {
		shown += fmt.Sprintf(" and %d more", len(names)-3)
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s is not empty: it holds %s", dir, shown),
		Safe: nothingChanged,
		Next: "choose an empty folder or an empty file system",
		Err:  ErrNotEmpty,
	}
}

// writeDrive writes everything, drive.json last.
func writeDrive(ctx context.Context, dir durable.Dir, n note, filesystem string, o InitOptions) error {
	if err := dir.Mkdir(Folder); err != nil {
		return err
	}
	// Its being there tells an interrupted beginning from a drive that was hurt,
	// and its lock keeps a second Init away.
	lock, err := dir.Lock(unfinishedFile, true)
	if errors.Is(err, durable.ErrLocked) {
		return fmt.Errorf("%w: %w", lifeboat.ErrDriveHeld, err)
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := errors.Join(dir.SyncDir("."), dir.SyncDir(Folder)); err != nil {
		return err
	}
	if err := clearStore(dir); err != nil {
		return err
	}
	for _, folder := range []string{BinFolder, StoreFolder, SiteFolder} {
		if err := dir.Mkdir(folder); err != nil {
			return err
		}
	}
	if err := dir.SyncDir(Folder); err != nil {
		return err
	}
	programs, err := WritePrograms(dir, o.Programs)
	if err != nil {
		return err
	}
	facts := SheetFacts{Drive: n.drive(), Contact: n.Contact, CompanyName: n.Company, Programs: programs, Filesystem: filesystem}
	text := []byte(startHere(facts))
	if err := durable.WriteFileAtomic(dir, StartHere, text); err != nil {
		return err
	}
	if o.LeaveStartHere != nil {
		if err := o.LeaveStartHere(text); err != nil {
			return err
		}
	}
	if err := createStore(ctx, dir, n, o); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := durable.WriteFileAtomic(dir, noteFile, encodeNote(n)); err != nil {
		return err
	}
	return errors.Join(dir.Remove(unfinishedFile), dir.SyncDir(Folder))
}

func createStore(ctx context.Context, dir durable.Dir, n note, o InitOptions) error {
	store, err := dir.Sub(StoreFolder)
	if err != nil {
		return err
	}
	return o.CreateStore(ctx, store, n.drive())
}

// clearStore removes the store of a drive whose making was interrupted. A store
// that anything was ever put into is not one of those, and is an error.
func clearStore(dir durable.Dir) error {
	if hasPoints(dir) {
		return ErrIsDrive
	}
	err := removeTree(dir, StoreFolder, 4)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// removeTree deletes a folder that is at most so many levels deep.
func removeTree(dir durable.Dir, name string, levels int) error {
	entries, err := dir.List(name)
	if err != nil {
		return err
	}
	for _, e := range entries {
		inner := path.Join(name, e.Name())
		switch {
		case !e.IsDir():
			err = dir.Remove(inner)
		case levels > 0:
			err = removeTree(dir, inner, levels-1)
		default:
			err = fmt.Errorf("%s: nothing of ours is so deep", inner)
		}
		if err != nil {
			return err
		}
	}
	return dir.Remove(name)
}

func newID() string {
	var id [16]byte
	rand.Read(id[:])
	return hex.EncodeToString(id[:])
}

func initProblem(path string, err error) error {
	p := &lifeboat.Problem{
		What: fmt.Sprintf("%s did not become a drive", path),
		Safe: "nothing that was there before was changed",
		Next: "run the same command again",
		Err:  err,
	}
	switch {
	case errors.Is(err, lifeboat.ErrDriveFull):
		p.Next = "use a larger drive, or make room on this one, and run the same command again"
	case errors.Is(err, lifeboat.ErrDriveGone):
		p.Next = "check the drive's cable, attach it again and run the same command"
	case errors.Is(err, lifeboat.ErrDriveHeld):
		p.Next = "wait until the other run has ended"
	}
	return p
}
