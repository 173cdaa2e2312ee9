-- +goose Up

-- What hosts have to remember of their machines from one run to the next: losing it costs a full read.

CREATE TABLE host_notes (
  host    TEXT NOT NULL,
  host_id TEXT NOT NULL,
  name    TEXT NOT NULL,
  data    BLOB NOT NULL,
  changed TEXT NOT NULL,
  PRIMARY KEY (host, host_id, name)
) STRICT;
