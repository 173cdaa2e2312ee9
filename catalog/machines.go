package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Machine is a machine that is, or was, protected.
type Machine struct {
	ID string `json:"id"`
	// Name and Host are those of its newest point that was seen; Host is empty
	// when that is not known. LastSeenAt is when that point was committed.
	Name       string    `json:"name"`
	Host       string    `json:"host,omitempty"`
	LastSeenAt time.Time `json:"lastSeenAt"`
	// RetiredAt is when somebody said that it is gone for good; zero: it is not.
	RetiredAt  time.Time `json:"retiredAt,omitzero"`
	RetiredBy  string    `json:"retiredBy,omitempty"`
	RetiredWhy string    `json:"retiredWhy,omitempty"`
}

// Machines returns all machines of which a point was ever seen, by name.
func (c *Catalog) Machines(ctx context.Context) ([]Machine, error) {
	rows, err := c.db.QueryContext(ctx, `SELECT id, name, host, last_seen_at, retired_at, retired_by, retired_why FROM machines ORDER BY name, id`)
	machines, err := collect(rows, err, func(scan func(...any) error) (m Machine, err error) {
		var seen, retired moment
		err = scan(&m.ID, &m.Name, &m.Host, &seen, &retired, &m.RetiredBy, &m.RetiredWhy)
		m.LastSeenAt, m.RetiredAt = seen.Time, retired.Time
		return m, err
	})
	if err != nil {
		return nil, fmt.Errorf("list the machines: %w", err)
	}
	return machines, nil
}

// RetireMachine says that a machine is gone for good, or returns [ErrUnknown]. A
// point of it that is committed later takes that back.
func (c *Catalog) RetireMachine(ctx context.Context, id string, at time.Time, by, why string) error {
	err := c.changeOne(ctx, `UPDATE machines SET retired_at = ?, retired_by = ?, retired_why = ? WHERE id = ?`, text(at), by, why, id)
	if err != nil {
		return fmt.Errorf("retire machine %s: %w", id, err)
	}
	return nil
}

// UnretireMachine takes that back, or returns [ErrUnknown].
func (c *Catalog) UnretireMachine(ctx context.Context, id string) error {
	err := c.changeOne(ctx, `UPDATE machines SET retired_at = NULL, retired_by = '', retired_why = '' WHERE id = ?`, id)
	if err != nil {
		return fmt.Errorf("take machine %s back: %w", id, err)
	}
	return nil
}

// putMachine remembers a machine as its newest point describes it.
func putMachine(ctx context.Context, tx *sql.Tx, m Machine) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO machines (id, name, host, last_seen_at) VALUES (?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name, host = excluded.host, last_seen_at = excluded.last_seen_at,
			retired_by = CASE WHEN excluded.last_seen_at > retired_at THEN '' ELSE retired_by END,
			retired_why = CASE WHEN excluded.last_seen_at > retired_at THEN '' ELSE retired_why END,
			retired_at = CASE WHEN excluded.last_seen_at > retired_at THEN NULL ELSE retired_at END
		WHERE excluded.last_seen_at >= machines.last_seen_at`, m.ID, m.Name, m.Host, text(m.LastSeenAt))
	return err
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
