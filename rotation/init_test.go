package rotation_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lifeboat"
	"lifeboat/fixtures/baddrive"
	"lifeboat/imagestore"
	"lifeboat/imagestore/format"
	"lifeboat/internal/durable"
	"lifeboat/rotation"
)

const (
	siteID = "00112233445566778899aabbccddeeff"
	idA    = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	idB    = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func TestAnEmptyFolderBecomesADrive(t *testing.T) {
	path := t.TempDir()
	if err := os.Mkdir(filepath.Join(path, "lost+found"), 0o700); err != nil {
		t.Fatal(err)
	}
	drive, err := rotation.Init(t.Context(), path, options("A2 north"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{rotation.StartHere, "lifeboat/drive.json", "lifeboat/bin/lifeboat-linux-amd64",
		"lifeboat/bin/lifeboat-linux-arm64", "lifeboat/bin/SHA256SUMS", "lifeboat/store/store.a", "lifeboat/site"} {
		if _, err := os.Stat(filepath.Join(path, name)); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Join(path, "lifeboat/unfinished")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it says that it is not finished: %v", err)
	}
	found, err := rotation.Identify(path)
	if err != nil || found.Kind != rotation.KindDrive || found.Drive != drive || found.TotalBytes == 0 || found.ReadOnly {
		t.Errorf("%+v, %v, want %+v", found, err, drive)
	}
	if drive.Label != "A2 north" || drive.SiteID != siteID || !drive.CreatedAt.Equal(noon) || len(drive.ID) != 32 {
		t.Errorf("%+v", drive)
	}
	store, err := rotation.OpenStore(path, true)
	if err != nil {
		t.Fatal(err)
	}
	defer store.(io.Closer).Close()
	if _, err := store.Stat("store.a"); err != nil || !store.ReadOnly() {
		t.Errorf("the store: %v", err)
	}
}

func TestInitRefusesWhatIsNotItsToTake(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(path string) error
		notOK   error
		says    string
		told    bool
	}{
		"a drive": {prepare: func(path string) error {
			_, err := rotation.Init(t.Context(), path, options("A"))
			return err
		}, notOK: rotation.ErrIsDrive, says: "is a drive already: A", told: true},
		"a hurt drive": {prepare: func(path string) error {
			_, err := rotation.Init(t.Context(), path, options("A"))
			return errors.Join(err, os.Remove(filepath.Join(path, "lifeboat/drive.json")))
		}, notOK: rotation.ErrIsDrive, says: "one without a readable label", told: true},
		"a newer drive": {prepare: func(path string) error {
			return writeFile(path, "lifeboat/drive.json", `{"layout": 2}`)
		}, notOK: rotation.ErrIsDrive, says: "is a drive already", told: true},
		"other files": {prepare: func(path string) error {
			return errors.Join(writeFile(path, "a.txt", ""), writeFile(path, "b.txt", ""), writeFile(path, "c", ""), writeFile(path, "d", ""))
		}, notOK: rotation.ErrNotEmpty, says: "a.txt, b.txt, c and 1 more"},
		"other files, told": {prepare: func(path string) error { return writeFile(path, "a.txt", "mine") }, told: true},
		"no folder":         {prepare: os.Remove, notOK: fs.ErrNotExist, says: "there is no folder"},
	} {
		t.Run(name, func(t *testing.T) {
			path := t.TempDir()
			if err := c.prepare(path); err != nil {
				t.Fatal(err)
			}
			before := tree(t, path)
			o := options("B")
			o.NotEmpty = c.told
			_, err := rotation.Init(t.Context(), path, o)
			if !errors.Is(err, c.notOK) {
				t.Fatalf("got %v, want %v", err, c.notOK)
			}
			if err == nil {
				if mine, err := os.ReadFile(filepath.Join(path, "a.txt")); err != nil || string(mine) != "mine" {
					t.Errorf("a file of somebody else: %q, %v", mine, err)
				}
				return
			}
			var p *lifeboat.Problem
			if !errors.As(err, &p) || !strings.Contains(p.What, c.says) || p.Safe == "" || p.Next == "" {
				t.Errorf("the operator reads %v", err)
			}
			if after := tree(t, path); after != before {
				t.Errorf("it was changed:\n%s\nbefore:\n%s", after, before)
			}
		})
	}
}

func TestBadOptionsAreRefusedBeforeAnythingIsWritten(t *testing.T) {
	for name, spoil := range map[string]func(*rotation.InitOptions){
		"no label":        func(o *rotation.InitOptions) { o.Label = "" },
		"a path as label": func(o *rotation.InitOptions) { o.Label = "a/b" },
		"no site":         func(o *rotation.InitOptions) { o.SiteID = "" },
		"two lines":       func(o *rotation.InitOptions) { o.Contact = "a\nb" },
	} {
		path := t.TempDir()
		o := options("A")
		spoil(&o)
		if _, err := rotation.Init(t.Context(), path, o); err == nil || tree(t, path) != "" {
			t.Errorf("%s: %v, %s", name, err, tree(t, path))
		}
	}
}

func TestInitCutOffAnywhereIsDoneAgainAndNeverHalfADrive(t *testing.T) {
	for seed := range uint64(10) {
		baddrive.Sweep(t, seed, baddrive.New(seed, baddrive.Options{}), func(d durable.Dir) error {
			return rotation.InitDir(t.Context(), d, idA, options("A"))
		}, func(t *testing.T, after durable.Dir, done error) {
			kind, id := rotation.IdentifyDir(after)
			if kind == rotation.KindDrive {
				checkWhole(t, after, id)
				return
			}
			if done == nil || kind != rotation.KindUnfinished && kind != rotation.KindNone {
				t.Fatalf("it is %q, and Init said %v", kind, done)
			}
			if err := rotation.InitDir(t.Context(), after, idB, options("A")); err != nil {
				t.Fatalf("the second try: %v", err)
			}
			checkWhole(t, after, idB)
		})
	}
}

func TestARealStoreIsMadeAgainAfterAPowerCut(t *testing.T) {
	identity, err := imagestore.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	site := imagestore.NewSite("test")
	o := options("A")
	o.SiteID = site.ID
	o.CreateStore = func(ctx context.Context, dir durable.Dir, drive lifeboat.Drive) error {
		return imagestore.Create(ctx, dir, imagestore.CreateOptions{Drive: drive, Site: site, Now: noon,
			Program: "test", Slots: []imagestore.NewSlot{{Name: "control machine", Recipient: identity.Recipient()}}})
	}
	first := baddrive.New(1, baddrive.Options{})
	if err := rotation.InitDir(t.Context(), first.Dir(), idA, o); err != nil {
		t.Fatal(err)
	}
	// The last calls are those after and around the making of the store.
	for call := first.Calls(); call > first.Calls()-40; call -= 3 {
		drive := baddrive.New(uint64(call), baddrive.Options{})
		drive.CutPowerAt(call)
		if err := rotation.InitDir(t.Context(), drive.Dir(), idA, o); err == nil {
			t.Fatalf("%s: it did not notice", drive)
		}
		after := drive.Restart()
		if kind, id := rotation.IdentifyDir(after); kind == rotation.KindUnfinished {
			if err := rotation.InitDir(t.Context(), after, idB, o); err != nil {
				t.Fatalf("%s: the second try: %v", drive, err)
			}
		} else if kind != rotation.KindDrive || id != idA {
			t.Fatalf("%s: it is %q", drive, kind)
		}
		openStore(t, after, identity)
	}
}

func openStore(t *testing.T, drive durable.Dir, identity *imagestore.Identity) {
	t.Helper()
	dir, err := drive.Sub(rotation.StoreFolder)
	if err != nil {
		t.Fatal(err)
	}
	store, err := imagestore.Open(t.Context(), dir, []imagestore.Secret{identity.Secret()}, imagestore.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if kind, id := rotation.IdentifyDir(drive); kind != rotation.KindDrive || id != store.Drive().ID {
		t.Errorf("drive %s (%s) has the store of drive %s", id, kind, store.Drive().ID)
	}
	if err := store.Close(); err != nil {
		t.Error(err)
	}
}

func checkWhole(t *testing.T, d durable.Dir, id string) {
	t.Helper()
	findings, err := rotation.CheckPrograms(d, programs())
	if err != nil || len(findings) != 2 || findings[0].State != rotation.ProgramRight || findings[1].State != rotation.ProgramRight {
		t.Errorf("programs: %+v, %v", findings, err)
	}
	if _, err := d.Stat(rotation.StartHere); err != nil {
		t.Error(err)
	}
	start, err := durable.ReadWhole(d, "lifeboat/store/store.a", 1000)
	if err != nil || !bytes.Contains(start, mustHex(id)) {
		t.Errorf("the store is not that of drive %s: %x, %v", id, start, err)
	}
}

func TestADriveThatFillsUpWhileItIsMadeSaysSo(t *testing.T) {
	o := options("A")
	o.CreateStore = func(context.Context, durable.Dir, lifeboat.Drive) error {
		return fmt.Errorf("write: %w", lifeboat.ErrDriveFull)
	}
	path := t.TempDir()
	_, err := rotation.Init(t.Context(), path, o)
	var p *lifeboat.Problem
	if !errors.As(err, &p) || !errors.Is(err, lifeboat.ErrDriveFull) || !strings.Contains(p.Next, "larger drive") {
		t.Errorf("got %v", err)
	}
	if found, err := rotation.Identify(path); err != nil || found.Kind != rotation.KindUnfinished {
		t.Errorf("%+v, %v", found, err)
	}
	if _, err := rotation.Init(t.Context(), path, options("A")); err != nil {
		t.Errorf("the next try: %v", err)
	}
}

func TestTwoInitsOfOneFolderDoNotMeet(t *testing.T) {
	path := t.TempDir()
	o := options("A")
	o.CreateStore = func(context.Context, durable.Dir, lifeboat.Drive) error {
		_, err := rotation.Init(t.Context(), path, options("B"))
		if !errors.Is(err, lifeboat.ErrDriveHeld) {
			t.Errorf("the second one: %v", err)
		}
		return nil
	}
	if _, err := rotation.Init(t.Context(), path, o); err != nil {
		t.Error(err)
	}
}

func options(label string) rotation.InitOptions {
	return rotation.InitOptions{Label: label, SiteID: siteID, Contact: "+49 30 1234567", Programs: programs(), Now: noon, CreateStore: standInStore}
}

// standInStore writes what Identify reads of a store: the header of the
// superblock, twice.
func standInStore(_ context.Context, dir durable.Dir, drive lifeboat.Drive) error {
	h := format.Header{Kind: format.KindSuperblock}
	copy(h.Drive[:], mustHex(drive.ID))
	start := h.Append(nil)
	return errors.Join(durable.WriteFileAtomic(dir, "store.a", start), durable.WriteFileAtomic(dir, "store.b", start))
}

func programs() []rotation.ProgramSource {
	return []rotation.ProgramSource{program("amd64", "#!/bin/sh\necho started with: \"$@\"\n"), program("arm64", strings.Repeat("arm", 3000))}
}

func program(arch, text string) rotation.ProgramSource {
	return rotation.ProgramSource{Arch: arch, Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }}
}

func mustHex(id string) []byte {
	b, err := hex.DecodeString(id)
	if err != nil {
		panic(err)
	}
	return b
}

func writeFile(path, name, text string) error {
	if err := os.MkdirAll(filepath.Join(path, filepath.Dir(name)), 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(path, name), []byte(text), 0o644)
}

// tree lists every file with its size and time.
func tree(t *testing.T, path string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(path, func(name string, e fs.DirEntry, err error) error {
		if err != nil || name == path {
			return nil
		}
		info, err := e.Info()
		fmt.Fprintln(&out, name, info.Size(), info.ModTime())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}
