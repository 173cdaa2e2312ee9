// Package dirtest is what every [durable.Dir] has to pass: the promises of the
// contract, one test each.
package dirtest

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"

	"lifeboat/internal/durable"
)

// Run runs the suite. The function returns an empty folder; with readOnly, one
// that holds the file "here" with the text "there" and cannot be written.
func Run(t *testing.T, fresh func(t *testing.T, readOnly bool) durable.Dir) {
	for name, test := range suite {
		t.Run(name, func(t *testing.T) { test(t, fresh(t, false)) })
	}
	t.Run("ReadOnlyRefusesEveryChange", func(t *testing.T) { readOnly(t, fresh(t, true)) })
}

var suite = map[string]func(*testing.T, durable.Dir){
	"WhatWasWrittenIsRead":              writeRead,
	"CreateRefusesWhatExists":           createTwice,
	"RenameReplaces":                    renameReplaces,
	"MkdirTwiceIsFine":                  mkdirTwice,
	"RemoveTakesFilesAndEmptyFolders":   remove,
	"ListIsSorted":                      list,
	"NamesCannotLeave":                  names,
	"LocksKeepApart":                    locks,
	"SubIsAFolderOfItsOwn":              sub,
	"MissingThingsAreNotExist":          missing,
	"AFolderIsNotAFile":                 folderIsNoFile,
	"WriteFileAtomicReplacesAndTidies":  atomic,
	"JournalGivesBackWhatWasAppended":   journal,
	"CopyFileGoesFromFolderToFolder":    copyFile,
	"ReadWholeHasALimit":                readWhole,
	"SpaceIsNotMoreFreeThanThereIs":     space,
	"RemoveTempsLeavesFinishedFilesBe":  temps,
	"WhatIsClosedTakesNoMoreBytes":      closed,
	"AFileBeingReadSurvivesItsRemoval":  removedWhileOpen,
	"RenameOfSomethingMissingIsAnError": renameMissing,
}

func writeRead(t *testing.T, d durable.Dir) {
	f, err := d.Create("a")
	must(t, err)
	for _, part := range []string{"one ", "two ", "three"} {
		_, err := io.WriteString(f, part)
		must(t, err)
	}
	must(t, f.Sync())
	must(t, f.Close())
	must(t, d.SyncDir("."))
	r, err := d.Open("a")
	must(t, err)
	defer r.Close()
	size, err := r.Size()
	must(t, err)
	must(t, r.DropCache(0, size))
	p := make([]byte, 5)
	if n, err := r.ReadAt(p, 8); n != 5 || err != nil && err != io.EOF || string(p) != "three" {
		t.Errorf("read %q, %d, %v", p, n, err)
	}
	if n, err := r.ReadAt(p, 11); n != 2 || err != io.EOF {
		t.Errorf("a read over the end gave %d, %v", n, err)
	}
	if n, err := r.ReadAt(p, 100); n != 0 || err != io.EOF {
		t.Errorf("a read behind the end gave %d, %v", n, err)
	}
	if info, err := d.Stat("a"); err != nil || info.Size() != 13 || info.IsDir() || info.Name() != "a" {
		t.Errorf("stat gave %v, %v", info, err)
	}
}

func createTwice(t *testing.T, d durable.Dir) {
	put(t, d, "a", "old")
	if _, err := d.Create("a"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, want %v", err, fs.ErrExist)
	}
	want(t, d, "a", "old")
}

func renameReplaces(t *testing.T, d durable.Dir) {
	must(t, d.Mkdir("b"))
	put(t, d, "a", "new")
	put(t, d, "b/c", "old")
	must(t, d.Rename("a", "b/c"))
	want(t, d, "b/c", "new")
	if _, err := d.Stat("a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old name is still there: %v", err)
	}
}

