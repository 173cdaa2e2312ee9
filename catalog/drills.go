package catalog

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// MaxRecord is the longest record of a drill that is taken: what 500 machines leave
// is a third of it, and a row of the extract has to hold it, escaped once more.
const MaxRecord = 6 << 20

// Drill is a drill, or a recovery, that was executed by a runbook.
type Drill struct {
	RunID string `json:"run"`
	// Mode is "drill" or "recover", Book the runbook's name and Meaning the hash of
	// what it meant.
	Mode    string    `json:"mode"`
	Book    string    `json:"runbook"`
	Meaning string    `json:"meaning"`
	Began   time.Time `json:"began"`
	// Ended is when the record was made.
	Ended  time.Time `json:"ended"`
	Passed bool      `json:"passed"`
	// Partial says why a drill that passed does not make the runbook ready.
	Partial string `json:"partial,omitempty"`
	// DriveID is the first drive that was read.
	DriveID string `json:"driveId,omitempty"`
	// Hash is the SHA-256 of the record as 64 hex digits, as it was when the record
	// was made, and Record its exact text.
	Hash   string `json:"hash"`
	Record string `json:"-"`
}

// Changed says that the record is not the one that was kept.
func (d Drill) Changed() bool { return RecordHash(d.Record) != d.Hash }

// RecordHash is the hash of a record's exact text.
func RecordHash(record string) string {
	sum := sha256.Sum256([]byte(record))
	return hex.EncodeToString(sum[:])
}

// RecordDrill remembers a drill with its record. The hash is computed here. A run
// that went on later has a later end, and takes the place of what was known of it;
// an older record of it is passed over.
func (c *Catalog) RecordDrill(ctx context.Context, d Drill) error {
	if len(d.Record) > MaxRecord {
		return fmt.Errorf("remember run %s: its record has %d bytes, and at most %d are kept", d.RunID, len(d.Record), MaxRecord)
	}
	_, err := c.db.ExecContext(ctx, `INSERT INTO drills (run_id, mode, book, meaning, began_at, ended_at, passed, partial, drive_id, hash, record)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (run_id) `+laterDrill,
		d.RunID, d.Mode, d.Book, d.Meaning, text(d.Began), text(d.Ended), d.Passed, d.Partial, d.DriveID, RecordHash(d.Record), d.Record)
	if err != nil {
		return fmt.Errorf("remember the drill %s: %w", d.RunID, err)
	}
	return nil
}

// laterDrill is what becomes of two records of one run: the later one counts.
const laterDrill = `DO UPDATE SET mode = excluded.mode, book = excluded.book, meaning = excluded.meaning, began_at = excluded.began_at,
	ended_at = excluded.ended_at, passed = excluded.passed, partial = excluded.partial, drive_id = excluded.drive_id,
	hash = excluded.hash, record = excluded.record WHERE excluded.ended_at > drills.ended_at`

// Drills returns all drills and recoveries, oldest first.
func (c *Catalog) Drills(ctx context.Context) ([]Drill, error) {
	rows, err := c.db.QueryContext(ctx, selectDrills+` ORDER BY began_at, run_id`)
	all, err := collect(rows, err, scanDrill)
	if err != nil {
		return nil, fmt.Errorf("list the drills: %w", err)
	}
	return all, nil
}

// Drill returns one by its run's id, or [ErrUnknown].
func (c *Catalog) Drill(ctx context.Context, runID string) (Drill, error) {
	d, err := scanDrill(c.db.QueryRowContext(ctx, selectDrills+` WHERE run_id = ?`, runID).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrUnknown
	}
	if err != nil {
		return Drill{}, fmt.Errorf("the drill %s: %w", runID, err)
	}
	return d, nil
}

const selectDrills = `SELECT run_id, mode, book, meaning, began_at, ended_at, passed, partial, drive_id, hash, record FROM drills`

func scanDrill(scan func(...any) error) (Drill, error) {
	var d Drill
	var began, ended moment
	err := scan(&d.RunID, &d.Mode, &d.Book, &d.Meaning, &began, &ended, &d.Passed, &d.Partial, &d.DriveID, &d.Hash, &d.Record)
	d.Began, d.Ended = began.Time, ended.Time
	return d, err
}
