package main

import (
	"context"
	"fmt"
	"slices"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/custody"
	"lifeboat/imagestore"
	"lifeboat/rotation"
	"lifeboat/runbook"
)

// situationOptions say what of the world a plan is made from.
type situationOptions struct {
	// drives are open already, and are read as they are; without any, the attached
	// drives of the site that open without a question are.
	drives []*openedDrive
	// onlyDrive, if given, is the id of the drive that points are taken from; parts
	// of theirs may be on others.
	onlyDrive string
	only      []string
	uplink    int64
	isolated  bool
	emulation bool
}

// situation gathers everything that a plan of a runbook follows from: points of
// the catalogue and of the drives at hand, where the other drives are, the hosts
// that the runbook lets in, and past runs. It only looks.
func (a *app) situation(ctx context.Context, book *runbook.Book, mode runbook.Mode, o situationOptions) (runbook.Situation, error) {
	g := &gathering{a: a, s: runbook.Situation{Now: a.now(), Mode: mode, UplinkBitsPerSecond: o.uplink, Isolated: o.isolated,
		AllowEmulation: o.emulation, Only: o.only, Machines: map[string]lifeboat.Machine{}}, described: map[string]described{}}
	site, err := a.siteOrNone()
	if err != nil {
		return g.s, err
	}
	if site != nil {
		g.s.Site, g.s.SiteID = site.Site.Name, site.Site.ID
	}
	if err := g.drives(ctx, o.drives); err != nil {
		return g.s, err
	}
	if err := g.catalog(ctx); err != nil {
		return g.s, err
	}
	g.hosts(ctx, site, book)
	g.describe(ctx, site)
	g.points(o.onlyDrive)
	if g.s.Past, err = a.pastRuns(ctx); err != nil {
		return g.s, err
	}
	g.s.InOtherBooks = a.inOtherBooks(ctx, book.Name)
	g.s.PortsTaken, g.s.Uplinks = listenedPorts(), uplinks()
	return g.s, ctx.Err()
}

// gathering is a situation that is being put together.
type gathering struct {
	a *app
	s runbook.Situation
	// found are points on single drives, parts as they are; whole ones become the
	// situation's.
	found []foundPoint
	// read are the drives whose own list of points was read.
	read      map[string]bool
	described map[string]described
	retired   map[string]bool
	// failed are the names of the machines that failed, by the ids of their runs.
	failed map[string][]string
}

// foundPoint is a point, or a part, on one drive.
type foundPoint struct {
	runbook.KnownPoint
	driveID string
}

// described is a machine as its newest point, or its host, describes it.
type described struct {
	machine lifeboat.Machine
	point   lifeboat.RestorePoint
}

