package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"
)

// KeyChangeKind says what is changed in who opens the drives of the site.
type KeyChangeKind string

// The kinds of key changes.
const (
	KeyAdd     KeyChangeKind = "add"     // a slot is added
	KeyRemove  KeyChangeKind = "remove"  // a slot is removed
	KeyReplace KeyChangeKind = "replace" // a slot's passphrase becomes another one
	KeyRotate  KeyChangeKind = "rotate"  // the drive gets a new master key
)

// KeyChange is a change of who opens the drives of the site. It is meant for all
// of them; those that are away get it when they return.
type KeyChange struct {
	// ID is 32 lower-case hex digits. Sequence is its place among the changes: they
	// are applied in this order.
	ID       string        `json:"id"`
	Sequence int64         `json:"sequence"`
	Kind     KeyChangeKind `json:"kind"`
	// Slot is the name of the key slot; empty for a rotation.
	Slot string `json:"slot,omitempty"`
	// Recipients are the public keys of the slot: the one that is added, or those
	// that a removal is about. None stands for a passphrase, which the catalogue
	// never holds.
	Recipients []string  `json:"recipients,omitempty"`
	MadeAt     time.Time `json:"madeAt"`
	// MadeBy is the account and computer that asked for it, in words.
	MadeBy string `json:"madeBy"`
}

// PendingKeyChange is a change that a drive does not have yet.
type PendingKeyChange struct {
	KeyChange
	// Trouble says why it could not be applied when the drive was last here.
	Trouble string `json:"trouble,omitempty"`
}

// KeySlot is a key slot of a drive, as it was when the drive was last seen.
type KeySlot struct {
	DriveID string `json:"driveId"`
	Name    string `json:"name"`
	// Kind is "passphrase" or "recipient".
	Kind      string    `json:"kind"`
	Recipient string    `json:"recipient,omitempty"`
	CreatedAt time.Time `json:"createdAt"`
	// Generations are those of the drive's master key that it opens, in words:
	// "1" or "1-3".
	Generations string    `json:"generations"`
	SeenAt      time.Time `json:"seenAt"`
}

