-- +goose Up

-- The chain of custody: each entry as the exact text that its hash is of. The hash is kept beside it, so that
-- a text that was changed here is found by itself.

CREATE TABLE ledger (
  sequence INTEGER PRIMARY KEY,
  text     TEXT NOT NULL,
  hash     TEXT NOT NULL
) STRICT;

-- Heads of the ledger that were seen outside of it: on drives, on printed pages. They are what finds a chain that
-- was computed anew.

CREATE TABLE witnesses (
  place    TEXT NOT NULL,
  sequence INTEGER NOT NULL,
  hash     TEXT NOT NULL,
  seen_at  TEXT NOT NULL,
  PRIMARY KEY (place, sequence, hash)
) STRICT;
