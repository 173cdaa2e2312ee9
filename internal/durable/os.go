package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// ErrReadOnly: the folder was opened read-only, or lies on a medium that is.
var ErrReadOnly = errors.New("nothing can be written here")

// OSDir is a folder of this operating system. No name leads out of it, and
// neither does a symbolic link that somebody put on the medium.
//
// It holds the folder open, so the medium cannot be unmounted before Close.
type OSDir struct {
	root     *os.Root
	path     string
	readOnly bool
	private  bool

	mu   sync.Mutex
	subs []*OSDir
}

// OpenOS opens an existing folder. With readOnly, or when its file system is
// mounted read-only, nothing is ever written or locked there. What it makes can
// be read by everybody: a drive is read by strangers on machines where other
// users have other numbers, and what is secret on it is sealed.
func OpenOS(path string, readOnly bool) (Dir, error) {
	return open(path, readOnly, false)
}

// OpenPrivate opens an existing folder for files that only their owner may
// read: the state of a control machine.
func OpenPrivate(path string) (Dir, error) {
	return open(path, false, true)
}

// OpenInside opens a folder inside another one, without following a symbolic
// link that leads out of the outer one.
func OpenInside(path, name string, readOnly bool) (Dir, error) {
	outer, err := OpenOS(path, readOnly)
	if err != nil {
		return nil, err
	}
	inner, err := outer.Sub(name)
	if err != nil {
		return nil, errors.Join(err, outer.(*OSDir).Close())
	}
	// The inner folder is open by itself and outlives the outer.
	outer.(*OSDir).subs = nil
	return inner, outer.(*OSDir).Close()
}

func open(path string, readOnly, private bool) (Dir, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, explain(err)
	}
	if !info.IsDir() {
		return nil, &fs.PathError{Op: "open", Path: path, Err: unix.ENOTDIR}
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, explain(err)
	}
	d := &OSDir{root: root, path: path, readOnly: readOnly, private: private}
	stat, err := d.statfs()
	if err != nil {
		root.Close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if stat.Flags&unix.ST_RDONLY != 0 {
		d.readOnly = true
	}
	return d, nil
}

// Close lets go of the folder and of every one that Sub returned. Files that
// are open stay usable.
func (d *OSDir) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for _, s := range d.subs {
		errs = append(errs, s.Close())
	}
	d.subs = nil
	return errors.Join(append(errs, d.root.Close())...)
}

// String returns the path that the folder was opened with.
func (d *OSDir) String() string { return d.path }

// ReadOnly says that nothing can be written here.
func (d *OSDir) ReadOnly() bool { return d.readOnly }

// Open opens a file for reading. Something that is not a file, such as a pipe
// that would make a reader wait for ever, is refused.
func (d *OSDir) Open(name string) (ReadFile, error) {
	if err := CheckName("open", name); err != nil {
		return nil, err
	}
	if err := d.checkFile("open", name); err != nil {
		return nil, d.explainRead(err)
	}
	f, err := d.openRead(name, 0)
	if err != nil {
		return nil, d.explainRead(err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = notAFile("open", name)
	}
	if err != nil {
		f.Close()
		return nil, d.explainRead(err)
	}
	return &readFile{dir: d, file: f}, nil
}

// Create makes a new file for writing; one that exists is an error.
func (d *OSDir) Create(name string) (WriteFile, error) {
	if err := d.checkWrite("create", name); err != nil {
		return nil, err
	}
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, d.fileMode())
	if err != nil {
		return nil, explain(err)
	}
	return &writeFile{file: f}, nil
}

// Mkdir makes one folder; one that exists is not an error.
func (d *OSDir) Mkdir(name string) error {
	if err := d.checkWrite("mkdir", name); err != nil {
		return err
	}
	mode := fs.FileMode(0o755)
	if d.private {
		mode = 0o700
	}
	err := d.root.Mkdir(name, mode)
	if errors.Is(err, fs.ErrExist) {
		if info, statErr := d.root.Stat(name); statErr == nil && info.IsDir() {
			return nil
		}
	}
	return explain(err)
}

// Rename gives a file another name, replacing what had it.
func (d *OSDir) Rename(from, to string) error {
	if err := errors.Join(d.checkWrite("rename", from), d.checkWrite("rename", to)); err != nil {
		return err
	}
	return explain(d.root.Rename(from, to))
}

// Remove deletes a file or an empty folder.
func (d *OSDir) Remove(name string) error {
	if err := d.checkWrite("remove", name); err != nil {
		return err
	}
	return explain(d.root.Remove(name))
}

