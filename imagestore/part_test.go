package imagestore

import (
	"context"
	"errors"
	"strings"
	"testing"

	"lifeboat"
	"lifeboat/fixtures/baddrive"
	"lifeboat/imagestore/format"
	"lifeboat/internal/durable"
)

// splitMachine is a machine whose disk root goes to one drive and data to another.
func splitMachine(seed uint64) (capture func(part int) Capture, root, data []byte) {
	root, data = randomDisk(seed, 300<<10), randomDisk(seed+1, 500<<10)
	together := []lifeboat.Part{
		{PointID: strings.Repeat("a1", 16), DriveID: "0123456789abcdef0123456789abcdef", Label: "A1", Disks: []string{"root"}},
		{PointID: strings.Repeat("a2", 16), DriveID: "1123456789abcdef0123456789abcdef", Label: "A2", Disks: []string{"data"}},
	}
	return func(part int) Capture {
		c := testMachine("m1", map[string]Source{"root": &memoryDisk{data: root}, "data": &memoryDisk{data: data}})
		c.Together, c.PointID = together, together[part].PointID
		delete(c.Sources, together[1-part].Disks[0])
		return c
	}, root, data
}

func prepare(t *testing.T, s *Store, c Capture) *Prepared {
	t.Helper()
	p, err := s.Prepare(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Drop)
	return p
}