func renameMissing(t *testing.T, d durable.Dir) {
	if err := d.Rename("a", "b"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	must(t, d.Mkdir("a"))
	if err := d.Rename("a", "a/b"); err == nil {
		t.Error("a folder was moved into itself")
	}
}

func mkdirTwice(t *testing.T, d durable.Dir) {
	must(t, d.Mkdir("a"))
	must(t, d.Mkdir("a"))
	must(t, d.Mkdir("."))
	put(t, d, "f", "")
	if err := d.Mkdir("f"); err == nil {
		t.Error("a file passed for a folder")
	}
	if err := d.Mkdir("x/y"); err == nil {
		t.Error("two folders at once")
	}
}

func remove(t *testing.T, d durable.Dir) {
	must(t, d.Mkdir("a"))
	put(t, d, "a/b", "x")
	if err := d.Remove("a"); err == nil {
		t.Fatal("a folder with a file in it was removed")
	}
	must(t, d.Remove("a/b"))
	must(t, d.Remove("a"))
	if err := d.Remove("a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if err := d.Remove("."); err == nil {
		t.Error("the folder removed itself")
	}
}

func list(t *testing.T, d durable.Dir) {
	for _, name := range []string{"z", "B", "a", "10", "9"} {
		put(t, d, name, name)
	}
	must(t, d.Mkdir("m"))
	entries, err := d.List(".")
	must(t, err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
		info, err := e.Info()
		if err != nil || info.IsDir() != (e.Name() == "m") || e.IsDir() != info.IsDir() {
			t.Errorf("%s: %v, %v", e.Name(), info, err)
		}
		if !e.IsDir() && info.Size() != int64(len(e.Name())) {
			t.Errorf("%s has %d bytes", e.Name(), info.Size())
		}
	}
	if s := strings.Join(got, " "); s != "10 9 B a m z" {
		t.Errorf("got %s", s)
	}
}

func names(t *testing.T, d durable.Dir) {
	for _, name := range []string{"", "..", "../a", "/a", "a/../b", "a//b", "a/", "./a", "a\x00b"} {
		_, openErr := d.Open(name)
		_, createErr := d.Create(name)
		_, statErr := d.Stat(name)
		_, listErr := d.List(name)
		_, lockErr := d.Lock(name, true)
		_, subErr := d.Sub(name)
		for i, err := range []error{openErr, createErr, statErr, listErr, lockErr, subErr, d.Mkdir(name),
			d.Remove(name), d.Rename(name, "x"), d.Rename("x", name), d.SyncDir(name)} {
			if !errors.Is(err, fs.ErrInvalid) {
				t.Errorf("%q, call %d: %v", name, i, err)
			}
		}
	}
	put(t, d, "späte Ärzte : * ?", "x")
	want(t, d, "späte Ärzte : * ?", "x")
}

func locks(t *testing.T, d durable.Dir) {
	take := func(alone, ok bool) io.Closer {
		t.Helper()
		l, err := d.Lock("lock", alone)
		if ok != (err == nil) || !ok && !errors.Is(err, durable.ErrLocked) {
			t.Fatalf("alone %v: %v", alone, err)
		}
		return l
	}
	a, b := take(false, true), take(false, true)
	take(true, false)
	must(t, a.Close())
	take(true, false)
	must(t, b.Close())
	c := take(true, true)
	take(true, false)
	take(false, false)
	other, err := d.Lock("other", true)
	must(t, err)
	must(t, c.Close())
	must(t, take(false, true).Close())
	must(t, other.Close())
}

func sub(t *testing.T, d durable.Dir) {
	must(t, d.Mkdir("s"))
	s, err := d.Sub("s")
	must(t, err)
	put(t, s, "a", "x")
	want(t, d, "s/a", "x")
	must(t, s.Mkdir("deep"))
	must(t, s.SyncDir("deep"))
	if s.ReadOnly() || s.String() == d.String() {
		t.Errorf("%s, read-only %v", s, s.ReadOnly())
	}
	if _, err := d.Sub("s/a"); err == nil {
		t.Error("a file passed for a folder")
	}
}

func missing(t *testing.T, d durable.Dir) {
	_, openErr := d.Open("a")
	_, statErr := d.Stat("a")
	_, listErr := d.List("a")
	_, createErr := d.Create("a/b")
	_, subErr := d.Sub("a")
	for i, err := range []error{openErr, statErr, listErr, createErr, subErr, d.SyncDir("a")} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("call %d: %v", i, err)
		}
	}
}

func folderIsNoFile(t *testing.T, d durable.Dir) {
	must(t, d.Mkdir("a"))
	if _, err := d.Open("a"); err == nil {
		t.Error("a folder was opened as a file")
	}
	put(t, d, "f", "x")
	if _, err := d.List("f"); err == nil {
		t.Error("a file was listed as a folder")
	}
}