// List returns the entries of a folder, sorted by name. It does not look at the
// files themselves, of which a drive has a hundred thousand; an entry does so
// when it is asked.
func (d *OSDir) List(name string) ([]fs.DirEntry, error) {
	if err := CheckName("list", name); err != nil {
		return nil, err
	}
	f, err := d.openRead(name, unix.O_DIRECTORY)
	if err != nil {
		return nil, d.explainRead(err)
	}
	defer f.Close()
	// A file that was opened inside a root looks at every entry at once.
	plain, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, d.explainRead(err)
	}
	folder := os.NewFile(uintptr(plain), name)
	defer folder.Close()
	entries, err := folder.ReadDir(-1)
	if err != nil {
		return nil, d.explainRead(err)
	}
	for i, e := range entries {
		entries[i] = listed{e, d, name}
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

// listed is an entry of a folder that finds its file inside the root.
type listed struct {
	fs.DirEntry
	dir    *OSDir
	folder string
}

// Info looks at the file now; one that went away meanwhile is fs.ErrNotExist.
func (l listed) Info() (fs.FileInfo, error) {
	info, err := l.dir.root.Lstat(path.Join(l.folder, l.Name()))
	return info, l.dir.explainRead(err)
}

// Stat looks at a file or folder.
func (d *OSDir) Stat(name string) (fs.FileInfo, error) {
	if err := CheckName("stat", name); err != nil {
		return nil, err
	}
	info, err := d.root.Stat(name)
	return info, d.explainRead(err)
}

// SyncDir makes the names in a folder durable. A file system that cannot sync a
// folder (some of those in user space, some network shares) says so; there the
// names are as durable as it makes them by itself.
func (d *OSDir) SyncDir(name string) error {
	if err := d.checkWrite("sync", name); err != nil {
		return err
	}
	f, err := d.root.OpenFile(name, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return explain(err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil && !isAny(err, cannotSync) {
		return explain(err)
	}
	return nil
}

// Space tells how many bytes a user without privileges can still write, and how
// many there are in all.
func (d *OSDir) Space() (free, total int64, err error) {
	stat, err := d.statfs()
	if err != nil {
		return 0, 0, fmt.Errorf("ask %s for its free space: %w", d.path, err)
	}
	unit := stat.Frsize
	if unit == 0 {
		unit = stat.Bsize
	}
	return int64(stat.Bavail) * unit, int64(stat.Blocks) * unit, nil
}

// Sub returns a folder inside this one as a Dir of its own, which this one's
// Close closes.
func (d *OSDir) Sub(name string) (Dir, error) {
	if err := CheckName("open", name); err != nil {
		return nil, err
	}
	// What is not a folder is not opened at all: a pipe waits for its other end.
	info, err := d.root.Stat(name)
	if err != nil {
		return nil, explain(err)
	}
	if !info.IsDir() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: unix.ENOTDIR}
	}
	root, err := d.root.OpenRoot(name)
	if err != nil {
		return nil, explain(err)
	}
	sub := &OSDir{root: root, path: d.path + "/" + name, readOnly: d.readOnly, private: d.private}
	d.mu.Lock()
	d.subs = append(d.subs, sub)
	d.mu.Unlock()
	return sub, nil
}

// openRead does not wait for a pipe, and where nothing may be written it leaves
// the time of the last access alone too. Only the owner of a file may ask for
// that; for others a read-only mount sees to it.
func (d *OSDir) openRead(name string, flags int) (*os.File, error) {
	flags |= os.O_RDONLY | unix.O_NONBLOCK
	if d.readOnly {
		f, err := d.root.OpenFile(name, flags|unix.O_NOATIME, 0)
		if !errors.Is(err, unix.EPERM) {
			return f, err
		}
	}
	return d.root.OpenFile(name, flags, 0)
}

// checkFile refuses what is there and is not a file, before it is opened: to
// open the node of a device that somebody made on a drive may already do
// something to this machine, and to write to it certainly does.
func (d *OSDir) checkFile(op, name string) error {
	info, err := d.root.Stat(name)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return notAFile(op, name)
	}
	return nil
}

func notAFile(op, name string) error {
	return &fs.PathError{Op: op, Path: name, Err: errors.New("not a file")}
}

func (d *OSDir) fileMode() fs.FileMode {
	if d.private {
		return 0o600
	}
	return 0o644
}

func (d *OSDir) statfs() (unix.Statfs_t, error) {
	var stat unix.Statfs_t
	f, err := d.root.Open(".")
	if err != nil {
		return stat, explain(err)
	}
	defer f.Close()
	return stat, explain(unix.Fstatfs(int(f.Fd()), &stat))
}

func (d *OSDir) checkWrite(op, name string) error {
	if err := CheckName(op, name); err != nil {
		return err
	}
	if d.readOnly {
		return &fs.PathError{Op: op, Path: d.path + "/" + name, Err: ErrReadOnly}
	}
	return nil
}

// CheckName refuses a name that leaves its folder, or could mean different
// things to two implementations of [Dir]. Each of them calls it first.
func CheckName(op, name string) error {
	if !fs.ValidPath(name) || strings.ContainsRune(name, 0) {
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	return nil
}
