package imagestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lifeboat"
	"lifeboat/fixtures/baddrive"
	"lifeboat/imagestore/format"
	"lifeboat/internal/durable"
)

// clock is a clock that tests set. With step it goes on by itself at each look.
type clock struct {
	at   atomic.Int64
	step time.Duration
}

func newClock(step time.Duration) *clock {
	c := &clock{step: step}
	c.at.Store(testTime.Unix())
	return c
}

func (c *clock) now() time.Time      { return time.Unix(c.at.Add(int64(c.step/time.Second)), 0).UTC() }
func (c *clock) add(d time.Duration) { c.at.Add(int64(d / time.Second)) }

func openAt(t testing.TB, dir durable.Dir, mode Mode, c *clock) *Store {
	t.Helper()
	s, err := Open(context.Background(), dir, []Secret{testIdentity().Secret()}, OpenOptions{Mode: mode, Now: c.now, limits: smallLimits})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// packsOf is what manyPacks copies.
type packsOf struct {
	drive  *baddrive.Drive
	points [2]lifeboat.RestorePoint
	data   [2][]byte
}

var makeManyPacks = sync.OnceValues(func() (m packsOf, err error) {
	m.drive = baddrive.New(1, baddrive.Options{})
	err = Create(context.Background(), m.drive.Dir(), CreateOptions{Drive: lifeboat.Drive{ID: "0123456789abcdef0123456789abcdef", Label: "B2"}, Site: testSite(),
		Slots: []NewSlot{{Name: "control machine", Recipient: testIdentity().Recipient()}}, Program: "test", Now: testTime})
	if err != nil {
		return m, err
	}
	s, err := openWith(m.drive.Dir(), Write)
	if err != nil {
		return m, err
	}
	for i := range m.points {
		m.data[i] = randomDisk(uint64(61+i), 20<<20)
		m.points[i], err = s.Capture(context.Background(), testMachine(fmt.Sprint("m", i), map[string]Source{"disk0": &memoryDisk{data: m.data[i]}}))
		if err != nil {
			return m, err
		}
	}
	return m, s.Close()
})

// manyPacks is a drive with a point of each of two machines in some twenty packs.
func manyPacks(t *testing.T) (drive *baddrive.Drive, points [2]lifeboat.RestorePoint, data [2][]byte) {
	t.Helper()
	m, err := makeManyPacks()
	if err != nil {
		t.Fatal(err)
	}
	return m.drive.Clone(1), m.points, m.data
}

// verifyOnce opens the drive, verifies and closes it, as the command does.
func verifyOnce(t *testing.T, dir durable.Dir, c *clock, o VerifyOptions) (VerifyReport, error) {
	t.Helper()
	s := openAt(t, dir, Read, c)
	report, err := s.Verify(context.Background(), o)
	return report, errors.Join(err, s.Close())
}

// knownNow is all that a drive knows of its verifications.
type knownNow struct {
	Checked
	Coverage Coverage
}

func checkedNow(t *testing.T, dir durable.Dir, c *clock) (k knownNow) {
	t.Helper()
	s := openAt(t, dir, Read, c)
	defer s.Close()
	var err, coverageErr error
	k.Checked, err = s.Checked(t.Context())
	k.Coverage, coverageErr = s.Coverage(t.Context())
	if err := errors.Join(err, coverageErr); err != nil {
		t.Fatal(err)
	}
	return k
}

func TestTwentySamplesOfFivePercentReadEverything(t *testing.T) {
	drive, points, _ := manyPacks(t)
	c := newClock(0)
	var read int64
	for night := range 20 {
		c.add(24 * time.Hour)
		report, err := verifyOnce(t, drive.Dir(), c, VerifyOptions{Sample: 0.05})
		if err != nil {
			t.Fatalf("night %d: %+v, %v", night, report, err)
		}
		total := report.Coverage.PackBytes
		if report.Plan.TotalBytes > total/20+1<<20 {
			t.Errorf("night %d: %d of %d bytes were read", night, report.Plan.TotalBytes, total)
		}
		read += report.Plan.TotalBytes
		if done := report.Coverage.NeverBytes == 0; done != (read >= total) {
			t.Fatalf("night %d: %d of %d bytes were read, and %d never", night, read, total, report.Coverage.NeverBytes)
		}
		for _, p := range report.Checked {
			if !p.VerifiedAt.IsZero() {
				t.Errorf("night %d: a sample made a point verified", night)
			}
			if report.Coverage.NeverBytes == 0 && p.ReadSince.Before(report.Coverage.OldestRead) {
				t.Errorf("night %d: read since %v, and the oldest pack was read %v", night, p.ReadSince, report.Coverage.OldestRead)
			}
		}
	}
	checked := checkedNow(t, drive.Dir(), c)
	if checked.Coverage.NeverBytes != 0 || checked.Coverage.Within30 != 100 || !checked.VerifiedAt.IsZero() {
		t.Errorf("after twenty nights: %+v", checked)
	}
	for _, p := range points {
		if since := checked.Points[p.ID].ReadSince; since.Before(testTime) {
			t.Errorf("point %s: read since %v", p.ID, since)
		}
	}
}

func TestASampleReadsNewPacksFirstAndThenTheOldest(t *testing.T) {
	drive, _, _ := manyPacks(t)
	c := newClock(0)
	if _, err := verifyOnce(t, drive.Dir(), c, VerifyOptions{}); err != nil {
		t.Fatal(err)
	}
	c.add(time.Hour)
	s := openAt(t, drive.Dir(), Write, c)
	p := mustCapture(t, s, testMachine("m9", map[string]Source{"disk0": &memoryDisk{data: randomDisk(99, 2<<20)}}))
	s.Close()
	before := checkedNow(t, drive.Dir(), c)
	if before.Coverage.NeverBytes == 0 || !before.Points[p.ID].ReadSince.IsZero() || before.VerifiedAt.IsZero() {
		t.Fatalf("after an export: %+v", before)
	}
	report, err := verifyOnce(t, drive.Dir(), c, VerifyOptions{Sample: float64(before.Coverage.NeverBytes) / float64(before.Coverage.PackBytes)})
	if err != nil || report.Coverage.NeverBytes != 0 || report.Plan.TotalBytes > before.Coverage.NeverBytes+1<<20 {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestDamageFoundByASampleIsMarkedAndRevokes(t *testing.T) {
	drive, points, data := manyPacks(t)
	c := newClock(0)
	if report, err := verifyOnce(t, drive.Dir(), c, VerifyOptions{}); err != nil || len(report.Checked) != 2 || report.Checked[0].VerifiedAt.IsZero() {
		t.Fatalf("%+v, %v", report, err)
	}
	old := copyFolder(t, drive.Dir(), checksFolder)
	s := openStore(t, drive.Dir(), Read)
	hurt := flipDataOf(t, drive, s, points[1].ID)
	s.Close()
	var report VerifyReport
	err := error(nil)
	for night := 0; err == nil; night++ {
		if night == 25 {
			t.Fatal("25 samples of 5 % did not read the damaged pack")
		}
		c.add(24 * time.Hour)
		report, err = verifyOnce(t, drive.Dir(), c, VerifyOptions{Sample: 0.05})
	}
	if !errors.Is(err, lifeboat.ErrDamaged) || len(report.Hurt) != 1 || report.Hurt[0].PointID != points[1].ID {
		t.Fatalf("%+v, %v", report, err)
	}
	// Another record that says better, from before, changes nothing of that.
	for _, back := range []bool{false, true} {
		if back {
			putFolder(t, drive.Dir(), checksFolder, old)
			c.add(time.Hour)
			if report, err := verifyOnce(t, drive.Dir(), c, VerifyOptions{Sample: 0.01}); !errors.Is(err, lifeboat.ErrDamaged) || len(report.Hurt) != 1 {
				t.Errorf("with the record of before: %+v, %v", report, err)
			}
		}
		checked := checkedNow(t, drive.Dir(), c)
		if !checked.VerifiedAt.IsZero() || !checked.Points[points[1].ID].VerifiedAt.IsZero() || !checked.Points[points[1].ID].ReadSince.IsZero() {
			t.Errorf("a hurt point (pack %s) is called verified: %+v", hurt, checked)
		}
		if checked.Points[points[0].ID].VerifiedAt.IsZero() {
			t.Errorf("the other point is not: %+v", checked)
		}
	}
	// The next export heals it; then a verification makes it verified again.
	w := openAt(t, drive.Dir(), Write, c)
	mustCapture(t, w, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: data[1]}}))
	w.Close()
	if report, err := verifyOnce(t, drive.Dir(), c, VerifyOptions{}); err != nil {
		t.Errorf("after healing: %+v, %v", report, err)
	}
	if checked := checkedNow(t, drive.Dir(), c); checked.Points[points[1].ID].VerifiedAt.IsZero() || checked.VerifiedAt.IsZero() {
		t.Errorf("after healing: %+v", checked)
	}
}