func TestPartsOnTwoDrivesAreCommittedAfterBothWereWritten(t *testing.T) {
	capture, root, data := splitMachine(3)
	one, two := newDrive(t), newSibling(t, baddrive.Options{})
	s1, s2 := openStore(t, one.Dir(), Write), openStore(t, two.Dir(), Write)
	p1, p2 := prepare(t, s1, capture(0)), prepare(t, s2, capture(1))
	for _, s := range []*Store{s1, s2} {
		if points, _, err := s.Points(t.Context()); err != nil || len(points) != 0 {
			t.Fatalf("a point before the commit: %v, %v", points, err)
		}
	}
	for _, p := range []*Prepared{p1, p2} {
		if _, err := p.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	checkDisk(t, s1, strings.Repeat("a1", 16), "root", root)
	checkDisk(t, s2, strings.Repeat("a2", 16), "data", data)

	_, err := s1.Disk(t.Context(), strings.Repeat("a1", 16), "data")
	var p *lifeboat.Problem
	if !errors.Is(err, ErrNoPoint) || !errors.As(err, &p) || !strings.Contains(p.What+p.Next, "on drive A2") {
		t.Errorf("the disk that is on the other drive: %v", err)
	}
	for _, s := range []*Store{s1, s2} {
		if report, err := s.Verify(t.Context(), VerifyOptions{}); err != nil {
			t.Errorf("verify: %+v, %v", report, err)
		}
	}
	again := openStore(t, one.ReadOnlyDir(), Read)
	point, err := again.Newest(t.Context(), "m1")
	if err != nil || !point.IsPart() || len(point.Disks) != 1 || len(point.Machine.Disks) != 2 {
		t.Errorf("%+v, %v", point, err)
	}
}

func TestAnOlderProgramRefusesAStoreWithParts(t *testing.T) {
	capture, _, _ := splitMachine(3)
	s := openStore(t, newDrive(t).Dir(), Write)
	mustCapture(t, s, testMachine("m2", map[string]Source{"root": &memoryDisk{data: randomDisk(1, 5000)}}))
	if s.super.Incompatible != 0 {
		t.Error("a whole machine needs no newer program")
	}
	mustCapture(t, s, capture(0))
	if s.super.Incompatible != format.FeatureParts {
		t.Errorf("the store has the features %x", s.super.Incompatible)
	}
}

func TestWhatWasPreparedAndDroppedIsNoPointAndIsUsedByTheNextTry(t *testing.T) {
	capture, root, _ := splitMachine(5)
	drive := newDrive(t)
	s := openStore(t, drive.Dir(), Write)
	prepare(t, s, capture(0)).Drop()
	if points, _, err := s.Points(t.Context()); err != nil || len(points) != 0 {
		t.Fatalf("%v, %v", points, err)
	}
	c := capture(0)
	var last Progress
	c.Progress = func(p Progress) { last = p }
	p := prepare(t, s, c)
	if last.NewBytes != 0 {
		t.Errorf("%d bytes were written again", last.NewBytes)
	}
	if _, err := p.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	checkDisk(t, s, strings.Repeat("a1", 16), "root", root)
	// Nothing is held after a commit: a prune needs to be alone.
	if !s.moving.TryLock() {
		t.Fatal("the store is still held")
	}
	s.moving.Unlock()
}

func TestAPartIsTheBaseOfTheNextOne(t *testing.T) {
	capture, root, _ := splitMachine(5)
	s := openStore(t, newDrive(t).Dir(), Write)
	first := capture(0)
	first.Tokens["root"] = "t1"
	mustCapture(t, s, first)
	c := capture(0)
	for i := range c.Together {
		c.Together[i].PointID = strings.Repeat([]string{"b1", "b2"}[i], 16)
	}
	c.PointID, c.Since["root"] = c.Together[0].PointID, "t1"
	c.Sources["root"] = &memoryDisk{data: root, tracks: true}
	p := mustCapture(t, s, c)
	if p.Disks[0].FullRead != "" || p.Disks[0].ReadBytes > 64<<10 {
		t.Errorf("%+v", p.Disks[0])
	}
	checkDisk(t, s, p.ID, "root", root)
}

func TestACopiedPartStaysAPart(t *testing.T) {
	capture, root, _ := splitMachine(7)
	from := openStore(t, newDrive(t).Dir(), Write)
	part := mustCapture(t, from, capture(0))
	to := openStore(t, newSibling(t, baddrive.Options{}).Dir(), Write)
	if _, err := to.Copy(t.Context(), from, nil, CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	got, err := to.Point(t.Context(), part.ID)
	if err != nil || !got.IsPart() || got.Together[1].Label != "A2" || to.super.Incompatible != format.FeatureParts {
		t.Errorf("%+v, %v", got, err)
	}
	checkDisk(t, to, part.ID, "root", root)
}

func TestAPartThatContradictsItselfIsNotWritten(t *testing.T) {
	capture, _, _ := splitMachine(7)
	s := openStore(t, newDrive(t).Dir(), Write)
	for name, change := range map[string]func(*Capture){
		"a disk in two parts": func(c *Capture) { c.Together[1].Disks = []string{"root", "data"} },
		"a disk in none":      func(c *Capture) { c.Together[1].Disks = nil },
		"no id":               func(c *Capture) { c.PointID = "" },
		"an id of nobody":     func(c *Capture) { c.Together[0].PointID, c.PointID = "x", "x" },
	} {
		c := capture(0)
		c.Together = append([]lifeboat.Part(nil), c.Together...)
		change(&c)
		if _, err := s.Capture(t.Context(), c); err == nil {
			t.Errorf("%s: it was taken", name)
		}
	}
	if points, _, err := s.Points(t.Context()); err != nil || len(points) != 0 {
		t.Errorf("%v, %v", points, err)
	}
	// The store is none the worse for it.
	mustCapture(t, s, capture(0))
}

func TestAPartSurvivesAPowerCutAtEveryCall(t *testing.T) {
	capture, root, _ := splitMachine(9)
	base := newDrive(t)
	for seed := range crashSeeds() {
		sharedSweep(t, seed, base, func(dir durable.Dir) error {
			s, err := openWith(dir, Write)
			if err != nil {
				return err
			}
			c := capture(0)
			c.Workers = 1 // the same calls in the same order for a seed
			_, err = s.Capture(context.Background(), c)
			return errors.Join(err, s.Close())
		}, func(t *testing.T, after durable.Dir, done error) {
			s := openStore(t, after, Read)
			defer s.Close()
			points, _, err := s.Points(t.Context())
			if err != nil || done == nil && len(points) != 1 {
				t.Fatalf("%d points, %v", len(points), err)
			}
			for _, p := range points {
				if !p.IsPart() || s.super.Incompatible != format.FeatureParts {
					t.Fatalf("the point %s is no part, or older programs take it", p.ID)
				}
				checkDisk(t, s, p.ID, "root", root)
			}
		})
	}
}
