package imagestore

import (
	"errors"
	"testing"
	"time"

	"lifeboat"
)

func TestReadingBackReadsOnlyWhatWasNeverRead(t *testing.T) {
	drive, points, _ := manyPacks(t)
	c := newClock(0)
	if _, err := verifyOnce(t, drive.Dir(), c, VerifyOptions{}); err != nil {
		t.Fatal(err)
	}
	first := c.now()
	c.add(24 * time.Hour)
	s := openAt(t, drive.Dir(), Write, c)
	alone := mustCapture(t, s, testMachine("m9", map[string]Source{"disk0": &memoryDisk{data: randomDisk(99, 2<<20)}}))
	// Most of this one was on the drive, and was read a day ago.
	disk := randomDisk(61, 20<<20)
	copy(disk[8<<20:], randomDisk(77, 1<<20))
	mixed := mustCapture(t, s, testMachine("m0", map[string]Source{"disk0": &memoryDisk{data: disk}}))
	s.Close()
	before := checkedNow(t, drive.Dir(), c).Coverage

	report, err := verifyOnce(t, drive.Dir(), c, VerifyOptions{Unread: true})
	if err != nil || !report.Unread || report.Plan.TotalBytes != before.NeverBytes || report.Coverage.NeverBytes != 0 {
		t.Fatalf("%+v, %v; before %+v", report, err, before)
	}
	if !report.VerifiedAt.IsZero() {
		t.Error("reading back a part made the drive verified")
	}
	want := map[string]time.Time{alone.ID: c.now(), mixed.ID: first, points[0].ID: first, points[1].ID: first}
	got := checkedNow(t, drive.Dir(), c)
	for id, at := range want {
		if since := got.Points[id].ReadSince; !since.Equal(at) {
			t.Errorf("point %s: read since %v, not %v", id, since, at)
		}
	}
	if got.Points[alone.ID].VerifiedAt.After(got.Points[alone.ID].ReadSince) || got.Points[points[0].ID].VerifiedAt.IsZero() {
		t.Errorf("%+v", got.Points)
	}
	again, err := verifyOnce(t, drive.Dir(), c, VerifyOptions{Unread: true})
	if err != nil || again.Plan.TotalBytes != 0 {
		t.Errorf("there was nothing left to read: %+v, %v", again, err)
	}
}

func TestReadingBackFindsWhatTheMediumLost(t *testing.T) {
	drive, points, _ := manyPacks(t)
	s := openStore(t, drive.Dir(), Read)
	flipDataOf(t, drive, s, points[1].ID)
	s.Close()
	c := newClock(0)
	report, err := verifyOnce(t, drive.Dir(), c, VerifyOptions{Unread: true})
	if !errors.Is(err, lifeboat.ErrDamaged) || len(report.Hurt) != 1 || report.Hurt[0].PointID != points[1].ID {
		t.Fatalf("%+v, %v", report, err)
	}
	got := checkedNow(t, drive.Dir(), c)
	if !got.Points[points[1].ID].ReadSince.IsZero() || got.Points[points[0].ID].ReadSince.IsZero() {
		t.Errorf("%+v", got.Points)
	}
	// Damage that is known stays known, though nothing new was written.
	if again, err := verifyOnce(t, drive.Dir(), c, VerifyOptions{Unread: true}); !errors.Is(err, lifeboat.ErrDamaged) || len(again.Hurt) != 1 {
		t.Errorf("%+v, %v", again, err)
	}
}

// A reading back that is cut off reads the rest the next time, whatever was cut.
func TestReadingBackGoesOnWhereItWasCutOff(t *testing.T) {
	base, _, _ := manyPacks(t)
	calls := base.Clone(1)
	if _, err := verifyOnce(t, calls.Dir(), newClock(time.Minute), VerifyOptions{Unread: true}); err != nil {
		t.Fatal(err)
	}
	reads, goneOn := calls.Reads(), false
	for i := range 8 {
		d := base.Clone(uint64(i))
		d.VanishAtRead(d.Reads() + 1 + reads*i/8)
		c := newClock(time.Minute)
		s, err := Open(t.Context(), d.Dir(), []Secret{testIdentity().Secret()}, OpenOptions{Now: c.now, limits: smallLimits})
		if err == nil {
			_, err = s.Verify(t.Context(), VerifyOptions{Unread: true})
			s.Close()
		}
		if !errors.Is(err, lifeboat.ErrDriveGone) {
			t.Fatalf("cut %d: %v", i, err)
		}
		report, err := verifyOnce(t, d.Restart(), c, VerifyOptions{Unread: true})
		if err != nil || report.Coverage.NeverBytes != 0 {
			t.Fatalf("cut %d: %+v, %v", i, report, err)
		}
		goneOn = goneOn || report.Plan.TotalBytes < report.Coverage.PackBytes
		for _, p := range report.Checked {
			if p.ReadSince.IsZero() {
				t.Errorf("cut %d: point %s was not read", i, p.PointID)
			}
		}
	}
	if !goneOn {
		t.Error("every one of them began anew")
	}
}

func TestWhatIsReadFromMemoryIsNotReadBack(t *testing.T) {
	drive, points, _ := manyPacks(t)
	c := newClock(0)
	report, err := verifyOnce(t, remembering{drive.Dir()}, c, VerifyOptions{Unread: true})
	if err != nil || report.FromMemory == "" {
		t.Fatalf("%+v, %v", report, err)
	}
	if got := checkedNow(t, drive.Dir(), c); len(got.Points) != 0 || got.Coverage.NeverBytes != got.Coverage.PackBytes {
		t.Errorf("point %s: %+v", points[0].ID, got)
	}
}
