package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/imagestore"
)

// A machine whose checks passed is proven; damage that is met later takes that and
// the verification back, until the drive is verified again.
func TestAPointIsProvenUntilDamageIsMet(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "", 1<<20)
	p.must("verify", p.drive)
	a := newApp(strings.NewReader(""), new(bytes.Buffer), new(bytes.Buffer))
	a.stateDir = p.state
	defer a.closeMemory()
	d, err := a.openDrive(t.Context(), p.drive, imagestore.Read)
	if err != nil {
		t.Fatal(err)
	}
	points, _, err := d.store.Points(t.Context())
	drive := d.store.Drive()
	d.Close()
	if err != nil || len(points) != 1 {
		t.Fatal(points, err)
	}
	m := plannedBoot{Name: "copy", Point: points[0], Checks: []bootCheck{{Kind: "tcp", Port: 5432}}}
	b := &booter{a: a, run: &run{ID: newID(), dir: t.TempDir()}, booted: &bootedRun{Drive: drive}, plan: &bootPlan{Machines: []plannedBoot{m}}}

	// One that failed, or was not asked, proves nothing.
	b.prove(t.Context(), []bootResult{{Machine: "copy", err: errors.New("no answer")}})
	b.prove(t.Context(), []bootResult{{Machine: "copy", Skipped: "not tried"}})
	b.plan.Machines[0].Checks = nil
	b.prove(t.Context(), []bootResult{{Machine: "copy"}})
	if got := p.checked(); got.ProvenAt != "" || got.VerifiedAt == "" {
		t.Fatalf("%+v", got)
	}
	b.plan.Machines[0].Checks = m.Checks
	b.prove(t.Context(), []bootResult{{Machine: "copy"}})
	if got := p.checked(); got.ProvenAt == "" || got.VerifiedAt == "" {
		t.Fatalf("it answered: %+v", got)
	}

	a.damaged(t.Context(), drive, catalog.Fault{PointID: points[0].ID, RunID: newID(), What: "a booted machine met damage"})
	if got := p.checked(); got.ProvenAt != "" || got.VerifiedAt != "" {
		t.Errorf("damage was met: %+v", got)
	}
	time.Sleep(1100 * time.Millisecond) // a drive notes whole seconds, and only a later one counts
	if said := p.must("verify", "--restart", p.drive); strings.Contains(said.stderr, "does not count") {
		t.Errorf("it began after the damage: %s", said.stderr)
	}
	if got := p.checked(); got.ProvenAt != "" || got.VerifiedAt == "" {
		t.Errorf("verified again: %+v", got)
	}
}

// A verification goes on where one was interrupted, for a week. Where damage was
// met since that one began, it is said that it does not count, and what does.
func TestAVerificationThatBeganBeforeDamageWasMetSaysThatItDoesNotCount(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "", 1<<20)
	a := newApp(strings.NewReader(""), new(bytes.Buffer), new(bytes.Buffer))
	a.stateDir = p.state
	defer a.closeMemory()
	drives, err := a.remembered(t.Context()).Drives(t.Context())
	if err != nil || len(drives) != 1 {
		t.Fatal(drives, err)
	}
	// As if the verification below were the rest of one of an hour ago.
	f := catalog.Fault{DriveID: drives[0].ID, RunID: newID(), At: time.Now().Add(time.Hour), What: "a restore met damage", Others: true}
	if err := a.remembered(t.Context()).RecordFault(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	said := p.must("verify", p.drive)
	if !strings.Contains(said.stderr, "does not count as verified: this verification began") || !strings.Contains(said.stderr, "begin anew with: lifeboat verify --restart "+drives[0].Label) {
		t.Errorf("it says %s", said.stderr)
	}
	if got := p.checked(); got.VerifiedAt != "" {
		t.Errorf("%+v", got)
	}
}

// The disks of a machine whose server met damage prove nothing, though its
// service answers.
func TestABootThatMetDamageProvesNothing(t *testing.T) {
	t.Parallel()
	p := newPlace(t, "", 1<<20)
	a := newApp(strings.NewReader(""), new(bytes.Buffer), new(bytes.Buffer))
	a.stateDir = p.state
	defer a.closeMemory()
	dir := t.TempDir()
	if err := saveJSON(servingPath(dir), diskServing{Damage: []string{"disk root, 4 KiB from byte 0"}}); err != nil {
		t.Fatal(err)
	}
	m := plannedBoot{Name: "before", Point: lifeboat.RestorePoint{ID: p.ids()[0]}, Checks: []bootCheck{{Kind: "tcp", Port: 22}}}
	b := &booter{a: a, run: &run{ID: newID(), dir: dir}, booted: &bootedRun{}, plan: &bootPlan{Machines: []plannedBoot{m}}}
	b.prove(t.Context(), []bootResult{{Machine: "before"}})
	if proofs, err := a.remembered(t.Context()).Proofs(t.Context(), ""); err != nil || len(proofs) != 0 {
		t.Errorf("%v, %v", proofs, err)
	}
}

// checkedTimes are what is known of the one point of a place.
type checkedTimes struct{ VerifiedAt, ProvenAt string }

func (p *place) checked() checkedTimes {
	p.t.Helper()
	var list struct{ Points []checkedTimes }
	if err := json.Unmarshal([]byte(p.must("point", "list", "--drive", p.drive, "--json").stdout), &list); err != nil || len(list.Points) != 1 {
		p.t.Fatal(err, list)
	}
	return list.Points[0]
}
