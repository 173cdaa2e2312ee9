package catalog

import (
	"context"
	"fmt"
	"time"
)

// DriveFact is what a drive was like at one moment when it was here.
type DriveFact struct {
	DriveID string    `json:"driveId"`
	At      time.Time `json:"at"`
	// FreeBytes and TotalBytes are of its file system; WrittenBytes is what the run
	// wrote that ended then.
	FreeBytes    int64 `json:"freeBytes"`
	TotalBytes   int64 `json:"totalBytes"`
	WrittenBytes int64 `json:"writtenBytes,omitempty"`
	// The speeds are those that were measured then; 0: none was.
	WriteBytesPerSecond int64 `json:"writeBytesPerSecond,omitempty"`
	ReadBytesPerSecond  int64 `json:"readBytesPerSecond,omitempty"`
	// Health is good, failing or unknown, and why; empty: it was not asked.
	Health    string `json:"health,omitempty"`
	HealthWhy string `json:"healthWhy,omitempty"`
	// LinkMbit is the speed of its USB link; 0: none, or not known.
	LinkMbit int `json:"linkMbit,omitempty"`
	// Model and Serial are what the disk, or the dock that it is in, calls itself.
	Model  string `json:"model,omitempty"`
	Serial string `json:"serial,omitempty"`
}

// RecordFact remembers what a drive was like; a second one of the same moment
// takes the place of the first.
func (c *Catalog) RecordFact(ctx context.Context, f DriveFact) error {
	_, err := c.db.ExecContext(ctx, `INSERT OR REPLACE INTO drive_facts (drive_id, at, free_bytes, total_bytes, written_bytes,
			write_bytes_per_second, read_bytes_per_second, health, health_why, link_mbit, model, serial)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		f.DriveID, text(f.At), f.FreeBytes, f.TotalBytes, f.WrittenBytes, f.WriteBytesPerSecond, f.ReadBytesPerSecond,
		f.Health, f.HealthWhy, f.LinkMbit, f.Model, f.Serial)
	if err != nil {
		return fmt.Errorf("remember what drive %s is like: %w", f.DriveID, err)
	}
	return nil
}

// Facts returns what is remembered of a drive's hardware, oldest first; without an
// id that of all drives.
func (c *Catalog) Facts(ctx context.Context, driveID string) ([]DriveFact, error) {
	rows, err := c.db.QueryContext(ctx, `SELECT drive_id, at, free_bytes, total_bytes, written_bytes, write_bytes_per_second,
			read_bytes_per_second, health, health_why, link_mbit, model, serial
		FROM drive_facts WHERE ? = '' OR drive_id = ? ORDER BY at, drive_id`, driveID, driveID)
	facts, err := collect(rows, err, func(scan func(...any) error) (f DriveFact, err error) {
		var at moment
		err = scan(&f.DriveID, &at, &f.FreeBytes, &f.TotalBytes, &f.WrittenBytes, &f.WriteBytesPerSecond,
			&f.ReadBytesPerSecond, &f.Health, &f.HealthWhy, &f.LinkMbit, &f.Model, &f.Serial)
		f.At = at.Time
		return f, err
	})
	if err != nil {
		return nil, fmt.Errorf("list what drives are like: %w", err)
	}
	return facts, nil
}
