package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"lifeboat"
	"lifeboat/imagestore"
	"lifeboat/internal/durable"
	"lifeboat/runbook"
	"lifeboat/yamlfile"
)

// runbookEnclosure begins the names of the runbooks on a drive, runbookSuffix ends
// them there and in the state folder.
const (
	runbookEnclosure = "runbook/"
	runbookSuffix    = ".yaml"
)

// runbookName is what a runbook's file may be called. It never leaves its folder.
var runbookName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

func (a *app) runbooksDir() string { return filepath.Join(a.stateDir, "runbooks") }

func (a *app) runbookPath(name string) string {
	return filepath.Join(a.runbooksDir(), name+runbookSuffix)
}

// ownRunbooks are the names of the runbooks in the state folder, in order.
func (a *app) ownRunbooks() (names []string, err error) {
	entries, err := os.ReadDir(a.runbooksDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the runbooks: %w", err)
	}
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), runbookSuffix); ok && e.Type().IsRegular() && runbookName.MatchString(name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// readRunbookFile reads a file of at most the size that a runbook may have.
func readRunbookFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, fmt.Errorf("%s is not a file", path))
	}
	return io.ReadAll(io.LimitReader(f, yamlfile.SizeLimit+1))
}

// runbooksOn are the runbooks that a drive carries, by name. Names that could not
// be those of a runbook are passed over.
func runbooksOn(ctx context.Context, d *openedDrive) (map[string]imagestore.Enclosure, error) {
	all, _, err := d.store.Enclosures(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the runbooks on %s: %w", d.name(), err)
	}
	found := map[string]imagestore.Enclosure{}
	for _, e := range all {
		name, ok := strings.CutPrefix(e.Name, runbookEnclosure)
		if name, yaml := strings.CutSuffix(name, runbookSuffix); ok && yaml && runbookName.MatchString(name) {
			found[name] = e
		}
	}
	return found, nil
}

// readRunbookOn reads the text of a runbook on a drive.
func readRunbookOn(ctx context.Context, d *openedDrive, name string) ([]byte, error) {
	var text bytes.Buffer
	_, err := d.store.ReadEnclosure(ctx, runbookEnclosure+name+runbookSuffix, &limitedBuffer{&text, yamlfile.SizeLimit})
	return text.Bytes(), err
}

// limitedBuffer takes so many bytes and no more.
type limitedBuffer struct {
	*bytes.Buffer
	most int
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if b.Len()+len(p) > b.most {
		return 0, fmt.Errorf("it is longer than %d KiB", b.most>>10)
	}
	return b.Buffer.Write(p)
}

// findRunbook reads a runbook by its name: from a file, if the name is a path; else
// from the state folder; else from a drive, if one is given. On a control machine
// the state folder's counts, also where a drive has another text.
func (a *app) findRunbook(ctx context.Context, name string, d *openedDrive) (*runbook.Book, error) {
	if isRunbookFile(name) {
		text, err := readRunbookFile(name)
		if err != nil {
			return nil, unreadRunbook(name, err)
		}
		return parseRunbook(bookName(name), name, text)
	}
	if runbookName.MatchString(name) {
		text, err := readRunbookFile(a.runbookPath(name))
		if err == nil {
			return parseRunbook(name, a.runbookPath(name), text)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read the runbook %s: %w", name, err)
		}
	}
	if d == nil {
		own, err := a.ownRunbooks()
		return nil, errors.Join(noRunbook("this computer", name, own), err)
	}
	there, err := runbooksOn(ctx, d)
	if err != nil {
		return nil, err
	}
	if _, ok := there[name]; !ok {
		return nil, noRunbook(d.name(), name, slices.Sorted(maps.Keys(there)))
	}
	text, err := readRunbookOn(ctx, d, name)
	if err != nil {
		return nil, fmt.Errorf("read the runbook %s on %s: %w", name, d.name(), err)
	}
	return parseRunbook(name, name+" on "+d.name(), text)
}

// isRunbookFile says that a name is a path, and not a runbook of this computer.
func isRunbookFile(name string) bool {
	return strings.ContainsRune(name, filepath.Separator) || strings.HasSuffix(name, runbookSuffix)
}

// bookName is what a runbook is called that does not say so itself.
func bookName(name string) string { return strings.TrimSuffix(filepath.Base(name), runbookSuffix) }

func unreadRunbook(path string, err error) error {
	return &lifeboat.Problem{What: fmt.Sprintf("the runbook %s cannot be read", path), Safe: "nothing was done",
		Next: "see which runbooks there are: lifeboat runbook list", Err: err}
}

