-- +goose Up

-- Drills and recoveries by runbook, each with its record word for word: the ledger has the hash of that text, so it
-- is never written anew. Drives carry all of them.

CREATE TABLE drills (
  run_id   TEXT PRIMARY KEY,
  mode     TEXT NOT NULL,
  book     TEXT NOT NULL,
  meaning  TEXT NOT NULL,
  began_at TEXT NOT NULL,
  ended_at TEXT NOT NULL,
  passed   INTEGER NOT NULL,
  partial  TEXT NOT NULL DEFAULT '',
  drive_id TEXT NOT NULL DEFAULT '',
  hash     TEXT NOT NULL,
  record   TEXT NOT NULL
) STRICT;

CREATE INDEX drills_by_time ON drills (began_at);