// AddKeyChange remembers a change as the newest of all, and returns it with its
// sequence. One whose id is known already is returned as it is.
func (c *Catalog) AddKeyChange(ctx context.Context, k KeyChange) (KeyChange, error) {
	err := c.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO key_changes (id, sequence, kind, slot, recipients, made_at, made_by)
			VALUES (?, (SELECT coalesce(max(sequence), 0) + 1 FROM key_changes), ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`,
			k.ID, string(k.Kind), k.Slot, strings.Join(k.Recipients, " "), text(k.MadeAt), k.MadeBy)
		if err != nil {
			return err
		}
		k, err = scanKeyChange(tx.QueryRowContext(ctx, selectKeyChanges+` WHERE id = ?`, k.ID).Scan)
		return err
	})
	if err != nil {
		return k, fmt.Errorf("remember the change of key slot %s: %w", k.Slot, err)
	}
	return k, nil
}

// KeyChanges returns all changes, in their order.
func (c *Catalog) KeyChanges(ctx context.Context) ([]KeyChange, error) {
	rows, err := c.db.QueryContext(ctx, selectKeyChanges+keyChangeOrder)
	all, err := collect(rows, err, scanKeyChange)
	if err != nil {
		return nil, fmt.Errorf("list the changes of key slots: %w", err)
	}
	return all, nil
}

// PendingKeyChanges returns what a drive lacks, in the order in which it has to
// be applied. A drive that the catalogue never saw lacks all.
func (c *Catalog) PendingKeyChanges(ctx context.Context, driveID string) ([]PendingKeyChange, error) {
	rows, err := c.db.QueryContext(ctx, `SELECT id, sequence, kind, slot, recipients, made_at, made_by, coalesce(d.trouble, '')
		FROM key_changes LEFT JOIN key_changes_on_drives d ON d.change_id = id AND d.drive_id = ?
		WHERE d.applied_at IS NULL`+keyChangeOrder, driveID)
	all, err := collect(rows, err, func(scan func(...any) error) (p PendingKeyChange, err error) {
		p.KeyChange, err = scanKeyChange(func(to ...any) error { return scan(append(to, &p.Trouble)...) })
		return p, err
	})
	if err != nil {
		return nil, fmt.Errorf("list the changes that wait for drive %s: %w", driveID, err)
	}
	return all, nil
}

// KeyChangeApplied remembers that a drive has a change.
func (c *Catalog) KeyChangeApplied(ctx context.Context, changeID, driveID string, at time.Time) error {
	_, err := c.db.ExecContext(ctx, `INSERT INTO key_changes_on_drives (change_id, drive_id, applied_at) VALUES (?, ?, ?)
		ON CONFLICT (change_id, drive_id) DO UPDATE SET applied_at = coalesce(applied_at, excluded.applied_at), trouble = ''`,
		changeID, driveID, text(at))
	if err != nil {
		return fmt.Errorf("remember that drive %s has a change of its keys: %w", driveID, err)
	}
	return nil
}

// KeyChangeTrouble remembers why a change could not be applied; it stays pending.
func (c *Catalog) KeyChangeTrouble(ctx context.Context, changeID, driveID, why string) error {
	_, err := c.db.ExecContext(ctx, `INSERT INTO key_changes_on_drives (change_id, drive_id, trouble) VALUES (?, ?, ?)
		ON CONFLICT (change_id, drive_id) DO UPDATE SET trouble = excluded.trouble`, changeID, driveID, why)
	if err != nil {
		return fmt.Errorf("remember what a change of the keys of drive %s waits for: %w", driveID, err)
	}
	return nil
}

// RecordKeySlots remembers the slots of a drive as they are now, in place of what
// was known.
func (c *Catalog) RecordKeySlots(ctx context.Context, driveID string, slots []KeySlot, at time.Time) error {
	err := c.write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM key_slots WHERE drive_id = ?`, driveID); err != nil {
			return err
		}
		for _, s := range slots {
			_, err := tx.ExecContext(ctx, `INSERT INTO key_slots (drive_id, name, kind, recipient, created_at, generations, seen_at)
				VALUES (?, ?, ?, ?, ?, ?, ?)`, driveID, s.Name, s.Kind, s.Recipient, text(s.CreatedAt), s.Generations, text(at))
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("remember the key slots of drive %s: %w", driveID, err)
	}
	return nil
}

// KeySlots returns the slots of all drives as they were when each was last seen,
// by drive, oldest first.
func (c *Catalog) KeySlots(ctx context.Context) ([]KeySlot, error) {
	rows, err := c.db.QueryContext(ctx, `SELECT drive_id, name, kind, recipient, created_at, generations, seen_at
		FROM key_slots ORDER BY drive_id, created_at, name`)
	all, err := collect(rows, err, func(scan func(...any) error) (s KeySlot, err error) {
		var created, seen moment
		err = scan(&s.DriveID, &s.Name, &s.Kind, &s.Recipient, &created, &s.Generations, &seen)
		s.CreatedAt, s.SeenAt = created.Time, seen.Time
		return s, err
	})
	if err != nil {
		return nil, fmt.Errorf("list the key slots of the drives: %w", err)
	}
	return all, nil
}

const (
	selectKeyChanges = `SELECT id, sequence, kind, slot, recipients, made_at, made_by FROM key_changes`
	// Two control machines may have given one number twice; then the time decides.
	keyChangeOrder = ` ORDER BY sequence, made_at, id`
)

func scanKeyChange(scan func(...any) error) (KeyChange, error) {
	var k KeyChange
	var made moment
	var recipients string
	err := scan(&k.ID, &k.Sequence, &k.Kind, &k.Slot, &recipients, &made, &k.MadeBy)
	k.MadeAt, k.Recipients = made.Time, strings.Fields(recipients)
	if len(k.Recipients) == 0 {
		k.Recipients = nil
	}
	return k, err
}
