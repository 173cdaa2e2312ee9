package imagestore

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"lifeboat"
	"lifeboat/imagestore/format"
)

// CopyOptions refine a copy.
type CopyOptions struct {
	// Progress, if set, is called about every tenth of a second and at the end.
	// What there is to do grows with each point that is begun.
	Progress func(Progress)
}

// CopyReport is what a copy did.
type CopyReport struct {
	// Copied are the points that are on the target now, Present those that were
	// there before.
	Copied  []lifeboat.RestorePoint `json:"copied,omitempty"`
	Present []string                `json:"present,omitempty"`
	// NotCopied are all that were asked for and are not on the target now,
	// because the source is damaged. Hurt lists the ranges of them that cannot
	// be read, as far as they are known.
	NotCopied []NotCopied `json:"notCopied,omitempty"`
	Hurt      []Hurt      `json:"hurt,omitempty"`
	// NewBytes are the plain bytes that the target lacked, ReadBytes what was
	// read of the source's packs, WrittenBytes what went to the target's.
	NewBytes     int64 `json:"newBytes"`
	ReadBytes    int64 `json:"readBytes"`
	WrittenBytes int64 `json:"writtenBytes"`
}

// NotCopied is a point that cannot be copied.
type NotCopied struct {
	PointID string `json:"pointId"`
	// Machine is its name, empty if the record of the point cannot be read.
	Machine string `json:"machine,omitempty"`
	Why     string `json:"why"`
}

// CopyPlan is what a copy would do.
type CopyPlan struct {
	Points  []CopyPlanPoint `json:"points"`
	Present []string        `json:"present,omitempty"`
	// NotCopied are those of which it is known already that they cannot be copied.
	NotCopied []NotCopied `json:"notCopied,omitempty"`
	// NewBytes are the plain bytes that the target lacks.
	NewBytes int64 `json:"newBytes"`
}

// CopyPlanPoint is a point that is to be copied.
type CopyPlanPoint struct {
	Point lifeboat.RestorePoint `json:"point"`
	// NewBytes are the plain bytes that the target lacks and no earlier point of
	// the plan brings.
	NewBytes int64 `json:"newBytes"`
}

// Copy brings restore points of another store of the same site into this one,
// oldest first, by their ids; nil means all. Only chunks that this store lacks
// are read and written, each checked against its id. A point keeps what it says
// of its machine and moment; its place among the commits is this store's. One
// that is here already is passed over. A point is committed like that of an
// export: it exists whole or not at all, and a copy that was cut off goes on
// where it was.
//
// The source may be open in any mode, also read-only. When something of a point
// cannot be read there, the point is not copied, the others are, and the error
// wraps lifeboat.ErrDamaged.
func (s *Store) Copy(ctx context.Context, from *Store, ids []string, o CopyOptions) (CopyReport, error) {
	c, err := s.beginCopy(ctx, from, ids)
	if err != nil {
		return CopyReport{}, err
	}
	defer c.end()
	if err := s.writable(); err != nil {
		return c.report, err
	}
	if err := s.writer.err(); err != nil {
		return c.report, err
	}
	stop := c.meter.report(o.Progress)
	err = c.all(ctx)
	stop()
	c.report.NewBytes, c.report.ReadBytes, c.report.WrittenBytes = c.meter.fresh.Load(), c.meter.read.Load(), c.meter.written.Load()
	if err != nil {
		return c.report, s.explain(err)
	}
	return c.report, c.verdict()
}

// PlanCopy says what Copy would do. It reads trees and indexes, and changes
// nothing; this store may be open in any mode.
func (s *Store) PlanCopy(ctx context.Context, from *Store, ids []string) (CopyPlan, error) {
	c, err := s.beginCopy(ctx, from, ids)
	if err != nil {
		return CopyPlan{}, err
	}
	defer c.end()
	p := CopyPlan{Points: []CopyPlanPoint{}, Present: c.report.Present}
	for _, r := range c.records {
		l, err := c.survey(ctx, r)
		if err != nil && !errors.Is(err, lifeboat.ErrDamaged) {
			return p, from.explain(err)
		}
		if err != nil {
			c.notCopied(r, err)
			continue
		}
		p.Points = append(p.Points, CopyPlanPoint{r.point, l.bytes})
		p.NewBytes += l.bytes
		c.took()
	}
	p.NotCopied = c.report.NotCopied
	return p, nil
}

