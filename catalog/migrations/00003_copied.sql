-- +goose Up

-- Which drive a point was copied from: its place among the commits says nothing of its age.

ALTER TABLE points ADD COLUMN copied_from TEXT NOT NULL DEFAULT '';
