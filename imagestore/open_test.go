package imagestore

import (
	"errors"
	"os"
	"strings"
	"testing"

	"lifeboat"
	"lifeboat/fixtures/baddrive"
	"lifeboat/internal/durable"
)

func TestOpenTellsTheOperatorWhatIsWrong(t *testing.T) {
	drive := newDrive(t)
	other, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	newer := drive.Clone(1)
	for _, name := range []string{"store.a", "store.b"} {
		newer.FlipBit(name, 8*8+1) // version 1 becomes 3
	}
	cases := []struct {
		name   string
		drive  *baddrive.Drive
		secret Secret
		is     error
		says   string
	}{
		{"wrong secret", drive, other.Secret(), lifeboat.ErrWrongSecret, "does not open"},
		{"no store", baddrive.New(1, baddrive.Options{}), other.Secret(), lifeboat.ErrWrongDrive, "not a Lifeboat store"},
		{"newer format", newer, testIdentity().Secret(), lifeboat.ErrWrongDrive, "newer Lifeboat"},
	}
	for _, c := range cases {
		_, err := Open(t.Context(), c.drive.Dir(), []Secret{c.secret}, OpenOptions{})
		var p *lifeboat.Problem
		if !errors.Is(err, c.is) || !errors.As(err, &p) || !strings.Contains(p.What, c.says) || p.Safe == "" || p.Next == "" {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestOneWriterWorksBesideManyReaders(t *testing.T) {
	drive := newDrive(t)
	w := openStore(t, drive.Dir(), Write)
	r := openStore(t, drive.Dir(), Read)
	if _, err := openWith(drive.Dir(), Write); !errors.Is(err, lifeboat.ErrDriveHeld) {
		t.Fatalf("a second writer: %v", err)
	}
	data := randomDisk(1, 5<<20)
	p := mustCapture(t, w, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: data}}))
	// The reader was open before the point existed.
	checkDisk(t, r, p.ID, "disk0", data)
	for i := range 5 {
		data := randomDisk(uint64(50+i), 2<<20)
		p := mustCapture(t, w, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: data}}))
		checkDisk(t, r, p.ID, "disk0", data)
	}
	w.Close()
	openStore(t, drive.Dir(), Write)
}

func TestWhoRemovesIsAlone(t *testing.T) {
	drive := newDrive(t)
	r := openStore(t, drive.Dir(), Read)
	if _, err := openWith(drive.Dir(), Alone); !errors.Is(err, lifeboat.ErrDriveHeld) {
		t.Fatalf("beside a reader: %v", err)
	}
	r.Close()
	alone := openStore(t, drive.Dir(), Alone)
	for _, mode := range []Mode{Read, Write, Alone} {
		if _, err := openWith(drive.Dir(), mode); !errors.Is(err, lifeboat.ErrDriveHeld) {
			t.Errorf("mode %d beside one who removes: %v", mode, err)
		}
	}
	if _, err := openWith(drive.ReadOnlyDir(), Read); !errors.Is(err, lifeboat.ErrDriveHeld) {
		t.Errorf("who can only read beside one who removes: %v", err)
	}
	mustCapture(t, alone, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: randomDisk(1, 1<<20)}}))
}

// A drive that cannot be opened must still be possible to unmount.
func TestAStoreThatDoesNotOpenLeavesNothingOpen(t *testing.T) {
	for _, mode := range []Mode{Read, Write, Alone} {
		path := t.TempDir()
		dir, err := durable.OpenOS(path, false)
		if err != nil {
			t.Fatal(err)
		}
		createStore(t, dir)
		s := openStore(t, dir, Write)
		mustCapture(t, s, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: randomDisk(1, 1<<20)}}))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		// A file where a folder should be: the points cannot be listed.
		if err := errors.Join(os.RemoveAll(path+"/points"), os.WriteFile(path+"/points", nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		if _, err := openWith(dir, mode); err == nil {
			t.Fatalf("mode %d: it opened", mode)
		}
		if open := openBelow(t, path); len(open) > 0 {
			t.Errorf("mode %d: still open: %q", mode, open)
		}
	}
}

