package main

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestACalendarFileFollowsTheStandard(t *testing.T) {
	begins := time.Date(2026, 11, 20, 10, 0, 0, 0, time.FixedZone("CET", 3600))
	e := calendarEvent{uid: calendarUID("site", "2026-W47/deposit/A"), begins: begins, ends: begins.Add(time.Hour),
		title: "Jörg; bring, drive \\ A", details: strings.Repeat("Ümläüte überall ", 20) + "\x1b[2J\nEND:VEVENT", place: "bank"}
	file := calendarFile(begins, []calendarEvent{e})
	if strings.Count(file, "\n") != strings.Count(file, "\r\n") || strings.Count(file, "\r") != strings.Count(file, "\r\n") {
		t.Error("a line does not end with CRLF alone")
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(file, "\r\n"), "\r\n") {
		if len(line) > 75 || line == "" || !utf8.ValidString(line) {
			t.Errorf("%d octets: %q", len(line), line)
		}
	}
	unfolded := strings.ReplaceAll(file, "\r\n ", "")
	for _, want := range []string{"BEGIN:VCALENDAR\r\nVERSION:2.0\r\n", "DTSTART:20261120T090000Z\r\n", "DTEND:20261120T100000Z\r\n",
		`SUMMARY:Jörg\; bring\, drive \\ A` + "\r\n", `\nEND:VEVENT` + "\r\n", "END:VEVENT\r\nEND:VCALENDAR\r\n", "UID:" + e.uid} {
		if !strings.Contains(unfolded, want) {
			t.Errorf("%q is not in\n%s", want, unfolded)
		}
	}
	if strings.Contains(file, "\x1b") || strings.Count(unfolded, "\r\nEND:VEVENT") != 1 {
		t.Error("a text became a line of its own")
	}
}

func TestTheIDOfAnEntryStaysAndTellsNothing(t *testing.T) {
	id := calendarUID("site", "2026-W47/deposit/A")
	if id != calendarUID("site", "2026-W47/deposit/A") || id == calendarUID("site2", "026-W47/deposit/A") || strings.Contains(id, "site") {
		t.Error(id)
	}
}
