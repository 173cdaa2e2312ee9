-- +goose Up

-- Who shall open every drive of the site: changes in their order, which drives have them, and who opened each drive when
-- it was last seen. No secret is here.

CREATE TABLE key_changes (
  id         TEXT PRIMARY KEY,
  sequence   INTEGER NOT NULL,
  kind       TEXT NOT NULL,
  slot       TEXT NOT NULL,
  recipients TEXT NOT NULL DEFAULT '',
  made_at    TEXT NOT NULL,
  made_by    TEXT NOT NULL
) STRICT;

CREATE TABLE key_changes_on_drives (
  change_id  TEXT NOT NULL REFERENCES key_changes (id),
  drive_id   TEXT NOT NULL,
  applied_at TEXT,
  trouble    TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (change_id, drive_id)
) STRICT;

CREATE TABLE key_slots (
  drive_id    TEXT NOT NULL,
  name        TEXT NOT NULL,
  kind        TEXT NOT NULL,
  recipient   TEXT NOT NULL DEFAULT '',
  created_at  TEXT NOT NULL,
  generations TEXT NOT NULL,
  seen_at     TEXT NOT NULL,
  PRIMARY KEY (drive_id, name)
) STRICT;
