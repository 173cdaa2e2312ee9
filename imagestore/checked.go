package imagestore

import (
	"context"
	"errors"
	"time"

	"lifeboat/imagestore/format"
)

// Checked is what a drive knows of its own verifications.
type Checked struct {
	// VerifiedAt: everything on the drive was verified then, and nothing was
	// found damaged since. It is when that verification began.
	VerifiedAt time.Time `json:"verifiedAt,omitzero"`
	// Points says it point by point, by id.
	Points map[string]CheckedPoint `json:"points,omitempty"`
	// UnfinishedFrom is when the verification began that can be gone on with.
	UnfinishedFrom time.Time `json:"unfinishedFrom,omitzero"`
	// BytesPerSecond is how fast the last verification read.
	BytesPerSecond uint64 `json:"bytesPerSecond,omitempty"`
}

// CheckedPoint says when a point was read back.
type CheckedPoint struct {
	PointID string `json:"pointId"`
	// VerifiedAt: one verification read every chunk of it; the first one then.
	VerifiedAt time.Time `json:"verifiedAt,omitzero"`
	// ReadSince: every chunk of it was read and right since then, in one
	// verification or in several samples.
	ReadSince time.Time `json:"readSince,omitzero"`
}

// Coverage says how much of a drive was read back how long ago.
type Coverage struct {
	PackBytes int64 `json:"packBytes"`
	// Percent of the packs' bytes that were read within so many days.
	Within30  float64 `json:"within30"`
	Within90  float64 `json:"within90"`
	Within365 float64 `json:"within365"`
	// DamagedBytes are of packs in which damage is known; they count as read at no
	// time. NeverBytes were never read back; OldestRead is the oldest reading of
	// the rest.
	DamagedBytes int64     `json:"damagedBytes,omitempty"`
	NeverBytes   int64     `json:"neverBytes"`
	OldestRead   time.Time `json:"oldestRead,omitzero"`
}

// Checked reads what the drive knows of its verifications: one small file.
func (s *Store) Checked(ctx context.Context) (Checked, error) {
	c, err := s.openChecks(ctx)
	if err != nil {
		return Checked{}, err
	}
	out := Checked{VerifiedAt: moment(c.known.Verified), Points: map[string]CheckedPoint{}}
	for id, p := range c.points {
		out.Points[id.String()] = checkedPoint(p)
	}
	if began := moment(c.known.Begun); s.now().Sub(began) < resumeWithin {
		out.UnfinishedFrom = began
	}
	if n := len(c.known.Speeds); n > 0 {
		out.BytesPerSecond = c.known.Speeds[n-1].BytesPerSecond
	}
	return out, nil
}

// Coverage compares what the drive knows with the packs that are on it, of which
// it looks at each.
func (s *Store) Coverage(ctx context.Context) (Coverage, error) {
	c, err := s.openChecks(ctx)
	if err == nil {
		err = s.begin()
	}
	if err != nil {
		return Coverage{}, err
	}
	defer s.end()
	files, err := s.listPacks(ctx)
	if err != nil {
		return Coverage{}, s.explain(err)
	}
	present := map[format.ID]int64{}
	for _, f := range files {
		present[f.ID] = fileSize(f.entry)
	}
	return c.coverage(present), nil
}

func (s *Store) openChecks(ctx context.Context) (*checks, error) {
	if err := s.begin(); err != nil {
		return nil, err
	}
	defer s.end()
	c, err := s.loadChecks()
	return c, s.explain(errors.Join(err, ctx.Err()))
}

func checkedPoint(p format.CheckedPoint) CheckedPoint {
	return CheckedPoint{PointID: p.ID.String(), VerifiedAt: moment(p.Verified), ReadSince: moment(p.ReadSince)}
}

// coverage adds up what was read when, of the packs that there are.
func (c *checks) coverage(present map[format.ID]int64) Coverage {
	c.mu.Lock()
	defer c.mu.Unlock()
	var v Coverage
	var within [3]int64
	now, oldest := c.s.now(), uint64(0)
	damaged := map[format.ID]bool{}
	for number := range c.s.marks.packNumbers() {
		damaged[c.s.packs.pack(number).ID] = true
	}
	for id, size := range present {
		v.PackBytes += size
		if damaged[id] {
			v.DamagedBytes += size
			continue
		}
		at := c.packs[id]
		if at == 0 {
			v.NeverBytes += size
			continue
		}
		if oldest == 0 || at < oldest {
			oldest = at
		}
		for i, days := range []int{30, 90, 365} {
			if now.Sub(moment(at)) <= time.Duration(days)*24*time.Hour {
				within[i] += size
			}
		}
	}
	percent := func(n int64) float64 { return 100 * float64(n) / max(float64(v.PackBytes), 1) }
	v.Within30, v.Within90, v.Within365 = percent(within[0]), percent(within[1]), percent(within[2])
	v.OldestRead = moment(oldest)
	return v
}
