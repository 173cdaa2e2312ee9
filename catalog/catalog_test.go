package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lifeboat"
	"lifeboat/catalog"
)

var noon = time.Date(2026, 11, 20, 12, 0, 0, 123456789, time.UTC)

func TestWhatIsRememberedIsThereAfterReopening(t *testing.T) {
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "a folder", "cat? #1%.db")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	c := open(t, path)
	drive := someDrive("d1", 3)
	must(t, c.RecordDrive(ctx, drive))
	must(t, c.AddPoint(ctx, "d1", somePoint("p1", "m1", 1)))
	must(t, c.RecordReading(ctx, "d1", verifiedAt(noon, "p1")))
	must(t, c.StartRun(ctx, "r1", "export", noon))
	must(t, c.EndRun(ctx, "r1", noon.Add(time.Minute), 3, "2 of 3 machines"))
	must(t, c.Close())

	c = open(t, path)
	got, err := c.Drive(ctx, "d1")
	equal(t, err, got, drive)
	points, err := c.Points(ctx, catalog.PointFilter{})
	equal(t, err, points, []catalog.Point{{DriveID: "d1", PointID: "p1", Sequence: 1, MachineID: "m1", MachineName: "web ö",
		RunID: "run", TakenAt: noon.Add(time.Second), CommittedAt: noon.Add(2 * time.Second), Consistency: lifeboat.ConsistentCrash,
		SizeBytes: 5000, DataBytes: 4096, NewBytes: 96, VerifiedAt: noon,
		Disks: []catalog.PointDisk{{Key: "a", DataBytes: 4096}}}})
	run, err := c.Run(ctx, "r1")
	equal(t, err, run, catalog.Run{ID: "r1", Kind: "export", StartedAt: noon, EndedAt: noon.Add(time.Minute), ExitCode: 3, Summary: "2 of 3 machines"})
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("others may read it: %v, %v", info.Mode(), err)
	}
}

func TestADriveThatProvesItsNewKeyIsFollowed(t *testing.T) {
	ctx, cat := t.Context(), fresh(t)
	known := someDrive("d1", 5)
	must(t, cat.RecordDrive(ctx, known))
	rotated := known
	rotated.Fingerprint, rotated.Earlier = "new", []string{"older", known.Fingerprint}
	must(t, cat.RecordDrive(ctx, rotated))
	if err := cat.RecordDrive(ctx, known); !errors.Is(err, catalog.ErrKeyChanged) {
		t.Errorf("a rotation that was undone: %v", err)
	}
	forged := known
	forged.Fingerprint, forged.Earlier = "forged", []string{"older", known.Fingerprint}
	if err := cat.RecordDrive(ctx, forged); !errors.Is(err, catalog.ErrKeyChanged) {
		t.Errorf("a drive that proves the old key only: %v", err)
	}
}

