package catalog

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// extractVersion is the version of the extract that this program writes, and the
// newest that it reads.
const extractVersion = 1

const (
	// maxExtractLine is longer than any row: names and notes are bounded.
	maxExtractLine = 16 << 20
	// maxExtract is what a site of thousands of machines does not reach.
	maxExtract = 1 << 30
)

// ErrExtract: the text is not an extract that this program reads.
var ErrExtract = errors.New("it is not an extract of a catalogue")

// extractHead is the first line of an extract; tableHead begins each table, and
// after it each line is a row.
type extractHead struct {
	Extract int    `json:"extract"`
	SiteID  string `json:"siteId"`
}

type tableHead struct {
	Table   string   `json:"table"`
	Columns []string `json:"columns"`
}

// WriteExtract writes what the catalogue knows of its site, secrets excepted: one
// line of JSON for each row of each table that a drive carries. Equal catalogues
// give equal texts. It is of one moment, whatever others write meanwhile.
func (c *Catalog) WriteExtract(ctx context.Context, siteID string, w io.Writer) error {
	tx, err := c.db.BeginTx(ctx, nil)
	if err == nil {
		defer tx.Rollback()
		out := bufio.NewWriterSize(w, 1<<16)
		enc := json.NewEncoder(out)
		enc.SetEscapeHTML(false)
		err = enc.Encode(extractHead{Extract: extractVersion, SiteID: siteID})
		for i := 0; i < len(carried) && err == nil; i++ {
			err = writeTable(ctx, tx, carried[i].name, enc)
		}
		err = errors.Join(err, out.Flush())
	}
	if err != nil {
		return fmt.Errorf("write the extract of the catalogue: %w", err)
	}
	return nil
}

