package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// Hold is a wish to keep a point, whatever the rules say, on every drive that has
// it.
type Hold struct {
	PointID string `json:"pointId"`
	Reason  string `json:"reason"`
	// Until is when the hold ends; zero: it holds for good.
	Until time.Time `json:"until,omitzero"`
	By    string    `json:"by"`
	At    time.Time `json:"at"`
}

// Hold keeps a point, in place of a hold that there was.
func (c *Catalog) Hold(ctx context.Context, h Hold) error {
	_, err := c.db.ExecContext(ctx, `INSERT INTO holds (point_id, reason, until, held_by, held_at) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (point_id) DO UPDATE SET reason = excluded.reason, until = excluded.until, held_by = excluded.held_by, held_at = excluded.held_at`,
		h.PointID, h.Reason, orNull(h.Until), h.By, text(h.At))
	if err != nil {
		return fmt.Errorf("hold point %s: %w", h.PointID, err)
	}
	return nil
}

// Release ends a hold, or returns [ErrUnknown].
func (c *Catalog) Release(ctx context.Context, pointID string) error {
	if err := c.changeOne(ctx, `DELETE FROM holds WHERE point_id = ?`, pointID); err != nil {
		return fmt.Errorf("release point %s: %w", pointID, err)
	}
	return nil
}

// Holds returns all holds, those that are over too, oldest first.
func (c *Catalog) Holds(ctx context.Context) ([]Hold, error) {
	rows, err := c.db.QueryContext(ctx, `SELECT point_id, reason, until, held_by, held_at FROM holds ORDER BY held_at, point_id`)
	holds, err := collect(rows, err, func(scan func(...any) error) (h Hold, err error) {
		var until, at moment
		err = scan(&h.PointID, &h.Reason, &until, &h.By, &at)
		h.Until, h.At = until.Time, at.Time
		return h, err
	})
	if err != nil {
		return nil, fmt.Errorf("list the holds: %w", err)
	}
	return holds, nil
}

// Proof says that a machine was booted from a point on a drive, and that its
// checks passed.
type Proof struct {
	DriveID string    `json:"driveId"`
	PointID string    `json:"pointId"`
	RunID   string    `json:"runId"`
	At      time.Time `json:"at"`
	// Checked says what answered, for example tcp:5432.
	Checked string `json:"checked"`
	// RevokedAt is when damage was found that takes it back, RevokedWhy which.
	RevokedAt  time.Time `json:"revokedAt,omitzero"`
	RevokedWhy string    `json:"revokedWhy,omitempty"`
}

// RecordProof remembers a proof. One run proves a point once.
func (c *Catalog) RecordProof(ctx context.Context, p Proof) error {
	_, err := c.db.ExecContext(ctx, `INSERT INTO proofs (drive_id, point_id, run_id, at, checked) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (drive_id, point_id, run_id) DO NOTHING`, p.DriveID, p.PointID, p.RunID, text(p.At), p.Checked)
	if err != nil {
		return fmt.Errorf("remember that point %s is proven: %w", p.PointID, err)
	}
	return nil
}

// Proofs returns all proofs of a drive's points, those that were revoked and
// those of forgotten points too, oldest first; with no drive, of all drives.
func (c *Catalog) Proofs(ctx context.Context, driveID string) ([]Proof, error) {
	rows, err := c.db.QueryContext(ctx, `SELECT drive_id, point_id, run_id, at, checked, revoked_at, revoked_why FROM proofs
		WHERE (? = '' OR drive_id = ?) ORDER BY at, drive_id, point_id, run_id`, driveID, driveID)
	proofs, err := collect(rows, err, func(scan func(...any) error) (p Proof, err error) {
		var at, revoked moment
		err = scan(&p.DriveID, &p.PointID, &p.RunID, &at, &p.Checked, &revoked, &p.RevokedWhy)
		p.At, p.RevokedAt = at.Time, revoked.Time
		return p, err
	})
	if err != nil {
		return nil, fmt.Errorf("list the proofs: %w", err)
	}
	return proofs, nil
}

