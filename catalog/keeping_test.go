package catalog_test

import (
	"errors"
	"testing"
	"time"

	"lifeboat/catalog"
)

// twoDrives is a catalogue with one point of m1 on two drives and a second one on
// the first, all verified and proven at noon.
func twoDrives(t *testing.T) *catalog.Catalog {
	t.Helper()
	ctx, cat := t.Context(), fresh(t)
	for drive, points := range map[string][]string{"d1": {"p1", "p2"}, "d2": {"p1"}} {
		must(t, cat.RecordDrive(ctx, someDrive(drive, 3)))
		for i, p := range points {
			must(t, cat.AddPoint(ctx, drive, somePoint(p, "m1", uint64(i+1))))
			must(t, cat.RecordProof(ctx, catalog.Proof{DriveID: drive, PointID: p, RunID: "boot", At: noon, Checked: "tcp:22"}))
		}
		reading := verifiedAt(noon, points...)
		reading.VerifiedAt = noon
		must(t, cat.RecordReading(ctx, drive, reading))
	}
	return cat
}

// known are the points that are verified and those that are proven, as
// drive/point.
func known(t *testing.T, cat *catalog.Catalog) (verified, proven map[string]bool) {
	t.Helper()
	points, err := cat.Points(t.Context(), catalog.PointFilter{})
	must(t, err)
	verified, proven = map[string]bool{}, map[string]bool{}
	for _, p := range points {
		if !p.WholeAt().IsZero() {
			verified[p.DriveID+"/"+p.PointID] = true
		}
		if !p.ProvenAt.IsZero() {
			proven[p.DriveID+"/"+p.PointID] = true
		}
	}
	return verified, proven
}

func TestAFaultRevokesWhatItContradictsAndNothingElse(t *testing.T) {
	all := map[string]bool{"d1/p1": true, "d1/p2": true, "d2/p1": true}
	for name, c := range map[string]struct {
		fault func(*catalog.Catalog) error
		left  map[string]bool
	}{
		"of one point": {func(cat *catalog.Catalog) error {
			return cat.RecordFault(t.Context(), catalog.Fault{DriveID: "d1", PointID: "p1", At: noon.Add(time.Hour), What: "rot"})
		}, map[string]bool{"d1/p2": true, "d2/p1": true}},
		"whom it hurts is not known": {func(cat *catalog.Catalog) error {
			return cat.RecordFault(t.Context(), catalog.Fault{DriveID: "d1", PointID: "p1", At: noon.Add(time.Hour), What: "rot", Others: true})
		}, map[string]bool{"d2/p1": true}},
		"found by a verification": {func(cat *catalog.Catalog) error {
			return cat.RecordReading(t.Context(), "d1", catalog.Reading{Hurt: []string{"p2"}, RunID: "verify", FoundAt: noon.Add(time.Hour)})
		}, map[string]bool{"d1/p1": true, "d2/p1": true}},
		"none": {func(*catalog.Catalog) error { return nil }, all},
	} {
		cat := twoDrives(t)
		must(t, c.fault(cat))
		verified, proven := known(t, cat)
		equal(t, nil, verified, c.left)
		equal(t, nil, proven, c.left)
		d, err := cat.Drive(t.Context(), "d1")
		if err != nil || d.VerifiedAt.IsZero() != (len(c.left) < len(all)) {
			t.Errorf("%s: drive verified %v, %v", name, d.VerifiedAt, err)
		}
	}
}

func TestAfterDamageOnlyALaterReadingCounts(t *testing.T) {
	ctx, cat := t.Context(), twoDrives(t)
	must(t, cat.RecordFault(ctx, catalog.Fault{DriveID: "d1", PointID: "p1", RunID: "boot2", At: noon.Add(time.Hour), What: "rot", Others: true}))
	// What the drive itself remembers from before is told again, in each way.
	must(t, cat.RecordReading(ctx, "d1", verifiedAt(noon, "p1", "p2")))
	must(t, cat.LearnReadings(ctx, "d1", verifiedAt(noon, "p1", "p2")))
	if verified, _ := known(t, cat); len(verified) != 1 {
		t.Errorf("verified again by an old reading: %v", verified)
	}
	must(t, cat.RecordReading(ctx, "d1", verifiedAt(noon.Add(2*time.Hour), "p2")))
	if verified, proven := known(t, cat); !verified["d1/p2"] || verified["d1/p1"] || proven["d1/p2"] {
		t.Errorf("verified %v, proven %v", verified, proven)
	}
	proofs, err := cat.Proofs(ctx, "d1")
	if err != nil || len(proofs) != 2 || proofs[0].RevokedWhy != "rot" || !proofs[1].RevokedAt.Equal(noon.Add(time.Hour)) {
		t.Errorf("%+v, %v", proofs, err)
	}
	faults, err := cat.Faults(ctx, "d1")
	if err != nil || len(faults) != 1 || !faults[0].Others {
		t.Errorf("%+v, %v", faults, err)
	}
}

