-- +goose Up

-- Drives that were not what is remembered of them when they were last here: put back into an older state, written
-- elsewhere, made anew, or copied. What is on them counts for nothing until they are as remembered again, or accepted.

CREATE TABLE suspects (
  drive_id TEXT PRIMARY KEY,
  why      TEXT NOT NULL,
  at       TEXT NOT NULL
) STRICT;
