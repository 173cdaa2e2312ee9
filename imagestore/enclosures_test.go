package imagestore

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"lifeboat"
	"lifeboat/fixtures/baddrive"
	"lifeboat/imagestore/format"
	"lifeboat/internal/durable"
)

func enclose(t testing.TB, s *Store, name string, text []byte) {
	t.Helper()
	if _, err := s.Enclose(t.Context(), name, "", bytes.NewReader(text)); err != nil {
		t.Fatalf("enclose %s: %v", name, err)
	}
}

func wantEnclosure(t testing.TB, s *Store, name string, want []byte) {
	t.Helper()
	var got bytes.Buffer
	e, err := s.ReadEnclosure(t.Context(), name, &got)
	if err != nil || !bytes.Equal(got.Bytes(), want) || e.SizeBytes != int64(len(want)) {
		t.Errorf("read %s: %d bytes of %d, %v", name, got.Len(), len(want), err)
	}
}

func enclosureNames(t testing.TB, s *Store) (names []string) {
	t.Helper()
	list, faults, err := s.Enclosures(t.Context())
	if err != nil || len(faults) > 0 {
		t.Fatalf("list: %v, %+v", err, faults)
	}
	for _, e := range list {
		names = append(names, e.Name)
	}
	return names
}

// documents are one of each form: empty, inline, at the limit, in parts.
func documents() map[string][]byte {
	return map[string][]byte{
		"Notfallplan Büro.txt": []byte("the door code is 4711"),
		"empty":                {},
		"at the limit":         randomDisk(3, format.MaxEnclosureInline),
		"firewall.cfg":         randomDisk(4, 2*format.EnclosurePartSize+17),
	}
}

func TestEnclosureComesBackAsItWasStored(t *testing.T) {
	d := newDrive(t)
	s := openStore(t, d.Dir(), Write)
	for name, text := range documents() {
		enclose(t, s, name, text)
	}
	s.Close()
	s = openStore(t, d.ReadOnlyDir(), Read)
	if got, want := enclosureNames(t, s), slices.Sorted(maps.Keys(documents())); !slices.Equal(got, want) {
		t.Errorf("listed %q, not %q", got, want)
	}
	for name, text := range documents() {
		wantEnclosure(t, s, name, text)
	}
	if _, err := s.ReadEnclosure(t.Context(), "other", io.Discard); !errors.Is(err, ErrNoEnclosure) {
		t.Errorf("one that is not there: %v", err)
	}
	if report, err := s.Verify(t.Context(), VerifyOptions{}); err != nil {
		t.Errorf("verify: %v, %+v", err, report.Faults)
	}
	second := secondReader(t, storeFiles(t, d.Dir()))
	wantClean(t, second)
	for name, text := range second.Enclosures() {
		if !bytes.Equal(text, documents()[name]) {
			t.Errorf("second reader: %s is not what was stored", name)
		}
	}
	if len(second.Enclosures()) != len(documents()) {
		t.Errorf("second reader: %d documents", len(second.Enclosures()))
	}
}

func TestEnclosureIsReplacedAndRemovedWithoutRest(t *testing.T) {
	d := newDrive(t)
	s := openStore(t, d.Dir(), Write)
	enclose(t, s, "plan", randomDisk(1, 5<<20))
	enclose(t, s, "plan", []byte("short"))
	wantEnclosure(t, s, "plan", []byte("short"))
	before := d.Calls()
	enclose(t, s, "plan", []byte("short"))
	if d.Calls() != before {
		t.Error("a document that is there already was written again")
	}
	if _, err := s.Enclose(t.Context(), "plan", "now with a note", strings.NewReader("short")); err != nil {
		t.Fatal(err)
	}
	if err := s.RemoveEnclosure(t.Context(), "plan"); err != nil {
		t.Fatal(err)
	}
	if err := s.RemoveEnclosure(t.Context(), "plan"); !errors.Is(err, ErrNoEnclosure) {
		t.Errorf("removed twice: %v", err)
	}
	for _, folder := range []string{enclosuresFolder, partsFolder} {
		if left, err := d.Dir().List(folder); err != nil || len(left) != 0 {
			t.Errorf("%s holds %d files, %v", folder, len(left), err)
		}
	}
}

