package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// Fork is a ledger of this site that says something else than ours. Which of the
// two is right is for people to find out.
type Fork struct {
	// Head is the hash of its newest entry, Sequence the number of that.
	Head     string `json:"head"`
	Sequence uint64 `json:"sequence"`
	// DriveID is the drive that it was found on.
	DriveID string `json:"driveId"`
	// FirstDiffers is the number of the first entry that is not ours.
	FirstDiffers uint64    `json:"firstDiffers"`
	FoundAt      time.Time `json:"foundAt"`
	// Text is all of it, one entry a line.
	Text string `json:"-"`
}

// RecordFork remembers a fork, in place of a shorter form of the same one; one
// that is known stays as it is. It says whether it was new.
func (c *Catalog) RecordFork(ctx context.Context, f Fork) (fresh bool, err error) {
	err = c.write(ctx, func(tx *sql.Tx) error {
		known := 0
		err := tx.QueryRowContext(ctx, `SELECT count(*) FROM ledger_forks WHERE substr(text, 1, length(?1)) = ?1 OR substr(?1, 1, length(text)) = text`, f.Text).Scan(&known)
		if err != nil {
			return err
		}
		fresh = known == 0
		if _, err := tx.ExecContext(ctx, `DELETE FROM ledger_forks WHERE substr(?1, 1, length(text)) = text AND head <> ?2`, f.Text, f.Head); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO ledger_forks (head, sequence, drive_id, first_differs, found_at, text)
			SELECT ?, ?, ?, ?, ?, ?6 WHERE NOT EXISTS (SELECT 1 FROM ledger_forks WHERE substr(text, 1, length(?6)) = ?6)`,
			f.Head, f.Sequence, f.DriveID, f.FirstDiffers, text(f.FoundAt), f.Text)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("remember another ledger: %w", err)
	}
	return fresh, nil
}

// Forks returns the other ledgers that were found, the oldest first.
func (c *Catalog) Forks(ctx context.Context) ([]Fork, error) {
	rows, err := c.db.QueryContext(ctx, `SELECT head, sequence, drive_id, first_differs, found_at, text FROM ledger_forks ORDER BY found_at, head`)
	all, err := collect(rows, err, func(scan func(...any) error) (Fork, error) {
		var f Fork
		var found moment
		err := scan(&f.Head, &f.Sequence, &f.DriveID, &f.FirstDiffers, &found, &f.Text)
		f.FoundAt = found.Time
		return f, err
	})
	if err != nil {
		return nil, fmt.Errorf("list the other ledgers: %w", err)
	}
	return all, nil
}
