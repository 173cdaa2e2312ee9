package imagestore

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"lifeboat/internal/durable"
)

// Small files that a store cannot do without are written twice, with the same
// bytes: a bad sector costs one copy.
const (
	copyA = ".a"
	copyB = ".b"
)

// writeTwin stores both copies under name. With the first one renamed, the file
// exists.
func writeTwin(dir durable.Dir, name string, data []byte) error {
	if err := durable.WriteFileAtomic(dir, name+copyA, data); err != nil {
		return err
	}
	return durable.WriteFileAtomic(dir, name+copyB, data)
}

// readTwin gives the first copy that check accepts. Second says why the first
// one was passed over.
func readTwin(dir durable.Dir, name string, limit int64, check func([]byte) error) (second, err error) {
	for _, suffix := range []string{copyA, copyB} {
		b, readErr := durable.ReadWhole(dir, name+suffix, limit)
		if readErr == nil {
			readErr = check(b)
		}
		if readErr == nil {
			return err, nil
		}
		// What is wrong with a copy says more than that the other is missing.
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("read %s: %w", name+suffix, readErr)
		}
	}
	return nil, err
}

// twinNames are the patterns of twin files by their folders; whatever else lies
// there is somebody else's. docs/format.md section 1 is where they come from.
var twinNames = map[string]*regexp.Regexp{
	"slots":          regexp.MustCompile(`^[0-9a-f]{16}$`),
	"points":         regexp.MustCompile(`^[0-9a-f]{16}-[0-9a-f]{32}$`),
	"heads":          regexp.MustCompile(`^[0-9a-f]{16}$`),
	"checks":         regexp.MustCompile(`^[0-9a-f]{16}$`),
	enclosuresFolder: regexp.MustCompile(`^[0-9a-f]{32}$`),
	partsFolder:      regexp.MustCompile(`^[0-9a-f]{32}-[0-9a-f]{4}$`),
}

// listTwins returns the names of a folder's twin files without their suffixes,
// ascending, each once.
func listTwins(dir durable.Dir, folder string) ([]string, error) {
	entries, err := dir.List(folder)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), copyA)
		if !ok {
			name, ok = strings.CutSuffix(e.Name(), copyB)
		}
		if ok && !e.IsDir() && twinNames[folder].MatchString(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// healTwin makes both copies the one that check accepts. Where it accepts none
// there is nothing to be done; that is told when the file is read.
func healTwin(dir durable.Dir, name string, limit int64, check func([]byte) error) error {
	var copies [2][]byte
	var good []byte
	for i, suffix := range []string{copyA, copyB} {
		b, err := durable.ReadWhole(dir, name+suffix, limit)
		if isGone(err) {
			return err
		}
		if err != nil || check(b) != nil {
			continue
		}
		copies[i] = b
		if good == nil {
			good = b
		}
	}
	for i, suffix := range []string{copyA, copyB} {
		if good == nil || bytes.Equal(copies[i], good) {
			continue
		}
		if err := durable.WriteFileAtomic(dir, name+suffix, good); err != nil {
			return err
		}
	}
	return nil
}

// removeTwin removes both copies for good.
func removeTwin(dir durable.Dir, name string) error {
	for _, suffix := range []string{copyA, copyB} {
		if err := dir.Remove(name + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return dir.SyncDir(path.Dir(name))
}
