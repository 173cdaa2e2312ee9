// Package rotation knows the drives as things: what lies where on one, which
// are attached, which of them was meant, and what a stranger reads on it.
//
// It promises that a medium with something on it is not made a drive by
// accident, that looking at a medium never writes to it, and that the command
// lines of a recovery are the same on the drive and on the printed sheet. It
// never opens a store and never holds a secret.
package rotation

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"
	"time"
	"unicode"

	"lifeboat"
	"lifeboat/internal/durable"
)

// Where things are on a drive.
const (
	StartHere   = "START-HERE.txt"
	Folder      = "lifeboat"
	StoreFolder = "lifeboat/store"
	SiteFolder  = "lifeboat/site"
	BinFolder   = "lifeboat/bin"

	noteFile       = "lifeboat/drive.json"
	unfinishedFile = "lifeboat/unfinished"
)

// LayoutVersion is the version of the layout that this program writes.
const LayoutVersion = 1

// maxNoteBytes bounds drive.json: what lies on a medium does not decide how
// much memory is used.
const maxNoteBytes = 64 << 10

var (
	errNoNote    = errors.New("no drive.json")
	errNewerNote = errors.New("a newer layout")
	idPattern    = regexp.MustCompile(`^[0-9a-f]{32}$`)
)

// note is drive.json. It is a hint for finding the drive without a secret; the
// truth is sealed in the store.
type note struct {
	Layout    int       `json:"layout"`
	ID        string    `json:"id"`
	Label     string    `json:"label"`
	SiteID    string    `json:"siteId"`
	CreatedAt time.Time `json:"createdAt"`
	// Contact and Company are what START-HERE.txt says, so that it can be
	// written again.
	Contact string `json:"contact,omitempty"`
	Company string `json:"company,omitempty"`
}

func (n note) drive() lifeboat.Drive {
	return lifeboat.Drive{ID: n.ID, Label: n.Label, SiteID: n.SiteID, CreatedAt: n.CreatedAt}
}

func encodeNote(n note) []byte {
	data, err := json.MarshalIndent(n, "", "  ")
	if err != nil {
		panic(err) // a year beyond 9999, which decodeNote and Init refuse
	}
	return append(data, '\n')
}

// decodeNote reads drive.json. Fields that it does not know are left alone: a
// newer program of the same layout may add some.
func decodeNote(data []byte) (note, error) {
	var version struct {
		Layout int `json:"layout"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return note{}, fmt.Errorf("drive.json: %w", err)
	}
	if version.Layout > LayoutVersion {
		return note{}, errNewerNote
	}
	var n note
	if err := json.Unmarshal(data, &n); err != nil {
		return note{}, fmt.Errorf("drive.json: %w", err)
	}
	n.CreatedAt = n.CreatedAt.UTC()
	switch {
	case n.Layout != LayoutVersion:
		return note{}, fmt.Errorf("drive.json: layout %d does not exist", n.Layout)
	case !idPattern.MatchString(n.ID) || !idPattern.MatchString(n.SiteID):
		return note{}, errors.New("drive.json: an id is not 32 hex digits")
	case n.CreatedAt.Year() < 0 || n.CreatedAt.Year() > 9999:
		return note{}, errors.New("drive.json: a year that does not exist")
	}
	if err := CheckLabel(n.Label); err != nil {
		return note{}, fmt.Errorf("drive.json: %w", err)
	}
	if err := errors.Join(checkLine("contact", n.Contact), checkLine("company", n.Company)); err != nil {
		return note{}, fmt.Errorf("drive.json: %w", err)
	}
	return n, nil
}

func readNote(dir durable.Dir) (note, error) {
	data, err := durable.ReadWhole(dir, noteFile, maxNoteBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return note{}, errNoNote
	}
	if err != nil {
		return note{}, err
	}
	return decodeNote(data)
}

// maxLabel is what fits on a sticker and in a table.
const maxLabel = 32

// CheckLabel refuses what cannot be told from a path, or cannot be written on a
// sticker: a label has 1 to 32 letters, digits, blanks and -_.+# and begins with
// a letter or a digit.
func CheckLabel(label string) error {
	letters := []rune(label)
	if len(letters) == 0 || len(letters) > maxLabel {
		return fmt.Errorf("the label has %d characters; 1 to %d are allowed", len(letters), maxLabel)
	}
	for i, r := range letters {
		plain := unicode.IsLetter(r) || unicode.IsDigit(r)
		if !plain && (i == 0 || !strings.ContainsRune(" -_.+#", r)) {
			return fmt.Errorf("the label %q may hold letters, digits, blanks and -_.+# and begins with a letter or digit", label)
		}
	}
	if strings.TrimSpace(label) != label {
		return fmt.Errorf("the label %q ends in a blank", label)
	}
	return nil
}

// checkLine refuses what would not stay on its line of a printed page.
func checkLine(what, text string) error {
	if len(text) > 500 || strings.IndexFunc(text, unicode.IsControl) >= 0 || strings.ToValidUTF8(text, "") != text {
		return fmt.Errorf("the %s is not one line of text", what)
	}
	return nil
}

// OpenStore opens the folder of the store on the drive at that path. With
// readOnly nothing is ever written to the drive. The Dir is an io.Closer.
func OpenStore(drivePath string, readOnly bool) (durable.Dir, error) {
	dir, err := durable.OpenInside(drivePath, StoreFolder, readOnly)
	if err != nil {
		return nil, fmt.Errorf("open the store of the drive at %s: %w", drivePath, err)
	}
	return dir, nil
}

func binName(file string) string { return path.Join(BinFolder, file) }