// parseRunbook reads a runbook and says every mistake with its line.
func parseRunbook(name, where string, text []byte) (*runbook.Book, error) {
	book, err := runbook.Parse(name, text)
	var mistakes *runbook.Mistakes
	if !errors.As(err, &mistakes) {
		return book, err
	}
	what := fmt.Sprintf("%s: %s", where, mistakes.All[0])
	if all := mistakes.All; len(all) > 1 {
		const told = 5 // more are no help at once
		var words []string
		for _, m := range all[:min(len(all), told)] {
			words = append(words, m.String())
		}
		what = fmt.Sprintf("%s has %s: %s", where, count(len(all), "mistake"), strings.Join(words, "; "))
		if more := len(all) - told; more > 0 {
			what += fmt.Sprintf("; and %d more", more)
		}
	}
	return nil, &lifeboat.Problem{What: what, Safe: "nothing was done; drives and restore points are untouched",
		Next: "correct the file; the fields are in docs/reference/runbook.md, and an editor knows them from: lifeboat runbook schema", Err: errSlip}
}

// errSlip: a runbook says what cannot be meant.
var errSlip = errors.New("the runbook cannot be read")

// noRunbook says which runbooks there are instead.
func noRunbook(where, name string, known []string) error {
	next := "write a first draft: lifeboat runbook new"
	if len(known) > 0 {
		next = "there is: " + list(known)
	}
	return &lifeboat.Problem{What: fmt.Sprintf("%s has no runbook %q%s", where, name, yamlfile.Meant(name, known)), Safe: "nothing was done", Next: next}
}

// runbookMemory is what a control machine remembers of its runbooks and the drives,
// in a file beside them: without it every difference would look like a conflict.
type runbookMemory struct {
	// Left are the hashes of the texts that this computer put on drives, by name,
	// newest last. A drive with one of them is only behind.
	Left map[string][]string `json:"left,omitempty"`
	// Removed are the moments in which runbooks were removed.
	Removed map[string]time.Time `json:"removed,omitempty"`
}

// leftLimit is more texts than a drive can be behind.
const leftLimit = 200

const runbookMemoryFile = "drives.json"

