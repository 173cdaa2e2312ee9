package imagestore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/zeebo/blake3"

	"lifeboat"
	"lifeboat/imagestore/format"
)

// ErrNoPoint: the drive has no such restore point, or the point no such disk.
var ErrNoPoint = errors.New("no such restore point on this drive")

// Fault is something of the store that cannot be read as it was written.
type Fault struct {
	// File is the name inside the store.
	File string `json:"file"`
	// PointID is the point it belongs to, when that is known.
	PointID string `json:"pointId,omitempty"`
	// Lost says that no good copy was found; otherwise the second copy served.
	Lost bool   `json:"lost"`
	Why  string `json:"why"`
}

// Points lists the restore points, oldest first by Sequence. A record that
// cannot be read is a Fault and never hides the others; the error is for a
// drive that cannot be listed at all. It looks at the drive anew each time.
func (s *Store) Points(ctx context.Context) ([]lifeboat.RestorePoint, []Fault, error) {
	if err := s.begin(); err != nil {
		return nil, nil, err
	}
	defer s.end()
	records, faults, err := s.records(ctx)
	if err != nil {
		return nil, nil, s.explain(err)
	}
	points := make([]lifeboat.RestorePoint, len(records))
	for i, r := range records {
		points[i] = r.point
	}
	return points, faults, nil
}

// Point returns one restore point; the error wraps ErrNoPoint.
func (s *Store) Point(ctx context.Context, id string) (lifeboat.RestorePoint, error) {
	if err := s.begin(); err != nil {
		return lifeboat.RestorePoint{}, err
	}
	defer s.end()
	r, err := s.record(ctx, id)
	return r.point, err
}

// Newest returns the newest point of a machine, by its Machine.ID; the error
// wraps ErrNoPoint.
func (s *Store) Newest(ctx context.Context, machineID string) (lifeboat.RestorePoint, error) {
	if err := s.begin(); err != nil {
		return lifeboat.RestorePoint{}, err
	}
	defer s.end()
	r, ok, err := s.newest(ctx, machineID)
	if err == nil && !ok {
		err = fmt.Errorf("%w: %s has none of machine %s", ErrNoPoint, s.label(), machineID)
	}
	return r.point, err
}

// record is a point together with its trees.
type record struct {
	format.Point
	point lifeboat.RestorePoint
	hash  format.ID
}

// describesDisks says whether the description knows the disks there are.
func (r record) describesDisks() bool {
	for _, d := range r.Disks {
		if m, ok := r.point.Machine.Disk(d.Key); !ok || m.SizeBytes != d.Size {
			return false
		}
	}
	return true
}

// disk returns the tree of a disk. An excluded one has none and is empty.
func (r record) disk(key string) (format.PointDisk, bool) {
	for _, d := range r.Disks {
		if d.Key == key {
			return d, true
		}
	}
	if d, ok := r.point.Machine.Disk(key); ok && d.Excluded != "" {
		return format.PointDisk{Key: key, Size: d.SizeBytes}, true
	}
	return format.PointDisk{}, false
}

func (s *Store) records(ctx context.Context) ([]record, []Fault, error) {
	state, faults, err := s.readState()
	if err != nil {
		return nil, nil, err
	}
	records := make([]record, 0, len(state.points))
	for _, p := range state.points {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		r, fault, err := s.readRecord(p)
		if isGone(err) {
			return nil, nil, err
		}
		if fault != nil {
			faults = append(faults, *fault)
		}
		if err == nil {
			records = append(records, r)
		}
	}
	return records, faults, nil
}

func (s *Store) record(ctx context.Context, id string) (record, error) {
	state, _, err := s.readState()
	if err != nil {
		return record{}, s.explain(err)
	}
	for _, p := range state.points {
		if p.ID.String() == id {
			r, _, err := s.readRecord(p)
			return r, s.explain(err)
		}
	}
	return record{}, fmt.Errorf("%w: %s on %s", ErrNoPoint, id, s.label())
}

// newest looks for the newest point of a machine from the end. A record that
// cannot be read is passed over, as Points does. Which machine a point is of is
// remembered: thousands of small files on a disk that seeks take their time.
func (s *Store) newest(ctx context.Context, machineID string) (record, bool, error) {
	state, _, err := s.readState()
	if err != nil {
		return record{}, false, s.explain(err)
	}
	var newest record
	found := false
	for i := len(state.points) - 1; i >= 0; i-- {
		if err := ctx.Err(); err != nil {
			return record{}, false, err
		}
		p := state.points[i]
		if other, ok := s.machines.Load(p.ID); ok && other != machineID {
			continue
		}
		r, _, err := s.readRecord(p)
		if isGone(err) {
			return record{}, false, s.explain(err)
		}
		if err != nil {
			continue
		}
		s.machines.Store(p.ID, r.point.Machine.ID)
		if r.point.Machine.ID != machineID {
			continue
		}
		if !found || r.point.NewerThan(newest.point) {
			newest, found = r, true
		}
		// Those that were committed before one of this drive's own are older.
		if r.point.CopiedFrom == "" {
			break
		}
	}
	return newest, found, nil
}

func pointName(sequence uint64, id format.ShortID) string {
	return fmt.Sprintf("points/%016x-%s", sequence, id)
}

// readRecord reads a point. A fault may come with a point, from its second
// copy, or without one.
func (s *Store) readRecord(p format.HeadPoint) (record, *Fault, error) {
	name := pointName(p.Sequence, p.ID)
	var r record
	second, err := readTwin(s.dir, name, format.MaxSmallFile, func(b []byte) (err error) {
		r, err = s.decodeRecord(b, p)
		return err
	})
	switch {
	case err != nil:
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, format.ErrCorrupt) || errors.Is(err, format.ErrForeign) {
			err = fmt.Errorf("%w: %w", lifeboat.ErrDamaged, err)
		}
		return r, &Fault{File: name, PointID: p.ID.String(), Lost: true, Why: err.Error()}, err
	case second != nil:
		return r, &Fault{File: name + copyA, PointID: p.ID.String(), Why: second.Error()}, nil
	}
	return r, nil, nil
}

func (s *Store) decodeRecord(b []byte, want format.HeadPoint) (record, error) {
	_, body, err := format.OpenSmall(b, s.driveID, format.KindPoint, s.masters)
	if err != nil {
		return record{}, err
	}
	r := record{hash: blake3.Sum256(body)}
	if r.Point, err = format.DecodePoint(body); err != nil {
		return r, err
	}
	if err := json.Unmarshal(r.JSON, &r.point); err != nil {
		return r, fmt.Errorf("%w: %w", format.ErrCorrupt, err)
	}
	if r.ID != want.ID || r.Sequence != want.Sequence || !want.Hash.IsZero() && r.hash != want.Hash {
		return r, fmt.Errorf("%w: it is another point", format.ErrCorrupt)
	}
	if r.point.ID != r.ID.String() || r.point.Sequence != r.Sequence || !r.describesDisks() {
		return r, fmt.Errorf("%w: it contradicts itself", format.ErrCorrupt)
	}
	if err := r.point.CheckTogether(); err != nil {
		return r, fmt.Errorf("%w: %w", format.ErrCorrupt, err)
	}
	return r, nil
}
