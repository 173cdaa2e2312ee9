package imagestore

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"time"

	"lifeboat"
	"lifeboat/imagestore/format"
	"lifeboat/internal/durable"
)

const (
	// lockChecks is held alone while the record of checks is written, so that
	// two verifications of one drive add to each other.
	lockChecks   = "lock.checks"
	checksFolder = "checks"
	// saveChecksEvery is how much of a verification a kill costs.
	saveChecksEvery = time.Minute
	// resumeWithin is how old the beginning of a verification may be that is
	// gone on with. What was read longer ago proves little for "today".
	resumeWithin = 7 * 24 * time.Hour
)

// checks is the drive's own record of what was read back from it, and when. A
// drive carries it, so that it speaks for itself on any computer.
//
// It can only ever claim what once was true: it is sealed like everything else,
// a pack's id is never used twice, and an older record that somebody put back
// makes dates older. A place that is marked is bad, whatever is recorded.
type checks struct {
	s *Store

	mu    sync.Mutex
	known format.Checks
	// packs and points are known's, for looking up.
	packs  map[format.ID]uint64
	points map[format.ShortID]format.CheckedPoint
	// readNow and walkedNow are what this process found out since it last wrote
	// the record. Of everything else the record on the drive knows more.
	readNow   map[format.ID]bool
	walkedNow map[format.ShortID]bool
	// revoked are packs that are damaged, found by this process or marked by
	// another one meanwhile.
	revoked map[format.ID]bool
	// hurtsAny: damage was found, and whom it hurts is not known of all points.
	hurtsAny bool
	saved    time.Time
	// ours: the unfinished verification that is recorded is this one.
	ours bool
	// judged: this process knows better than the record whether the drive is
	// verified.
	judged bool
	// unsaved says why nothing can be recorded, or is empty.
	unsaved string
}

// loadChecks reads the newest record of the drive. One that cannot be read is
// told with the small files, and costs what was known: everything counts as
// never read.
func (s *Store) loadChecks() (*checks, error) {
	c := &checks{s: s, readNow: map[format.ID]bool{}, walkedNow: map[format.ShortID]bool{}, revoked: map[format.ID]bool{}, saved: s.now()}
	if s.dir.ReadOnly() {
		c.unsaved = "the drive was opened only for reading"
	}
	known, err := s.readChecks()
	if err != nil {
		return nil, err
	}
	c.take(known)
	return c, nil
}

// take makes a record the one that is known. Dates that have not come yet were
// written by a clock that was wrong; they count for nothing.
func (c *checks) take(known format.Checks) {
	now := seconds(c.s.now())
	if known.Begun > now {
		known.Begun = 0
	}
	if known.Verified > now {
		known.Verified = 0
	}
	known.Speeds = slices.DeleteFunc(known.Speeds, func(s format.CheckSpeed) bool { return s.At > now })
	c.known = known
	c.packs, c.points = c.trusted(known)
}

// trusted are the packs and points of a record, without dates that have not come.
func (c *checks) trusted(known format.Checks) (map[format.ID]uint64, map[format.ShortID]format.CheckedPoint) {
	now := seconds(c.s.now())
	packs, points := map[format.ID]uint64{}, map[format.ShortID]format.CheckedPoint{}
	for _, p := range known.Packs {
		if p.At <= now {
			packs[p.ID] = p.At
		}
	}
	for _, p := range known.Points {
		if p.Verified <= now && p.ReadSince <= now {
			points[p.ID] = p
		}
	}
	return packs, points
}

// seconds is a moment as the record writes it.
func seconds(t time.Time) uint64 { return uint64(max(t.Unix(), 0)) }

// moment is the reverse; 0 is never.
func moment(seconds uint64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(int64(seconds), 0).UTC()
}

// readChecks reads the newest record that can be read, or an empty one.
func (s *Store) readChecks() (format.Checks, error) {
	var c format.Checks
	names, err := s.checksNames()
	if err != nil {
		return c, err
	}
	for _, name := range slices.Backward(names) {
		_, err := readTwin(s.dir, checksFolder+"/"+name, format.MaxSmallFile, func(b []byte) error {
			_, body, err := format.OpenSmall(b, s.driveID, format.KindChecks, s.masters)
			if err == nil {
				c, err = format.DecodeChecks(body)
			}
			if sequence, ok := parseSequence(name); err == nil && (!ok || sequence != c.Sequence) {
				err = fmt.Errorf("%w: it is another record", format.ErrCorrupt)
			}
			return err
		})
		if err == nil || isGone(err) {
			return c, err
		}
		s.log.Warn("a record of checks cannot be read", "file", name, "why", err)
	}
	return format.Checks{}, nil
}

// checksNames lists the records, oldest first.
func (s *Store) checksNames() ([]string, error) {
	names, err := listTwins(s.dir, checksFolder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list the records of checks: %w", err)
	}
	return slices.DeleteFunc(names, func(name string) bool { _, ok := parseSequence(name); return !ok }), nil
}

// at is when a pack was last read whole and found good; 0 is never.
func (c *checks) at(id format.ID) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.packs[id]
}

// good notes that a pack was read whole and is good.
func (c *checks) good(id format.ID, at uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.revoked[id] {
		c.packs[id], c.readNow[id] = max(c.packs[id], at), true
	}
}

// revoke takes back what was known of a pack: something of it is bad.
func (c *checks) revoke(id format.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.packs, id)
	c.revoked[id] = true
}

