package runbook

import (
	"fmt"
	"math"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const day = 24 * time.Hour

// spanUnits are what a span of a runbook may count: drives are waited for in days,
// services in seconds. A month is the longest there is, and so is a year.
var spanUnits = map[string]time.Duration{
	"s": time.Second, "m": time.Minute, "h": time.Hour, "d": day, "w": 7 * day, "mo": 31 * day, "y": 366 * day,
}

// The patterns are also those of the published schema.
const (
	spanPattern = `^([0-9]{1,9}(s|mo|m|h|d|w|y))+$`
	sizePattern = `^[0-9]{1,9}(\.[0-9]{1,3})? ?(MiB|GiB|TiB|M|G|T)$`
	namePattern = `^[a-z0-9][a-z0-9-]{0,62}$`
	idPattern   = `^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`
	envPattern  = `^[A-Za-z_][A-Za-z0-9_]{0,63}$`
	hostPattern = `^[A-Za-z0-9_]([A-Za-z0-9._-]{0,251}[A-Za-z0-9.])?$`
	pathPattern = `^/[!-~]*$`
)

var (
	spanText = regexp.MustCompile(spanPattern)
	spanPart = regexp.MustCompile(`([0-9]+)([a-z]+)`)
	sizeText = regexp.MustCompile(sizePattern)
	nameText = regexp.MustCompile(namePattern)
	idText   = regexp.MustCompile(idPattern)
	envText  = regexp.MustCompile(envPattern)
	hostText = regexp.MustCompile(hostPattern)
	pathText = regexp.MustCompile(pathPattern)
)

// spanLimit is longer than anything that a runbook waits for.
const spanLimit = 10 * 366 * day

// parseSpan reads a span of time: 90s, 45m, 1h30m, 4h, 90d, 3mo.
func parseSpan(text string) (time.Duration, error) {
	if !spanText.MatchString(text) {
		return 0, fmt.Errorf("%q is not a span of time: write a number and s, m, h, d, w, mo or y, such as 45m, 1h30m or 90d", text)
	}
	var sum time.Duration
	for _, part := range spanPart.FindAllStringSubmatch(text, -1) {
		n, err := strconv.ParseInt(part[1], 10, 64)
		unit := spanUnits[part[2]]
		if err != nil || n > int64(spanLimit/unit) || sum+time.Duration(n)*unit > spanLimit {
			return 0, fmt.Errorf("%q is longer than 10 years", text)
		}
		sum += time.Duration(n) * unit
	}
	if sum == 0 {
		return 0, fmt.Errorf("%q is no time at all", text)
	}
	return sum, nil
}

// spanWords writes a span so that [parseSpan] reads it again, in whole seconds.
func spanWords(d time.Duration) string {
	var out strings.Builder
	for _, u := range []string{"d", "h", "m", "s"} {
		if n := d / spanUnits[u]; n > 0 {
			fmt.Fprintf(&out, "%d%s", n, u)
			d -= n * spanUnits[u]
		}
	}
	return out.String()
}

var sizeUnits = map[string]float64{"M": 1 << 20, "MiB": 1 << 20, "G": 1 << 30, "GiB": 1 << 30, "T": 1 << 40, "TiB": 1 << 40}

// memoryLimit is more than any host has.
const memoryLimit = 64 << 40

// parseSize reads an amount of memory, in binary units: 512 MiB, 4 GiB, 4G.
func parseSize(text string) (int64, error) {
	if !sizeText.MatchString(text) {
		return 0, fmt.Errorf("%q is not an amount of memory: write a number and MiB, GiB or TiB, such as 4 GiB", text)
	}
	number := strings.TrimRight(text, "MGTiB ")
	value, err := strconv.ParseFloat(number, 64)
	bytes := math.Round(value * sizeUnits[strings.TrimSpace(text[len(number):])])
	if err != nil || bytes < 1<<20 || bytes > memoryLimit {
		return 0, fmt.Errorf("%q is not between 1 MiB and 64 TiB", text)
	}
	return int64(bytes), nil
}

// parseForward reads [ADDRESS:]HOSTPORT:MACHINE:PORT. An address of IPv6 stands in
// brackets.
func parseForward(text string) (Forward, error) {
	bad := fmt.Errorf("%q is not a forward: write [ADDRESS:]HOSTPORT:MACHINE:PORT, such as 8080:web:80 or 0.0.0.0:443:web:443", text)
	var f Forward
	rest := text
	if inside, after, ok := strings.Cut(strings.TrimPrefix(rest, "["), "]:"); ok && rest[0] == '[' {
		f.Address, rest = inside, after
	} else if first, after, ok := strings.Cut(rest, ":"); ok && strings.Contains(first, ".") {
		f.Address, rest = first, after
	}
	if f.Address != "" {
		if addr, err := netip.ParseAddr(f.Address); err != nil || addr.Zone() != "" {
			return Forward{}, bad
		}
	}
	first, rest, ok := strings.Cut(rest, ":")
	last := strings.LastIndex(rest, ":")
	if !ok || last < 1 {
		return Forward{}, bad
	}
	f.Machine = rest[:last]
	var okHost, okPort bool
	f.HostPort, okHost = port(first)
	f.Port, okPort = port(rest[last+1:])
	if !okHost || !okPort {
		return Forward{}, bad
	}
	return f, nil
}

func port(text string) (int, bool) {
	n, err := strconv.ParseUint(text, 10, 16)
	return int(n), err == nil && n > 0
}

// String is the forward as the file writes it.
func (f Forward) String() string {
	text := fmt.Sprintf("%d:%s:%d", f.HostPort, f.Machine, f.Port)
	switch {
	case strings.Contains(f.Address, ":"):
		return "[" + f.Address + "]:" + text
	case f.Address != "":
		return f.Address + ":" + text
	}
	return text
}
