package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// calendarEvent is one entry of a calendar file.
type calendarEvent struct {
	// uid stays the same when the file is made again, so that a calendar replaces
	// the entry and does not double it.
	uid            string
	begins, ends   time.Time
	title, details string
	place          string
}

// calendarFile writes an iCalendar file after RFC 5545: times in UTC, so that it
// needs no table of a time zone, lines folded at 75 octets, CRLF at their ends.
func calendarFile(made time.Time, events []calendarEvent) string {
	var out strings.Builder
	line := func(name, value string) { out.WriteString(foldLine(name + ":" + value)) }
	line("BEGIN", "VCALENDAR")
	line("VERSION", "2.0")
	line("PRODID", "-//Lifeboat//rotation//EN")
	line("CALSCALE", "GREGORIAN")
	line("METHOD", "PUBLISH")
	for _, e := range events {
		line("BEGIN", "VEVENT")
		line("UID", e.uid)
		line("DTSTAMP", calendarTime(made))
		line("DTSTART", calendarTime(e.begins))
		line("DTEND", calendarTime(e.ends))
		line("SUMMARY", calendarText(e.title))
		if e.details != "" {
			line("DESCRIPTION", calendarText(e.details))
		}
		if e.place != "" {
			line("LOCATION", calendarText(e.place))
		}
		// A reminder is no appointment: nobody is busy because of it.
		line("TRANSP", "TRANSPARENT")
		line("END", "VEVENT")
	}
	line("END", "VCALENDAR")
	return out.String()
}

func calendarTime(t time.Time) string { return t.UTC().Format("20060102T150405Z") }

// calendarText escapes a text: backslash, semicolon, comma and line end (3.3.11).
func calendarText(s string) string {
	return strings.NewReplacer(`\`, `\\`, ";", `\;`, ",", `\,`, "\r\n", `\n`, "\n", `\n`, "\r", `\n`).Replace(plainText(s))
}

// foldAt is the most octets of a line, without its end (3.1).
const foldAt = 75

// foldLine breaks a line where it is too long, never inside a character.
func foldLine(line string) string {
	var out strings.Builder
	room := foldAt
	for len(line) > room {
		at := room
		for !utf8.RuneStart(line[at]) {
			at--
		}
		out.WriteString(line[:at] + "\r\n ")
		line, room = line[at:], foldAt-1
	}
	return out.String() + line + "\r\n"
}

// calendarUID is an id of an entry that tells nothing of the site.
func calendarUID(siteID, step string) string {
	sum := sha256.Sum256([]byte(fmt.Sprintf("%d:%s%s", len(siteID), siteID, step)))
	return hex.EncodeToString(sum[:16]) + "@lifeboat"
}