func atomic(t *testing.T, d durable.Dir) {
	must(t, d.Mkdir("a"))
	for _, text := range []string{"one", "two", ""} {
		must(t, durable.WriteFileAtomic(d, "a/b", []byte(text)))
		want(t, d, "a/b", text)
	}
	if entries, err := d.List("a"); err != nil || len(entries) != 1 {
		t.Errorf("%d entries, %v", len(entries), err)
	}
	if err := durable.WriteFileAtomic(d, "nowhere/b", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func journal(t *testing.T, d durable.Dir) {
	for round := range 3 {
		j, records, err := durable.OpenJournal(d, "j")
		must(t, err)
		if len(records) != 2*round {
			t.Fatalf("round %d: %d records", round, len(records))
		}
		must(t, j.Append(map[string]string{"step": "<begun> ü"}))
		must(t, j.Append(round))
		must(t, j.Close())
	}
	records, err := durable.ReadJournal(d, "j")
	must(t, err)
	if len(records) != 6 || string(records[5]) != "2" {
		t.Errorf("got %s", records)
	}
}

func copyFile(t *testing.T, d durable.Dir) {
	must(t, d.Mkdir("a"))
	must(t, d.Mkdir("b"))
	a, err := d.Sub("a")
	must(t, err)
	b, err := d.Sub("b")
	must(t, err)
	text := string(bytes.Repeat([]byte("lifeboat"), 20_000))
	put(t, a, "x", text)
	must(t, durable.CopyFile(b, "y", a, "x"))
	want(t, d, "b/y", text)
}

func readWhole(t *testing.T, d durable.Dir) {
	put(t, d, "a", "12345")
	if _, err := durable.ReadWhole(d, "a", 4); err == nil {
		t.Error("five bytes passed a limit of four")
	}
	if p, err := durable.ReadWhole(d, "a", 5); err != nil || string(p) != "12345" {
		t.Errorf("%q, %v", p, err)
	}
}

func space(t *testing.T, d durable.Dir) {
	free, total, err := d.Space()
	if err != nil || free < 0 || total <= 0 || free > total {
		t.Errorf("%d of %d, %v", free, total, err)
	}
}

func temps(t *testing.T, d durable.Dir) {
	put(t, d, "a", "x")
	put(t, d, "a.0123.tmp", "x")
	must(t, durable.RemoveTemps(d, "."))
	entries, err := d.List(".")
	if err != nil || len(entries) != 1 || entries[0].Name() != "a" {
		t.Errorf("%v, %v", entries, err)
	}
}

func closed(t *testing.T, d durable.Dir) {
	f, err := d.Create("a")
	must(t, err)
	must(t, f.Close())
	if _, err := f.Write([]byte("x")); err == nil {
		t.Error("a closed file took bytes")
	}
	if err := f.Sync(); err == nil {
		t.Error("a closed file was synced")
	}
}

func removedWhileOpen(t *testing.T, d durable.Dir) {
	put(t, d, "a", "still here")
	r, err := d.Open("a")
	must(t, err)
	defer r.Close()
	must(t, d.Remove("a"))
	p := make([]byte, 10)
	if _, err := r.ReadAt(p, 0); err != nil && err != io.EOF || string(p) != "still here" {
		t.Errorf("%q, %v", p, err)
	}
}

func readOnly(t *testing.T, d durable.Dir) {
	if !d.ReadOnly() {
		t.Fatal("it does not say so")
	}
	want(t, d, "here", "there")
	_, createErr := d.Create("a")
	_, lockErr := d.Lock("lock", true)
	for i, err := range []error{createErr, lockErr, d.Mkdir("a"), d.Rename("here", "a"), d.Remove("here"), d.SyncDir(".")} {
		if !errors.Is(err, durable.ErrReadOnly) {
			t.Errorf("call %d: %v", i, err)
		}
	}
	l, err := d.Lock("lock", false)
	must(t, err)
	must(t, l.Close())
	if entries, err := d.List("."); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, d durable.Dir, name, text string) {
	t.Helper()
	f, err := d.Create(name)
	must(t, err)
	_, err = io.WriteString(f, text)
	must(t, errors.Join(err, f.Close()))
}

func want(t *testing.T, d durable.Dir, name, text string) {
	t.Helper()
	got, err := durable.ReadWhole(d, name, 1<<20)
	must(t, err)
	if string(got) != text {
		t.Errorf("%s holds %d bytes, want %d (%.40q)", name, len(got), len(text), got)
	}
}