// changeRunbooks changes the runbooks of the state folder and what is remembered of
// them; nobody else does meanwhile. The lock goes with the process.
func (a *app) changeRunbooks(change func(m *runbookMemory) error) error {
	if err := os.MkdirAll(a.runbooksDir(), 0o700); err != nil {
		return fmt.Errorf("make the folder of the runbooks: %w", err)
	}
	dir, err := os.Open(a.runbooksDir())
	if err != nil {
		return fmt.Errorf("lock the runbooks: %w", err)
	}
	defer dir.Close()
	for err = unix.EINTR; errors.Is(err, unix.EINTR); {
		err = unix.Flock(int(dir.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		return fmt.Errorf("lock the runbooks: %w", err)
	}
	path := filepath.Join(a.runbooksDir(), runbookMemoryFile)
	m := runbookMemory{}
	before, err := os.ReadFile(path)
	if err == nil {
		if json.Unmarshal(before, &m) != nil {
			a.warn("%s cannot be read: a runbook that differs on a drive is kept beside yours", path)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if m.Left == nil {
		m.Left = map[string][]string{}
	}
	if m.Removed == nil {
		m.Removed = map[string]time.Time{}
	}
	err = change(&m)
	after, jerr := json.MarshalIndent(m, "", "  ")
	if jerr != nil || bytes.Equal(before, after) {
		return errors.Join(err, jerr)
	}
	return errors.Join(err, writeFile(path, after, 0o600))
}

// leaveRunbooks makes a drive carry the runbooks of the state folder, and takes home
// those that only the drive has: the state folder was lost, or another control
// machine wrote them. Where both have one of a name and this computer never wrote
// the drive's, its own stays, and the drive's is kept beside it under another name.
func (a *app) leaveRunbooks(ctx context.Context, d *openedDrive) error {
	there, err := runbooksOn(ctx, d)
	if err != nil {
		return err
	}
	own, err := a.ownRunbooks()
	if err != nil || len(own)+len(there) == 0 {
		return err
	}
	return a.changeRunbooks(func(m *runbookMemory) error {
		var errs []error
		for _, name := range slices.Sorted(maps.Keys(there)) {
			errs = append(errs, a.arrivedRunbook(ctx, m, d, name, there[name]))
		}
		// What was taken home is there as well now.
		own, err := a.ownRunbooks()
		errs = append(errs, err)
		for _, name := range own {
			errs = append(errs, a.leaveRunbook(ctx, m, d, name))
		}
		return errors.Join(errs...)
	})
}

// arrivedRunbook looks at a runbook that a drive carries.
func (a *app) arrivedRunbook(ctx context.Context, m *runbookMemory, d *openedDrive, name string, e imagestore.Enclosure) error {
	mine, err := readRunbookFile(a.runbookPath(name))
	here := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	removed, wasRemoved := m.Removed[name]
	switch {
	case here && (runbookHash(mine) == e.Hash || slices.Contains(m.Left[name], e.Hash)):
		return nil
	case !here && wasRemoved && (!e.WrittenAt.After(removed) || slices.Contains(m.Left[name], e.Hash)):
		return d.store.RemoveEnclosure(ctx, runbookEnclosure+name+runbookSuffix)
	}
	text, err := readRunbookOn(ctx, d, name)
	if errors.Is(err, lifeboat.ErrDamaged) && here {
		return nil // ours takes its place
	}
	if err != nil {
		return fmt.Errorf("take the runbook %s home from %s: %w", name, d.name(), err)
	}
	to := name
	if here {
		to = besideName(name, e.Hash)
		if _, err := os.Stat(a.runbookPath(to)); err == nil {
			return nil
		}
		if _, gone := m.Removed[to]; gone {
			return nil
		}
	}
	if err := writeFile(a.runbookPath(to), text, 0o644); err != nil {
		return err
	}
	m.remember(name, e.Hash)
	if here {
		a.warn("the runbook %s on %s is another than the one of this computer, and this computer never wrote it. Its own counts; the other is kept as %s. When you have compared them, remove it: lifeboat runbook remove %s", name, d.name(), to, to)
	} else {
		delete(m.Removed, name)
		a.note("the runbook %s was on %s and not on this computer; it is taken over. To be rid of one: lifeboat runbook remove", name, d.name())
	}
	return nil
}

// besideName is what a runbook of another computer is called beside our own.
func besideName(name, hash string) string {
	return fmt.Sprintf("%s-other-%s", name[:min(len(name), 48)], hash[:8])
}

// leaveRunbook writes one runbook onto a drive. One with mistakes is carried too:
// whoever recovers can correct a line better than write the file anew.
func (a *app) leaveRunbook(ctx context.Context, m *runbookMemory, d *openedDrive, name string) error {
	text, err := readRunbookFile(a.runbookPath(name))
	if err != nil {
		return err
	}
	if len(text) > yamlfile.SizeLimit {
		return fmt.Errorf("the runbook %s is longer than %d KiB and is not on %s", name, yamlfile.SizeLimit>>10, d.name())
	}
	e, err := d.store.Enclose(ctx, runbookEnclosure+name+runbookSuffix, "", bytes.NewReader(text))
	if err != nil {
		return err
	}
	delete(m.Removed, name)
	m.remember(name, e.Hash)
	return nil
}

func (m *runbookMemory) remember(name, hash string) {
	known := slices.DeleteFunc(m.Left[name], func(h string) bool { return h == hash })
	known = append(known, hash)
	m.Left[name] = known[max(0, len(known)-leftLimit):]
}

// runbookHash is the hash that a drive tells of a document.
func runbookHash(text []byte) string {
	h := imagestore.NewEnclosureHash()
	h.Write(text)
	return hex.EncodeToString(h.Sum(nil))
}

// bringRunbooks takes home what drives carry, without writing to one: for a
// computer that has just become a control machine, or whose catalogue was lost.
func (a *app) bringRunbooks(ctx context.Context, d *openedDrive) error {
	there, err := runbooksOn(ctx, d)
	if err != nil || len(there) == 0 {
		return err
	}
	return a.changeRunbooks(func(m *runbookMemory) error {
		var errs []error
		for _, name := range slices.Sorted(maps.Keys(there)) {
			if _, gone := m.Removed[name]; gone {
				continue
			}
			errs = append(errs, a.arrivedRunbook(ctx, m, d, name, there[name]))
		}
		return errors.Join(errs...)
	})
}

// completeRunbooks offers the runbooks of this computer, or else of files here.
func (a *app) completeRunbooks(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	names, err := a.ownRunbooks()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return names, cobra.ShellCompDirectiveDefault
}

// newRunbook writes a runbook that is not there yet, whole or not at all.
func (a *app) newRunbook(name string, text []byte) error {
	return a.changeRunbooks(func(m *runbookMemory) error {
		dir, err := durable.OpenOS(a.runbooksDir(), false)
		if err != nil {
			return err
		}
		defer closeDir(dir)
		if _, err := dir.Stat(name + runbookSuffix); err == nil {
			return &lifeboat.Problem{What: fmt.Sprintf("there is a runbook %s already: %s", name, a.runbookPath(name)), Safe: "it was not changed",
				Next: "give the new one another name, or print it: lifeboat runbook new --output -", Err: fs.ErrExist}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		delete(m.Removed, name)
		return writeFile(a.runbookPath(name), text, 0o644)
	})
}
