package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"lifeboat"
	"lifeboat/imagestore"
	"lifeboat/rotation"
	"lifeboat/runbook"
)

// sources finds the drives of a machine's point, waits for those that are away,
// and says where each of its disks is read from. The drives stay open until the
// function that it returns is called.
func (w *world) sources(ctx context.Context, act runbook.Action, spent map[runbook.Spending]time.Duration) (picked pickedPoint, done func(), err error) {
	began := time.Now()
	var all []rotation.Found
	for _, id := range act.Machine.DriveIDs {
		found, err := w.awaitDrive(ctx, id, act.Machine.Name, act.Say)
		if err != nil {
			return picked, nil, err
		}
		all = append(all, found)
	}
	spent[runbook.SpentFind] = time.Since(began)
	began = time.Now()
	defer func() { spent[runbook.SpentOpen] = time.Since(began) }()
	// One after the other: somebody may have to type a secret.
	w.driveMu.Lock()
	defer w.driveMu.Unlock()
	for _, found := range all {
		d, err := w.openDrive(ctx, found)
		if err != nil {
			return picked, nil, err
		}
		point, err := d.store.Point(ctx, act.Machine.Point.ID)
		if errors.Is(err, imagestore.ErrNoPoint) {
			d.Close()
			continue // it has another part of the machine
		}
		reader := w.a.newPointReader(d)
		done = func() { reader.Close(); d.Close() }
		if err == nil {
			picked, err = reader.read(ctx, point, "")
		}
		if err != nil {
			done()
		}
		return picked, done, err
	}
	return picked, nil, &lifeboat.Problem{
		What: fmt.Sprintf("%s: its point of %s is not on %s any more", act.Machine.Name, stamp(act.Machine.Point.TakenAt), w.driveNames(act.Machine.DriveIDs)),
		Safe: "the drives were only read",
		Next: "plan again: lifeboat runbook plan",
		Err:  imagestore.ErrNoPoint,
	}
}

// openDrive opens a drive with what opened one before, or by asking.
func (w *world) openDrive(ctx context.Context, found rotation.Found) (d *openedDrive, err error) {
	if w.keys != (secretKeys{}) {
		d, err = w.a.openFound(ctx, found, w.keys, imagestore.Read, nil)
	}
	if w.keys == (secretKeys{}) || errors.Is(err, lifeboat.ErrWrongSecret) {
		d, err = w.a.openAsking(ctx, found, imagestore.Read)
	}
	if err != nil {
		return nil, err
	}
	if w.plan.SiteID != "" && d.store.Site().ID != w.plan.SiteID {
		d.Close()
		return nil, &lifeboat.Problem{
			What: fmt.Sprintf("drive %s belongs to another site (%s) than the plan (%s)", d.found.Drive.Label, d.store.Site().Name, w.plan.Site),
			Safe: "it was only read", Next: "attach the drive that the plan names", Err: lifeboat.ErrWrongDrive,
		}
	}
	w.keys = d.keys
	if id := d.store.Drive().ID; w.plan.Mode == runbook.Recover && !w.tookSets[id] {
		w.tookSets[id] = true
		if err := w.a.takeBootSets(ctx, d); err != nil {
			w.tell("", "what machines read when they start is not read ahead: %v", err)
		}
	}
	return d, nil
}

// awaitDrive finds a drive, and waits until it is attached.
func (w *world) awaitDrive(ctx context.Context, id, machine string, say func(string)) (rotation.Found, error) {
	told := false
	for {
		found, err := w.a.findDriveByID(ctx, id, w.driveAt(id).Path)
		if err == nil {
			if told {
				say(fmt.Sprintf("drive %s is here; %s goes on", found.Drive.Label, machine))
			}
			return found, nil
		}
		if !errors.Is(err, lifeboat.ErrDriveGone) {
			return found, err
		}
		if !told {
			told = true
			say(fmt.Sprintf("%s waits for drive %s, which is not attached: attach it", machine, w.driveWords(id)))
		}
		select {
		case <-ctx.Done():
			return found, &lifeboat.Problem{
				What: fmt.Sprintf("%s: drive %s is not attached", machine, w.driveWords(id)),
				Safe: "nothing was started from it; what runs goes on",
				Next: "attach the drive and go on with the run",
				Err:  errors.Join(lifeboat.ErrNoDrive, context.Cause(ctx)),
			}
		case <-time.After(driveRetry):
		}
	}
}

