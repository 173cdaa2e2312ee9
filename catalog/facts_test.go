package catalog_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lifeboat/catalog"
)

func TestWhatADriveWasLikeIsRememberedInItsOrder(t *testing.T) {
	c := open(t, filepath.Join(t.TempDir(), "catalog.db"))
	at := time.Date(2026, 11, 20, 17, 0, 0, 0, time.UTC)
	full := catalog.DriveFact{DriveID: "a", At: at, FreeBytes: 1, TotalBytes: 2, WrittenBytes: 3, WriteBytesPerSecond: 4, ReadBytesPerSecond: 5,
		Health: "failing", HealthWhy: "2 sectors cannot be read", LinkMbit: 480, Model: "Disk", Serial: "S1"}
	before := catalog.DriveFact{DriveID: "a", At: at.Add(-time.Hour), FreeBytes: 10, TotalBytes: 20}
	other := catalog.DriveFact{DriveID: "b", At: at}
	for _, f := range []catalog.DriveFact{full, before, other, {DriveID: "b", At: at, FreeBytes: 7}} {
		if err := c.RecordFact(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	other.FreeBytes = 7
	for id, want := range map[string][]catalog.DriveFact{"a": {before, full}, "b": {other}, "c": nil, "": {before, full, other}} {
		got, err := c.Facts(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", id, diff)
		}
	}
}
