package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// LinkMachine says that a host's machine is the one with that id: after it was
// recovered onto another host, so that its history goes on.
func (c *Catalog) LinkMachine(ctx context.Context, host, hostID, machineID string) error {
	_, err := c.db.ExecContext(ctx, `INSERT INTO machine_ids (host, host_id, machine_id) VALUES (?, ?, ?)
		ON CONFLICT (host, host_id) DO UPDATE SET machine_id = excluded.machine_id`, host, hostID, machineID)
	if err != nil {
		return fmt.Errorf("link machine %s on %s: %w", hostID, host, err)
	}
	return nil
}

// UnlinkMachine takes a link back: the machine has the id that its host gives it
// again. It returns [ErrUnknown] if there was no link.
func (c *Catalog) UnlinkMachine(ctx context.Context, host, hostID string) error {
	result, err := c.db.ExecContext(ctx, `DELETE FROM machine_ids WHERE host = ? AND host_id = ?`, host, hostID)
	if err == nil {
		var n int64
		if n, err = result.RowsAffected(); err == nil && n == 0 {
			err = ErrUnknown
		}
	}
	if err != nil {
		return fmt.Errorf("unlink machine %s on %s: %w", hostID, host, err)
	}
	return nil
}

// KnownMachine returns the id that a host's machine was linked to, or
// [ErrUnknown].
func (c *Catalog) KnownMachine(ctx context.Context, host, hostID string) (string, error) {
	var id string
	err := c.db.QueryRowContext(ctx, `SELECT machine_id FROM machine_ids WHERE host = ? AND host_id = ?`,
		host, hostID).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrUnknown
	}
	if err != nil {
		return "", fmt.Errorf("machine %s on %s: %w", hostID, host, err)
	}
	return id, nil
}