func TestWhatTheDriveDoesNotRememberIsNotVerified(t *testing.T) {
	ctx, cat := t.Context(), twoDrives(t)
	must(t, cat.LearnReadings(ctx, "d1", verifiedAt(noon.Add(-time.Hour), "p2")))
	verified, _ := known(t, cat)
	equal(t, nil, verified, map[string]bool{"d1/p2": true, "d2/p1": true})
	if d, err := cat.Drive(ctx, "d1"); err != nil || !d.VerifiedAt.IsZero() {
		t.Errorf("%v, %v", d.VerifiedAt, err)
	}
}

func TestAHoldIsOnEveryCopyUntilItIsReleased(t *testing.T) {
	ctx, cat := t.Context(), twoDrives(t)
	must(t, cat.Hold(ctx, catalog.Hold{PointID: "p1", Reason: "tax", By: "Ute", At: noon}))
	must(t, cat.Hold(ctx, catalog.Hold{PointID: "p1", Reason: "tax audit", Until: noon.AddDate(10, 0, 0), By: "Ute", At: noon}))
	points, err := cat.Points(ctx, catalog.PointFilter{})
	must(t, err)
	held := 0
	for _, p := range points {
		if (p.PointID == "p1") != (p.Held == "tax audit" && p.HeldUntil.Equal(noon.AddDate(10, 0, 0))) {
			t.Errorf("%+v", p)
		}
		if p.Held != "" {
			held++
		}
	}
	if held != 2 {
		t.Errorf("%d copies are held", held)
	}
	must(t, cat.Release(ctx, "p1"))
	if err := cat.Release(ctx, "p1"); !errors.Is(err, catalog.ErrUnknown) {
		t.Error(err)
	}
	if holds, err := cat.Holds(ctx); err != nil || len(holds) != 0 {
		t.Errorf("%v, %v", holds, err)
	}
}

func TestAMachineIsRetiredUntilItIsExportedAgain(t *testing.T) {
	ctx, cat := t.Context(), twoDrives(t)
	retired := func() catalog.Machine {
		machines, err := cat.Machines(ctx)
		if err != nil || len(machines) != 1 {
			t.Fatalf("%v, %v", machines, err)
		}
		return machines[0]
	}
	must(t, cat.RetireMachine(ctx, "m1", noon.Add(time.Hour), "Ute", "replaced"))
	if m := retired(); m.RetiredAt.IsZero() || m.RetiredWhy != "replaced" {
		t.Errorf("%+v", m)
	}
	// An old drive that is seen again changes nothing.
	must(t, cat.AddPoint(ctx, "d2", somePoint("p0", "m1", 9)))
	if retired().RetiredAt.IsZero() {
		t.Error("a point of before took it back")
	}
	p := somePoint("p9", "m1", 10)
	p.CommittedAt = noon.Add(2 * time.Hour)
	must(t, cat.AddPoint(ctx, "d1", p))
	if m := retired(); !m.RetiredAt.IsZero() || m.RetiredBy != "" || m.RetiredWhy != "" {
		t.Errorf("it is exported, and still retired: %+v", m)
	}
	must(t, cat.RetireMachine(ctx, "m1", noon.Add(3*time.Hour), "Ute", "replaced"))
	must(t, cat.UnretireMachine(ctx, "m1"))
	if !retired().RetiredAt.IsZero() {
		t.Error("it is still retired")
	}
	if err := cat.RetireMachine(ctx, "nobody", noon, "", ""); !errors.Is(err, catalog.ErrUnknown) {
		t.Error(err)
	}
}
