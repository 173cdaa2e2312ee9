package runbook

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// tidy is a text of somebody else on one line: of what would turn a line around,
// hide in it or steer a screen a replacement is left, and of what is too long a
// beginning.
func tidy(text string, most int) string {
	return strings.Join(strings.Fields(tidyLines(text, most)), " ")
}

// tidyLines is tidy for texts of several lines.
func tidyLines(text string, most int) string {
	if len(text) > most*utf8.UTFMax {
		text = text[:most*utf8.UTFMax]
	}
	text = strings.ReplaceAll(text, "\r\n", "\n")
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r), unicode.Is(unicode.Cf, r), r == '\u2028', r == '\u2029':
			return utf8.RuneError
		}
		return r
	}, text)
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return text
}

// lastLines is the end of a long text.
func lastLines(text string, most int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-most):], "\n")
}

// spell is a length of time as people say it, to two units.
func spell(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + spell(max(-d, 0))
	case d < time.Second && d > 0:
		return "under 1 s"
	case d.Round(time.Second) < time.Minute:
		return fmt.Sprintf("%d s", d.Round(time.Second)/time.Second)
	case d.Round(time.Second) < time.Hour:
		d = d.Round(time.Second)
		return units(d/time.Minute, "min", d%time.Minute/time.Second, "s")
	case d < 48*time.Hour:
		d = d.Round(time.Minute)
		return units(d/time.Hour, "h", d%time.Hour/time.Minute, "min")
	}
	d = d.Round(time.Hour)
	return units(d/(24*time.Hour), "d", d%(24*time.Hour)/time.Hour, "h")
}

func units(n time.Duration, unit string, rest time.Duration, smaller string) string {
	if rest == 0 {
		return fmt.Sprintf("%d %s", n, unit)
	}
	return fmt.Sprintf("%d %s %d %s", n, unit, rest, smaller)
}

// size is a number of bytes as people say it.
func size(n int64) string {
	value, unit := float64(n), 0
	names := []string{"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	for value >= 1024 && unit < len(names)-1 {
		value, unit = value/1024, unit+1
	}
	if unit == 0 || value >= 100 {
		return fmt.Sprintf("%.0f %s", value, names[unit])
	}
	return fmt.Sprintf("%.1f %s", value, names[unit])
}

// plural counts things.
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
