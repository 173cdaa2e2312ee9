package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"lifeboat/catalog"
	"lifeboat/custody"
	"lifeboat/rotation"
)

// shelf puts together everything that is known of the drives: from the catalogue,
// from the ledger, and which of them can be seen now. It reads no drive's store.
func (a *app) shelf(ctx context.Context, cat *catalog.Catalog) (rotation.Shelf, error) {
	drives, err := cat.Drives(ctx)
	if err != nil {
		return rotation.Shelf{}, err
	}
	points, err := cat.Points(ctx, catalog.PointFilter{})
	if err != nil {
		return rotation.Shelf{}, err
	}
	machines, err := cat.Machines(ctx)
	if err != nil {
		return rotation.Shelf{}, err
	}
	faults, err := cat.Faults(ctx, "")
	if err != nil {
		return rotation.Shelf{}, err
	}
	found, err := a.attachedDrives(ctx)
	if err != nil {
		return rotation.Shelf{}, err
	}
	policy, err := a.policy()
	if err != nil {
		return rotation.Shelf{}, err
	}
	suspects, err := cat.Suspects(ctx)
	if err != nil {
		return rotation.Shelf{}, err
	}
	pending, err := a.pendingKeys(ctx, cat)
	if err != nil {
		return rotation.Shelf{}, err
	}
	s := rotation.Shelf{Done: map[string]rotation.DoneStep{}}
	for _, d := range drives {
		sd := shelfDrive(d, found, points, faults)
		sd.PendingKeys = pending[d.ID]
		if why := suspects[d.ID].Why; sd.Suspect == "" {
			sd.Suspect = why
		}
		facts, err := cat.Facts(ctx, d.ID)
		if err != nil {
			return s, err
		}
		sd.Fills = fills(facts)
		s.Drives = append(s.Drives, sd)
	}
	s.Machines = shelfMachines(machines, points)
	addHomes(&s, policy.Scheme.Sets, points)
	a.shelfLedger(ctx, cat, &s)
	for _, p := range points {
		if !s.Settled(p.CommittedAt) {
			s.LastCommit = later(s.LastCommit, p.CommittedAt)
		}
	}
	return s, ctx.Err()
}

// shelfDrive is one drive as the catalogue knows it. Nothing says where it is
// until the ledger does: in the house, where it counts for least.
func shelfDrive(d catalog.Drive, found []rotation.Found, points []catalog.Point, faults []catalog.Fault) rotation.ShelfDrive {
	sd := rotation.ShelfDrive{Drive: d.Drive, Place: custody.Place{State: custody.Onsite}, Since: d.CreatedAt,
		TotalBytes: d.TotalBytes, FreeBytes: d.FreeBytes, SeenAt: d.SeenAt, VerifiedAt: d.VerifiedAt}
	var paths []string
	for _, f := range found {
		if f.Drive.ID == d.ID {
			paths = append(paths, f.Path)
			sd.Attached = true
		}
	}
	if len(paths) > 1 {
		sd.Suspect = fmt.Sprintf("it is attached %d times, at %s: one is a copy of the other", len(paths), strings.Join(paths, " and "))
	}
	for _, p := range points {
		if p.DriveID == d.ID {
			sd.Points = append(sd.Points, shelfPoint(p, points))
			sd.ProvenAt = later(sd.ProvenAt, p.ProvenAt)
		}
	}
	for _, f := range faults {
		// A verification of everything that began later found nothing any more.
		if f.DriveID == d.ID && f.At.After(d.VerifiedAt) {
			sd.Damage = fmt.Sprintf("damage was found on %s: %s", f.At.Format(time.DateOnly), f.What)
		}
	}
	return sd
}

// shelfPoint is one point. Its date of verification is that of the block that
// was read longest ago, whether one verification read all or several together;
// that of a part is that of the machine: of all parts, or none.
func shelfPoint(p catalog.Point, all []catalog.Point) rotation.ShelfPoint {
	sp := rotation.ShelfPoint{ID: p.PointID, MachineID: p.MachineID, RunID: p.RunID, Sequence: p.Sequence, TakenAt: p.TakenAt, CommittedAt: p.CommittedAt,
		VerifiedAt: partsVerified(p, all), ProvenAt: p.ProvenAt, Held: p.Held, HeldUntil: p.HeldUntil, DataBytes: p.DataBytes, Copied: p.CopiedFrom != ""}
	sp.Together, sp.Parts = partsOf(p)
	return sp
}