// endless is a document that never ends.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestEnclosureThatIsRefusedLeavesTheDriveAsItWas(t *testing.T) {
	wholeOnly(t)
	d := newDrive(t)
	s := openStore(t, d.Dir(), Write)
	enclose(t, s, "plan", []byte("first"))
	if _, err := s.Enclose(t.Context(), "plan", "", endless{}); !errors.Is(err, ErrEnclosureTooLong) {
		t.Errorf("an endless one: %v", err)
	}
	for _, name := range []string{"", strings.Repeat("x", 256), "\xff"} {
		if _, err := s.Enclose(t.Context(), name, "", strings.NewReader("x")); err == nil {
			t.Errorf("the name %q was taken", name)
		}
	}
	broken := io.MultiReader(bytes.NewReader(make([]byte, 6<<20)), io.MultiReader(errReader{}))
	if _, err := s.Enclose(t.Context(), "plan", "", broken); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("one that cannot be read: %v", err)
	}
	wantEnclosure(t, s, "plan", []byte("first"))
	if left, err := d.Dir().List(partsFolder); err != nil || len(left) != 0 {
		t.Errorf("%d parts were left, %v", len(left), err)
	}
	mustCapture(t, s, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: randomDisk(1, 1<<20)}}))
	s.Close()
	r := openStore(t, d.ReadOnlyDir(), Read)
	if _, err := r.Enclose(t.Context(), "plan", "", strings.NewReader("x")); err == nil {
		t.Error("a store that was opened for reading took a document")
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, fs.ErrInvalid }

func TestFullDriveRefusesAnEnclosureAndGoesOn(t *testing.T) {
	d := baddrive.New(1, baddrive.Options{TotalBytes: 6 << 20})
	createStore(t, d.Dir())
	s := openStore(t, d.Dir(), Write)
	if _, err := s.Enclose(t.Context(), "plan", "", bytes.NewReader(randomDisk(1, 5<<20))); !errors.Is(err, lifeboat.ErrDriveFull) {
		t.Errorf("on a full drive: %v", err)
	}
	enclose(t, s, "plan", []byte("short"))
	wantEnclosure(t, s, "plan", []byte("short"))
}

func TestKeyRotationKeepsEnclosuresAndSealsThemAnew(t *testing.T) {
	d := newDrive(t)
	s := openStore(t, d.Dir(), Alone)
	for name, text := range documents() {
		enclose(t, s, name, text)
	}
	if err := s.Rotate(t.Context(), RotateOptions{}); err != nil {
		t.Fatal(err)
	}
	for name, text := range documents() {
		wantEnclosure(t, s, name, text)
	}
	enclose(t, s, "empty", nil)
	if err := s.Reseal(t.Context(), RotateOptions{}, nil); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = openStore(t, d.Dir(), Write)
	if got := s.Generations(); !slices.Equal(got, []uint32{2}) {
		t.Errorf("generations %v are left", got)
	}
	for name, text := range documents() {
		wantEnclosure(t, s, name, text)
	}
}

// fileOf is one copy of a document's files.
func fileOf(t testing.TB, d *baddrive.Drive, folder, suffix string) string {
	t.Helper()
	entries, err := d.Dir().List(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), suffix) {
			return folder + "/" + e.Name()
		}
	}
	t.Fatalf("no %s in %s", suffix, folder)
	return ""
}

func TestDamagedEnclosureIsHealedFromItsSecondCopy(t *testing.T) {
	text := randomDisk(4, format.EnclosurePartSize+17)
	for _, folder := range []string{enclosuresFolder, partsFolder} {
		d := newDrive(t)
		s := openStore(t, d.Dir(), Write)
		enclose(t, s, "firewall", text)
		s.Close()
		d.Erase(fileOf(t, d, folder, copyA), 100, 20)
		s = openStore(t, d.Dir(), Alone)
		wantEnclosure(t, s, "firewall", text)
		if report, err := s.Verify(t.Context(), VerifyOptions{}); err == nil || report.Lost() {
			t.Errorf("%s: verify says %v, lost %t", folder, err, report.Lost())
		}
		if _, err := s.Repair(t.Context(), RepairOptions{}); err != nil {
			t.Errorf("%s: repair: %v", folder, err)
		}
		if report, err := s.Verify(t.Context(), VerifyOptions{}); err != nil {
			t.Errorf("%s: after the repair: %v, %+v", folder, err, report.Faults)
		}
	}
}

