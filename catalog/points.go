package catalog

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"lifeboat"
)

// Point is a restore point as the catalogue remembers it.
type Point struct {
	DriveID     string               `json:"driveId"`
	PointID     string               `json:"pointId"`
	Sequence    uint64               `json:"sequence"`
	MachineID   string               `json:"machineId"`
	MachineName string               `json:"machineName"`
	RunID       string               `json:"runId"`
	TakenAt     time.Time            `json:"takenAt"`
	CommittedAt time.Time            `json:"committedAt"`
	Consistency lifeboat.Consistency `json:"consistency"`
	// SizeBytes counts the disks that were exported, DataBytes what of them is
	// not zero, NewBytes what the drive did not have before.
	SizeBytes int64 `json:"sizeBytes"`
	DataBytes int64 `json:"dataBytes"`
	NewBytes  int64 `json:"newBytes"`
	// VerifiedAt is when every chunk of it was last read and found right; zero
	// when never, or when a fault was found since.
	VerifiedAt time.Time `json:"verifiedAt,omitzero"`
	// ReadSince: every chunk of it was read and right since then, in several
	// verifications and samples together.
	ReadSince time.Time `json:"readSince,omitzero"`
	// ChangeScore says how unusual its changes were: [lifeboat.Change].
	// WholeDensity is how dense all the machine's data was.
	ChangeScore  int     `json:"changeScore,omitempty"`
	WholeDensity float64 `json:"wholeDensity,omitempty"`
	// CopiedFrom is the id of the drive that it was copied from, or empty.
	CopiedFrom string `json:"copiedFrom,omitempty"`
	// ProvenAt is when it was last booted from that drive and its checks passed;
	// zero when never, or when a fault was found since.
	ProvenAt time.Time `json:"provenAt,omitzero"`
	// Held says why somebody wants it kept, until HeldUntil (zero: for good); a
	// hold that is over is still here. Empty: nobody holds it.
	Held      string    `json:"held,omitempty"`
	HeldUntil time.Time `json:"heldUntil,omitzero"`
	// Disks are the disks that are in the point; nil in one that was remembered
	// before disks were. Together are the parts of a machine whose disks lie on
	// several drives, this point among them; empty where all disks are in it.
	Disks    []PointDisk     `json:"disks,omitempty"`
	Together []lifeboat.Part `json:"together,omitempty"`
}

// PointDisk is a disk in a point.
type PointDisk struct {
	Key       string `json:"key"`
	DataBytes int64  `json:"dataBytes"`
}

// WholeAt is when the block of it was read that was read longest ago, if all of
// them were: the date that people are told as verified. Zero: not all were.
func (p Point) WholeAt() time.Time {
	if p.ReadSince.After(p.VerifiedAt) {
		return p.ReadSince
	}
	return p.VerifiedAt
}

// AddPoint remembers a point that was just committed. The drive must be known.
func (c *Catalog) AddPoint(ctx context.Context, driveID string, p lifeboat.RestorePoint) error {
	err := c.write(ctx, func(tx *sql.Tx) error { return putPoint(ctx, tx, driveID, p) })
	if err != nil {
		return fmt.Errorf("remember point %s: %w", p.ID, err)
	}
	return nil
}

