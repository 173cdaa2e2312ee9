-- +goose Up

-- Which machines failed in a run, by name: a plan that takes an older run for a group says so. Rows are only added.

CREATE TABLE run_failures (
  run_id       TEXT NOT NULL,
  machine_name TEXT NOT NULL,
  PRIMARY KEY (run_id, machine_name)
) STRICT;
