package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Run is one long command.
type Run struct {
	ID string `json:"id"`
	// Kind is the command, for example "export".
	Kind      string    `json:"kind"`
	StartedAt time.Time `json:"startedAt"`
	// EndedAt is zero while the run goes on, and for one that was killed.
	EndedAt  time.Time `json:"endedAt,omitzero"`
	ExitCode int       `json:"exitCode"`
	Summary  string    `json:"summary,omitempty"`
}

// StartRun remembers that a run has begun.
func (c *Catalog) StartRun(ctx context.Context, id, kind string, at time.Time) error {
	_, err := c.db.ExecContext(ctx, `INSERT INTO runs (id, kind, started_at) VALUES (?, ?, ?)`, id, kind, text(at))
	if err != nil {
		return fmt.Errorf("remember run %s: %w", id, err)
	}
	return nil
}

// EndRun remembers how a run ended, in a sentence and in its exit code.
func (c *Catalog) EndRun(ctx context.Context, id string, at time.Time, exitCode int, summary string) error {
	result, err := c.db.ExecContext(ctx, `UPDATE runs SET ended_at = ?, exit_code = ?, summary = ? WHERE id = ?`,
		text(at), exitCode, summary, id)
	if err == nil {
		var n int64
		if n, err = result.RowsAffected(); err == nil && n == 0 {
			err = ErrUnknown
		}
	}
	if err != nil {
		return fmt.Errorf("remember the end of run %s: %w", id, err)
	}
	return nil
}

// Run returns one run, or [ErrUnknown].
func (c *Catalog) Run(ctx context.Context, id string) (Run, error) {
	r, err := scanRun(c.db.QueryRowContext(ctx, selectRuns+` WHERE id = ?`, id).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrUnknown
	}
	if err != nil {
		return Run{}, fmt.Errorf("run %s: %w", id, err)
	}
	return r, nil
}

// Runs returns the newest runs, newest first, at most limit of them.
func (c *Catalog) Runs(ctx context.Context, limit int) ([]Run, error) {
	rows, err := c.db.QueryContext(ctx, selectRuns+` ORDER BY started_at DESC, id LIMIT ?`, limit)
	runs, err := collect(rows, err, scanRun)
	if err != nil {
		return nil, fmt.Errorf("list the runs: %w", err)
	}
	return runs, nil
}

const selectRuns = `SELECT id, kind, started_at, ended_at, coalesce(exit_code, 0), summary FROM runs`

func scanRun(scan func(...any) error) (Run, error) {
	var r Run
	var started, ended moment
	err := scan(&r.ID, &r.Kind, &started, &ended, &r.ExitCode, &r.Summary)
	r.StartedAt, r.EndedAt = started.Time, ended.Time
	return r, err
}