// copying is one copy under way.
type copying struct {
	s, from *Store
	records []record
	meter   *meter
	report  CopyReport
	// live is what the points need that were looked at, as bits of the source's
	// index; done of it was copied, or needed no copying.
	live *liveness
	done bitmap
}

// beginCopy keeps both stores open until end.
func (s *Store) beginCopy(ctx context.Context, from *Store, ids []string) (*copying, error) {
	if err := s.begin(); err != nil {
		return nil, err
	}
	if s == from || s.driveID == from.driveID {
		s.end()
		return nil, fmt.Errorf("%s cannot be copied to itself", s.label())
	}
	if err := from.begin(); err != nil {
		s.end()
		return nil, err
	}
	s.moving.RLock()
	from.moving.RLock()
	c := &copying{s: s, from: from, meter: &meter{}}
	if err := c.choose(ctx, ids); err != nil {
		c.end()
		return nil, err
	}
	return c, nil
}

func (c *copying) end() {
	c.from.moving.RUnlock()
	c.s.moving.RUnlock()
	c.from.end()
	c.s.end()
}

// choose finds the points that are asked for and not here.
func (c *copying) choose(ctx context.Context, ids []string) error {
	if a, b := c.from.super, c.s.super; a.Site != b.Site || a.ChunkKey != b.ChunkKey || a.CutKey != b.CutKey {
		return &lifeboat.Problem{
			What: fmt.Sprintf("%s belongs to site %s and %s to site %s; blocks have other names there", c.from.label(), a.SiteName, c.s.label(), b.SiteName),
			Safe: "nothing was copied or changed",
			Next: "copy to a drive of the same site, or restore the machine and export it to this drive",
			Err:  lifeboat.ErrWrongDrive,
		}
	}
	here, _, err := c.s.readState()
	if err != nil {
		return c.s.explain(err)
	}
	all, faults, err := c.from.records(ctx)
	if err != nil {
		return c.from.explain(err)
	}
	isHere := func(id string) bool {
		return slices.ContainsFunc(here.points, func(p format.HeadPoint) bool { return p.ID.String() == id })
	}
	// A point whose record cannot be read is one of all, too.
	faults = slices.DeleteFunc(faults, func(f Fault) bool {
		return !f.Lost || f.PointID == "" || ids != nil && !slices.Contains(ids, f.PointID)
	})
	for _, f := range faults {
		if isHere(f.PointID) {
			c.report.Present = append(c.report.Present, f.PointID)
		} else {
			c.report.NotCopied = append(c.report.NotCopied, NotCopied{PointID: f.PointID, Why: f.Why})
		}
	}
	for _, id := range ids {
		if slices.ContainsFunc(faults, func(f Fault) bool { return f.PointID == id }) {
			continue
		}
		if !slices.ContainsFunc(all, func(r record) bool { return r.point.ID == id }) {
			return fmt.Errorf("%w: %s on %s", ErrNoPoint, id, c.from.label())
		}
	}
	for _, r := range all {
		switch {
		case ids != nil && !slices.Contains(ids, r.point.ID):
		case isHere(r.point.ID):
			c.report.Present = append(c.report.Present, r.point.ID)
		default:
			c.records = append(c.records, r)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return c.from.explain(c.from.catchUp(ctx, all[len(all)-1].Sequence))
}

func (c *copying) all(ctx context.Context) error {
	for _, r := range c.records {
		err := c.point(ctx, r)
		var hurt *hurtPoint
		if errors.As(err, &hurt) {
			if err = c.noteHurt(ctx, r, hurt.bad); err == nil {
				c.notCopied(r, hurt)
				c.s.log.Warn("a point is not copied because the source is damaged", "point", r.point.ID, "why", hurt)
				continue
			}
		}
		if err != nil {
			return fmt.Errorf("copy point %s of %s: %w", r.point.ID, r.point.Machine.Name, err)
		}
	}
	return nil
}

// point copies one point and commits it.
func (c *copying) point(ctx context.Context, r record) error {
	if err := c.s.checkRoom(); err != nil {
		return err
	}
	l, err := c.survey(ctx, r)
	if err != nil {
		return err
	}
	c.meter.total.Add(l.bytes)
	if err := c.carry(ctx, l); err != nil {
		return err
	}
	if err := c.s.writer.sync(); err != nil {
		return err
	}
	point, err := c.s.commitCopy(ctx, r, c.from.driveID)
	if err != nil {
		return err
	}
	c.took()
	c.report.Copied = append(c.report.Copied, point)
	return nil
}

// took notes that what was looked at so far is here.
func (c *copying) took() { c.done = slices.Clone(c.live.bits) }

// hurtPoint is the error for a point of which something cannot be read: some
// chunks, or why it is not even known what it needs.
type hurtPoint struct {
	bad map[format.ID]bool
	why error
}

func (h *hurtPoint) Error() string {
	if h.why != nil {
		return "what it needs cannot be found out: " + h.why.Error()
	}
	return fmt.Sprintf("%d blocks cannot be read", len(h.bad))
}

func (h *hurtPoint) Unwrap() error { return lifeboat.ErrDamaged }

func (c *copying) notCopied(r record, why error) {
	c.report.NotCopied = append(c.report.NotCopied, NotCopied{r.point.ID, r.point.Machine.Name, why.Error()})
}

// noteHurt lists the ranges of a point that cannot be read.
func (c *copying) noteHurt(ctx context.Context, r record, bad map[format.ID]bool) error {
	c.live.bits = slices.Clone(c.done)
	for _, d := range r.Disks {
		h := Hurt{PointID: r.point.ID, Machine: r.point.Machine.Name, Disk: d.Key}
		t := c.from.newTree(d)
		var entries []format.Entry
		for region := range format.Regions(d.Size) {
			within := regionExtent(region, d.Size)
			id, err := t.leafID(ctx, region)
			if err == nil {
				entries, err = c.from.leaf(ctx, id, entries[:0])
			}
			switch {
			case errors.Is(err, lifeboat.ErrDamaged) || err == nil && bad[id]:
				h.Extents = appendExtent(h.Extents, within)
				continue
			case err != nil:
				return err
			}
			for _, e := range entries {
				if bad[e.ID] {
					h.Extents = appendExtent(h.Extents, chunkExtent(e, within))
				}
			}
		}
		if len(h.Extents) > 0 {
			c.report.Hurt = append(c.report.Hurt, h)
		}
	}
	return nil
}

// verdict is the error for points that were not copied, or nil.
func (c *copying) verdict() error {
	if len(c.report.NotCopied) == 0 {
		return nil
	}
	n := c.report.NotCopied[0]
	what := fmt.Sprintf("%s is damaged: point %s was not copied: %s", c.from.label(), n.PointID, n.Why)
	if n.Machine != "" {
		what = fmt.Sprintf("%s is damaged: point %s of %s was not copied: %s", c.from.label(), n.PointID, n.Machine, n.Why)
	}
	if others := len(c.report.NotCopied) - 1; others > 0 {
		what += fmt.Sprintf("; nor were %d others", others)
	}
	return &lifeboat.Problem{
		What: what,
		Safe: fmt.Sprintf("%d points were copied whole, and nothing on either drive was removed", len(c.report.Copied)),
		Next: "heal the drive with: lifeboat repair; then copy again",
		Err:  lifeboat.ErrDamaged,
	}
}

// commitCopy makes a point of trees that were copied. Its description stays word
// for word, also what this program does not know, but for what is this store's.
func (s *Store) commitCopy(ctx context.Context, r record, from format.ShortID) (lifeboat.RestorePoint, error) {
	s.commitMu.Lock()
	defer s.commitMu.Unlock()
	point := r.point
	if err := cmp.Or(s.writer.err(), ctx.Err()); err != nil {
		return point, err
	}
	if point.IsPart() {
		if err := s.wrote(s.allowParts()); err != nil {
			return point, err
		}
	}
	sequence, err := s.state.next()
	if err != nil {
		return point, s.explain(err)
	}
	made := format.Point{Sequence: sequence, ID: r.ID, PreviousHead: s.state.headHash, Disks: r.Disks}
	point.Sequence, point.CommittedAt, point.CopiedFrom = made.Sequence, s.now().UTC(), from.String()
	description := map[string]json.RawMessage{}
	err = json.Unmarshal(r.JSON, &description)
	for name, value := range map[string]any{"sequence": point.Sequence, "committedAt": point.CommittedAt, "copiedFrom": point.CopiedFrom} {
		text, err := json.Marshal(value)
		if err != nil {
			return point, err
		}
		description[name] = text
	}
	if err == nil {
		made.JSON, err = json.Marshal(description)
	}
	if err != nil {
		return point, fmt.Errorf("describe the restore point: %w", err)
	}
	return point, s.wrote(s.writeCommit(made))
}