// shelfMachines are the machines that points are of. The size of a machine is
// that of its newest point.
func shelfMachines(machines []catalog.Machine, points []catalog.Point) []rotation.ShelfMachine {
	var all []rotation.ShelfMachine
	for _, m := range machines {
		sm := rotation.ShelfMachine{ID: m.ID, Name: m.Name, Retired: !m.RetiredAt.IsZero()}
		var newest time.Time
		for _, p := range points {
			if p.MachineID == m.ID && p.TakenAt.After(newest) {
				newest, sm.DataBytes = p.TakenAt, p.DataBytes
			}
		}
		all = append(all, sm)
	}
	return all
}

// shelfLedger adds what the ledger knows: where things are, and what was done. A
// ledger that does not hold stops nobody; drives that are away count for nothing
// then, so that less is forgotten and not more.
func (a *app) shelfLedger(ctx context.Context, cat *catalog.Catalog, s *rotation.Shelf) {
	entries, err := cat.Ledger(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, custody.ErrBroken) {
			a.warnOfLedger(err)
		} else {
			p := problemOf(err)
			a.warn("%s; where the drives are is not known (%s)", p.What, p.Next)
		}
		for i := range s.Drives {
			if d := &s.Drives[i]; !d.Attached && d.Suspect == "" {
				d.Suspect = "the ledger does not hold, so where it is is not known"
			}
		}
		return
	}
	list, home := custody.Replay(entries), a.homePlace()
	for id, step := range list.Steps {
		s.Done[id] = rotation.DoneStep(step)
	}
	for i := range s.Drives {
		d := &s.Drives[i]
		if kept, known := list.Of(d.ID); known {
			d.Place, d.Since, d.Due, d.Homeward = kept.Place, kept.Since, kept.Due, kept.Homeward
		}
		// What is attached is here, whatever nobody signed yet.
		if away := d.Place.State == custody.Courier || d.Place.State == custody.Offsite || d.Place.State == custody.Recall; d.Attached && away {
			d.Place, d.Since = home, a.now()
		}
		// A drive that was made before the site had locations.
		if d.Place.State == custody.Onsite && d.Place.Location == "" {
			d.Place.Location = home.Location
		}
	}
	for _, k := range list.Items {
		if k.Kind != custody.KindDrive {
			s.Items = append(s.Items, rotation.ShelfItem{Item: k.Item, Place: k.Place, Since: k.Since})
		}
	}
	var recorded []time.Time
	for _, e := range entries {
		recorded = append(recorded, e.RecordedAt)
		if list.Revoked[e.Sequence] != 0 {
			continue
		}
		if e.Act == custody.ActSigned && e.Step == clockStep {
			newest, _ := time.Parse(time.RFC3339, e.Facts[factNewest])
			s.ConfirmClock(e.RecordedAt, newest)
			recorded = []time.Time{e.RecordedAt} // the jumps before it are settled
		}
		shelfEntry(s, e)
	}
	s.ClockJumpAt = rotation.ClockJump(recorded)
}

// clockStep is the id under which a person says that the clock is right.
const clockStep = "clock"

// factNewest says in such an entry what the newest moment was that anything bore
// then: a clock that was ahead leaves some in the future, and they are settled.
const factNewest = "newest"

// shelfEntry adds what one entry of the ledger says of a drive's way.
func shelfEntry(s *rotation.Shelf, e custody.Entry) {
	if e.Item == nil {
		return
	}
	i := slices.IndexFunc(s.Drives, func(d rotation.ShelfDrive) bool { return d.ID == e.Item.ID })
	if i < 0 {
		return
	}
	d := &s.Drives[i]
	switch e.Act {
	case custody.ActExported:
		d.EjectedAt = time.Time{}
		s.LastCommit = later(s.LastCommit, e.RecordedAt)
	case custody.ActAttached, custody.ActKeys, custody.ActForgot, custody.ActDocument:
		d.EjectedAt = time.Time{}
	case custody.ActEjected:
		d.EjectedAt = e.HappenedAt
		if e.Facts["readBack"] == "no" {
			d.EjectedAt = time.Time{}
		}
	case custody.ActMoved, custody.ActMade:
		if e.To != nil && e.To.State == custody.Offsite {
			d.DepositedAt = e.HappenedAt
		}
	}
}

func later(x, y time.Time) time.Time {
	if y.After(x) {
		return y
	}
	return x
}
