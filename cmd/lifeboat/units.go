package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// humanBytes writes a size as people say it, in binary units.
func humanBytes(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, names := float64(n), []string{"KiB", "MiB", "GiB", "TiB", "PiB"}
	i := -1
	for value >= unit && i < len(names)-1 {
		value /= unit
		i++
	}
	if value >= 100 {
		return fmt.Sprintf("%.0f %s", value, names[i])
	}
	return fmt.Sprintf("%.1f %s", value, names[i])
}

// count says how many of a thing there are.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// humanDuration writes a time span in its two largest units.
func humanDuration(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min %02d s", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %02d min", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	}
}

// humanAge says how long ago something was.
func humanAge(now, then time.Time) string {
	if then.IsZero() {
		return "never"
	}
	age := now.Sub(then)
	if age < 0 {
		return "in the future: " + then.Local().Format("2006-01-02 15:04")
	}
	return humanDuration(age) + " ago"
}

// stamp writes a moment for people, in this machine's time zone.
func stamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// plainText takes out what would drive a terminal. Names come from guests and
// from other people's hypervisors, and are printed on the screen of root.
func plainText(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' || unicode.Is(unicode.Bidi_Control, r) {
			return '\uFFFD'
		}
		return r
	}, s)
}

// table lays out rows under a heading, columns two spaces apart.
func table(head []string, rows [][]string) string {
	width := make([]int, len(head))
	for _, row := range rows {
		for i := range row {
			row[i] = oneLine(row[i])
		}
	}
	for _, row := range append([][]string{head}, rows...) {
		for i, cell := range row {
			width[i] = max(width[i], len([]rune(cell)))
		}
	}
	var out strings.Builder
	for _, row := range append([][]string{head}, rows...) {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(cell)
			if i < len(row)-1 {
				line.WriteString(strings.Repeat(" ", width[i]-len([]rune(cell))+2))
			}
		}
		out.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	return out.String()
}

// remarks is a table whose last column has sentences. On a screen of so many
// columns a remark that does not fit stands under its row; zero columns are no
// screen, and every row is one line.
func remarks(columns int, head []string, rows [][]string) string {
	whole := table(head, rows)
	if columns == 0 {
		return whole
	}
	bare := make([][]string, len(rows))
	for i, row := range rows {
		bare[i] = append(slices.Clone(row[:len(row)-1]), "")
	}
	short := strings.SplitAfter(table(head, bare), "\n")
	var out strings.Builder
	for i, line := range strings.SplitAfter(whole, "\n") {
		if i == 0 || i > len(rows) || utf8.RuneCountInString(line)-1 <= columns {
			out.WriteString(line)
			continue
		}
		out.WriteString(short[i] + wrapped(rows[i-1][len(head)-1], columns))
	}
	return out.String()
}

// wrapped is a sentence on lines of so many columns, set in.
func wrapped(text string, columns int) string {
	const indent = "    "
	var out strings.Builder
	line := indent
	for _, word := range strings.Fields(text) {
		if line != indent && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > columns {
			out.WriteString(line + "\n")
			line = indent
		}
		if line != indent {
			line += " "
		}
		line += word
	}
	return out.String() + line + "\n"
}

// short is the beginning of an id, enough to tell points and runs apart.
func short(id string) string {
	if len(id) > 8 {
		return id[:8]
	}
	return id
}
