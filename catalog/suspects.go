package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// Suspicion is why a drive is not believed: it was not what is remembered of it,
// or there were two of it.
type Suspicion struct {
	DriveID string    `json:"driveId"`
	Why     string    `json:"why"`
	At      time.Time `json:"at"`
}

// Suspect remembers that a drive is not believed, in place of an earlier reason.
// It is believed again once it is as remembered ([Catalog.RecordDrive]), or a
// person takes it as it is ([Catalog.AcceptDrive]).
func (c *Catalog) Suspect(ctx context.Context, s Suspicion) error {
	err := c.write(ctx, func(tx *sql.Tx) error { return putSuspicion(ctx, tx, s) })
	if err != nil {
		return fmt.Errorf("remember that drive %s is not believed: %w", s.DriveID, err)
	}
	return nil
}

func putSuspicion(ctx context.Context, tx *sql.Tx, s Suspicion) error {
	_, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO suspects (drive_id, why, at) VALUES (?, ?, ?)`, s.DriveID, s.Why, text(s.At))
	return err
}

// Suspects returns the drives that are not believed, by their ids.
func (c *Catalog) Suspects(ctx context.Context) (map[string]Suspicion, error) {
	rows, err := c.db.QueryContext(ctx, `SELECT drive_id, why, at FROM suspects`)
	all, err := collect(rows, err, func(scan func(...any) error) (s Suspicion, err error) {
		var at moment
		err = scan(&s.DriveID, &s.Why, &at)
		s.At = at.Time
		return s, err
	})
	if err != nil {
		return nil, fmt.Errorf("list the drives that are not believed: %w", err)
	}
	byID := map[string]Suspicion{}
	for _, s := range all {
		byID[s.DriveID] = s
	}
	return byID, nil
}
