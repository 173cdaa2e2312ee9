-- +goose Up

-- Times are UTC in RFC 3339 with nanoseconds of fixed width, so that text order is time order.

CREATE TABLE drives (
  id                     TEXT PRIMARY KEY,
  label                  TEXT NOT NULL,
  site_id                TEXT NOT NULL,
  created_at             TEXT NOT NULL,
  fingerprint            TEXT NOT NULL,
  head_sequence          INTEGER NOT NULL,
  head_hash              TEXT NOT NULL,
  seen_path              TEXT NOT NULL,
  seen_at                TEXT NOT NULL,
  free_bytes             INTEGER NOT NULL,
  total_bytes            INTEGER NOT NULL,
  write_bytes_per_second INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE points (
  drive_id     TEXT NOT NULL REFERENCES drives (id),
  point_id     TEXT NOT NULL,
  sequence     INTEGER NOT NULL,
  machine_id   TEXT NOT NULL,
  machine_name TEXT NOT NULL,
  run_id       TEXT NOT NULL,
  taken_at     TEXT NOT NULL,
  committed_at TEXT NOT NULL,
  consistency  TEXT NOT NULL,
  size_bytes   INTEGER NOT NULL,
  data_bytes   INTEGER NOT NULL,
  new_bytes    INTEGER NOT NULL,
  verified_at  TEXT,
  PRIMARY KEY (drive_id, point_id)
) STRICT;

CREATE INDEX points_by_machine ON points (machine_id, sequence);

CREATE TABLE runs (
  id         TEXT PRIMARY KEY,
  kind       TEXT NOT NULL,
  started_at TEXT NOT NULL,
  ended_at   TEXT,
  exit_code  INTEGER,
  summary    TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE INDEX runs_by_start ON runs (started_at);

CREATE TABLE machine_ids (
  host       TEXT NOT NULL,
  host_id    TEXT NOT NULL,
  machine_id TEXT NOT NULL,
  PRIMARY KEY (host, host_id)
) STRICT;