func TestADriveThatWentBackOrChangedItsKeyIsRefused(t *testing.T) {
	known := someDrive("d1", 5)
	for name, c := range map[string]struct {
		change func(*catalog.Drive)
		want   error
	}{
		"same":          {func(d *catalog.Drive) {}, nil},
		"newer":         {func(d *catalog.Drive) { d.Head = catalog.Head{Sequence: 6, Hash: "x"} }, nil},
		"renamed":       {func(d *catalog.Drive) { d.Label = "B" }, nil},
		"rolled back":   {func(d *catalog.Drive) { d.Head.Sequence = 4 }, catalog.ErrRolledBack},
		"forked":        {func(d *catalog.Drive) { d.Head.Hash = "other" }, catalog.ErrForked},
		"another key":   {func(d *catalog.Drive) { d.Fingerprint = "other" }, catalog.ErrKeyChanged},
		"empty again":   {func(d *catalog.Drive) { d.Head = catalog.Head{} }, catalog.ErrRolledBack},
		"key and newer": {func(d *catalog.Drive) { d.Fingerprint = "other"; d.Head.Sequence = 9 }, catalog.ErrKeyChanged},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cat := t.Context(), fresh(t)
			must(t, cat.RecordDrive(ctx, known))
			seen := known
			c.change(&seen)
			seen.SeenAt = noon.Add(time.Hour)
			err := cat.RecordDrive(ctx, seen)
			if !errors.Is(err, c.want) {
				t.Errorf("record: %v, want %v", err, c.want)
			}
			var suspect *catalog.SuspectError
			remembered, getErr := cat.Drive(ctx, "d1")
			if c.want == nil {
				equal(t, getErr, remembered, seen)
				return
			}
			equal(t, getErr, remembered, known)
			if !errors.As(err, &suspect) || suspect.Known.Head != known.Head || !strings.Contains(err.Error(), "drive A") {
				t.Errorf("the error says %v", err)
			}
			suspects, err := cat.Suspects(ctx)
			if s := suspects["d1"]; err != nil || !strings.HasPrefix(s.Why, c.want.Error()) || !s.At.Equal(seen.SeenAt) {
				t.Errorf("it is not remembered as suspect: %+v, %v", suspects, err)
			}
			must(t, cat.AcceptDrive(ctx, seen))
			remembered, getErr = cat.Drive(ctx, "d1")
			equal(t, getErr, remembered, seen)
			if suspects, err := cat.Suspects(ctx); err != nil || len(suspects) > 0 {
				t.Errorf("an accepted drive is still suspect: %+v, %v", suspects, err)
			}
		})
	}
}

func TestASuspectDriveIsBelievedAgainWhenItIsAsRemembered(t *testing.T) {
	ctx, cat := t.Context(), fresh(t)
	known, other := someDrive("d1", 5), someDrive("d2", 5)
	must(t, cat.RecordDrive(ctx, known))
	must(t, cat.RecordDrive(ctx, other))
	must(t, cat.Suspect(ctx, catalog.Suspicion{DriveID: "d2", Why: "it was attached twice", At: noon}))
	older := known
	older.Head.Sequence = 3
	for range 2 {
		if err := cat.RecordDrive(ctx, older); !errors.Is(err, catalog.ErrRolledBack) {
			t.Fatal(err)
		}
	}
	must(t, cat.RecordDrive(ctx, known))
	suspects, err := cat.Suspects(ctx)
	if err != nil || len(suspects) != 1 || suspects["d2"].Why != "it was attached twice" {
		t.Errorf("%+v, %v", suspects, err)
	}
}

func TestAMeasuredSpeedIsKeptWhenNothingWasMeasured(t *testing.T) {
	ctx, c := t.Context(), fresh(t)
	d := someDrive("d1", 1)
	d.WriteBytesPerSecond = 100
	must(t, c.RecordDrive(ctx, d))
	d.WriteBytesPerSecond = 0
	must(t, c.RecordDrive(ctx, d))
	got, err := c.Drive(ctx, "d1")
	if err != nil || got.WriteBytesPerSecond != 100 {
		t.Errorf("got %d, %v", got.WriteBytesPerSecond, err)
	}
}

