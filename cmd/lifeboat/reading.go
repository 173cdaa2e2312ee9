package main

import (
	"fmt"
	"time"

	"lifeboat/imagestore"
)

// coverageWords says how much of a drive was read back, and when.
func coverageWords(now time.Time, c imagestore.Coverage) string {
	if c.PackBytes == 0 {
		return "nothing is on it yet"
	}
	text := fmt.Sprintf("%.0f %% of the drive was read back within 30 days, %.0f %% within 90, %.0f %% within a year", c.Within30, c.Within90, c.Within365)
	switch {
	case c.NeverBytes == c.PackBytes:
		return "nothing of it was ever read back"
	case c.NeverBytes > 0:
		return text + fmt.Sprintf("; %s never", humanBytes(c.NeverBytes))
	case c.OldestRead.IsZero():
		return text
	}
	return text + "; the oldest part " + humanAge(now, c.OldestRead)
}

// readWords says when a point was read back, shortly.
func readWords(c imagestore.CheckedPoint) string {
	day := func(t time.Time) string { return t.Local().Format(time.DateOnly) }
	switch {
	case !c.ReadSince.IsZero() && c.ReadSince.After(c.VerifiedAt):
		return "read since " + day(c.ReadSince)
	case !c.VerifiedAt.IsZero():
		return day(c.VerifiedAt)
	}
	return "never"
}

// driveVerifiedWords says when everything on a drive was verified.
func driveVerifiedWords(now, at time.Time) string {
	if at.IsZero() {
		return "never as a whole"
	}
	return fmt.Sprintf("%s, %s", stamp(at), humanAge(now, at))
}

// pointReadWords says the same in full.
func pointReadWords(now time.Time, c imagestore.CheckedPoint) string {
	text := "never"
	if !c.VerifiedAt.IsZero() {
		text = fmt.Sprintf("%s, %s", stamp(c.VerifiedAt), humanAge(now, c.VerifiedAt))
	}
	if c.ReadSince.After(c.VerifiedAt) {
		text += fmt.Sprintf("; every block was read since %s", stamp(c.ReadSince))
	}
	return text
}
