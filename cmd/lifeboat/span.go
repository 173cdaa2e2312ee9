package main

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"time"
)

const day = 24 * time.Hour

// spanUnits are what a span of site.yaml may count. A month is the longest there
// is and so is a year: what is kept is kept rather longer.
var spanUnits = map[string]time.Duration{"h": time.Hour, "d": day, "w": 7 * day, "mo": 31 * day, "y": 366 * day}

var spanText = regexp.MustCompile(`^([0-9]+)(h|d|w|mo|y)$`)

// parseSpan reads a span of time as people write it for drives: 36h, 9d, 8w,
// 18mo, 7y. It is the one grammar of all spans in site.yaml.
func parseSpan(text string) (time.Duration, error) {
	m := spanText.FindStringSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("%q is not a span of time: write a number and h, d, w, mo or y, such as 9d or 18mo", text)
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	unit := spanUnits[m[2]]
	if err != nil || n > int64(math.MaxInt64/unit) || time.Duration(n)*unit > 200*spanUnits["y"] {
		return 0, fmt.Errorf("%q is longer than 200 years", text)
	}
	return time.Duration(n) * unit, nil
}

// inDays is a span for people who count in days and nights: "9 days", "20 hours".
func inDays(d time.Duration) string {
	if d < time.Hour {
		return "an hour"
	}
	if d < 2*day {
		return count(int(d/time.Hour), "hour")
	}
	return count(int(d/day), "day")
}