// drives reads the lists of points of the drives at hand.
func (g *gathering) drives(ctx context.Context, open []*openedDrive) error {
	g.read = map[string]bool{}
	if len(open) > 0 {
		for _, d := range open {
			if err := g.drive(ctx, d); err != nil {
				return err
			}
		}
		return nil
	}
	found, err := g.a.attachedDrives(ctx)
	if err != nil {
		return err
	}
	keys, err := g.a.keys()
	if err != nil {
		return err
	}
	for _, f := range g.a.withoutForeign(found) {
		if !f.Usable() || g.s.SiteID != "" && f.Drive.SiteID != g.s.SiteID {
			continue
		}
		d, err := g.a.openFound(ctx, f, keys, imagestore.Read, nil)
		if err != nil {
			g.a.warn("drive %s at %s is not looked into: %v", f.Drive.Label, f.Path, err)
			continue
		}
		err = g.drive(ctx, d)
		d.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// drive reads the points of a drive.
func (g *gathering) drive(ctx context.Context, d *openedDrive) error {
	points, faults, err := d.store.Points(ctx)
	if err != nil {
		return fmt.Errorf("list the points of %s: %w", d.name(), err)
	}
	g.a.warnFaults(d, faults)
	checked, err := d.store.Checked(ctx)
	if err != nil {
		return fmt.Errorf("read when %s was read back: %w", d.name(), err)
	}
	kept := g.a.keeping(ctx, d)
	checked = kept.trusted(checked)
	drive := d.store.Drive()
	if g.s.SiteID == "" {
		g.s.SiteID, g.s.Site = d.store.Site().ID, d.store.Site().Name
	}
	known := g.known(drive)
	known.Attached, known.Path = true, d.found.Path
	if checked.BytesPerSecond > 0 {
		known.ReadBytesPerSecond = int64(checked.BytesPerSecond)
	}
	g.read[drive.ID] = true
	for _, p := range points {
		c := checked.Points[p.ID]
		kp := runbook.KnownPoint{RestorePoint: p, DriveIDs: []string{drive.ID}, VerifiedAt: later(c.VerifiedAt, c.ReadSince), ProvenAt: kept.here[p.ID].ProvenAt}
		for _, disk := range p.Disks {
			kp.DataBytes += disk.DataBytes
		}
		kp.StoredBytes = int64(float64(kp.DataBytes) * p.Change.WholeOrZero())
		g.found = append(g.found, foundPoint{kp, drive.ID})
		if old, ok := g.described[p.Machine.ID]; !ok || p.TakenAt.After(old.point.TakenAt) {
			g.described[p.Machine.ID] = described{p.Machine, p}
		}
	}
	return nil
}

// known is the entry of a drive, which it adds if there is none.
func (g *gathering) known(drive lifeboat.Drive) *runbook.KnownDrive {
	i := slices.IndexFunc(g.s.Drives, func(d runbook.KnownDrive) bool { return d.ID == drive.ID })
	if i < 0 {
		g.s.Drives = append(g.s.Drives, runbook.KnownDrive{Drive: drive})
		i = len(g.s.Drives) - 1
	}
	return &g.s.Drives[i]
}

// catalog adds what the catalogue remembers: drives and where they are, the points
// of those that were not read, damage, and which machines are retired.
func (g *gathering) catalog(ctx context.Context) error {
	cat := g.a.knownSite(ctx)
	if cat == nil {
		return nil
	}
	j, err := g.a.decide(ctx, cat)
	if err != nil {
		return err
	}
	machines, err := cat.Machines(ctx)
	if err != nil {
		return err
	}
	if g.failed, err = cat.Failures(ctx); err != nil {
		return err
	}
	g.retired = map[string]bool{}
	for _, m := range machines {
		g.retired[m.ID] = !m.RetiredAt.IsZero()
	}
	for _, d := range j.shelf.Drives {
		known := g.known(d.Drive)
		known.Attached = known.Attached || d.Attached
		known.Where, known.Suspect = placeWords(d.Place), d.Suspect
		if s := d.Place.State; known.Suspect == "" && (s == custody.Quarantined || s == custody.Retired || s == custody.Lost) {
			known.Suspect = "it is " + placeWords(d.Place)
		}
		at := slices.IndexFunc(j.policy.Locations, func(l rotation.Location) bool { return l.Name == d.Place.Location })
		if at >= 0 {
			l := j.policy.Locations[at]
			known.FetchTime = l.LeadTime
			if l.Contact != "" {
				known.Where += "; call " + l.Contact
			}
		}
	}
	points, err := cat.Points(ctx, catalog.PointFilter{})
	if err != nil {
		return err
	}
	drives, err := cat.Drives(ctx)
	if err != nil {
		return err
	}
	for _, d := range drives {
		if known := g.known(d.Drive); known.ReadBytesPerSecond == 0 {
			known.ReadBytesPerSecond = d.ReadBytesPerSecond
		}
	}
	for _, p := range points {
		if !g.read[p.DriveID] {
			g.remembered(p)
		}
	}
	return g.damage(ctx, cat)
}