func TestReplacePointsMakesTheMemoryEqualToTheDrive(t *testing.T) {
	ctx, c := t.Context(), fresh(t)
	must(t, c.RecordDrive(ctx, someDrive("d1", 1)))
	must(t, c.RecordDrive(ctx, someDrive("d2", 1)))
	must(t, c.AddPoint(ctx, "d2", somePoint("p1", "m1", 1)))
	must(t, c.ReplacePoints(ctx, "d1", []lifeboat.RestorePoint{somePoint("p1", "m1", 1), somePoint("p2", "m2", 2)}))
	must(t, c.RecordReading(ctx, "d1", verifiedAt(noon, "p1", "p2")))
	must(t, c.ReplacePoints(ctx, "d1", []lifeboat.RestorePoint{somePoint("p2", "m2", 2), somePoint("p3", "m1", 3)}))
	points, err := c.Points(ctx, catalog.PointFilter{DriveID: "d1"})
	if err != nil || len(points) != 2 || points[0].PointID != "p2" || points[1].PointID != "p3" {
		t.Fatalf("%+v, %v", points, err)
	}
	if !points[0].VerifiedAt.Equal(noon) || !points[1].VerifiedAt.IsZero() {
		t.Errorf("verified at %v and %v", points[0].VerifiedAt, points[1].VerifiedAt)
	}
	if other, err := c.Points(ctx, catalog.PointFilter{DriveID: "d2"}); err != nil || len(other) != 1 {
		t.Errorf("the other drive's points: %+v, %v", other, err)
	}
	if err := c.AddPoint(ctx, "d3", somePoint("p1", "m1", 1)); !errors.Is(err, catalog.ErrUnknown) {
		t.Errorf("a point of a drive that is not known: %v", err)
	}
}

func TestNewestGoesByTheDrivesOwnCount(t *testing.T) {
	ctx, c := t.Context(), fresh(t)
	must(t, c.RecordDrive(ctx, someDrive("d1", 1)))
	older, newer := somePoint("p1", "m1", 1), somePoint("p2", "m1", 2)
	newer.TakenAt = older.TakenAt.AddDate(-1, 0, 0) // the clock was set back
	must(t, c.ReplacePoints(ctx, "d1", []lifeboat.RestorePoint{older, newer, somePoint("p3", "m2", 3)}))
	newest, err := c.Newest(ctx, "d1")
	if err != nil || len(newest) != 2 || newest["m1"].PointID != "p2" {
		t.Errorf("%+v, %v", newest, err)
	}
}

func TestAnOlderCopiedPointIsNotTheNewest(t *testing.T) {
	ctx, c := t.Context(), fresh(t)
	must(t, c.RecordDrive(ctx, someDrive("d1", 1)))
	own, copied := somePoint("p1", "m1", 1), somePoint("p2", "m1", 2)
	copied.TakenAt, copied.CopiedFrom = own.TakenAt.Add(-time.Hour), "d2"
	must(t, c.ReplacePoints(ctx, "d1", []lifeboat.RestorePoint{own, copied}))
	newest, err := c.Newest(ctx, "d1")
	if err != nil || newest["m1"].PointID != "p1" {
		t.Errorf("%+v, %v", newest, err)
	}
	points, err := c.Points(ctx, catalog.PointFilter{})
	if err != nil || points[0].CopiedFrom != "d2" {
		t.Errorf("%+v, %v", points, err)
	}
}

func TestAFaultRevokesAndAnOlderVerificationDoesNotCount(t *testing.T) {
	ctx, c := t.Context(), fresh(t)
	must(t, c.RecordDrive(ctx, someDrive("d1", 1)))
	must(t, c.AddPoint(ctx, "d1", somePoint("p1", "m1", 1)))
	verified := func() time.Time {
		points, err := c.Points(ctx, catalog.PointFilter{MachineID: "m1"})
		must(t, err)
		return points[0].VerifiedAt
	}
	must(t, c.RecordReading(ctx, "d1", verifiedAt(noon, "p1")))
	must(t, c.RecordReading(ctx, "d1", verifiedAt(noon.Add(-time.Hour), "p1")))
	if !verified().Equal(noon) {
		t.Errorf("verified at %v", verified())
	}
	must(t, c.RecordReading(ctx, "d1", catalog.Reading{Hurt: []string{"p1"}}))
	if !verified().IsZero() {
		t.Errorf("verified at %v", verified())
	}
	if err := c.RecordReading(ctx, "d1", verifiedAt(noon, "p1", "p9")); !errors.Is(err, catalog.ErrUnknown) || !verified().IsZero() {
		t.Errorf("half of it was remembered: %v, %v", err, verified())
	}
}

