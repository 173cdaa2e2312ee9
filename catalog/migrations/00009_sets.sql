-- +goose Up

-- Which disks are in a point, and, where the machine's other disks lie on other drives, the points there: both as JSON,
-- empty for points that were seen before this was kept.

ALTER TABLE points ADD COLUMN disks TEXT NOT NULL DEFAULT '';
ALTER TABLE points ADD COLUMN together TEXT NOT NULL DEFAULT '';