// openBelow are the files in a folder that this process has open.
func openBelow(t *testing.T, folder string) (open []string) {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		name, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && strings.HasPrefix(name, folder+"/") {
			open = append(open, name)
		}
	}
	return open
}

func TestReadOnlyDriveIsOpenedWithoutAnyChange(t *testing.T) {
	drive := newDrive(t)
	w := openStore(t, drive.Dir(), Write)
	data := randomDisk(1, 2<<20)
	p := mustCapture(t, w, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: data}}))
	calls := drive.Calls()
	r := openStore(t, drive.ReadOnlyDir(), Read)
	checkDisk(t, r, p.ID, "disk0", data)
	if _, err := r.Verify(t.Context(), VerifyOptions{}); err != nil {
		t.Error(err)
	}
	r.Close()
	if drive.Calls() != calls {
		t.Errorf("%d changes were made to a read-only drive", drive.Calls()-calls)
	}
}

func TestKeySlotsOpenTheDriveUntilTheyAreRemoved(t *testing.T) {
	drive := newDrive(t)
	s := openStore(t, drive.Dir(), Write)
	phrase := GeneratePassphrase()
	secret, err := Passphrase(phrase + "\r\n")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.AddSlot(t.Context(), NewSlot{Name: "passphrase", Secret: secret}); err != nil {
		t.Fatal(err)
	}
	if err := s.AddSlot(t.Context(), NewSlot{Name: "passphrase", Secret: secret}); err == nil {
		t.Error("a second slot of one name was accepted")
	}
	again, err := Passphrase(phrase)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Open(t.Context(), drive.ReadOnlyDir(), []Secret{again}, OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if r.Fingerprint() != s.Fingerprint() {
		t.Error("two fingerprints of one drive")
	}
	r.Close()
	slots, err := s.Slots(t.Context())
	if err != nil || len(slots) != 2 {
		t.Fatalf("%v, %v", slots, err)
	}
	if err := s.RemoveSlot(t.Context(), "control machine"); err != nil {
		t.Fatal(err)
	}
	if err := s.RemoveSlot(t.Context(), "passphrase"); err == nil {
		t.Error("the last slot was removed")
	}
	s.Close()
	if _, err := openWith(drive.Dir(), Read); !errors.Is(err, lifeboat.ErrWrongSecret) {
		t.Errorf("a removed slot: %v", err)
	}
}

func TestRolledBackDriveHasAnOlderHead(t *testing.T) {
	drive := newDrive(t)
	s := openStore(t, drive.Dir(), Write)
	if s.Head() != (Head{}) {
		t.Error("an empty store has a head")
	}
	mustCapture(t, s, testMachine("m1", map[string]Source{}))
	old := drive.Clone(1)
	before := s.Head()
	mustCapture(t, s, testMachine("m1", map[string]Source{}))
	if s.Head().Sequence != before.Sequence+1 || s.Head().Hash == before.Hash {
		t.Errorf("head %v after %v", s.Head(), before)
	}
	if r := openStore(t, old.ReadOnlyDir(), Read); r.Head() != before {
		t.Errorf("the older drive has head %v, not %v", r.Head(), before)
	}
}

func TestPassphrasesThatThievesTryAreRefused(t *testing.T) {
	for text, good := range map[string]bool{
		"":                                     false,
		"   \n":                                false,
		"password":                             false,
		"123456789012345678":                   false,
		"abcdefghijklmnopqrstuvwxyz":           false,
		"aaaaaaaaaaaaaaaaaaaaaaaaaa":           false,
		"abababababababababababab":             false,
		"correct horse battery staple":         true,
		"Rückfahrschein Löwe 7 Teekanne":       true,
		"two lines of good words\nsecond line": false,
	} {
		if err := CheckPassphrase(text); (err == nil) != good {
			t.Errorf("%q: %v", text, err)
		}
	}
	for range 100 {
		p := GeneratePassphrase()
		if err := CheckPassphrase(p); err != nil || strings.ContainsAny(p, "aqwzym") || p != strings.ToLower(p) {
			t.Errorf("generated %q: %v", p, err)
		}
	}
}
