package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// NoteLimit bounds one note of a host: those that there are take kilobytes.
const NoteLimit = 16 << 20

// Note returns what a host keeps under a name for its machine hostID, or nil.
func (c *Catalog) Note(ctx context.Context, host, hostID, name string) ([]byte, error) {
	var data []byte
	err := c.db.QueryRowContext(ctx, `SELECT data FROM host_notes WHERE host = ? AND host_id = ? AND name = ?`,
		host, hostID, name).Scan(&data)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the note %q of %s on %s: %w", name, hostID, host, err)
	}
	if data == nil {
		data = []byte{} // kept, though empty
	}
	return data, nil
}

// SetNote keeps data in place of what was there; nil forgets it.
func (c *Catalog) SetNote(ctx context.Context, host, hostID, name string, data []byte) error {
	var err error
	switch {
	case len(data) > NoteLimit:
		err = fmt.Errorf("%d bytes are more than the %d that a note may have", len(data), NoteLimit)
	case data == nil:
		_, err = c.db.ExecContext(ctx, `DELETE FROM host_notes WHERE host = ? AND host_id = ? AND name = ?`, host, hostID, name)
	default:
		_, err = c.db.ExecContext(ctx, `INSERT INTO host_notes (host, host_id, name, data, changed) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (host, host_id, name) DO UPDATE SET data = excluded.data, changed = excluded.changed`,
			host, hostID, name, data, text(time.Now()))
	}
	if err != nil {
		return fmt.Errorf("keep the note %q of %s on %s: %w", name, hostID, host, err)
	}
	return nil
}

// ForgetHost forgets what was noted for a host that is not one of the site's any
// more. Links of its machines stay: their histories are on drives.
func (c *Catalog) ForgetHost(ctx context.Context, host string) error {
	if _, err := c.db.ExecContext(ctx, `DELETE FROM host_notes WHERE host = ?`, host); err != nil {
		return fmt.Errorf("forget the notes of host %s: %w", host, err)
	}
	return nil
}