func verifiedAt(at time.Time, points ...string) (r catalog.Reading) {
	for _, id := range points {
		r.Points = append(r.Points, catalog.PointReading{PointID: id, VerifiedAt: at})
	}
	return r
}

func TestADriveIsVerifiedUntilDamageIsFoundAndSamplesSayNoMore(t *testing.T) {
	ctx, c := t.Context(), fresh(t)
	must(t, c.RecordDrive(ctx, someDrive("d1", 1)))
	must(t, c.AddPoint(ctx, "d1", somePoint("p1", "m1", 1)))
	now := func() (time.Time, time.Time, time.Time) {
		d, err := c.Drive(ctx, "d1")
		must(t, err)
		points, err := c.Points(ctx, catalog.PointFilter{})
		must(t, err)
		return d.VerifiedAt, points[0].VerifiedAt, points[0].ReadSince
	}
	day := 24 * time.Hour
	none := time.Time{}
	for i, step := range []struct {
		r                   catalog.Reading
		drive, point, since time.Time
	}{
		{catalog.Reading{Points: []catalog.PointReading{{PointID: "p1", ReadSince: noon}}, BytesPerSecond: 7}, none, none, noon},
		{catalog.Reading{VerifiedAt: noon.Add(day), Points: []catalog.PointReading{{"p1", noon.Add(day), noon.Add(day)}}}, noon.Add(day), noon.Add(day), noon.Add(day)},
		{catalog.Reading{Points: []catalog.PointReading{{PointID: "p1", ReadSince: noon.Add(2 * day)}}}, noon.Add(day), noon.Add(day), noon.Add(2 * day)},
		{catalog.Reading{Points: []catalog.PointReading{{PointID: "p1"}}}, noon.Add(day), noon.Add(day), noon.Add(2 * day)},
		{catalog.Reading{Damaged: true, Points: []catalog.PointReading{{PointID: "p1"}}}, none, noon.Add(day), noon.Add(2 * day)},
		{catalog.Reading{Hurt: []string{"p1"}}, none, none, none},
	} {
		must(t, c.RecordReading(ctx, "d1", step.r))
		must(t, c.RecordDrive(ctx, someDrive("d1", 1)))
		if drive, point, since := now(); !drive.Equal(step.drive) || !point.Equal(step.point) || !since.Equal(step.since) {
			t.Errorf("step %d: drive %v, point %v, since %v", i, drive, point, since)
		}
	}
	if d, err := c.Drive(ctx, "d1"); err != nil || d.ReadBytesPerSecond != 7 {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestALinkedMachineGoesOnWithItsHistoryUntilItIsUnlinked(t *testing.T) {
	ctx, c := t.Context(), fresh(t)
	unknown := func(err error) {
		t.Helper()
		if !errors.Is(err, catalog.ErrUnknown) {
			t.Errorf("got %v", err)
		}
	}
	_, err := c.KnownMachine(ctx, "kvm1", "web")
	unknown(err)
	unknown(c.UnlinkMachine(ctx, "kvm1", "web"))
	must(t, c.LinkMachine(ctx, "kvm2", "web", "m1"))
	must(t, c.LinkMachine(ctx, "kvm1", "web", "m1"))
	must(t, c.LinkMachine(ctx, "kvm1", "web", "m7"))
	id, err := c.KnownMachine(ctx, "kvm2", "web")
	equal(t, err, id, "m1")
	id, err = c.KnownMachine(ctx, "kvm1", "web")
	equal(t, err, id, "m7")
	must(t, c.UnlinkMachine(ctx, "kvm1", "web"))
	_, err = c.KnownMachine(ctx, "kvm1", "web")
	unknown(err)
	id, err = c.KnownMachine(ctx, "kvm2", "web")
	equal(t, err, id, "m1")
}

func TestANoteIsKeptForItsHostAndMachineAlone(t *testing.T) {
	ctx, c := t.Context(), fresh(t)
	note := func(host, machine, name string) string {
		t.Helper()
		data, err := c.Note(ctx, host, machine, name)
		must(t, err)
		if data == nil {
			return "(none)"
		}
		return string(data)
	}
	must(t, c.SetNote(ctx, "kvm1", "web", "checkpoints", []byte("old")))
	must(t, c.SetNote(ctx, "kvm1", "web", "checkpoints", []byte("new")))
	must(t, c.SetNote(ctx, "kvm2", "web", "checkpoints", []byte("other")))
	must(t, c.SetNote(ctx, "kvm1", "db", "checkpoints", []byte{}))
	if got := note("kvm1", "web", "checkpoints"); got != "new" {
		t.Errorf("got %q", got)
	}
	if got := note("kvm1", "db", "checkpoints"); got != "" {
		t.Errorf("an empty note is %q", got)
	}
	must(t, c.SetNote(ctx, "kvm1", "web", "checkpoints", nil))
	if got := note("kvm1", "web", "checkpoints"); got != "(none)" {
		t.Errorf("a forgotten note is %q", got)
	}
	must(t, c.ForgetHost(ctx, "kvm1"))
	if got := note("kvm1", "db", "checkpoints") + note("kvm2", "web", "checkpoints"); got != "(none)other" {
		t.Errorf("got %q", got)
	}
	if err := c.SetNote(ctx, "kvm1", "web", "checkpoints", make([]byte, catalog.NoteLimit+1)); err == nil {
		t.Error("a note without end was kept")
	}
}

func TestRunsAreListedNewestFirst(t *testing.T) {
	ctx, c := t.Context(), fresh(t)
	for i := range 5 {
		must(t, c.StartRun(ctx, fmt.Sprint("r", i), "verify", noon.Add(time.Duration(i)*time.Hour)))
	}
	runs, err := c.Runs(ctx, 2)
	if err != nil || len(runs) != 2 || runs[0].ID != "r4" || !runs[0].EndedAt.IsZero() {
		t.Errorf("%+v, %v", runs, err)
	}
	_, err = c.Run(ctx, "nobody")
	if !errors.Is(err, catalog.ErrUnknown) || !errors.Is(c.EndRun(ctx, "nobody", noon, 0, ""), catalog.ErrUnknown) {
		t.Errorf("got %v", err)
	}
}

func TestWhatFailedInARunIsKeptByName(t *testing.T) {
	ctx, c := t.Context(), fresh(t)
	must(t, c.RecordFailures(ctx, "r1", []string{"web", "db"}))
	must(t, c.RecordFailures(ctx, "r1", []string{"db", "müller & söhne"}))
	must(t, c.RecordFailures(ctx, "r2", nil))
	got, err := c.Failures(ctx)
	must(t, err)
	if diff := cmp.Diff(map[string][]string{"r1": {"db", "müller & söhne", "web"}}, got); diff != "" {
		t.Error(diff)
	}
}

func TestADamagedCatalogueSaysHowToGetItBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalog.db")
	must(t, os.WriteFile(path, []byte(strings.Repeat("this is no database ", 1000)), 0o600))
	_, err := catalog.Open(t.Context(), path)
	var p *lifeboat.Problem
	if !errors.As(err, &p) || !errors.Is(err, lifeboat.ErrDamaged) || !strings.Contains(p.Next, "lifeboat catalog rebuild") {
		t.Errorf("got %v", err)
	}
}

func TestANewerCatalogueIsRefusedUnchanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalog.db")
	must(t, open(t, path).Close())
	catalog.PretendNewer(t, path)
	_, err := catalog.Open(t.Context(), path)
	var p *lifeboat.Problem
	if !errors.As(err, &p) || !strings.Contains(p.What, "newer version") {
		t.Errorf("got %v", err)
	}
}

