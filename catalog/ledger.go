package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"lifeboat"
	"lifeboat/custody"
)

// Append adds an entry to the ledger, in one transaction with the reading of its
// head, and returns it as it is stored: two processes at once get two numbers. A
// hand-over that it implies is stored before it. What [custody.Append] refuses
// stays out, and nothing is added to a ledger whose chain does not hold.
func (c *Catalog) Append(ctx context.Context, e custody.Entry) (custody.Entry, error) {
	var last custody.Entry
	err := c.write(ctx, func(tx *sql.Tx) error {
		lines, err := ledgerLines(ctx, tx)
		if err != nil {
			return err
		}
		entries, err := whole(e.SiteID, lines)
		if err != nil {
			return err
		}
		added, err := custody.Append(entries, e)
		if err != nil {
			return err
		}
		last = added[len(added)-1]
		return putLines(ctx, tx, len(lines), custody.Lines(added))
	})
	if err != nil {
		return custody.Entry{}, fmt.Errorf("write the ledger: %w", err)
	}
	return last, nil
}

// Ledger returns all entries, in their order. A ledger that was changed in the
// file is a [lifeboat.Problem] that names the first bad entry and wraps
// [custody.ErrBroken].
func (c *Catalog) Ledger(ctx context.Context) ([]custody.Entry, error) {
	lines, err := c.LedgerLines(ctx)
	if err != nil {
		return nil, err
	}
	return whole(siteOf(lines), lines)
}

// LedgerLines returns the ledger as it is stored, whether its chain holds or not:
// for an audit.
func (c *Catalog) LedgerLines(ctx context.Context) ([]custody.Line, error) {
	lines, err := ledgerLines(ctx, c.db)
	if err != nil {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	return lines, nil
}

// LedgerHead returns the newest entry's number and hash. It does not read the
// others.
func (c *Catalog) LedgerHead(ctx context.Context) (custody.Head, error) {
	var h custody.Head
	err := c.db.QueryRowContext(ctx, `SELECT sequence, hash FROM ledger ORDER BY sequence DESC LIMIT 1`).Scan(&h.Sequence, &h.Hash)
	if errors.Is(err, sql.ErrNoRows) {
		return custody.Head{}, nil
	}
	if err != nil {
		return custody.Head{}, fmt.Errorf("read the head of the ledger: %w", err)
	}
	return h, nil
}

// ReplaceLedger takes a chain that begins with the one that is here, and may go on.
// It also puts back entries whose text was changed here, where the hash that was
// kept beside it is that of the other chain's entry; then the other chain may be
// the shorter one, and what follows here stays. Any other chain is an error that
// wraps [custody.ErrForked], and one that does not hold [custody.ErrBroken]; then
// the ledger stays as it is.
func (c *Catalog) ReplaceLedger(ctx context.Context, entries []custody.Entry) error {
	theirs := custody.Lines(entries)
	err := c.write(ctx, func(tx *sql.Tx) error {
		ours, err := ledgerLines(ctx, tx)
		if err != nil {
			return err
		}
		if _, err := whole(siteOf(theirs), theirs); err != nil {
			return err
		}
		all, err := continued(ours, theirs, entries)
		if err == nil {
			_, err = whole(siteOf(all), all)
		}
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM ledger`); err != nil {
			return err
		}
		return putLines(ctx, tx, 0, all)
	})
	if err != nil {
		return fmt.Errorf("replace the ledger: %w", err)
	}
	return nil
}

// continued is the chain that begins with ours and goes on with theirs, with what
// was changed here put back.
func continued(ours, theirs []custody.Line, entries []custody.Entry) ([]custody.Line, error) {
	mended := false
	for i, line := range ours[:min(len(ours), len(theirs))] {
		changedHere := line.Hash != custody.HashOf(line.Text) && line.Hash == theirs[i].Hash
		if line.Text != theirs[i].Text && !changedHere {
			mine, _ := custody.Decode(line.Text) // shown beside the other, as far as it can be read
			return nil, &custody.ForkError{Sequence: uint64(i + 1), Ours: mine, Theirs: entries[i]}
		}
		mended = mended || changedHere
	}
	if len(theirs) >= len(ours) {
		return theirs, nil
	}
	if !mended {
		return nil, fmt.Errorf("%w: the other has %d entries, and this one %d", custody.ErrForked, len(theirs), len(ours))
	}
	return append(slices.Clone(theirs), ours[len(theirs):]...), nil
}

// Witness remembers a head of the ledger that was seen outside of it.
func (c *Catalog) Witness(ctx context.Context, w custody.Witness) error {
	err := c.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO witnesses (place, sequence, hash, seen_at) VALUES (?, ?, ?, ?)
			ON CONFLICT (place, sequence, hash) DO UPDATE SET seen_at = excluded.seen_at`,
			w.Where, w.Sequence, w.Hash, text(w.SeenAt))
		return err
	})
	if err != nil {
		return fmt.Errorf("remember the head that %s has: %w", w.Where, err)
	}
	return nil
}

// Witnesses returns all heads that were seen outside of the ledger, by number.
func (c *Catalog) Witnesses(ctx context.Context) ([]custody.Witness, error) {
	rows, err := c.db.QueryContext(ctx, `SELECT place, sequence, hash, seen_at FROM witnesses ORDER BY sequence, place, hash`)
	all, err := collect(rows, err, func(scan func(...any) error) (custody.Witness, error) {
		var w custody.Witness
		var seen moment
		err := scan(&w.Where, &w.Sequence, &w.Hash, &seen)
		w.SeenAt = seen.Time
		return w, err
	})
	if err != nil {
		return nil, fmt.Errorf("list the heads that were seen: %w", err)
	}
	return all, nil
}

// ledgerLines reads from the file, or in a transaction on it.
func ledgerLines(ctx context.Context, q interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}) ([]custody.Line, error) {
	rows, err := q.QueryContext(ctx, `SELECT text, hash FROM ledger ORDER BY sequence`)
	return collect(rows, err, func(scan func(...any) error) (l custody.Line, err error) { return l, scan(&l.Text, &l.Hash) })
}

// putLines stores lines behind the first so many. Their number in the file is the
// place in the chain.
func putLines(ctx context.Context, tx *sql.Tx, behind int, lines []custody.Line) error {
	for i, l := range lines {
		if _, err := tx.ExecContext(ctx, `INSERT INTO ledger (sequence, text, hash) VALUES (?, ?, ?)`, behind+i+1, l.Text, l.Hash); err != nil {
			return err
		}
	}
	return nil
}

// siteOf is the site that a ledger says it is of.
func siteOf(lines []custody.Line) string {
	for _, l := range lines {
		if e, err := custody.Decode(l.Text); err == nil {
			return e.SiteID
		}
	}
	return ""
}

// whole returns the entries of a chain that holds.
func whole(siteID string, lines []custody.Line) ([]custody.Entry, error) {
	entries, found := custody.Verify(siteID, lines)
	bad, broken := custody.FirstFault(found)
	if !broken {
		return entries, nil
	}
	return nil, &lifeboat.Problem{
		What: "the ledger was changed in the catalogue: " + bad.What,
		Safe: "drives, restore points and exports are not concerned; nothing is added to the ledger until this is looked into",
		Next: "attach a drive, which has a ledger of its own, and see what differs: lifeboat rotate audit",
		Err:  fmt.Errorf("%w: %w", lifeboat.ErrDamaged, custody.ErrBroken),
	}
}
