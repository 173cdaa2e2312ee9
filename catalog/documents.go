package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// Document is a document that every drive of the site is to carry.
type Document struct {
	Name      string `json:"name"`
	Note      string `json:"note,omitempty"`
	SizeBytes int64  `json:"sizeBytes"`
	// Hash is BLAKE3 of its bytes, as 64 hex digits.
	Hash      string    `json:"hash"`
	ChangedAt time.Time `json:"changedAt"`
	// RemovedAt: it is to be on no drive any more.
	RemovedAt time.Time `json:"removedAt,omitzero"`
}

// PutDocument remembers a document in place of one that has its name.
func (c *Catalog) PutDocument(ctx context.Context, d Document) error {
	_, err := c.db.ExecContext(ctx, `INSERT INTO documents (name, note, size_bytes, hash, changed_at, removed_at) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET note = excluded.note, size_bytes = excluded.size_bytes, hash = excluded.hash,
			changed_at = excluded.changed_at, removed_at = excluded.removed_at`,
		d.Name, d.Note, d.SizeBytes, d.Hash, text(d.ChangedAt), orNull(d.RemovedAt))
	if err != nil {
		return fmt.Errorf("remember the document %q: %w", d.Name, err)
	}
	return nil
}

// Documents returns all documents by name, those that were removed as well.
func (c *Catalog) Documents(ctx context.Context) ([]Document, error) {
	rows, err := c.db.QueryContext(ctx, `SELECT name, note, size_bytes, hash, changed_at, removed_at FROM documents ORDER BY name`)
	all, err := collect(rows, err, func(scan func(...any) error) (Document, error) {
		var d Document
		var changed, removed moment
		err := scan(&d.Name, &d.Note, &d.SizeBytes, &d.Hash, &changed, &removed)
		d.ChangedAt, d.RemovedAt = changed.Time, removed.Time
		return d, err
	})
	if err != nil {
		return nil, fmt.Errorf("list the documents: %w", err)
	}
	return all, nil
}

// SetDriveDocuments remembers which documents a drive has, by name with their
// hashes, in place of what was known.
func (c *Catalog) SetDriveDocuments(ctx context.Context, driveID string, hashes map[string]string) error {
	err := c.write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM drive_documents WHERE drive_id = ?`, driveID); err != nil {
			return err
		}
		for name, hash := range hashes {
			if _, err := tx.ExecContext(ctx, `INSERT INTO drive_documents (drive_id, name, hash) VALUES (?, ?, ?)`, driveID, name, hash); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("remember the documents of drive %s: %w", driveID, err)
	}
	return nil
}

// DriveDocuments returns the hashes of the documents that drives had when they
// were last here, by drive id and name.
func (c *Catalog) DriveDocuments(ctx context.Context) (map[string]map[string]string, error) {
	type row struct{ drive, name, hash string }
	rows, err := c.db.QueryContext(ctx, `SELECT drive_id, name, hash FROM drive_documents`)
	all, err := collect(rows, err, func(scan func(...any) error) (r row, err error) { return r, scan(&r.drive, &r.name, &r.hash) })
	if err != nil {
		return nil, fmt.Errorf("list the documents of the drives: %w", err)
	}
	found := map[string]map[string]string{}
	for _, r := range all {
		if found[r.drive] == nil {
			found[r.drive] = map[string]string{}
		}
		found[r.drive][r.name] = r.hash
	}
	return found, nil
}
