package catalog

import (
	"context"
	"database/sql"
	"fmt"
)

// RecordFailures remembers that machines failed in a run, by their names. It only
// adds: a run that goes on elsewhere may have others.
func (c *Catalog) RecordFailures(ctx context.Context, runID string, machines []string) error {
	err := c.write(ctx, func(tx *sql.Tx) error {
		for _, name := range machines {
			if _, err := tx.ExecContext(ctx, `INSERT OR IGNORE INTO run_failures (run_id, machine_name) VALUES (?, ?)`, runID, name); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("remember what failed in run %s: %w", runID, err)
	}
	return nil
}

// Failures returns the names of the machines that failed, in order, by the ids of
// their runs. A machine may have a point of such a run all the same, from a second
// try.
func (c *Catalog) Failures(ctx context.Context) (map[string][]string, error) {
	type failure struct{ run, machine string }
	rows, err := c.db.QueryContext(ctx, `SELECT run_id, machine_name FROM run_failures ORDER BY run_id, machine_name`)
	all, err := collect(rows, err, func(scan func(...any) error) (f failure, err error) { return f, scan(&f.run, &f.machine) })
	if err != nil {
		return nil, fmt.Errorf("list what failed in runs: %w", err)
	}
	failed := map[string][]string{}
	for _, f := range all {
		failed[f.run] = append(failed[f.run], f.machine)
	}
	return failed, nil
}
