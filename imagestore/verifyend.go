package imagestore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"lifeboat/imagestore/format"
)

// save notes on the drive what was found so far: first what is bad, so that no
// record can ever be newer than the mark that contradicts it.
func (v *verification) save() error {
	if v.unsaved {
		return nil
	}
	if !v.s.superSettled() {
		v.checks.refuse("its new key is not in use for certain: a rotation was cut off")
		return nil
	}
	if err := v.marksOfOthers(); err != nil {
		return err
	}
	fresh := v.newMarks()
	err := v.s.remember(fresh)
	if isGone(err) {
		return err
	}
	if err != nil {
		// What was found is worth more than that it could not be noted. The next
		// save tries again; what the record takes back needs no mark.
		v.s.log.Warn("the damage could not be marked on the drive", "why", err)
	}
	v.noteMarked(fresh, err)
	return v.checks.save(
		func(id format.ID) bool { _, ok := v.present[id]; return ok },
		func(id format.ShortID) bool { return v.listed[id] })
}

// newMarks are the marks that are not on the drive yet, each once.
func (v *verification) newMarks() (fresh format.Mark) {
	v.mu.Lock()
	defer v.mu.Unlock()
	twice := map[format.MarkEntry]bool{}
	for _, e := range v.marks {
		if !twice[e] && !v.marked[e] {
			fresh = append(fresh, e)
		}
		twice[e] = true
	}
	return fresh
}

// noteMarked notes that marks are on the drive, or why they are not.
func (v *verification) noteMarked(fresh format.Mark, failed error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if failed != nil {
		v.notMarked = "the damage could not be marked: " + failed.Error()
		return
	}
	for _, e := range fresh {
		v.marked[e] = true
	}
	v.marks = slices.DeleteFunc(v.marks, func(e format.MarkEntry) bool { return v.marked[e] })
	v.notMarked = ""
}

// marksOfOthers looks for damage that others have marked since this verification
// began. A pack that was read before may be bad since: it is not recorded, and
// read again before the points are walked.
func (v *verification) marksOfOthers() error {
	if err := v.s.marks.load(v.s); isGone(err) {
		return err
	} else if err != nil {
		v.s.log.Warn("the marks cannot be read again", "why", err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for number := range v.s.marks.packNumbers() {
		if v.knownMarks[number] {
			continue
		}
		v.knownMarks[number] = true
		if state := v.packs[number]; state != nil && !state.lost && len(state.bad) == 0 && state.good == nil {
			v.checks.revoke(v.s.packs.pack(number).ID)
			v.doubted = append(v.doubted, number)
		}
	}
	return nil
}

// readDoubted reads again what others have marked meanwhile.
func (v *verification) readDoubted(ctx context.Context) error {
	if err := v.marksOfOthers(); err != nil {
		return err
	}
	for _, number := range v.doubted {
		if err := v.readPack(ctx, &v.late, planned{packFile: packFile{RunPack: v.s.packs.pack(number)}}); err != nil {
			return err
		}
	}
	v.doubted = nil
	return nil
}

// notePoint keeps what is known of a point. Only a verification that read all of
// it makes a point verified; samples together say since when all of it was read.
func (v *verification) notePoint(r record, f fact) {
	v.checks.mu.Lock()
	defer v.checks.mu.Unlock()
	p := v.checks.points[r.ID]
	if v.report.FromMemory != "" && f != broken {
		p.ID = r.ID
		v.report.Checked = append(v.report.Checked, checkedPoint(p)) // what was known before
		return
	}
	p.ID, p.ReadSince = r.ID, 0
	switch {
	case f == broken:
		p.Verified = 0
	case f > unread:
		p.ReadSince = uint64(f)
		if f == latest { // a point without any data
			p.ReadSince = max(v.began, seconds(v.s.now()))
		}
	}
	if !v.o.part() {
		p.Verified = p.ReadSince
	}
	v.checks.walked(p)
	v.report.Checked = append(v.report.Checked, checkedPoint(p))
}

// finish keeps what was found, whether the verification came to its end or not.
// Nothing is kept as read that was not.
func (v *verification) finish(failed error) error {
	if isGone(failed) {
		return failed
	}
	if failed == nil {
		v.conclude()
	}
	err := v.save()
	v.report.Coverage = v.checks.coverage(v.present)
	v.report.NotRecorded = cmp.Or(v.checks.unsaved, v.notMarked)
	if failed != nil {
		return failed
	}
	return err
}

// conclude is for a verification that came to its end.
func (v *verification) conclude() {
	for number, state := range v.packs {
		// Of a torn pack it is known only now whether anything is missing in it.
		if pack := v.s.packs.pack(number); state.good != nil && v.s.packs.isTorn(number) {
			v.checks.good(pack.ID, state.at)
		}
	}
	c := v.checks
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(v.o.Points) == 0 {
		c.hurtsAny = false // every point was walked
	}
	switch {
	case v.report.Lost():
		c.known.Verified, c.judged = 0, true
	case v.report.FromMemory != "":
	case !v.o.part() && len(v.o.Points) == 0:
		c.known.Verified, c.judged = v.began, true
		v.report.VerifiedAt = moment(v.began)
	}
	if !v.o.part() {
		c.known.Begun, c.known.Scope = 0, format.ID{}
	}
	if speed := v.report.BytesPerSecond; speed > 0 && v.report.Seconds*float64(speed) >= speedBytes {
		v.report.Slow = slower(c.known.Speeds, uint64(speed))
		c.known.Speeds = append(c.known.Speeds, format.CheckSpeed{At: seconds(v.s.now()), BytesPerSecond: uint64(speed)})
	}
}

// timed measures how fast the packs were read.
func (v *verification) timed(start time.Time, before int64) {
	v.report.Seconds = time.Since(start).Seconds()
	v.report.BytesPerSecond = int64(float64(v.meter.read.Load()-before) / max(v.report.Seconds, 1e-6))
}

const (
	// speedBytes is what has to be read for a speed that means something.
	speedBytes = 256 << 20
	// speedsToCompare is how many verifications tell what is usual.
	speedsToCompare = 3
)

// slower compares a speed with the median of those before, and says so when it
// is less than half of it: drives that begin to fail read again and again.
func slower(before []format.CheckSpeed, now uint64) string {
	if len(before) < speedsToCompare {
		return ""
	}
	var speeds []uint64
	for _, s := range before {
		speeds = append(speeds, s.BytesPerSecond)
	}
	slices.Sort(speeds)
	usual := speeds[len(speeds)/2]
	if now >= usual/2 {
		return ""
	}
	return fmt.Sprintf("it read %d MB a second, and %d in the verifications before: a slower port, or a drive that begins to fail", now/1e6, usual/1e6)
}