func TestLostEnclosureIsSaidAndNeverHalfGivenOut(t *testing.T) {
	text := randomDisk(4, format.EnclosurePartSize+17)
	for what, spoil := range map[string]func(d *baddrive.Drive){
		"its record": func(d *baddrive.Drive) {
			d.Erase(fileOf(t, d, enclosuresFolder, copyA), 100, 20)
			d.Erase(fileOf(t, d, enclosuresFolder, copyB), 100, 20)
		},
		"a part": func(d *baddrive.Drive) {
			d.Erase(fileOf(t, d, partsFolder, "0001.a"), 100, 20)
			d.Erase(fileOf(t, d, partsFolder, "0001.b"), 100, 20)
		},
		"a part that is gone": func(d *baddrive.Drive) {
			for _, suffix := range []string{"0001.a", "0001.b"} {
				if err := d.Dir().Remove(fileOf(t, d, partsFolder, suffix)); err != nil {
					t.Fatal(err)
				}
			}
		},
		"a part in another's place": func(d *baddrive.Drive) {
			for _, suffix := range []string{".a", ".b"} {
				name := fileOf(t, d, partsFolder, "0000"+suffix)
				if err := d.Dir().Rename(name, strings.Replace(name, "0000", "0001", 1)); err != nil {
					t.Fatal(err)
				}
			}
		},
	} {
		d := newDrive(t)
		s := openStore(t, d.Dir(), Write)
		enclose(t, s, "firewall", text)
		s.Close()
		spoil(d)
		s = openStore(t, d.Dir(), Alone)
		if _, err := s.ReadEnclosure(t.Context(), "firewall", io.Discard); !errors.Is(err, lifeboat.ErrDamaged) {
			t.Errorf("%s: read says %v", what, err)
		}
		if report, err := s.Verify(t.Context(), VerifyOptions{}); !errors.Is(err, lifeboat.ErrDamaged) || !report.Lost() {
			t.Errorf("%s: verify says %v", what, err)
		}
		if report, err := s.Repair(t.Context(), RepairOptions{}); err != nil {
			t.Errorf("%s: repair: %v, %+v", what, err, report.Remaining)
		}
		if names := enclosureNames(t, s); len(names) != 0 {
			t.Errorf("%s: half a document is listed: %q", what, names)
		}
		enclose(t, s, "firewall", text)
		wantEnclosure(t, s, "firewall", text)
	}
}

func TestThiefSeesNoNameAndNoWordOfAnEnclosure(t *testing.T) {
	d := newDrive(t)
	s := openStore(t, d.Dir(), Write)
	for _, e := range []struct{ name, note string }{{"Notfallplan", "von Anna"}, {"ledger", ""}} {
		if _, err := s.Enclose(t.Context(), e.name, e.note, strings.NewReader("Musterfirma sieben")); err != nil {
			t.Fatal(err)
		}
	}
	err := fs.WalkDir(storeFiles(t, d.Dir()), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := durable.ReadWhole(d.Dir(), name, 1<<20)
		for _, word := range []string{"Notfallplan", "Anna", "ledger", "Musterfirma"} {
			if bytes.Contains(b, []byte(word)) || strings.Contains(name, word) {
				t.Errorf("%s says %q in clear", name, word)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestEnclosureSurvivesAPowerCutAtEveryCall(t *testing.T) {
	wholeOnly(t)
	first, long := []byte("first"), randomDisk(4, format.MaxEnclosureInline+17)
	for _, torn := range []bool{false, true} {
		base := baddrive.New(1, baddrive.Options{TornRenames: torn})
		createStore(t, base.Dir())
		s := openStore(t, base.Dir(), Write)
		enclose(t, s, "plan", first)
		enclose(t, s, "other", long)
		s.Close()
		operation := func(dir durable.Dir) error {
			s, err := openWith(dir, Write)
			if err != nil {
				return err
			}
			_, err = s.Enclose(t.Context(), "plan", "", bytes.NewReader(long))
			if err == nil {
				_, err = s.Enclose(t.Context(), "other", "", bytes.NewReader(first))
			}
			return errors.Join(err, s.Close())
		}
		check := func(t *testing.T, after durable.Dir, done error) {
			for _, mode := range []Mode{Read, Write, Read} {
				s, err := openWith(after, mode)
				if err != nil {
					t.Fatal(err)
				}
				for name, forms := range map[string][2][]byte{"plan": {first, long}, "other": {long, first}} {
					var got bytes.Buffer
					_, err := s.ReadEnclosure(t.Context(), name, &got)
					old, fresh := bytes.Equal(got.Bytes(), forms[0]), bytes.Equal(got.Bytes(), forms[1])
					if err != nil || !old && !fresh || done == nil && !fresh {
						t.Errorf("%s in mode %d: %d bytes, %v", name, mode, got.Len(), err)
					}
				}
				if report, err := s.Verify(t.Context(), VerifyOptions{}); err != nil {
					t.Errorf("verify in mode %d: %v, %+v", mode, err, report.Faults)
				}
				if mode == Write {
					enclose(t, s, "third", first)
				}
				s.Close()
			}
		}
		for seed := range crashSeeds() {
			sharedSweep(t, seed, base, operation, check)
		}
	}
}
