package catalog

import (
	"context"
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

// RecordFork remembers a fork; one that is known stays as it is. It says whether
// it was new.
func (c *Catalog) RecordFork(ctx context.Context, f Fork) (fresh bool, err error) {
	result, err := c.db.ExecContext(ctx, `INSERT INTO ledger_forks (head, sequence, drive_id, first_differs, found_at, text)
		VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (head) DO NOTHING`, f.Head, f.Sequence, f.DriveID, f.FirstDiffers, text(f.FoundAt), f.Text)
	var n int64
	if err == nil {
		n, err = result.RowsAffected()
	}
	if err != nil {
		return false, fmt.Errorf("remember another ledger: %w", err)
	}
	return n > 0, nil
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
