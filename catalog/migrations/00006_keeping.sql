-- +goose Up

-- What is kept and why, what was proven, what was found damaged, and which machines there are or were.

CREATE TABLE holds (
  point_id TEXT PRIMARY KEY,
  reason   TEXT NOT NULL,
  until    TEXT,
  held_by  TEXT NOT NULL,
  held_at  TEXT NOT NULL
) STRICT;

CREATE TABLE proofs (
  drive_id    TEXT NOT NULL,
  point_id    TEXT NOT NULL,
  run_id      TEXT NOT NULL,
  at          TEXT NOT NULL,
  checked     TEXT NOT NULL,
  revoked_at  TEXT,
  revoked_why TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (drive_id, point_id, run_id)
) STRICT;

-- others: whom else it hurts is not known, so nothing that was read of the drive before counts.
CREATE TABLE faults (
  drive_id TEXT NOT NULL,
  point_id TEXT NOT NULL DEFAULT '',
  run_id   TEXT NOT NULL,
  at       TEXT NOT NULL,
  what     TEXT NOT NULL,
  others   INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (drive_id, point_id, run_id)
) STRICT;

CREATE TABLE machines (
  id           TEXT PRIMARY KEY,
  name         TEXT NOT NULL,
  host         TEXT NOT NULL DEFAULT '',
  last_seen_at TEXT NOT NULL,
  retired_at   TEXT,
  retired_by   TEXT NOT NULL DEFAULT '',
  retired_why  TEXT NOT NULL DEFAULT ''
) STRICT;

-- With max, SQLite takes the name from the same row.
INSERT INTO machines (id, name, last_seen_at)
  SELECT machine_id, machine_name, max(committed_at) FROM points GROUP BY machine_id;