// ReplacePoints makes the memory of a drive equal to what is on it. What was
// known of a point that is still there, such as when it was verified, stays.
func (c *Catalog) ReplacePoints(ctx context.Context, driveID string, points []lifeboat.RestorePoint) error {
	err := c.write(ctx, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT point_id FROM points WHERE drive_id = ?`, driveID)
		known, err := collect(rows, err, func(scan func(...any) error) (id string, err error) { return id, scan(&id) })
		if err != nil {
			return err
		}
		there := map[string]bool{}
		for _, p := range points {
			there[p.ID] = true
			if err := putPoint(ctx, tx, driveID, p); err != nil {
				return err
			}
		}
		for _, id := range known {
			if there[id] {
				continue
			}
			if _, err := tx.ExecContext(ctx, `DELETE FROM points WHERE drive_id = ? AND point_id = ?`, driveID, id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("remember the points of drive %s: %w", driveID, err)
	}
	return nil
}

// PointFilter narrows Points; the zero value takes all.
type PointFilter struct {
	DriveID   string
	MachineID string
}

// Points returns what is remembered, oldest first.
func (c *Catalog) Points(ctx context.Context, f PointFilter) ([]Point, error) {
	rows, err := c.db.QueryContext(ctx, `SELECT drive_id, point_id, sequence, machine_id, machine_name, run_id,
			taken_at, committed_at, consistency, size_bytes, data_bytes, new_bytes, verified_at, read_since, change_score, whole_density, copied_from,
			(SELECT max(at) FROM proofs WHERE proofs.drive_id = points.drive_id AND proofs.point_id = points.point_id AND revoked_at IS NULL),
			coalesce(holds.reason, ''), holds.until, disks, together
		FROM points LEFT JOIN holds USING (point_id) WHERE (? = '' OR drive_id = ?) AND (? = '' OR machine_id = ?)
		ORDER BY taken_at, drive_id, sequence, point_id`, f.DriveID, f.DriveID, f.MachineID, f.MachineID)
	points, err := collect(rows, err, scanPoint)
	if err != nil {
		return nil, fmt.Errorf("list the points: %w", err)
	}
	return points, nil
}

// Newest returns the newest point of each machine on a drive, by machine id, as
// [lifeboat.Newest] chooses it.
func (c *Catalog) Newest(ctx context.Context, driveID string) (map[string]Point, error) {
	points, err := c.Points(ctx, PointFilter{DriveID: driveID})
	if err != nil {
		return nil, err
	}
	known := map[string]Point{}
	var described []lifeboat.RestorePoint
	for _, p := range points {
		known[p.PointID] = p
		described = append(described, lifeboat.RestorePoint{ID: p.PointID, Sequence: p.Sequence, TakenAt: p.TakenAt,
			CopiedFrom: p.CopiedFrom, Machine: lifeboat.Machine{ID: p.MachineID}})
	}
	newest := map[string]Point{}
	for machine, p := range lifeboat.Newest(described) {
		newest[machine] = known[p.ID]
	}
	return newest, nil
}

func putPoint(ctx context.Context, tx *sql.Tx, driveID string, p lifeboat.RestorePoint) error {
	var size, data, fresh int64
	var disks []PointDisk
	for _, d := range p.Disks {
		disks = append(disks, PointDisk{d.Key, d.DataBytes})
		if disk, ok := p.Machine.Disk(d.Key); ok {
			size += disk.SizeBytes
		}
		data += d.DataBytes
		fresh += d.NewBytes
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO points (drive_id, point_id, sequence, machine_id, machine_name, run_id,
			taken_at, committed_at, consistency, size_bytes, data_bytes, new_bytes, change_score, whole_density, copied_from, disks, together)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (drive_id, point_id) DO UPDATE SET sequence = excluded.sequence,
			machine_id = excluded.machine_id, machine_name = excluded.machine_name, run_id = excluded.run_id,
			taken_at = excluded.taken_at, committed_at = excluded.committed_at, consistency = excluded.consistency,
			size_bytes = excluded.size_bytes, data_bytes = excluded.data_bytes, new_bytes = excluded.new_bytes,
			change_score = excluded.change_score, whole_density = excluded.whole_density, copied_from = excluded.copied_from,
			disks = excluded.disks, together = excluded.together`,
		driveID, p.ID, p.Sequence, p.Machine.ID, p.Machine.Name, p.RunID,
		text(p.TakenAt), text(p.CommittedAt), string(p.Consistency), size, data, fresh, p.Change.ScoreOrZero(), p.Change.WholeOrZero(), p.CopiedFrom,
		listText(disks), listText(p.Together))
	if err == nil {
		err = putMachine(ctx, tx, Machine{ID: p.Machine.ID, Name: p.Machine.Name, Host: p.Host, LastSeenAt: p.CommittedAt})
	}
	var refused *sqlite.Error
	if errors.As(err, &refused) && refused.Code() == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY {
		return fmt.Errorf("drive %s: %w", driveID, ErrUnknown)
	}
	return err
}

// listText is a list as a column keeps it; an empty one is "".
func listText[T any](list []T) string {
	if len(list) == 0 {
		return ""
	}
	text, err := json.Marshal(list)
	if err != nil {
		panic(err) // lists of texts and numbers
	}
	return string(text)
}

func scanPoint(scan func(...any) error) (Point, error) {
	var p Point
	var taken, committed, verified, since, proven, held moment
	var disks, together string
	err := scan(&p.DriveID, &p.PointID, &p.Sequence, &p.MachineID, &p.MachineName, &p.RunID, &taken, &committed,
		&p.Consistency, &p.SizeBytes, &p.DataBytes, &p.NewBytes, &verified, &since, &p.ChangeScore, &p.WholeDensity, &p.CopiedFrom,
		&proven, &p.Held, &held, &disks, &together)
	if err == nil && disks != "" {
		err = json.Unmarshal([]byte(disks), &p.Disks)
	}
	if err == nil && together != "" {
		err = json.Unmarshal([]byte(together), &p.Together)
	}
	p.TakenAt, p.CommittedAt, p.VerifiedAt, p.ReadSince = taken.Time, committed.Time, verified.Time, since.Time
	p.ProvenAt, p.HeldUntil = proven.Time, held.Time
	return p, err
}
