package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/internal/durable"
	"lifeboat/rotation"
)

// sawDrive compares a drive with what is remembered of it, and remembers it as
// it is now. A drive that was rolled back, forked or re-keyed is refused.
func (a *app) sawDrive(ctx context.Context, cat *catalog.Catalog, d *openedDrive) error {
	seen := d.asSeen()
	if known, err := cat.Drive(ctx, seen.ID); err == nil && d.speed == 0 {
		d.speed = float64(known.WriteBytesPerSecond)
	}
	err := cat.RecordDrive(ctx, seen)
	var suspect *catalog.SuspectError
	if err == nil {
		return a.sawSlots(ctx, cat, d)
	}
	if !errors.As(err, &suspect) {
		return err
	}
	p := &lifeboat.Problem{
		What: suspect.Error(),
		Safe: "nothing was written to it; the points on it can still be read",
		Next: "find out why: was it restored from a copy, or written elsewhere? Then use another drive, or take it as it is: lifeboat export --accept-drive",
		Err:  errors.Join(lifeboat.ErrWrongDrive, err),
	}
	if errors.Is(err, catalog.ErrKeyChanged) {
		p.Next = "find out who made it anew with this label and id; use another drive"
	}
	return p
}

// sawSlots remembers who opens a drive as it is now.
func (a *app) sawSlots(ctx context.Context, cat *catalog.Catalog, d *openedDrive) error {
	slots, err := d.store.Slots(ctx)
	if err != nil {
		return err
	}
	var seen []catalog.KeySlot
	for _, s := range slots {
		seen = append(seen, catalog.KeySlot{Name: s.Name, Kind: s.Kind, Recipient: s.Recipient, CreatedAt: s.CreatedAt, Generations: spanOf(s.Generations)})
	}
	return cat.RecordKeySlots(ctx, d.store.Drive().ID, seen, a.now())
}

// recallDrive compares a drive with what is remembered of it, before it is
// written to. Without a catalogue that can be used there is nothing to compare,
// and nil is returned: that is said, and the export goes on.
func (a *app) recallDrive(ctx context.Context, d *openedDrive, accept bool) (*catalog.Catalog, error) {
	cat := a.remembered(ctx)
	if cat == nil {
		return nil, nil
	}
	if known, err := cat.Drives(ctx); err == nil && len(known) == 0 {
		a.warn("this computer's catalogue is new, and %s is a drive of this site: what it knows is taken over. To know what the others know, attach as many as you can and run: lifeboat catalog rebuild", d.name())
	}
	saw := a.sawDrive
	if accept {
		saw = a.acceptDrive
	}
	err := saw(ctx, cat, d)
	var suspect *catalog.SuspectError
	switch {
	case err == nil:
		return cat, nil
	case errors.As(err, &suspect) || ctx.Err() != nil:
		return nil, err
	}
	a.warn("%v; whether %s went back in time is not known", err, d.name())
	return nil, nil
}

// lookAgain compares the attached drives that are not believed with what is
// remembered of them: the right one may have come back in the place of a copy.
func (a *app) lookAgain(ctx context.Context, cat *catalog.Catalog, found []rotation.Found) error {
	suspects, err := cat.Suspects(ctx)
	if err != nil || len(suspects) == 0 {
		return err
	}
	for _, f := range found {
		twice := slices.ContainsFunc(found, func(o rotation.Found) bool { return o.Drive.ID == f.Drive.ID && !sameMedium(o.Path, f.Path) })
		if _, suspect := suspects[f.Drive.ID]; !suspect || !f.Usable() || twice {
			continue
		}
		d, err := a.openDriveQuietly(ctx, f.Path)
		if err == nil {
			err = errors.Join(a.sawDrive(ctx, cat, d), d.Close())
		}
		if ctx.Err() != nil {
			return err
		}
		// What is still wrong with it is said by whoever wants to use it.
	}
	return nil
}

// acceptDrive takes a drive that was rolled back or forked for what it is now,
// because a person said so. One whose key is another was never the same drive,
// and stays refused.
func (a *app) acceptDrive(ctx context.Context, cat *catalog.Catalog, d *openedDrive) error {
	err := a.sawDrive(ctx, cat, d)
	var suspect *catalog.SuspectError
	if !errors.As(err, &suspect) || errors.Is(err, catalog.ErrKeyChanged) {
		return err
	}
	points, _, err := d.store.Points(ctx)
	if err != nil {
		return err
	}
	if err := cat.AcceptDrive(ctx, d.asSeen()); err != nil {
		return err
	}
	if err := cat.ReplacePoints(ctx, d.store.Drive().ID, points); err != nil {
		return err
	}
	known := suspect.Known
	a.warn("%s is accepted as it is: commit %d with %s; on %s it was seen with commit %d at %s. What was committed there and is not here is lost with that copy",
		d.name(), suspect.Seen.Head.Sequence, count(len(points), "point"), known.SeenAt.Format(time.DateOnly), known.Head.Sequence, known.SeenPath)
	return nil
}

// asSeen is what the catalogue remembers of a drive that is open.
func (d *openedDrive) asSeen() catalog.Drive {
	head := d.store.Head()
	seen := catalog.Drive{Drive: d.store.Drive(), Fingerprint: d.store.Fingerprint(), Earlier: d.store.EarlierFingerprints(), Head: catalog.Head{Sequence: head.Sequence, Hash: head.Hash},
		SeenPath: d.found.Path, SeenAt: d.now(), WriteBytesPerSecond: int64(d.speed)}
	seen.FreeBytes, seen.TotalBytes, _ = d.dir.Space()
	return seen
}

// probeSize is how much is written to measure a drive that was never written
// to: enough to leave a USB stick's own memory behind, little enough to be quick.
const probeSize = 32 << 20

// measureWriting is how fast the drive writes, measured once and then remembered.
func (d *openedDrive) measureWriting(ctx context.Context) float64 {
	d.speedMu.Lock()
	defer d.speedMu.Unlock()
	if d.speed > 0 || ctx.Err() != nil {
		return d.speed
	}
	const name = "speed-probe.tmp"
	dir, err := durable.OpenOS(d.found.Path, false)
	if err != nil {
		return 0
	}
	defer closeDir(dir)
	dir.Remove(name)
	f, err := dir.Create(name)
	if err != nil {
		return 0
	}
	defer dir.Remove(name)
	defer f.Close()
	chunk := make([]byte, 1<<20)
	began := time.Now()
	for range probeSize / len(chunk) {
		if _, err := f.Write(chunk); err != nil {
			return 0
		}
	}
	if f.Sync() != nil {
		return 0
	}
	d.speed = probeSize / max(time.Since(began).Seconds(), 1e-6)
	return d.speed
}
