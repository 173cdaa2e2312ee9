-- +goose Up

-- What a drive was like as hardware whenever it was here: how full, how fast, how well. Serial numbers are notes; the
-- id written on a drive is its identity.

CREATE TABLE drive_facts (
  drive_id               TEXT NOT NULL,
  at                     TEXT NOT NULL,
  free_bytes             INTEGER NOT NULL,
  total_bytes            INTEGER NOT NULL,
  written_bytes          INTEGER NOT NULL DEFAULT 0,
  write_bytes_per_second INTEGER NOT NULL DEFAULT 0,
  read_bytes_per_second  INTEGER NOT NULL DEFAULT 0,
  health                 TEXT NOT NULL DEFAULT '',
  health_why             TEXT NOT NULL DEFAULT '',
  link_mbit              INTEGER NOT NULL DEFAULT 0,
  model                  TEXT NOT NULL DEFAULT '',
  serial                 TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (drive_id, at)
) STRICT;
