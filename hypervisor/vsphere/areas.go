package vsphere

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/vim25/types"

	"lifeboat"
)

const (
	// mostPages and mostAreas bound what a server may answer: far more than a
	// disk of 62 TiB needs, whose maps have areas of 64 KiB and more.
	mostPages = 1 << 17
	mostAreas = 1 << 22
)

// askAreas asks for the page of a change map that begins at an offset.
type askAreas func(ctx context.Context, start int64) (types.DiskChangeInfo, error)

// errMap says that a change map makes no sense.
var errMap = errors.New("the host's change map makes no sense")

// wholeMap asks for a change map page by page to the end of the disk. The server
// says itself how much of the disk a page describes: two products read only the
// first one, and wrote corrupt copies for years. A page that does not go on
// where the last one ended, or an area that overlaps the one before it or lies
// outside of its page, makes the whole map worthless.
func wholeMap(ctx context.Context, size int64, ask askAreas) ([]lifeboat.Extent, error) {
	var areas []lifeboat.Extent
	at := int64(0)
	for page := 0; at < size; page++ {
		if page == mostPages {
			return nil, fmt.Errorf("%w: more than %d pages", errMap, mostPages)
		}
		info, err := ask(ctx, at)
		if err != nil {
			return nil, err
		}
		if info.StartOffset != at || info.Length <= 0 || info.Length > size-at {
			return nil, fmt.Errorf("%w: asked from %d on, it describes %d bytes from %d of a disk of %d",
				errMap, at, info.Length, info.StartOffset, size)
		}
		last := at
		at += info.Length
		for _, a := range info.ChangedArea {
			if a.Length <= 0 || a.Start < last || a.Length > at-a.Start {
				return nil, fmt.Errorf("%w: an area of %d bytes from %d, where %d to %d is left", errMap, a.Length, a.Start, last, at)
			}
			last = a.Start + a.Length
			if n := len(areas); n > 0 && areas[n-1].End() == a.Start {
				areas[n-1].Length += a.Length
				continue
			}
			if len(areas) == mostAreas {
				return nil, fmt.Errorf("%w: more than %d areas", errMap, mostAreas)
			}
			areas = append(areas, lifeboat.Extent{Offset: a.Start, Length: a.Length})
		}
	}
	return areas, nil
}

// changeID is vSphere's name for a moment of a disk: the tracking that it belongs
// to, and a number that grows with each snapshot. A tracking that began anew has
// another name.
type changeID struct {
	tracking string
	number   uint64
}

// parseChangeID reads "52 de c0 d9 b9 43 9d 10-61 d5 4c 1b e9 7b 65 63/81".
func parseChangeID(text string) (changeID, bool) {
	tracking, number, ok := strings.Cut(text, "/")
	if !ok || tracking == "" || len(text) > 128 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' || r == '|' }) {
		return changeID{}, false
	}
	n, err := strconv.ParseUint(number, 10, 64)
	return changeID{tracking, n}, err == nil
}

// mark is what a restore point remembers of a disk: the change id of its moment,
// which disk it was, and how large.
type mark struct {
	change string
	disk   string // the disk's UUID, as vSphere gave it
	size   int64
}

// tokenPrefix begins the tokens of this kind of host, with their version.
const tokenPrefix = "vsphere1"

// token is the mark as a restore point keeps it; empty where there is no change
// id, or none that could be read again.
func (m mark) token() string {
	if _, ok := parseChangeID(m.change); !ok || strings.Contains(m.disk, "|") {
		return ""
	}
	return strings.Join([]string{tokenPrefix, m.change, m.disk, strconv.FormatInt(m.size, 10)}, "|")
}

func parseToken(text string) (mark, bool) {
	parts := strings.Split(text, "|")
	if len(parts) != 4 || parts[0] != tokenPrefix {
		return mark{}, false
	}
	size, err := strconv.ParseInt(parts[3], 10, 64)
	if _, ok := parseChangeID(parts[1]); !ok || err != nil || size < 0 {
		return mark{}, false
	}
	return mark{change: parts[1], disk: parts[2], size: size}, true
}

// Reasons for a full read, for the operator.
const (
	whyFirst    = "there is no earlier export to this drive to compare with"
	whyUnknown  = "the last export to this drive was not of this host"
	whyResized  = "the disk has another size now"
	whyReplaced = "it is another disk than at the last export to this drive"
	whyReset    = "change tracking began anew since the last export to this drive"
	whyBack     = "the machine went back to an earlier state since the last export to this drive"
	whyStream   = "this host's disk is read as one stream, which is whole anyway"
	whyAsked    = "the host does not give its list of changes"
)

// base is the change id to count from, or why there is none.
func base(since string, now mark) (change, why string) {
	then, ok := parseToken(since)
	current, tracked := parseChangeID(now.change)
	old, _ := parseChangeID(then.change)
	switch {
	case since == "":
		return "", whyFirst
	case !ok:
		return "", whyUnknown
	case !tracked:
		return "", "change tracking is off"
	case then.disk != now.disk:
		return "", whyReplaced
	case then.size != now.size:
		return "", whyResized
	case old.tracking != current.tracking:
		return "", whyReset
	case old.number > current.number:
		return "", whyBack
	}
	return then.change, ""
}
