package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// MachineID returns Lifeboat's id of a machine that a host knows by hostID. One
// that was never seen gets fresh as its id; two processes that ask at the same
// time are told the same.
func (c *Catalog) MachineID(ctx context.Context, host, hostID, fresh string) (string, error) {
	var id string
	err := c.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO machine_ids (host, host_id, machine_id) VALUES (?, ?, ?)
			ON CONFLICT (host, host_id) DO NOTHING`, host, hostID, fresh)
		if err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, `SELECT machine_id FROM machine_ids WHERE host = ? AND host_id = ?`,
			host, hostID).Scan(&id)
	})
	if err != nil {
		return "", fmt.Errorf("find the id of machine %s on %s: %w", hostID, host, err)
	}
	return id, nil
}

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

// KnownMachine returns Lifeboat's id of a machine without giving it one, or
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