// foundDamage takes back what was known of the drive and of its points: until
// the points are walked, nobody knows which of them the damage hurts.
func (c *checks) foundDamage() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known.Verified, c.judged, c.hurtsAny = 0, true, true
}

// walked notes what is known of a point that was just walked. The caller holds mu.
func (c *checks) walked(p format.CheckedPoint) {
	c.points[p.ID], c.walkedNow[p.ID] = p, true
}

// due says whether it is time to save what was found so far.
func (c *checks) due() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unsaved != "" || c.s.now().Sub(c.saved) < saveChecksEvery {
		return false
	}
	c.saved = c.s.now()
	return true
}

// refuse says why nothing can be recorded.
func (c *checks) refuse(why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unsaved = why
}

// save writes the record for the packs and points that exist. It fails only with
// the drive: a record that cannot be written costs the memory of a reading, not
// what the reading found.
func (c *checks) save(present func(format.ID) bool, listed func(format.ShortID) bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unsaved != "" {
		return nil
	}
	err := c.write(present, listed)
	switch {
	case err == nil:
		return nil
	case isGone(err):
		return err
	case errors.Is(err, durable.ErrLocked):
		return nil // another verification writes just now; the next save adds this
	case errors.Is(err, lifeboat.ErrDriveFull):
		c.unsaved = "the drive is full"
	default:
		// Whatever it was: nothing is known of what the medium holds of it.
		c.unsaved = err.Error()
	}
	c.s.log.Warn("what was checked cannot be recorded on the drive", "why", err)
	return nil
}

func (c *checks) write(present func(format.ID) bool, listed func(format.ShortID) bool) error {
	if w := c.s.writer; w != nil && w.err() != nil {
		return w.err()
	}
	lock, err := c.s.dir.Lock(lockChecks, true)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := c.s.dir.Mkdir(checksFolder); err != nil {
		return fmt.Errorf("make the folder of checks: %w", err)
	}
	if err := c.s.wrote(c.s.dir.SyncDir(".")); err != nil {
		return err
	}
	if err := durable.RemoveTemps(c.s.dir, checksFolder); err != nil {
		return err
	}
	there, err := c.s.readChecks()
	if err != nil {
		return err
	}
	c.merge(there)
	next := c.encode(present, listed)
	name := fmt.Sprintf("%s/%016x", checksFolder, next.Sequence)
	if err := c.s.wrote(c.s.writeSealed(format.KindChecks, name, next.Append(nil))); err != nil {
		return fmt.Errorf("write the record of checks: %w", err)
	}
	c.known.Sequence = next.Sequence
	clear(c.readNow)
	clear(c.walkedNow)
	return c.dropOlder(next.Sequence)
}

// merge takes over the record on the drive, in which others may have added and
// taken back, and puts into it what this process found out itself.
func (c *checks) merge(there format.Checks) {
	c.known.Sequence = max(c.known.Sequence, there.Sequence)
	if !c.ours {
		c.known.Begun, c.known.Scope = there.Begun, there.Scope
	}
	if !c.judged {
		c.known.Verified = there.Verified
	}
	packs, points := c.trusted(there)
	for id := range c.readNow {
		packs[id] = max(packs[id], c.packs[id])
	}
	for id := range c.revoked {
		delete(packs, id)
	}
	if c.hurtsAny {
		points = c.points // not written, and needed when they are walked
	}
	for id := range c.walkedNow {
		points[id] = c.points[id]
	}
	c.packs, c.points = packs, points
}

// encode makes the record as it is written: what is gone is left out, and if
// there is more than fits, what was read longest ago.
func (c *checks) encode(present func(format.ID) bool, listed func(format.ShortID) bool) format.Checks {
	now := seconds(c.s.now())
	next := c.known
	next.Sequence++
	next.Speeds = next.Speeds[max(0, len(next.Speeds)-format.MaxCheckSpeeds):]
	next.Packs, next.Points = nil, nil
	for id, at := range c.packs {
		if present(id) && at <= now {
			next.Packs = append(next.Packs, format.CheckedPack{ID: id, At: at})
		}
	}
	if len(next.Packs) > format.MaxCheckedPacks {
		slices.SortFunc(next.Packs, func(a, b format.CheckedPack) int { return cmp.Compare(b.At, a.At) })
		next.Packs = next.Packs[:format.MaxCheckedPacks]
	}
	slices.SortFunc(next.Packs, func(a, b format.CheckedPack) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	for p := range maps.Values(c.points) {
		if c.hurtsAny && !c.walkedNow[p.ID] {
			continue
		}
		if listed(p.ID) && (p.Verified > 0 || p.ReadSince > 0) {
			next.Points = append(next.Points, p)
		}
	}
	slices.SortFunc(next.Points, func(a, b format.CheckedPoint) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	next.Points = next.Points[:min(len(next.Points), format.MaxCheckedPoints)]
	return next
}

// dropOlder removes the records that a newer one takes the place of.
func (c *checks) dropOlder(newest uint64) error {
	names, err := c.s.checksNames()
	if err != nil {
		return err
	}
	for _, name := range names {
		if sequence, _ := parseSequence(name); sequence < newest {
			if err := c.s.wrote(removeTwin(c.s.dir, checksFolder+"/"+name)); err != nil {
				return fmt.Errorf("remove an older record of checks: %w", err)
			}
		}
	}
	return nil
}
