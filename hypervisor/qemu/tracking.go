package qemu

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// mostDrives is how many drives in rotation get a bitmap on each disk. Every one
// costs the guest a little with each write, and a shelf has no more than these.
const mostDrives = 8

// bitmapPrefix begins the names of our bitmaps: lb-DRIVE-TIME-RANDOM.
const bitmapPrefix = "lb-"

// bitmap is a persistent dirty bitmap of a qcow2 image. One that is recording
// gathers what the guest writes; one that is not holds what was written until
// it was switched off.
type bitmap struct {
	Name         string `json:"name"`
	Recording    bool   `json:"recording"`
	Inconsistent bool   `json:"inconsistent"`
}

// Reasons for a full read, for the operator.
const (
	whyFirst      = "there is no earlier export to this drive to compare with"
	whyUnknown    = "the machine's change tracking does not know the last export to this drive"
	whyCrash      = "change tracking was not closed cleanly (the machine lost power)"
	whyResized    = "the disk has another size now"
	whyRaw        = "raw disks cannot track changes"
	whyUnreadable = "the list of changes could not be read"
)

// tracker holds the bitmaps of one disk, in a running QEMU or in an image file.
type tracker interface {
	bitmaps(ctx context.Context) ([]bitmap, error)
	// revive switches a bitmap on and adds to it what the others hold, without
	// missing a write in between.
	revive(ctx context.Context, name string, others []string) error
	remove(ctx context.Context, name string) error
}

// newBitmapName names a bitmap for a drive. The names of one drive sort by age.
func newBitmapName(drive string, now time.Time) string {
	var b [4]byte
	rand.Read(b[:])
	return fmt.Sprintf("%s%s-%010x-%s", bitmapPrefix, driveWord(drive), now.Unix(), hex.EncodeToString(b[:]))
}

// driveWord is the drive's part of a bitmap's name.
func driveWord(drive string) string {
	word := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' {
			return r
		}
		return -1
	}, strings.ToLower(drive))
	if len(word) > 16 {
		word = word[:16]
	}
	return word
}

// splitBitmapName returns the drive and the time of one of our bitmaps.
func splitBitmapName(name string) (drive, made string, ok bool) {
	parts := strings.Split(name, "-")
	if len(parts) != 4 || parts[0]+"-" != bitmapPrefix {
		return "", "", false
	}
	return parts[1], parts[2], true
}

// A token is what a restore point remembers of a disk: the bitmap that was
// begun at its moment, and the size that the disk had. The bitmap's name is
// random and lives in the image itself, so a copy of the image that was put
// back has the bitmap of its own history or none.
func token(bitmap string, size int64) string {
	if bitmap == "" {
		return ""
	}
	return fmt.Sprintf("qemu1:%s:%d", bitmap, size)
}

func parseToken(s string) (bitmap string, size int64, ok bool) {
	parts := strings.Split(s, ":")
	if len(parts) != 3 || parts[0] != "qemu1" {
		return "", 0, false
	}
	size, err := strconv.ParseInt(parts[2], 10, 64)
	return parts[1], size, err == nil && size >= 0
}

// settleBase leaves exactly one bitmap of a drive on a disk: the one named,
// recording, holding everything since it was begun. If that cannot be had it
// leaves none and says why in words.
//
// It is the answer to every way in which an earlier export may have ended. A
// bitmap that records has missed nothing, so the others are not needed. One that
// was switched off had a successor from that instant on: together they hold
// everything.
func settleBase(ctx context.Context, t tracker, drive, base string) (why string, err error) {
	all, err := t.bitmaps(ctx)
	if err != nil {
		return "", err
	}
	var ours []bitmap
	for _, b := range all {
		if d, _, ok := splitBitmapName(b.Name); ok && d == driveWord(drive) {
			ours = append(ours, b)
		}
	}
	i := slices.IndexFunc(ours, func(b bitmap) bool { return b.Name == base })
	torn := slices.ContainsFunc(ours, func(b bitmap) bool { return b.Inconsistent })
	keep := base
	switch {
	case i < 0:
		keep, why = "", whyUnknown
		if base == "" {
			why = whyFirst
		}
	case ours[i].Inconsistent || torn && !ours[i].Recording:
		keep, why = "", whyCrash
	case !ours[i].Recording:
		var others []string
		for _, b := range ours {
			if b.Name != base {
				others = append(others, b.Name)
			}
		}
		if err := t.revive(ctx, base, others); err != nil {
			return "", err
		}
	}
	for _, b := range ours {
		if b.Name == keep {
			continue
		}
		if err := t.remove(ctx, b.Name); err != nil {
			return "", err
		}
	}
	return why, nil
}