// TestHelperProcess is the second process of the test below.
func TestHelperProcess(t *testing.T) {
	path := os.Getenv("LIFEBOAT_TEST_CATALOG")
	if path == "" {
		t.Skip("run by TestProcessesAtOnceLoseNothing")
	}
	writeMany(t, path, os.Getenv("LIFEBOAT_TEST_NAME"))
}

func TestProcessesAtOnceLoseNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalog.db")
	var running []*exec.Cmd
	for _, name := range []string{"a", "b", "c"} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestHelperProcess$", "-test.count=1")
		cmd.Env = append(os.Environ(), "LIFEBOAT_TEST_CATALOG="+path, "LIFEBOAT_TEST_NAME="+name)
		cmd.Stderr = os.Stderr
		must(t, cmd.Start())
		running = append(running, cmd)
	}
	for _, cmd := range running {
		must(t, cmd.Wait())
	}
	c := open(t, path)
	runs, err := c.Runs(t.Context(), 1000)
	if err != nil || len(runs) != 3*writes {
		t.Errorf("%d runs, %v", len(runs), err)
	}
	ids := map[string]bool{}
	for i := range writes {
		id, err := c.KnownMachine(t.Context(), "host", fmt.Sprint(i))
		must(t, err)
		ids[id] = true
	}
	if len(ids) != writes {
		t.Errorf("%d ids for %d machines", len(ids), writes)
	}
}

