package imagestore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"lifeboat"
	"lifeboat/fixtures/baddrive"
	"lifeboat/imagestore/format"
	"lifeboat/internal/durable"
)

// people are identities beside the control machine's.
var people = sync.OnceValue(func() map[string]*Identity {
	all := map[string]*Identity{}
	for _, name := range []string{"anna", "bert"} {
		id, err := NewIdentity()
		if err != nil {
			panic(err)
		}
		all[name] = id
	}
	return all
})

func openAs(dir durable.Dir, mode Mode, who *Identity) (*Store, error) {
	return Open(context.Background(), dir, []Secret{who.Secret()}, OpenOptions{Mode: mode, limits: smallLimits})
}

// keyNight is a night whose drive opens for anna and bert as well.
func keyNight(t *testing.T, torn bool) night {
	t.Helper()
	n := newNight(t, torn)
	s := openStore(t, n.base.Dir(), Write)
	for _, name := range []string{"anna", "bert"} {
		if err := s.AddSlot(t.Context(), NewSlot{Name: name, Recipient: people()[name].Recipient()}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return n
}

// change is a change of the key slots, on a store that was opened for it.
func change(mode Mode, do func(*Store) error) func(durable.Dir) error {
	return func(dir durable.Dir) error {
		s, err := openWith(dir, mode)
		if err != nil {
			return err
		}
		return errors.Join(do(s), s.Close())
	}
}

func rotateWithoutBert(s *Store) error {
	return s.Rotate(context.Background(), RotateOptions{Drop: []string{"bert"}})
}

// opensFor checks that a person opens the drive, reads and writes it.
func opensFor(t *testing.T, n night, after durable.Dir, done error, name string, before []string) {
	t.Helper()
	who := people()[name]
	for _, mode := range []Mode{Read, Write} {
		s, err := openAs(after, mode, who)
		if err != nil {
			t.Fatalf("%s cannot open the drive any more: %v", name, err)
		}
		if known := append(s.EarlierFingerprints(), s.Fingerprint()); !slices.Contains(known, before[0]) {
			t.Errorf("a control machine that remembers %s cannot follow to %s", before, known)
		}
		n.checkPoints(t, s, errors.New("no second export"))
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestChangesOfTheKeysSurviveAPowerCutAtEveryCall(t *testing.T) {
	t.Parallel()
	carl, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	changes := map[string]struct {
		mode Mode
		do   func(*Store) error
	}{
		"add": {Write, func(s *Store) error {
			return s.AddSlot(context.Background(), NewSlot{Name: "carl", Recipient: carl.Recipient()})
		}},
		"remove": {Write, func(s *Store) error { return s.RemoveSlot(context.Background(), "bert") }},
		"replace": {Write, func(s *Store) error {
			return s.ReplaceSlot(context.Background(), NewSlot{Name: "bert", Recipient: carl.Recipient()})
		}},
		"rotate": {Alone, rotateWithoutBert},
	}
	for name, c := range changes {
		for _, torn := range []bool{false, true} {
			if torn && name != "rotate" && crashSeeds() < 10 {
				continue // the same few calls; the long form has them too
			}
			t.Run(fmt.Sprintf("%s/torn-renames=%t", name, torn), func(t *testing.T) {
				n := keyNight(t, torn)
				s := openStore(t, n.base.ReadOnlyDir(), Read)
				before := []string{s.Fingerprint()}
				s.Close()
				check := func(t *testing.T, after durable.Dir, done error) {
					opensFor(t, n, after, done, "anna", before)
					if name == "add" {
						opensFor(t, n, after, done, "bert", before)
					}
					if name == "rotate" && !torn {
						n.check(t, after, errors.New("no second export"))
					}
					if _, err := openAs(after, Read, people()["bert"]); name != "add" && done == nil && !errors.Is(err, lifeboat.ErrWrongSecret) {
						t.Errorf("who was shut out: %v", err)
					}
					s, err := openAs(after, Read, carl)
					if (name == "add" || name == "replace") && done == nil && err != nil {
						t.Errorf("who was let in: %v", err)
					} else if err == nil {
						s.Close()
					} else if name == "replace" {
						opensFor(t, n, after, done, "bert", before)
					}
				}
				for seed := range crashSeeds() / 2 {
					baddrive.Sweep(t, seed+1, n.base, change(c.mode, c.do), check)
				}
			})
		}
	}
}

func TestRotationSurvivesAnErrorOfEveryCall(t *testing.T) {
	n := keyNight(t, false)
	for call := 1; ; call++ {
		d := n.base.Clone(uint64(call))
		d.FailAt(call)
		err := change(Alone, rotateWithoutBert)(d.Dir())
		if d.Calls() < call {
			if err != nil {
				t.Fatal(err)
			}
			return
		}
		t.Run(fmt.Sprintf("call=%d", call), func(t *testing.T) {
			after := d.Restart()
			for _, who := range []*Identity{testIdentity(), people()["anna"]} {
				s, err := openAs(after, Write, who)
				if err != nil {
					t.Fatal(err)
				}
				n.checkPoints(t, s, errors.New("no second export"))
				s.Close()
			}
		})
	}
}

func TestNewFilesNeedTheNewKeyAfterARotation(t *testing.T) {
	n := keyNight(t, false)
	old := n.base.Clone(1)
	if err := change(Alone, rotateWithoutBert)(n.base.Dir()); err != nil {
		t.Fatal(err)
	}
	if err := n.export(n.base.Dir()); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, n.base.Dir(), Read)
	n.checkPoints(t, s, nil)
	slots, err := s.Slots(t.Context())
	if err != nil || len(slots) != 2 || !slices.Equal(slots[0].Generations, []uint32{1, 2}) || slots[0].Used || !slots[1].Used {
		t.Errorf("%+v, %v", slots, err)
	}
	after := s.Fingerprint()
	s.Close()
	generations := map[uint32]int{}
	for _, name := range filesOf(t, n.base.Dir(), ".") {
		b, err := durable.ReadWhole(n.base.Dir(), name, 64<<20)
		if err != nil {
			t.Fatal(err)
		}
		if h, err := format.DecodeHeader(b); err == nil && h.Kind != format.KindSlot && h.Kind != format.KindParity {
			generations[h.Generation]++
		}
	}
	if generations[1] == 0 || generations[2] == 0 || len(generations) != 2 {
		t.Errorf("files by generation: %v", generations)
	}

	// Somebody who has the drive for an hour puts bert's slot back.
	for _, name := range filesOf(t, old.Dir(), "slots") {
		copyFile(t, n.base.Dir(), old.Dir(), name)
	}
	var p *lifeboat.Problem
	if _, err := openAs(n.base.ReadOnlyDir(), Read, people()["bert"]); !errors.Is(err, lifeboat.ErrWrongSecret) || !errors.As(err, &p) {
		t.Errorf("an old slot: %v", err)
	}
	anna, err := openAs(n.base.ReadOnlyDir(), Read, people()["anna"])
	if err != nil {
		t.Fatal(err)
	}
	n.checkPoints(t, anna, nil)
	anna.Close()

	// The next writer removes what opens nothing.
	openStore(t, n.base.Dir(), Write).Close()
	if names, _ := listTwins(n.base.Dir(), "slots"); len(names) != 2 {
		t.Errorf("%d slots", len(names))
	}

	// And the superblock: whoever remembers the drive sees it.
	for _, name := range filesOf(t, old.Dir(), "slots") {
		copyFile(t, n.base.Dir(), old.Dir(), name)
	}
	copyFile(t, n.base.Dir(), old.Dir(), "store.a")
	copyFile(t, n.base.Dir(), old.Dir(), "store.b")
	bert, err := openAs(n.base.ReadOnlyDir(), Read, people()["bert"])
	if err != nil {
		t.Fatal(err)
	}
	if known := append(bert.EarlierFingerprints(), bert.Fingerprint()); slices.Contains(known, after) {
		t.Error("a drive whose rotation was undone has the fingerprint of the new key")
	}
	bert.Close()
	// A rotation of such a store would remove the only slots with the later key.
	alone := openStore(t, n.base.Dir(), Alone)
	if err := alone.Rotate(t.Context(), RotateOptions{}); !errors.Is(err, lifeboat.ErrDamaged) || !errors.As(err, &p) {
		t.Errorf("a rotation of a drive that was put back: %v", err)
	}
}

func TestRotationIsRefusedBeforeAnythingChanges(t *testing.T) {
	t.Parallel()
	drive := newDrive(t)
	s := openStore(t, drive.Dir(), Alone)
	right, err := Passphrase("barrel violet mongoose teacup")
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := Passphrase("other words than those that open it")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.AddSlot(t.Context(), NewSlot{Name: "board", Secret: right}); err != nil {
		t.Fatal(err)
	}
	calls := drive.Calls()
	for name, c := range map[string]struct {
		o  RotateOptions
		is error
	}{
		"no passphrase":    {RotateOptions{}, lifeboat.ErrWrongSecret},
		"wrong passphrase": {RotateOptions{Secrets: map[string]Secret{"board": wrong}}, lifeboat.ErrWrongSecret},
		"unknown slot":     {RotateOptions{Drop: []string{"nobody"}}, nil},
		"no slot left":     {RotateOptions{Drop: []string{"board", "control machine"}}, nil},
	} {
		err := s.Rotate(t.Context(), c.o)
		if err == nil || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if drive.Calls() != calls {
		t.Error("a rotation that was refused wrote to the drive")
	}
	if err := s.Rotate(t.Context(), RotateOptions{Secrets: map[string]Secret{"board": right}}); err != nil {
		t.Fatal(err)
	}
	// The same process goes on with the new key.
	mustCapture(t, s, testMachine("m1", map[string]Source{}))
	s.Close()
	r, err := Open(t.Context(), drive.ReadOnlyDir(), []Secret{right}, OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
}

// Who reads a drive whose rotation was cut off between the two superblocks seals
// nothing with the new key: it may not be in use once the first one is lost.
func TestNothingIsRecordedBetweenTwoSuperblocks(t *testing.T) {
	n := keyNight(t, false)
	old := n.base.Clone(1)
	if err := change(Alone, rotateWithoutBert)(n.base.Dir()); err != nil {
		t.Fatal(err)
	}
	copyFile(t, n.base.Dir(), old.Dir(), "store.b")
	s := openStore(t, n.base.Dir(), Read)
	packs := filesOf(t, n.base.Dir(), "packs")
	n.base.FlipBit(packs[slices.IndexFunc(packs, func(name string) bool { return strings.HasSuffix(name, ".data") })], 8*3000)
	report, err := s.Verify(t.Context(), VerifyOptions{})
	if !errors.Is(err, lifeboat.ErrDamaged) || report.NotRecorded == "" {
		t.Errorf("not recorded because %q, %v", report.NotRecorded, err)
	}
	s.Close()
	for _, name := range filesOf(t, n.base.Dir(), ".") {
		if h, err := s.headerOf(name); err == nil && h.Kind != format.KindSuperblock && h.Generation > 1 {
			t.Errorf("%s is sealed with the key that may not be in use", name)
		}
	}
}

// A drive that nobody's reader takes any more is lost, whoever has the key.
func TestARotationBeyondWhatAKeyringHoldsIsRefused(t *testing.T) {
	drive := newDrive(t)
	s := openStore(t, drive.Dir(), Alone)
	keyring := s.presentKeys()
	for len(keyring.Masters) < format.MaxKeys-1 {
		keyring.Masters = append(keyring.Masters, newMaster(keyring.Masters.Newest().Generation+1))
	}
	slots, err := s.slotsToKeep(RotateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	files, err := s.wrapAnew(t.Context(), keyring, slots)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.writeRotation(t.Context(), keyring, files); err != nil {
		t.Fatal(err)
	}
	if err := s.Rotate(t.Context(), RotateOptions{}); err != nil {
		t.Fatalf("the last that fits: %v", err)
	}
	calls := drive.Calls()
	var p *lifeboat.Problem
	if err := s.Rotate(t.Context(), RotateOptions{}); !errors.As(err, &p) || drive.Calls() != calls {
		t.Errorf("one more: %v, and %d writes", err, drive.Calls()-calls)
	}
	keyring.Masters = append(s.presentKeys().Masters, newMaster(format.MaxKeys+1))
	if _, err := s.wrapAnew(t.Context(), keyring, slots); !errors.Is(err, format.ErrCorrupt) {
		t.Errorf("a keyring that no reader takes: %v", err)
	}
	// What was dropped counts as well.
	if err := s.Reseal(t.Context(), RotateOptions{}, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Rotate(t.Context(), RotateOptions{}); len(s.masters) != 1 || !errors.As(err, &p) {
		t.Errorf("one more with %d master keys left: %v", len(s.masters), err)
	}
	s.Close()
	openStore(t, drive.ReadOnlyDir(), Read).Close()
}

func TestRotationsThatAreCutOffDoNotAddUp(t *testing.T) {
	n := keyNight(t, false)
	dir := n.base.Dir()
	for cut := range 12 {
		d := n.base.Clone(uint64(cut))
		openStore(t, d.Dir(), Write).Close()
		d.CutPowerAt(d.Calls() + 18)
		if err := change(Alone, func(s *Store) error { return s.Rotate(context.Background(), RotateOptions{}) })(d.Dir()); err == nil {
			t.Fatal("it was not cut off")
		}
		dir = d.Restart()
		n.base = d
	}
	names, err := listTwins(dir, "slots")
	if err != nil || len(names) > 6 {
		t.Errorf("%d slots of 3 are left, %v", len(names), err)
	}
	if err := change(Alone, func(s *Store) error { return s.Rotate(context.Background(), RotateOptions{}) })(dir); err != nil {
		t.Fatal(err)
	}
	if names, _ := listTwins(dir, "slots"); len(names) != 3 {
		t.Errorf("%d slots after a rotation", len(names))
	}
}

// filesOf lists the files below a folder, with their paths.
func filesOf(t *testing.T, dir durable.Dir, folder string) (names []string) {
	t.Helper()
	entries, err := dir.List(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name := e.Name()
		if folder != "." {
			name = folder + "/" + name
		}
		if e.IsDir() {
			names = append(names, filesOf(t, dir, name)...)
		} else {
			names = append(names, name)
		}
	}
	return names
}

func copyFile(t *testing.T, to, from durable.Dir, name string) {
	t.Helper()
	if err := durable.CopyFile(to, name, from, name); err != nil {
		t.Fatal(err)
	}
}