func writeTable(ctx context.Context, tx *sql.Tx, table string, enc *json.Encoder) error {
	columns, err := columnsOf(ctx, tx, table)
	if err != nil {
		return err
	}
	names := columnNames(columns)
	if err := enc.Encode(tableHead{table, names}); err != nil {
		return err
	}
	rows, err := tx.QueryContext(ctx, `SELECT `+strings.Join(names, ", ")+` FROM `+table+` ORDER BY `+strings.Join(keyOf(columns), ", "))
	if err != nil {
		return err
	}
	defer rows.Close()
	values, places := make([]any, len(names)), make([]any, len(names))
	for i := range values {
		places[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(places...); err != nil {
			return err
		}
		if err := enc.Encode(values); err != nil {
			return err
		}
	}
	return rows.Err()
}

// column is a column of a table of ours.
type column struct {
	name, kind string
	// key is its place in the primary key, from 1; 0 for others.
	key int
}

func columnsOf(ctx context.Context, tx *sql.Tx, table string) ([]column, error) {
	rows, err := tx.QueryContext(ctx, `SELECT name, type, pk FROM pragma_table_info(?) ORDER BY cid`, table)
	columns, err := collect(rows, err, func(scan func(...any) error) (c column, err error) { return c, scan(&c.name, &c.kind, &c.key) })
	if err == nil && len(columns) == 0 {
		err = fmt.Errorf("there is no table %s", table)
	}
	return columns, err
}

func columnNames(columns []column) (names []string) {
	for _, c := range columns {
		names = append(names, c.name)
	}
	return names
}

func keyOf(columns []column) (names []string) {
	sorted := slices.SortedFunc(slices.Values(columns), func(a, b column) int { return a.key - b.key })
	for _, c := range sorted {
		if c.key > 0 {
			names = append(names, c.name)
		}
	}
	return names
}

// Absorb takes over what an extract knows, all of it or nothing. What is known of
// a drive is taken whole from whoever saw the drive last. Of everything else each
// row is kept that either has; where both have one, newer says whether the
// extract's counts. It never removes a row of ours that is not about a drive.
//
// The text comes from a drive: one that is no extract of the site, or one of a
// newer version, is an error that wraps [ErrExtract].
func (c *Catalog) Absorb(ctx context.Context, siteID string, extract io.Reader, newer bool) error {
	in := bufio.NewScanner(io.LimitReader(extract, maxExtract))
	in.Buffer(nil, maxExtractLine)
	err := c.write(ctx, func(tx *sql.Tx) error {
		// Points are read before nothing says that their drive is there.
		if _, err := tx.ExecContext(ctx, `PRAGMA defer_foreign_keys = ON`); err != nil {
			return err
		}
		if err := readExtractHead(in, siteID); err != nil {
			return err
		}
		a := absorbing{tx: tx, newer: newer, drives: map[string]bool{}}
		defer a.close()
		for in.Scan() {
			if err := a.line(ctx, in.Bytes()); err != nil {
				return err
			}
		}
		return in.Err()
	})
	if err != nil {
		return fmt.Errorf("take over an extract of the catalogue: %w", err)
	}
	return nil
}

func readExtractHead(in *bufio.Scanner, siteID string) error {
	var head extractHead
	if !in.Scan() || json.Unmarshal(in.Bytes(), &head) != nil || head.Extract < 1 {
		return errors.Join(ErrExtract, in.Err())
	}
	if head.Extract > extractVersion {
		return fmt.Errorf("%w: a newer version of this program wrote it", ErrExtract)
	}
	if head.SiteID != siteID {
		return fmt.Errorf("%w: it is of another site", ErrExtract)
	}
	return nil
}

// absorbing is one reading of an extract into a transaction.
type absorbing struct {
	tx    *sql.Tx
	newer bool
	// drives are those that the extract knows better than we do.
	drives map[string]bool

	table carriedTable
	// take are the columns of the present table that both have, at their places
	// in the extract's rows; width is how long these are.
	take   []taken
	width  int
	insert *sql.Stmt
}

type taken struct {
	column
	at int
}

func (a *absorbing) close() {
	if a.insert != nil {
		a.insert.Close()
	}
	a.insert = nil
}

// line takes the head of a table or a row of it.
func (a *absorbing) line(ctx context.Context, line []byte) error {
	if len(line) > 0 && line[0] == '{' {
		var head tableHead
		if err := json.Unmarshal(line, &head); err != nil {
			return fmt.Errorf("%w: %v", ErrExtract, err)
		}
		return a.begin(ctx, head)
	}
	dec := json.NewDecoder(strings.NewReader(string(line)))
	dec.UseNumber()
	var row []any
	if err := dec.Decode(&row); err != nil {
		return fmt.Errorf("%w: %v", ErrExtract, err)
	}
	if a.insert == nil {
		return nil // a table of a newer program
	}
	return a.row(ctx, row)
}

// begin finds the table of ours that a head means; no name of the extract ever
// becomes part of a statement.
func (a *absorbing) begin(ctx context.Context, head tableHead) error {
	a.close()
	i := slices.IndexFunc(carried, func(t carriedTable) bool { return t.name == head.Table })
	if i < 0 {
		return nil
	}
	a.table, a.take, a.width = carried[i], nil, len(head.Columns)
	columns, err := columnsOf(ctx, a.tx, a.table.name)
	if err != nil {
		return err
	}
	for _, c := range columns {
		at := slices.Index(head.Columns, c.name)
		if at >= 0 {
			a.take = append(a.take, taken{c, at})
		} else if c.key > 0 {
			return fmt.Errorf("%w: table %s lacks %s", ErrExtract, a.table.name, c.name)
		}
	}
	a.insert, err = a.tx.PrepareContext(ctx, a.statement(keyOf(columns)))
	return err
}

func (a *absorbing) statement(key []string) string {
	var names, marks, changes []string
	for _, t := range a.take {
		names, marks = append(names, t.name), append(marks, "?")
		if t.key == 0 {
			changes = append(changes, t.name+" = excluded."+t.name)
		}
	}
	conflict := "DO NOTHING"
	if (a.newer || a.table.driveColumn != "") && len(changes) > 0 {
		conflict = "DO UPDATE SET " + strings.Join(changes, ", ")
	}
	if a.table.conflict != "" {
		conflict = a.table.conflict
	}
	return "INSERT INTO " + a.table.name + " (" + strings.Join(names, ", ") + ") VALUES (" + strings.Join(marks, ", ") +
		") ON CONFLICT (" + strings.Join(key, ", ") + ") " + conflict
}

func (a *absorbing) row(ctx context.Context, row []any) error {
	if len(row) != a.width {
		return fmt.Errorf("%w: a row of %s has %d values", ErrExtract, a.table.name, len(row))
	}
	values := make([]any, len(a.take))
	var drive, seen string
	for i, t := range a.take {
		v, err := valueOf(t.column, row[t.at])
		if err != nil {
			return fmt.Errorf("%w: table %s: %v", ErrExtract, a.table.name, err)
		}
		values[i] = v
		text, _ := v.(string)
		if t.name == a.table.driveColumn {
			drive = text
		}
		if t.name == "seen_at" {
			seen = text
		}
	}
	if a.table.driveColumn != "" {
		ours, err := a.keepOurs(ctx, drive, seen)
		if err != nil || ours {
			return err
		}
	}
	_, err := a.insert.ExecContext(ctx, values...)
	return err
}

// keepOurs says whether what we know of a drive stays. What the extract knows
// better takes the place of all that we know.
func (a *absorbing) keepOurs(ctx context.Context, drive, seen string) (bool, error) {
	if a.table.name != "drives" {
		return !a.drives[drive], nil
	}
	var ours string
	err := a.tx.QueryRowContext(ctx, `SELECT seen_at FROM drives WHERE id = ?`, drive).Scan(&ours)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return false, err
	}
	if err == nil && (seen < ours || seen == ours && !a.newer) {
		return true, nil
	}
	a.drives[drive] = true
	for _, t := range carried {
		if t.driveColumn == "" || t.name == "drives" {
			continue
		}
		if _, err := a.tx.ExecContext(ctx, `DELETE FROM `+t.name+` WHERE `+t.driveColumn+` = ?`, drive); err != nil {
			return false, err
		}
	}
	return false, nil
}

// valueOf is a value of an extract as a column of ours holds it.
func valueOf(c column, v any) (any, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case string:
		if c.kind == "TEXT" {
			return v, nil
		}
	case json.Number:
		if n, err := v.Int64(); err == nil && c.kind == "INTEGER" {
			return n, nil
		}
		if f, err := v.Float64(); err == nil && c.kind == "REAL" {
			return f, nil
		}
	}
	return nil, fmt.Errorf("column %s, which is %s, has a %T", c.name, c.kind, v)
}
