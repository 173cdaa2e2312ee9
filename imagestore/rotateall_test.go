package imagestore

import (
	"context"
	"errors"
	"slices"
	"testing"

	"lifeboat"
	"lifeboat/fixtures/baddrive"
	"lifeboat/imagestore/format"
	"lifeboat/internal/durable"
)

// smallKeyNight is a drive with two points, a mark and a record of checks, that
// opens for anna too.
func smallKeyNight(t *testing.T) night {
	t.Helper()
	n := night{first: randomDisk(11, 600<<10), base: baddrive.New(1, baddrive.Options{})}
	n.second = slices.Clone(n.first)
	copy(n.second[100<<10:], randomDisk(12, 200<<10))
	createStore(t, n.base.Dir())
	s := openStore(t, n.base.Dir(), Write)
	n.point = mustCapture(t, s, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: n.first}}))
	mustCapture(t, s, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: n.second}}))
	if err := s.AddSlot(t.Context(), NewSlot{Name: "anna", Recipient: people()["anna"].Recipient()}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Verify(t.Context(), VerifyOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := s.remember(format.Mark{{Pack: format.ID{9}, Offset: 64}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return n
}

func resealAll(s *Store) error {
	err := s.Rotate(context.Background(), RotateOptions{})
	if err != nil {
		return err
	}
	return s.Reseal(context.Background(), RotateOptions{}, nil)
}

// generationsOf counts the files of a drive by the key that seals them.
func generationsOf(t *testing.T, dir durable.Dir) map[uint32]int {
	t.Helper()
	all := map[uint32]int{}
	for _, name := range filesOf(t, dir, ".") {
		b, err := durable.ReadWhole(dir, name, 64<<20)
		if err != nil {
			t.Fatal(err)
		}
		if h, err := format.DecodeHeader(b); err == nil && h.Generation != 0 {
			all[h.Generation]++
		}
	}
	return all
}

func TestResealLeavesNothingThatAnOlderKeyOpens(t *testing.T) {
	n := smallKeyNight(t)
	s := openStore(t, n.base.Dir(), Alone)
	before, head := s.Fingerprint(), s.Head()
	plan, err := s.PlanReseal(t.Context(), true)
	if err != nil || plan.Packs == 0 || plan.Bytes == 0 || plan.Files < 5 {
		t.Errorf("%+v, %v", plan, err)
	}
	if err := resealAll(s); err != nil {
		t.Fatal(err)
	}
	if plan, err := s.PlanReseal(t.Context(), false); err != nil || plan != (ResealPlan{}) {
		t.Errorf("left: %+v, %v", plan, err)
	}
	s.Close()
	if g := generationsOf(t, n.base.Dir()); len(g) != 1 || g[2] == 0 {
		t.Errorf("files by generation: %v", g)
	}
	r := openStore(t, n.base.ReadOnlyDir(), Read)
	if len(r.masters) != 1 || !slices.Equal(r.Generations(), []uint32{2}) {
		t.Errorf("%d keys are left", len(r.masters))
	}
	// Whoever remembers the drive can follow it, and finds the same commit.
	if r.Fingerprint() == before || !slices.Equal(r.EarlierFingerprints(), []string{before}) || r.Head() != head {
		t.Errorf("fingerprint %s, earlier %v, head %v", r.Fingerprint(), r.EarlierFingerprints(), r.Head())
	}
	n.checkPoints(t, r, nil)
	if report, err := r.Verify(t.Context(), VerifyOptions{}); err != nil {
		t.Errorf("%+v, %v", report, err)
	}
	r.Close()
	// A further key begins from there.
	if err := change(Alone, resealAll)(n.base.Dir()); err != nil {
		t.Fatal(err)
	}
	last := openStore(t, n.base.Dir(), Write)
	if got := last.EarlierFingerprints(); len(got) != 2 || got[0] != before {
		t.Errorf("earlier: %v", got)
	}
	n.checkPoints(t, last, nil)
}

func TestResealSurvivesAPowerCutAtEveryCallAndGoesOn(t *testing.T) {
	t.Parallel()
	n := smallKeyNight(t)
	s := openStore(t, n.base.ReadOnlyDir(), Read)
	before := s.Fingerprint()
	s.Close()
	check := func(t *testing.T, after durable.Dir, done error) {
		for _, who := range []*Identity{people()["anna"], testIdentity()} {
			s, err := openAs(after, Read, who)
			if err != nil {
				t.Fatal(err)
			}
			n.checkPoints(t, s, nil)
			if known := append(s.EarlierFingerprints(), s.Fingerprint()); !slices.Contains(known, before) {
				t.Error("a control machine cannot follow")
			}
			s.Close()
		}
		again := func(s *Store) error { return s.Reseal(context.Background(), RotateOptions{}, nil) }
		if err := change(Alone, again)(after); err != nil {
			t.Fatalf("going on: %v", err)
		}
		if g := generationsOf(t, after); len(g) != 1 {
			t.Errorf("files by generation: %v", g)
		}
		r := openStore(t, after, Write)
		n.checkPoints(t, r, nil)
		if report, err := r.Verify(t.Context(), VerifyOptions{}); err != nil {
			t.Errorf("%+v, %v", report, err)
		}
		r.Close()
	}
	for seed := range crashSeeds() / 2 {
		baddrive.Sweep(t, seed+1, n.base, change(Alone, resealAll), check)
	}
}

func TestResealKeepsTheOldKeyForWhatIsDamaged(t *testing.T) {
	n := smallKeyNight(t)
	packs := filesOf(t, n.base.Dir(), "packs")
	i := slices.IndexFunc(packs, func(name string) bool { return name[len(name)-5:] == ".data" })
	n.base.FlipBit(packs[i], 8*3000)
	for _, name := range packs {
		if name == packs[i]+".par" {
			if err := n.base.Dir().Remove(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	s := openStore(t, n.base.Dir(), Alone)
	err := resealAll(s)
	var p *lifeboat.Problem
	if !errors.Is(err, lifeboat.ErrDamaged) || !errors.As(err, &p) {
		t.Fatal(err)
	}
	s.Close()
	r := openStore(t, n.base.ReadOnlyDir(), Read)
	if len(r.masters) != 2 {
		t.Errorf("%d keys are left, with a pack that needs the older one", len(r.masters))
	}
}

func TestResealThatIsStoppedGoesOn(t *testing.T) {
	n := smallKeyNight(t)
	s := openStore(t, n.base.Dir(), Alone)
	if err := s.Rotate(t.Context(), RotateOptions{}); err != nil {
		t.Fatal(err)
	}
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Reseal(stopped, RotateOptions{}, nil); !errors.Is(err, context.Canceled) {
		t.Fatalf("a reseal that was stopped: %v", err)
	}
	n.checkPoints(t, s, nil)
	// The same process goes on, and so would another.
	if err := s.Reseal(t.Context(), RotateOptions{}, nil); err != nil {
		t.Fatal(err)
	}
	n.checkPoints(t, s, nil)
	if len(s.masters) != 1 {
		t.Errorf("%d keys are left", len(s.masters))
	}
}

// What a person waits for, and what it costs: at most 64 MiB and 0.3 s.
func BenchmarkOpenWithAPassphrase(b *testing.B) {
	drive := newDrive(b)
	s := openStore(b, drive.Dir(), Write)
	secret, err := Passphrase(GeneratePassphrase())
	if err != nil {
		b.Fatal(err)
	}
	if err := s.AddSlot(b.Context(), NewSlot{Name: "passphrase", Secret: secret}); err != nil {
		b.Fatal(err)
	}
	s.Close()
	b.ReportAllocs()
	for b.Loop() {
		r, err := Open(b.Context(), drive.ReadOnlyDir(), []Secret{secret}, OpenOptions{})
		if err != nil {
			b.Fatal(err)
		}
		r.Close()
	}
}

// dataPack is the name of a drive's largest pack of data.
func dataPack(t *testing.T, drive *baddrive.Drive) string {
	t.Helper()
	data, _ := packFiles(t, drive.Dir(), ".data")
	return data[0]
}

// The header of a pack says with which key it is sealed, and a bit of it flips.
// The older key stays until something of the pack opened with the newest one.
func TestResealBelievesNoHeader(t *testing.T) {
	for name, c := range map[string]struct {
		bit       int64
		lostIndex bool
	}{
		"the next key":            {8 * 12, false},
		"a key that never was":    {8*12 + 5, false},
		"another drive":           {8 * 20, false},
		"no header":               {3, false},
		"the next key, no index":  {8 * 12, true},
		"no header, no index":     {3, true},
		"another drive, no index": {8 * 20, true},
	} {
		t.Run(name, func(t *testing.T) {
			n := smallKeyNight(t)
			if err := change(Alone, resealAll)(n.base.Dir()); err != nil { // generation 2
				t.Fatal(err)
			}
			n.base.FlipBit(dataPack(t, n.base), c.bit)
			if runs, _ := filesIn(t, n.base.Dir(), "index"); c.lostIndex {
				removeAll(n.base, runs)
			}
			if err := change(Alone, resealAll)(n.base.Dir()); !errors.Is(err, lifeboat.ErrDamaged) {
				t.Errorf("a rotten header was believed: %v", err)
			}
			if report, err := repairDrive(t, n.base.Dir(), RepairOptions{}); err != nil {
				t.Fatalf("%+v, %v", report, err)
			}
			again := func(s *Store) error { return s.Reseal(context.Background(), RotateOptions{}, nil) }
			if err := change(Alone, again)(n.base.Dir()); err != nil {
				t.Fatal(err)
			}
			if g := generationsOf(t, n.base.Dir()); len(g) != 1 {
				t.Errorf("files by generation: %v", g)
			}
			n.checkPoints(t, openStore(t, n.base.ReadOnlyDir(), Read), nil)
		})
	}
}

// A page of the older index that is damaged keeps no other run under the older key.
func TestResealOfTheIndexGoesOnAfterADamagedPage(t *testing.T) {
	h := newHistory(t, baddrive.Options{}, 4<<20, 2)
	s := openStore(t, h.drive.Dir(), Alone)
	older := slices.Clone(*s.index.runs.Load())
	if len(older) < 2 {
		t.Fatalf("%d runs", len(older))
	}
	if err := s.Rotate(t.Context(), RotateOptions{}); err != nil {
		t.Fatal(err)
	}
	h.drive.FlipBit(runName(older[0].id), 8*(format.RunPageSize+100))
	if err := s.resealIndex(t.Context()); err != nil {
		t.Fatal(err)
	}
	left, err := s.leftBehind(t.Context())
	if err != nil || slices.ContainsFunc(left, func(name string) bool { return name[:6] == "index/" }) {
		t.Errorf("%v, %v", left, err)
	}
}

// What lies in the folders of a store under a name of somebody else's is left
// alone.
func TestResealPassesOverForeignNames(t *testing.T) {
	n := smallKeyNight(t)
	var foreign []string
	for _, folder := range []string{"points", "heads", checksFolder, "marks"} {
		names := filesOf(t, n.base.Dir(), folder)
		b, err := durable.ReadWhole(n.base.Dir(), names[0], format.MaxSmallFile)
		if err != nil {
			t.Fatal(err)
		}
		name := folder + "/copy of mine.a"
		if err := writeNew(n.base.Dir(), name, b); err != nil {
			t.Fatal(err)
		}
		foreign = append(foreign, name)
	}
	before := len(filesOf(t, n.base.Dir(), "points"))
	if err := change(Alone, resealAll)(n.base.Dir()); err != nil {
		t.Fatal(err)
	}
	for _, name := range foreign {
		if _, err := n.base.Dir().Stat(name); err != nil {
			t.Error(err)
		}
	}
	if after := len(filesOf(t, n.base.Dir(), "points")); after != before {
		t.Errorf("%d files of points, %d before", after, before)
	}
}
