-- +goose Up

-- Documents that every drive of the site is to carry; one that was removed stays listed until each drive was told.

CREATE TABLE documents (
  name       TEXT PRIMARY KEY,
  note       TEXT NOT NULL DEFAULT '',
  size_bytes INTEGER NOT NULL,
  hash       TEXT NOT NULL,
  changed_at TEXT NOT NULL,
  removed_at TEXT
) STRICT;

-- Which document a drive had when it was last here.

CREATE TABLE drive_documents (
  drive_id TEXT NOT NULL,
  name     TEXT NOT NULL,
  hash     TEXT NOT NULL,
  PRIMARY KEY (drive_id, name)
) STRICT;

-- Ledgers of this site that say something else than ours: they are shown, and never mixed. The text is one line an
-- entry; those before first_differs are the same in both.

CREATE TABLE ledger_forks (
  head          TEXT PRIMARY KEY,
  sequence      INTEGER NOT NULL,
  drive_id      TEXT NOT NULL,
  first_differs INTEGER NOT NULL,
  found_at      TEXT NOT NULL,
  text          TEXT NOT NULL
) STRICT;
