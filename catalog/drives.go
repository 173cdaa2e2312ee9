package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"lifeboat"
)

// Head is the newest commit of a drive.
type Head struct {
	Sequence uint64 `json:"sequence"`
	Hash     string `json:"hash"`
}

// Drive is what is remembered of a drive, as of SeenAt.
type Drive struct {
	lifeboat.Drive
	// Fingerprint identifies the drive's master key.
	Fingerprint string `json:"fingerprint"`
	// Earlier are the fingerprints of the keys that the drive had before, as the
	// drive itself proves them when it is seen; they are not remembered.
	Earlier    []string  `json:"-"`
	Head       Head      `json:"head"`
	SeenPath   string    `json:"seenPath"`
	SeenAt     time.Time `json:"seenAt"`
	FreeBytes  int64     `json:"freeBytes"`
	TotalBytes int64     `json:"totalBytes"`
	// WriteBytesPerSecond is what an export measured; 0 when none has yet.
	WriteBytesPerSecond int64 `json:"writeBytesPerSecond,omitempty"`
	// VerifiedAt is when the last verification of everything on it began that
	// found nothing, if no damage was found since. ReadBytesPerSecond is how fast
	// the last verification read. [Catalog.RecordReading] sets them.
	VerifiedAt         time.Time `json:"verifiedAt,omitzero"`
	ReadBytesPerSecond int64     `json:"readBytesPerSecond,omitempty"`
}

// Reasons why a drive is not the one that is remembered.
var (
	// ErrRolledBack: the drive's newest commit is older than one that was seen.
	ErrRolledBack = errors.New("the drive is in an older state than when it was last seen")
	// ErrForked: the drive has another commit where one was seen.
	ErrForked = errors.New("the drive has another history than when it was last seen")
	// ErrKeyChanged: the drive's master key is another one.
	ErrKeyChanged = errors.New("the drive's key is not the one it had")
)

// SuspectError says that a drive is not what is remembered of it: restored from
// an old copy of itself, written elsewhere, or forged. It wraps one of
// [ErrRolledBack], [ErrForked] and [ErrKeyChanged].
type SuspectError struct {
	Known Drive
	Seen  Drive
	Err   error
}

// Error names the drive and both states.
func (e *SuspectError) Error() string { return fmt.Sprintf("drive %s: %s", e.Seen.Label, e.why()) }

// why is the reason, with both states.
func (e *SuspectError) why() string {
	if errors.Is(e.Err, ErrKeyChanged) {
		return fmt.Sprintf("%v (fingerprint %s, before %s)", e.Err, e.Seen.Fingerprint, e.Known.Fingerprint)
	}
	return fmt.Sprintf("%v (commit %d, on %s it was %d)", e.Err,
		e.Seen.Head.Sequence, e.Known.SeenAt.Format(time.DateOnly), e.Known.Head.Sequence)
}

// Unwrap returns the reason.
func (e *SuspectError) Unwrap() error { return e.Err }

// RecordDrive compares a drive with what is remembered of it and remembers it as
// it is now. One that is not the same is a *[SuspectError]; then only that is
// remembered ([Catalog.Suspects]), until it is the same again. A measured speed of
// 0 keeps the one that is known.
func (c *Catalog) RecordDrive(ctx context.Context, seen Drive) error {
	var found *SuspectError
	err := c.write(ctx, func(tx *sql.Tx) error {
		known, err := oneDrive(tx.QueryRowContext(ctx, selectDrives+" WHERE id = ?", seen.ID))
		if err == nil {
			found = suspect(known, seen)
		}
		switch {
		case found != nil:
			return putSuspicion(ctx, tx, Suspicion{DriveID: seen.ID, Why: found.why(), At: seen.SeenAt})
		case err != nil && !errors.Is(err, ErrUnknown):
			return err
		}
		return putDrive(ctx, tx, seen)
	})
	switch {
	case found != nil:
		// Also where the remembering failed: the drive is refused all the same.
		return fmt.Errorf("remember drive %s: %w", seen.Label, errors.Join(found, err))
	case err != nil:
		return fmt.Errorf("remember drive %s: %w", seen.Label, err)
	}
	return nil
}

