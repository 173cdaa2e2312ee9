-- +goose Up

-- When drives and points were read back, beyond whole verifications of points, and how unusual a point's changes were.

ALTER TABLE drives ADD COLUMN verified_at TEXT;
ALTER TABLE drives ADD COLUMN read_bytes_per_second INTEGER NOT NULL DEFAULT 0;
ALTER TABLE points ADD COLUMN read_since TEXT;
ALTER TABLE points ADD COLUMN change_score INTEGER NOT NULL DEFAULT 0;
ALTER TABLE points ADD COLUMN whole_density REAL NOT NULL DEFAULT 0;