const writes = 40

func writeMany(t *testing.T, path, name string) {
	ctx, c := t.Context(), open(t, path)
	for i := range writes {
		must(t, c.StartRun(ctx, fmt.Sprint(name, i), "export", noon))
		must(t, c.LinkMachine(ctx, "host", fmt.Sprint(i), fmt.Sprint("m", i)))
		must(t, c.SetNote(ctx, name, fmt.Sprint(i), "note", []byte(name)))
		note, err := c.Note(ctx, name, fmt.Sprint(i), "note")
		equal(t, err, string(note), name)
	}
}

func TestACancelledWriteIsNotRemembered(t *testing.T) {
	c := fresh(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.RecordDrive(ctx, someDrive("d1", 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if drives, err := c.Drives(t.Context()); err != nil || len(drives) != 0 {
		t.Errorf("%+v, %v", drives, err)
	}
}

func fresh(t *testing.T) *catalog.Catalog {
	t.Helper()
	return open(t, filepath.Join(t.TempDir(), "catalog.db"))
}

func open(t *testing.T, path string) *catalog.Catalog {
	t.Helper()
	c, err := catalog.Open(t.Context(), path)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func someDrive(id string, sequence uint64) catalog.Drive {
	return catalog.Drive{
		Drive:       lifeboat.Drive{ID: id, Label: "A", SiteID: "site", CreatedAt: noon},
		Fingerprint: "fp", Head: catalog.Head{Sequence: sequence, Hash: fmt.Sprint("hash", sequence)},
		SeenPath: "/mnt/a", SeenAt: noon, FreeBytes: 1, TotalBytes: 2, WriteBytesPerSecond: 3,
	}
}

func somePoint(id, machine string, sequence uint64) lifeboat.RestorePoint {
	return lifeboat.RestorePoint{
		ID: id, Sequence: sequence, RunID: "run", Consistency: lifeboat.ConsistentCrash,
		TakenAt: noon.Add(time.Duration(sequence) * time.Second), CommittedAt: noon.Add(2 * time.Duration(sequence) * time.Second),
		Machine: lifeboat.Machine{ID: machine, Name: "web ö", Disks: []lifeboat.Disk{
			{Key: "a", SizeBytes: 5000}, {Key: "swap", SizeBytes: 7000, Excluded: "swap"}}},
		Disks: []lifeboat.PointDisk{{Key: "a", DataBytes: 4096, NewBytes: 96}},
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal[T any](t *testing.T, err error, got, want T) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
