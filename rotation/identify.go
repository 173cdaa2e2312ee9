package rotation

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"lifeboat"
	"lifeboat/imagestore/format"
	"lifeboat/internal/durable"
)

// Kind is what was found at a path.
type Kind string

// The kinds.
const (
	// KindDrive: a drive of this program's layout.
	KindDrive Kind = "drive"
	// KindNone: not a drive.
	KindNone Kind = "none"
	// KindNewer: a drive whose layout this program does not know.
	KindNewer Kind = "newer"
	// KindHurt: a drive whose drive.json is missing or damaged. Its store may be
	// whole: the truth about the drive is sealed in there.
	KindHurt Kind = "hurt"
	// KindUnfinished: a drive whose making was interrupted; nothing is on it.
	KindUnfinished Kind = "unfinished"
	// KindSilent: the medium did not answer.
	KindSilent Kind = "silent"
)

// Found is what is at a path, as it looks from outside, without any secret.
type Found struct {
	Path string `json:"path"`
	Kind Kind   `json:"kind"`
	// Drive is what drive.json says. Of a hurt drive only the ID is known, or
	// not even that.
	Drive lifeboat.Drive `json:"drive"`
	// Note says in a few words why it is not simply a drive.
	Note string `json:"note,omitempty"`

	FreeBytes  int64 `json:"freeBytes"`
	TotalBytes int64 `json:"totalBytes"`
	ReadOnly   bool  `json:"readOnly"`
	// Device and Filesystem are known of a mounted file system only.
	Device     string `json:"device,omitempty"`
	Filesystem string `json:"filesystem,omitempty"`
	// Warning is a sentence about the file system, or empty.
	Warning string `json:"warning,omitempty"`

	contact, company string
}

// Usable says that the store on it can be tried.
func (f Found) Usable() bool { return f.Kind == KindDrive || f.Kind == KindHurt }

// Identify looks at a folder and says what it is, without writing to it. The
// error is for a path that cannot be looked at at all.
func Identify(path string) (Found, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return Found{}, err
	}
	found, err := identify(path)
	if err != nil {
		return Found{}, err
	}
	if mounts, err := readMounts(); err == nil {
		real, _ := filepath.EvalSymlinks(path)
		if m, ok := mountOf(mounts, real); ok {
			found.Device, found.Filesystem, found.Warning = m.Source, m.Filesystem, warning(m.Filesystem)
		}
	}
	return found, nil
}

func identify(path string) (Found, error) {
	found := Found{Path: path}
	dir, err := durable.OpenOS(path, true)
	if err != nil {
		return found, fmt.Errorf("look at %s: %w", path, err)
	}
	defer dir.(io.Closer).Close()
	if found.FreeBytes, found.TotalBytes, err = dir.Space(); err != nil {
		return found, err
	}
	found.ReadOnly = !writable(path)
	n, err := readNote(dir)
	switch {
	case err == nil:
		found.Kind, found.Drive, found.contact, found.company = KindDrive, n.drive(), n.Contact, n.Company
	case errors.Is(err, errNewerNote):
		found.Kind, found.Note = KindNewer, "made by a newer version of Lifeboat"
	case errors.Is(err, lifeboat.ErrDriveGone):
		return found, err
	default:
		found.Kind, found.Drive.ID, found.Note = withoutNote(dir, err)
	}
	return found, nil
}

// withoutNote says what a medium is whose drive.json cannot be used.
func withoutNote(dir durable.Dir, cause error) (kind Kind, id, why string) {
	if errors.Is(cause, errNoNote) && begun(dir) && !hasPoints(dir) {
		return KindUnfinished, "", "making this drive was interrupted"
	}
	for _, name := range []string{"store.a", "store.b"} {
		f, err := dir.Open(StoreFolder + "/" + name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		kind = KindHurt
		if err != nil {
			continue
		}
		if id = storeID(f); id != "" {
			break
		}
	}
	if kind == KindHurt {
		return kind, id, fmt.Sprintf("lifeboat/drive.json cannot be used (%v); the store is there", cause)
	}
	if errors.Is(cause, errNoNote) {
		return KindNone, "", ""
	}
	return KindHurt, "", fmt.Sprintf("lifeboat/drive.json cannot be used (%v), and there is no store", cause)
}

// begun says that Init was here and did not get to its end.
func begun(dir durable.Dir) bool {
	if _, err := dir.Stat(unfinishedFile); err == nil {
		return true
	}
	entries, err := dir.List(Folder)
	return err == nil && len(entries) == 0
}

// hasPoints says that something was stored on the drive, or that this cannot be
// ruled out. A store that was only just made has folders, but no files in them.
func hasPoints(dir durable.Dir) bool {
	for _, folder := range []string{"points", "packs"} {
		if holdsFiles(dir, StoreFolder+"/"+folder, 1) {
			return true
		}
	}
	return false
}

// holdsFiles looks for a file in a folder, and so many levels below it.
func holdsFiles(dir durable.Dir, folder string, levels int) bool {
	entries, err := dir.List(folder)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	for _, e := range entries {
		if !e.IsDir() || levels > 0 && holdsFiles(dir, folder+"/"+e.Name(), levels-1) {
			return true
		}
	}
	return false
}

// storeID reads the drive's id from the start of a superblock.
func storeID(f durable.ReadFile) string {
	defer f.Close()
	start := make([]byte, format.HeaderSize)
	if n, _ := f.ReadAt(start, 0); n < len(start) {
		return ""
	}
	h, err := format.DecodeHeader(start)
	if err != nil {
		return ""
	}
	return hex.EncodeToString(h.Drive[:])
}

// Confirm compares what was found with what the store of the drive says, once
// it is open. It returns a sentence when the label was changed from outside,
// and a [lifeboat.Problem] when the medium is another drive than it says, or
// belongs to another site than the given one (empty: any).
func (f Found) Confirm(sealed lifeboat.Drive, siteID string) (remark string, err error) {
	switch {
	case f.Drive.ID != "" && f.Drive.ID != sealed.ID:
		return "", &lifeboat.Problem{
			What: fmt.Sprintf("the medium at %s says that it is drive %s, but its store is that of drive %s", f.Path, short(f.Drive.ID), short(sealed.ID)),
			Safe: "nothing was written to it",
			Next: "put it aside and use another drive; somebody copied files from one drive to another",
			Err:  lifeboat.ErrWrongDrive,
		}
	case siteID != "" && sealed.SiteID != siteID:
		return "", &lifeboat.Problem{
			What: fmt.Sprintf("drive %s at %s belongs to another site", sealed.Label, f.Path),
			Safe: "nothing was written to it",
			Next: "attach a drive of this site, or name one with --drive",
			Err:  lifeboat.ErrWrongDrive,
		}
	case f.Kind == KindDrive && f.Drive.Label != sealed.Label:
		return fmt.Sprintf("drive.json at %s says %s; the drive's own label is %s", f.Path, f.Drive.Label, sealed.Label), nil
	}
	return "", nil
}

// short is an id as people compare it.
func short(id string) string {
	if len(id) < 8 {
		return "(no id)"
	}
	return id[:8]
}

// warning says what an operator should know of a file system, if anything.
func warning(filesystem string) string {
	switch strings.ToLower(filesystem) {
	case "vfat", "msdos", "exfat", "ntfs", "ntfs3", "fuseblk":
		return "this file system has no journal that Linux writes; pulling the drive out while it is written can cost the newest restore points. ext4 is better"
	case "tmpfs", "ramfs":
		return "this folder is in memory and is gone when the machine stops"
	}
	return ""
}