// AcceptDrive remembers a drive whatever was known of it before: after a person
// looked into why it was suspect.
func (c *Catalog) AcceptDrive(ctx context.Context, seen Drive) error {
	err := c.write(ctx, func(tx *sql.Tx) error { return putDrive(ctx, tx, seen) })
	if err != nil {
		return fmt.Errorf("remember drive %s: %w", seen.Label, err)
	}
	return nil
}

// Drive returns what is known of a drive by its id, or [ErrUnknown].
func (c *Catalog) Drive(ctx context.Context, id string) (Drive, error) {
	d, err := oneDrive(c.db.QueryRowContext(ctx, selectDrives+" WHERE id = ?", id))
	if err != nil {
		return Drive{}, fmt.Errorf("drive %s: %w", id, err)
	}
	return d, nil
}

// Drives returns all drives ever seen, by label.
func (c *Catalog) Drives(ctx context.Context) ([]Drive, error) {
	rows, err := c.db.QueryContext(ctx, selectDrives+" ORDER BY label, id")
	drives, err := collect(rows, err, scanDrive)
	if err != nil {
		return nil, fmt.Errorf("list the drives: %w", err)
	}
	return drives, nil
}

func suspect(known, seen Drive) *SuspectError {
	var reason error
	switch {
	case known.Fingerprint != seen.Fingerprint && !slices.Contains(seen.Earlier, known.Fingerprint):
		reason = ErrKeyChanged
	case seen.Head.Sequence < known.Head.Sequence:
		reason = ErrRolledBack
	case seen.Head.Sequence == known.Head.Sequence && seen.Head.Hash != known.Head.Hash:
		reason = ErrForked
	default:
		return nil
	}
	return &SuspectError{Known: known, Seen: seen, Err: reason}
}

const selectDrives = `SELECT id, label, site_id, created_at, fingerprint, head_sequence, head_hash,
	seen_path, seen_at, free_bytes, total_bytes, write_bytes_per_second,
	verified_at, read_bytes_per_second FROM drives`

func scanDrive(scan func(...any) error) (Drive, error) {
	var d Drive
	var created, seen, verified moment
	err := scan(&d.ID, &d.Label, &d.SiteID, &created, &d.Fingerprint, &d.Head.Sequence, &d.Head.Hash,
		&d.SeenPath, &seen, &d.FreeBytes, &d.TotalBytes, &d.WriteBytesPerSecond, &verified, &d.ReadBytesPerSecond)
	d.CreatedAt, d.SeenAt, d.VerifiedAt = created.Time, seen.Time, verified.Time
	return d, err
}

func oneDrive(row *sql.Row) (Drive, error) {
	d, err := scanDrive(row.Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return d, ErrUnknown
	}
	return d, err
}

// putDrive remembers a drive as it is, which is believed then.
func putDrive(ctx context.Context, tx *sql.Tx, d Drive) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM suspects WHERE drive_id = ?`, d.ID); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO drives (id, label, site_id, created_at, fingerprint, head_sequence,
			head_hash, seen_path, seen_at, free_bytes, total_bytes, write_bytes_per_second)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET label = excluded.label, site_id = excluded.site_id,
			created_at = excluded.created_at, fingerprint = excluded.fingerprint,
			head_sequence = excluded.head_sequence, head_hash = excluded.head_hash,
			seen_path = excluded.seen_path, seen_at = excluded.seen_at,
			free_bytes = excluded.free_bytes, total_bytes = excluded.total_bytes,
			write_bytes_per_second = CASE excluded.write_bytes_per_second WHEN 0
				THEN drives.write_bytes_per_second ELSE excluded.write_bytes_per_second END`,
		d.ID, d.Label, d.SiteID, text(d.CreatedAt), d.Fingerprint, d.Head.Sequence, d.Head.Hash,
		d.SeenPath, text(d.SeenAt), d.FreeBytes, d.TotalBytes, d.WriteBytesPerSecond)
	return err
}