// flipDataOf damages a pack that only this point needs, and names it.
func flipDataOf(t *testing.T, drive *baddrive.Drive, s *Store, point string) string {
	t.Helper()
	r, err := s.record(t.Context(), point)
	if err != nil {
		t.Fatal(err)
	}
	id, err := s.newTree(r.Disks[0]).leafID(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := s.leaf(t.Context(), id, nil)
	if err != nil {
		t.Fatal(err)
	}
	place, ok, err := s.index.find(entries[0].ID)
	if !ok || err != nil {
		t.Fatal(err)
	}
	name := packName(s.packs.pack(place.Pack))
	drive.FlipBit(name, 8*int64(place.Offset+format.FrameHeaderSize+50))
	return name
}

func copyFolder(t *testing.T, dir durable.Dir, folder string) map[string][]byte {
	t.Helper()
	entries, err := dir.List(folder)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, e := range entries {
		if files[e.Name()], err = durable.ReadWhole(dir, folder+"/"+e.Name(), format.MaxSmallFile); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// putFolder makes a folder what it was.
func putFolder(t *testing.T, dir durable.Dir, folder string, files map[string][]byte) {
	t.Helper()
	entries, err := dir.List(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := dir.Remove(folder + "/" + e.Name()); err != nil {
			t.Fatal(err)
		}
	}
	for name, b := range files {
		if err := durable.WriteFileAtomic(dir, folder+"/"+name, b); err != nil {
			t.Fatal(err)
		}
	}
}

func TestARecordThatWasPutBackMakesDatesOlderOnly(t *testing.T) {
	drive, points, _ := manyPacks(t)
	c := newClock(0)
	var records []map[string][]byte
	for range 2 {
		c.add(24 * time.Hour)
		if _, err := verifyOnce(t, drive.Dir(), c, VerifyOptions{}); err != nil {
			t.Fatal(err)
		}
		records = append(records, copyFolder(t, drive.Dir(), checksFolder))
	}
	newer := checkedNow(t, drive.Dir(), c)
	putFolder(t, drive.Dir(), checksFolder, records[0])
	older := checkedNow(t, drive.Dir(), c)
	if !older.VerifiedAt.Before(newer.VerifiedAt) || !older.Coverage.OldestRead.Before(newer.Coverage.OldestRead) ||
		!older.Points[points[0].ID].ReadSince.Before(newer.Points[points[0].ID].ReadSince) {
		t.Errorf("newer %+v\nolder %+v", newer, older)
	}
	// A record under the name of a newer one is not believed.
	forged := map[string][]byte{}
	for name, b := range records[0] {
		forged["00000000000000ff"+name[16:]] = b
	}
	putFolder(t, drive.Dir(), checksFolder, forged)
	if got := checkedNow(t, drive.Dir(), c); got.Coverage.NeverBytes != got.Coverage.PackBytes || len(got.Points) != 0 {
		t.Errorf("a renamed record was believed: %+v", got)
	}
}

func TestADateThatHasNotComeYetCountsForNothing(t *testing.T) {
	drive, _, _ := manyPacks(t)
	c := newClock(0)
	c.add(365 * 24 * time.Hour)
	if _, err := verifyOnce(t, drive.Dir(), c, VerifyOptions{}); err != nil {
		t.Fatal(err)
	}
	c.add(-365 * 24 * time.Hour)
	if got := checkedNow(t, drive.Dir(), c); got.Coverage.NeverBytes != got.Coverage.PackBytes || len(got.Points) != 0 || !got.VerifiedAt.IsZero() {
		t.Errorf("a clock that was wrong is believed: %+v", got)
	}
}

func TestARottenRecordIsToldAndMadeAnew(t *testing.T) {
	base, _, _ := manyPacks(t)
	c := newClock(0)
	if _, err := verifyOnce(t, base.Dir(), c, VerifyOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, both := range []bool{false, true} {
		d := base.Clone(1)
		for name := range copyFolder(t, d.Dir(), checksFolder) {
			if both || bytes.HasSuffix([]byte(name), []byte(copyA)) {
				d.FlipBit(checksFolder+"/"+name, 800)
			}
		}
		checked := checkedNow(t, d.Dir(), c)
		if forgotten := checked.Coverage.NeverBytes > 0; forgotten != both || checked.VerifiedAt.IsZero() != both {
			t.Errorf("both copies %t: %+v", both, checked)
		}
		report, err := verifyOnce(t, d.Dir(), c, VerifyOptions{Sample: 0.05})
		if !errors.Is(err, lifeboat.ErrDamaged) || len(report.Hurt) > 0 || !slices.ContainsFunc(report.Faults, func(f Fault) bool { return f.Lost == both }) {
			t.Errorf("both copies %t: %+v, %v", both, report, err)
		}
		if report, err := verifyOnce(t, d.Dir(), c, VerifyOptions{Sample: 0.05}); err != nil {
			t.Errorf("both copies %t, the next time: %+v, %v", both, report, err)
		}
	}
}

func TestADriveThatCannotBeWrittenRecordsNothingAndSaysSo(t *testing.T) {
	drive, _, _ := manyPacks(t)
	c := newClock(time.Minute)
	report, err := verifyOnce(t, drive.ReadOnlyDir(), c, VerifyOptions{})
	if err != nil || report.NotRecorded == "" || report.Coverage.NeverBytes != 0 {
		t.Errorf("%+v, %v", report, err)
	}
	drive.FillAfter(100)
	report, err = verifyOnce(t, drive.Dir(), c, VerifyOptions{})
	if err != nil || report.NotRecorded != "the drive is full" {
		t.Errorf("%+v, %v", report, err)
	}
	if checked := checkedNow(t, drive.Dir(), c); checked.Coverage.NeverBytes != checked.Coverage.PackBytes {
		t.Errorf("%+v", checked)
	}
}

func TestTwoVerificationsAddToEachOther(t *testing.T) {
	drive, points, _ := manyPacks(t)
	c := newClock(0)
	one, two := openAt(t, drive.Dir(), Read, c), openAt(t, drive.Dir(), Read, c)
	done := make(chan error)
	go func() {
		_, err := one.Verify(t.Context(), VerifyOptions{Points: []string{points[0].ID}})
		done <- err
	}()
	_, err := two.Verify(t.Context(), VerifyOptions{Points: []string{points[1].ID}})
	if err := errors.Join(err, <-done); err != nil {
		t.Fatal(err)
	}
	// One that came while the other wrote is not recorded; the next time it is.
	if _, err := one.Verify(t.Context(), VerifyOptions{Points: []string{points[0].ID}}); err != nil {
		t.Fatal(err)
	}
	if _, err := two.Verify(t.Context(), VerifyOptions{Points: []string{points[1].ID}}); err != nil {
		t.Fatal(err)
	}
	checked := checkedNow(t, drive.Dir(), c)
	if checked.Coverage.NeverBytes != 0 || len(checked.Points) != 2 {
		t.Errorf("%+v", checked)
	}
}

// A verification that looked at the record before another one found damage must
// not write back what that one took away.
func TestWhatAnotherVerificationTookBackStaysSo(t *testing.T) {
	for name, resume := range map[string]bool{"of another point": false, "of what was read before": true} {
		t.Run(name, func(t *testing.T) {
			drive, points, _ := manyPacks(t)
			c := newClock(0)
			if _, err := verifyOnce(t, drive.Dir(), c, VerifyOptions{}); err != nil {
				t.Fatal(err)
			}
			s := openAt(t, drive.Dir(), Read, c)
			o := VerifyOptions{Points: []string{points[0].ID}}
			if resume { // as if it had been cut off behind the last pack
				o = VerifyOptions{Resume: true}
				unfinished, err := s.loadChecks()
				if err != nil {
					t.Fatal(err)
				}
				unfinished.known.Begun, unfinished.ours = seconds(c.now()), true
				if err := unfinished.save(func(format.ID) bool { return true }, func(format.ShortID) bool { return true }); err != nil {
					t.Fatal(err)
				}
			}
			o.Planned = func(VerifyPlan) {
				other := openAt(t, drive.Dir(), Read, c)
				defer other.Close()
				flipDataOf(t, drive, other, points[1].ID)
				if _, err := other.Verify(t.Context(), VerifyOptions{}); !errors.Is(err, lifeboat.ErrDamaged) {
					t.Fatal(err)
				}
			}
			report, err := s.Verify(t.Context(), o)
			if errors.Is(err, lifeboat.ErrDamaged) != resume || err != nil && !resume {
				t.Errorf("%+v, %v", report, err)
			}
			checked := checkedNow(t, drive.Dir(), c)
			hurt := checked.Points[points[1].ID]
			if !checked.VerifiedAt.IsZero() || !hurt.VerifiedAt.IsZero() || !hurt.ReadSince.IsZero() || checked.Coverage.DamagedBytes == 0 {
				t.Errorf("a hurt point is called verified again: %+v", checked)
			}
			if checked.Points[points[0].ID].VerifiedAt.IsZero() {
				t.Errorf("the other one is not: %+v", checked)
			}
		})
	}
}

// Damage that was found and could not be analysed: no point may be called verified.
func TestAVerificationThatStopsAtDamageTakesTheDatesBack(t *testing.T) {
	drive, points, _ := manyPacks(t)
	c := newClock(0)
	if _, err := verifyOnce(t, drive.Dir(), c, VerifyOptions{}); err != nil {
		t.Fatal(err)
	}
	s := openAt(t, drive.Dir(), Read, c)
	flipDataOf(t, drive, s, points[1].ID)
	v := s.newVerification(VerifyOptions{})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	v.o.Planned = func(VerifyPlan) {
		// All packs, and then the end: as a kill between the packs and the points.
		list, err := v.s.listPacks(ctx)
		for _, f := range list {
			r := packReader{v: v}
			err = errors.Join(err, v.readPack(ctx, &r, planned{packFile: f}))
		}
		if err != nil {
			t.Error(err)
		}
		stop()
	}
	if err := v.run(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if checked := checkedNow(t, drive.Dir(), c); !checked.VerifiedAt.IsZero() || len(checked.Points) != 0 {
		t.Errorf("%+v", checked)
	}
}

// A mark that could not be written once is written at the next opportunity.
func TestAMarkThatCouldNotBeWrittenIsTriedAgain(t *testing.T) {
	drive, points, _ := manyPacks(t)
	s := openAt(t, drive.Dir(), Read, newClock(0))
	flipDataOf(t, drive, s, points[1].ID)
	v := s.newVerification(VerifyOptions{})
	v.o.Planned = func(VerifyPlan) {
		list, err := v.s.listPacks(t.Context())
		for _, f := range list {
			r := packReader{v: v}
			err = errors.Join(err, v.readPack(t.Context(), &r, planned{packFile: f}))
		}
		drive.FillAfter(0)
		err = errors.Join(err, v.save())
		drive.FillAfter(1 << 30)
		if err != nil {
			t.Error(err)
		}
	}
	if err := v.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if marks, _ := filesIn(t, drive.Dir(), "marks"); len(marks) == 0 {
		t.Error("the damage is marked nowhere")
	}
}

// Who opens the store for writing must not take away the mark that a reader is
// just writing.
func TestAWriterLeavesTheMarksOfAReaderAlone(t *testing.T) {
	drive := newDrive(t)
	temp := "marks/reader.tmp"
	f, err := drive.Dir().Create(temp)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	openStore(t, drive.Dir(), Write).Close()
	if _, err := drive.Dir().Stat(temp); err != nil {
		t.Error(err)
	}
	openStore(t, drive.Dir(), Alone).Close()
	if _, err := drive.Dir().Stat(temp); err == nil {
		t.Error("who has the drive alone leaves it")
	}
}

func TestDamagedPacksDoNotKeepASampleFromTheOthers(t *testing.T) {
	for _, damaged := range []int{0, 1, 3, 20, 40} {
		list := make([]planned, 40)
		for i := range list {
			list[i].size, list[i].at = 100, uint64(10+i)
			list[i].ID[0] = byte(i)
			if i < damaged {
				list[i].at = 0
			}
		}
		isDamaged := func(p planned) bool { return int(p.ID[0]) < damaged }
		read := map[byte]bool{}
		for night := range uint64(40) {
			chosen := sample(slices.Clone(list), isDamaged, night, 0.05)
			if len(chosen) > 3 { // two, and what rounding up both parts adds
				t.Errorf("%d damaged, night %d: %d packs are read", damaged, night, len(chosen))
			}
			for _, p := range chosen {
				read[p.ID[0]] = true
				if !isDamaged(p) {
					list[p.ID[0]].at = 1000 + night
				}
			}
		}
		if len(read) != len(list) {
			t.Errorf("%d damaged: %d of %d packs were ever read", damaged, len(read), len(list))
		}
	}
}