// makeRoom removes the bitmaps of the drives that were longest not used, so that
// one more drive has its place.
func makeRoom(ctx context.Context, t tracker, drive string) error {
	all, err := t.bitmaps(ctx)
	if err != nil {
		return err
	}
	for _, name := range surplus(all, driveWord(drive)) {
		if err := t.remove(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// surplus returns the bitmaps to remove before one for the given drive is begun.
func surplus(all []bitmap, drive string) []string {
	newest := map[string]string{}
	for _, b := range all {
		if d, made, ok := splitBitmapName(b.Name); ok && d != drive {
			newest[d] = max(newest[d], made)
		}
	}
	drives := make([]string, 0, len(newest))
	for d := range newest {
		drives = append(drives, d)
	}
	slices.SortFunc(drives, func(a, b string) int { return strings.Compare(newest[b], newest[a]) })
	if len(drives) < mostDrives {
		return nil
	}
	goes := drives[mostDrives-1:]
	var names []string
	for _, b := range all {
		if d, _, ok := splitBitmapName(b.Name); ok && slices.Contains(goes, d) {
			names = append(names, b.Name)
		}
	}
	return names
}

// liveTracker is a disk of a running machine.
type liveTracker struct {
	mon  *monitor
	node string
}

func (t liveTracker) bitmaps(ctx context.Context) ([]bitmap, error) {
	nodes, err := blockNodes(ctx, t.mon)
	return nodes[t.node].Bitmaps, err
}

func (t liveTracker) revive(ctx context.Context, name string, others []string) error {
	actions := []args{t.action("block-dirty-bitmap-enable", name)}
	if len(others) > 0 {
		actions = append(actions, args{"type": "block-dirty-bitmap-merge",
			"data": args{"node": t.node, "target": name, "bitmaps": others}})
	}
	return t.mon.run(ctx, "transaction", args{"actions": actions}, nil)
}

func (t liveTracker) remove(ctx context.Context, name string) error {
	return t.mon.run(ctx, "block-dirty-bitmap-remove", args{"node": t.node, "name": name}, nil)
}

func (t liveTracker) action(kind, name string) args {
	return args{"type": kind, "data": args{"node": t.node, "name": name}}
}

// begin returns the actions that start a bitmap and, in the same instant, switch
// off the one before it.
func (t liveTracker) begin(fresh, base string) []args {
	actions := []args{{"type": "block-dirty-bitmap-add",
		"data": args{"node": t.node, "name": fresh, "persistent": true}}}
	if base != "" {
		actions = append(actions, t.action("block-dirty-bitmap-disable", base))
	}
	return actions
}

// fileTracker is the image of a disk whose machine is off and locked.
type fileTracker struct {
	host *Host
	path string
}

func (t fileTracker) bitmaps(ctx context.Context) ([]bitmap, error) {
	info, err := t.host.imageInfo(ctx, t.path, "qcow2")
	if err != nil {
		return nil, err
	}
	var list []bitmap
	for _, b := range info.Specific.Data.Bitmaps {
		list = append(list, bitmap{
			Name:         b.Name,
			Recording:    slices.Contains(b.Flags, "auto"),
			Inconsistent: slices.Contains(b.Flags, "in-use"),
		})
	}
	return list, nil
}

func (t fileTracker) revive(ctx context.Context, name string, others []string) error {
	words := []string{"bitmap", "-f", "qcow2", "--enable"}
	for _, other := range others {
		words = append(words, "--merge", other)
	}
	_, err := t.host.image(ctx, append(words, t.path, name)...)
	return err
}

func (t fileTracker) remove(ctx context.Context, name string) error {
	_, err := t.host.image(ctx, "bitmap", "-f", "qcow2", "--remove", t.path, name)
	return err
}

func (t fileTracker) add(ctx context.Context, name string) error {
	_, err := t.host.image(ctx, "bitmap", "-f", "qcow2", "--add", t.path, name)
	return err
}
