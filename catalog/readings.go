package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Reading is what a verification found out about a drive.
type Reading struct {
	// VerifiedAt is when the verification of everything began that found nothing
	// wrong; zero when it was not one.
	VerifiedAt time.Time
	// Damaged: something on the drive is lost, so the drive is not verified.
	Damaged bool
	// BytesPerSecond is how fast it read; 0 when that is not known.
	BytesPerSecond int64
	Points         []PointReading
	// RunID is the run that read, FoundAt when it came to its end.
	RunID   string
	FoundAt time.Time
	// Hurt are points that cannot be restored whole: what was known of them
	// before counts for nothing, nor that they were proven.
	Hurt []string
}

// PointReading says when a point was read.
type PointReading struct {
	PointID string
	// VerifiedAt: one verification read every chunk of it, and all was right.
	// ReadSince: several did, together. Zero changes nothing.
	VerifiedAt, ReadSince time.Time
}

// RecordReading remembers what a verification found, all of it or nothing. An
// older time never replaces a newer one; damage takes back what was known, and what
// was read before [Catalog.DoubtedAt] counts for nothing.
func (c *Catalog) RecordReading(ctx context.Context, driveID string, r Reading) error {
	err := c.write(ctx, func(tx *sql.Tx) error {
		doubted, err := doubtedAt(ctx, tx, driveID)
		if err != nil {
			return err
		}
		r.VerifiedAt = since(doubted, r.VerifiedAt)
		for _, p := range r.Points {
			p.VerifiedAt, p.ReadSince = since(doubted, p.VerifiedAt), since(doubted, p.ReadSince)
			err := onePoint(ctx, tx, `verified_at = nullif(max(coalesce(verified_at, ''), coalesce(?, '')), ''),
				read_since = nullif(max(coalesce(read_since, ''), coalesce(?, '')), '')`, driveID, p.PointID, orNull(p.VerifiedAt), orNull(p.ReadSince))
			if err != nil {
				return err
			}
		}
		for _, id := range r.Hurt {
			if err := putFault(ctx, tx, Fault{DriveID: driveID, PointID: id, RunID: r.RunID, At: r.FoundAt, What: "a verification found blocks of it damaged"}); err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, `UPDATE drives SET
			verified_at = CASE WHEN ? THEN NULL ELSE nullif(max(coalesce(verified_at, ''), coalesce(?, '')), '') END,
			read_bytes_per_second = CASE WHEN ? > 0 THEN ? ELSE read_bytes_per_second END WHERE id = ?`,
			r.Damaged || len(r.Hurt) > 0, orNull(r.VerifiedAt), r.BytesPerSecond, r.BytesPerSecond, driveID)
		return err
	})
	if err != nil {
		return fmt.Errorf("remember what was read of drive %s: %w", driveID, err)
	}
	return nil
}

// LearnReadings makes the memory of what was read of a drive equal to the drive's
// own record: another computer may have verified it, or found it damaged. Points
// that are not in the reading were not read.
func (c *Catalog) LearnReadings(ctx context.Context, driveID string, r Reading) error {
	err := c.write(ctx, func(tx *sql.Tx) error {
		doubted, err := doubtedAt(ctx, tx, driveID)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE points SET verified_at = NULL, read_since = NULL WHERE drive_id = ?`, driveID); err != nil {
			return err
		}
		for _, p := range r.Points {
			_, err := tx.ExecContext(ctx, `UPDATE points SET verified_at = ?, read_since = ? WHERE drive_id = ? AND point_id = ?`,
				orNull(since(doubted, p.VerifiedAt)), orNull(since(doubted, p.ReadSince)), driveID, p.PointID)
			if err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, `UPDATE drives SET verified_at = ? WHERE id = ?`, orNull(since(doubted, r.VerifiedAt)), driveID)
		return err
	})
	if err != nil {
		return fmt.Errorf("learn what was read of drive %s: %w", driveID, err)
	}
	return nil
}

// since is a time if it is after another, else never.
func since(doubted, t time.Time) time.Time {
	if !t.After(doubted) {
		return time.Time{}
	}
	return t
}

func orNull(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return text(t)
}

// onePoint changes two columns of a point, which has to be known.
func onePoint(ctx context.Context, tx *sql.Tx, set, driveID, pointID string, first, second any) error {
	result, err := tx.ExecContext(ctx, `UPDATE points SET `+set+` WHERE drive_id = ? AND point_id = ?`, first, second, driveID, pointID)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return errors.Join(fmt.Errorf("point %s: %w", pointID, ErrUnknown), err)
	}
	return nil
}
