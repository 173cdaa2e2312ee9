package catalog

import (
	"database/sql"
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
