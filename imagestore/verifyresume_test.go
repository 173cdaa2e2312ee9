package imagestore

import (
	"context"
	"errors"
	"testing"
	"time"

	"lifeboat"
	"lifeboat/imagestore/format"
)

// A verification that is cut off at any read or write goes on later, and what it
// has read counts; damage that it found by then is told all the same.
func TestAnInterruptedVerificationGoesOn(t *testing.T) {
	base, _, _ := manyPacks(t)
	calls := base.Clone(1)
	if _, err := verifyOnce(t, calls.Dir(), newClock(time.Minute), VerifyOptions{Resume: true}); err != nil {
		t.Fatal(err)
	}
	reads, writes := calls.Reads(), calls.Calls()
	resumed := 0
	for i := range 24 {
		d := base.Clone(uint64(i))
		if i%2 == 0 {
			d.VanishAtRead(d.Reads() + 1 + reads*i/24)
		} else {
			d.CutPowerAt(d.Calls() + 1 + writes*i/24)
		}
		c := newClock(time.Minute)
		s, err := Open(t.Context(), d.Dir(), []Secret{testIdentity().Secret()}, OpenOptions{Now: c.now, limits: smallLimits})
		if err == nil {
			_, err = s.Verify(t.Context(), VerifyOptions{Resume: true})
			s.Close()
		}
		if err == nil || !errors.Is(err, lifeboat.ErrDriveGone) {
			t.Fatalf("cut %d: %v", i, err)
		}
		report, err := verifyOnce(t, d.Restart(), c, VerifyOptions{Resume: true})
		if err != nil || len(report.Faults) > 0 {
			t.Fatalf("cut %d: %+v, %v", i, report, err)
		}
		if report.Coverage.NeverBytes != 0 || report.Coverage.Within30 != 100 {
			t.Errorf("cut %d: %+v", i, report.Coverage)
		}
		if report.Plan.ResumedBytes > 0 {
			resumed++
		}
		if again := checkedNow(t, d.Dir(), c); again.VerifiedAt.IsZero() || !again.UnfinishedFrom.IsZero() {
			t.Errorf("cut %d: %+v", i, again)
		}
	}
	if resumed < 10 {
		t.Errorf("%d of 24 went on where they were", resumed)
	}
}

func TestDamageThatWasFoundBeforeTheInterruptionIsTold(t *testing.T) {
	drive, _, _ := manyPacks(t)
	s := openStore(t, drive.Dir(), Read)
	files, err := s.listPacks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	for _, f := range files {
		if !f.Tree {
			drive.FlipBit(packName(f.RunPack), 8*(format.HeaderSize+format.FrameHeaderSize+100))
		}
	}
	c := newClock(time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	s = openAt(t, drive.Dir(), Read, c)
	read := 0
	_, err = s.Verify(ctx, VerifyOptions{Resume: true, Progress: func(Progress) {
		if read++; read == 1 {
			cancel()
		}
	}})
	s.Close()
	if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, lifeboat.ErrDamaged) {
		t.Fatal(err)
	}
	report, err := verifyOnce(t, drive.Dir(), c, VerifyOptions{Resume: true})
	if !errors.Is(err, lifeboat.ErrDamaged) || len(report.Hurt) != 2 { // both points
		t.Errorf("%+v, %v", report, err)
	}
	checked := checkedNow(t, drive.Dir(), c)
	if !checked.VerifiedAt.IsZero() || len(checked.Points) != 0 {
		t.Errorf("a damaged drive remembers %+v", checked)
	}
}

func TestAVerificationThatIsTooOldOrAboutSomethingElseBeginsAnew(t *testing.T) {
	base, points, _ := manyPacks(t)
	for name, c := range map[string]struct {
		after   time.Duration
		o       VerifyOptions
		resumes bool
	}{
		"soon":     {time.Hour, VerifyOptions{Resume: true}, true},
		"too late": {8 * 24 * time.Hour, VerifyOptions{Resume: true}, false},
		"anew":     {time.Hour, VerifyOptions{}, false},
		"a point":  {time.Hour, VerifyOptions{Resume: true, Points: []string{points[0].ID}}, false},
	} {
		d := base.Clone(1)
		clock := newClock(time.Minute)
		// The last write but some: most packs were read.
		d.CutPowerAt(d.Calls() + 200)
		s := openAt(t, d.Dir(), Read, clock)
		if _, err := s.Verify(t.Context(), VerifyOptions{Resume: true}); !errors.Is(err, lifeboat.ErrDriveGone) {
			t.Fatal(err)
		}
		s.Close()
		clock.add(c.after)
		report, err := verifyOnce(t, d.Restart(), clock, c.o)
		if err != nil || (report.Plan.ResumedBytes > 0) != c.resumes {
			t.Errorf("%s: %+v, %v", name, report.Plan, err)
		}
	}
}

func TestASpeedIsComparedWithTheDrivesOwnPast(t *testing.T) {
	past := func(speeds ...uint64) (all []format.CheckSpeed) {
		for _, s := range speeds {
			all = append(all, format.CheckSpeed{At: 1, BytesPerSecond: s})
		}
		return all
	}
	for _, c := range []struct {
		before []format.CheckSpeed
		now    uint64
		slow   bool
	}{
		{nil, 1, false},
		{past(200e6, 200e6), 10e6, false},
		{past(200e6, 190e6, 210e6), 101e6, false},
		{past(200e6, 190e6, 210e6), 90e6, true},
		{past(200e6, 20e6, 210e6), 90e6, true},
		{past(20e6, 20e6, 210e6), 11e6, false},
	} {
		if got := slower(c.before, c.now); (got != "") != c.slow {
			t.Errorf("%v, then %d: %q", c.before, c.now, got)
		}
	}
}
