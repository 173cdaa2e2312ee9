package catalog

import (
	"database/sql"
	"slices"
	"testing"
)

// PretendNewer makes a catalogue look as if a newer program had written it.
func PretendNewer(t *testing.T, path string) {
	t.Helper()
	db, err := sql.Open("sqlite", source(path))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)`); err != nil {
		t.Fatal(err)
	}
}

// Unclassified returns the tables that are neither in the extract nor left out of
// it with a reason, and what is listed twice or is no table.
func (c *Catalog) Unclassified(t *testing.T) (names []string) {
	t.Helper()
	rows, err := c.db.Query(`SELECT name FROM sqlite_schema WHERE type = 'table'`)
	tables, err := collect(rows, err, func(scan func(...any) error) (name string, err error) { return name, scan(&name) })
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range tables {
		in := slices.ContainsFunc(carried, func(c carriedTable) bool { return c.name == name })
		if out := excluded[name] != ""; in == out {
			names = append(names, name)
		}
	}
	for _, c := range carried {
		if !slices.Contains(tables, c.name) {
			names = append(names, c.name)
		}
	}
	return names
}

// ChangeByHand runs a statement as somebody would who has the file and the sqlite3
// command.
func ChangeByHand(t *testing.T, path, statement string, args ...any) {
	t.Helper()
	db, err := sql.Open("sqlite", source(path))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(statement, args...); err != nil {
		t.Fatal(err)
	}
}