// driveAt is what is known of a drive of the plan.
func (w *world) driveAt(id string) runbook.PlannedDrive {
	i := slices.IndexFunc(w.plan.Drives, func(d runbook.PlannedDrive) bool { return d.ID == id })
	if i < 0 {
		return runbook.PlannedDrive{Drive: lifeboat.Drive{ID: id, Label: short(id)}}
	}
	return w.plan.Drives[i]
}

// driveWords name a drive, and say where it is as far as that is known.
func (w *world) driveWords(id string) string {
	d := w.driveAt(id)
	if d.Where == "" {
		return d.Label
	}
	return fmt.Sprintf("%s (%s)", d.Label, d.Where)
}

func (w *world) driveNames(ids []string) string {
	var names []string
	for _, id := range ids {
		names = append(names, "drive "+w.driveAt(id).Label)
	}
	return list(names)
}

// serve has the disks of the run served. A server that runs takes up by itself
// what was written down since it began.
func (w *world) serve(ctx context.Context, say func(string)) error {
	w.servingMu.Lock()
	defer w.servingMu.Unlock()
	dir := w.o.run.dir
	if s, err := readServing(dir); err == nil && s.Process.alive() {
		return nil
	}
	if err := w.unlock(ctx, say); err != nil {
		return err
	}
	if err := w.booted.change(dir, func() { w.booted.Ended = false }); err != nil {
		return err
	}
	return w.a.startServing(ctx, dir, w.keys)
}

// unlock makes sure that there is a secret to serve the disks with.
func (w *world) unlock(ctx context.Context, say func(string)) error {
	w.driveMu.Lock()
	defer w.driveMu.Unlock()
	if w.keys != (secretKeys{}) {
		return nil
	}
	found, err := w.awaitDrive(ctx, w.booted.Drive.ID, "the run", say)
	if err != nil {
		return err
	}
	d, err := w.openDrive(ctx, found)
	if err != nil {
		return err
	}
	d.Close()
	return nil
}

// watchDrives tells when a drive stops answering under machines that run, when it
// is back, and when room for what they write is short. The machines stand still
// meanwhile; see served_disk.go and disk_room.go.
func (w *world) watchDrives(ctx context.Context) {
	away := map[string]bool{}
	room := ""
	tick := time.NewTicker(servingEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s, err := readServing(w.o.run.dir)
		if err != nil || !s.Process.alive() {
			continue
		}
		if s.Room != room {
			room = s.Room
			w.tell("", "%s", room)
		}
		for _, d := range s.Drives {
			is := !d.WaitingSince.IsZero()
			switch {
			case is && !away[d.DriveID]:
				w.tell("", "drive %s does not answer: %s; attach it again, anywhere", w.driveWords(d.DriveID), w.standing(d.DriveID))
			case !is && away[d.DriveID]:
				w.tell("", "drive %s is back; its machines go on", w.driveAt(d.DriveID).Label)
			}
			away[d.DriveID] = is
		}
	}
}

// standing says which machines stand still without a drive.
func (w *world) standing(drive string) string {
	w.booted.mu.Lock()
	defer w.booted.mu.Unlock()
	var names []string
	for _, m := range w.booted.Machines {
		if m.HostID != "" && !m.Settled && w.booted.waits(m, map[string]bool{drive: true}) {
			names = append(names, m.Name)
		}
	}
	if len(names) == 0 {
		return "nothing runs from it"
	}
	return strings.Join(names, ", ") + " stand still without harm"
}