// Fault is damage that was found on a drive.
type Fault struct {
	DriveID string `json:"driveId"`
	// PointID is the point in which it was found; empty: in none that is known.
	PointID string    `json:"pointId,omitempty"`
	RunID   string    `json:"runId,omitempty"`
	At      time.Time `json:"at"`
	What    string    `json:"what"`
	// Others: nobody knows which other points of the drive it hurts. Then nothing
	// that was read of the drive before At counts any more.
	Others bool `json:"others,omitempty"`
}

// RecordFault remembers damage and takes back what it contradicts, all of it or
// nothing: that the drive was verified, and of the point, or of all of the drive
// with Others, that it was verified, read or proven.
func (c *Catalog) RecordFault(ctx context.Context, f Fault) error {
	if err := c.write(ctx, func(tx *sql.Tx) error { return putFault(ctx, tx, f) }); err != nil {
		return fmt.Errorf("remember damage on drive %s: %w", f.DriveID, err)
	}
	return nil
}

func putFault(ctx context.Context, tx *sql.Tx, f Fault) error {
	const which = ` WHERE drive_id = ? AND (? OR point_id = ?)`
	for _, s := range []struct {
		text string
		args []any
	}{
		{`INSERT INTO faults (drive_id, point_id, run_id, at, what, others) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT (drive_id, point_id, run_id) DO UPDATE SET at = max(at, excluded.at), what = excluded.what, others = max(others, excluded.others)`,
			[]any{f.DriveID, f.PointID, f.RunID, text(f.At), f.What, f.Others}},
		{`UPDATE points SET verified_at = NULL, read_since = NULL` + which, []any{f.DriveID, f.Others, f.PointID}},
		{`UPDATE proofs SET revoked_at = ?, revoked_why = ?` + which + ` AND revoked_at IS NULL`, []any{text(f.At), f.What, f.DriveID, f.Others, f.PointID}},
		{`UPDATE drives SET verified_at = NULL WHERE id = ?`, []any{f.DriveID}},
	} {
		if _, err := tx.ExecContext(ctx, s.text, s.args...); err != nil {
			return err
		}
	}
	return nil
}

// Faults returns the damage that was found on a drive, oldest first; with no
// drive, on all.
func (c *Catalog) Faults(ctx context.Context, driveID string) ([]Fault, error) {
	rows, err := c.db.QueryContext(ctx, `SELECT drive_id, point_id, run_id, at, what, others FROM faults
		WHERE (? = '' OR drive_id = ?) ORDER BY at, drive_id, point_id, run_id`, driveID, driveID)
	faults, err := collect(rows, err, func(scan func(...any) error) (f Fault, err error) {
		var at moment
		err = scan(&f.DriveID, &f.PointID, &f.RunID, &at, &f.What, &f.Others)
		f.At = at.Time
		return f, err
	})
	if err != nil {
		return nil, fmt.Errorf("list the damage: %w", err)
	}
	return faults, nil
}

// DoubtedAt is the newest damage on a drive of which nobody knows whom it hurts;
// zero when there was none. What was read before it counts for nothing, whatever
// the drive's own record says.
func (c *Catalog) DoubtedAt(ctx context.Context, driveID string) (time.Time, error) {
	at, err := doubtedAt(ctx, c.db, driveID)
	if err != nil {
		return at, fmt.Errorf("look for damage on drive %s: %w", driveID, err)
	}
	return at, nil
}

// querier is a database or a transaction.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func doubtedAt(ctx context.Context, q querier, driveID string) (time.Time, error) {
	var at moment
	err := q.QueryRowContext(ctx, `SELECT max(at) FROM faults WHERE drive_id = ? AND others`, driveID).Scan(&at)
	return at.Time, err
}

// changeOne runs a statement that has to change something; else it returns
// [ErrUnknown].
func (c *Catalog) changeOne(ctx context.Context, statement string, args ...any) error {
	result, err := c.db.ExecContext(ctx, statement, args...)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n > 0 {
		return err
	}
	return ErrUnknown
}
