package libvirt

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// mostDrives is how many drives in rotation get checkpoints on each machine.
// Every one costs the guest a little with each write, and a shelf has no more
// than these.
const mostDrives = 8

// checkpointPrefix begins the names of our checkpoints: lifeboat-DRIVE-TIME-RANDOM.
// The bitmaps in the images are called the same.
const checkpointPrefix = "lifeboat-"

// Reasons for a full read, for the operator.
const (
	whyFirst      = "there is no earlier export to this drive to compare with"
	whyUnknown    = "the machine's change tracking does not know the last export to this drive"
	whyBroken     = "change tracking was not closed cleanly (the machine lost power)"
	whyUnsaid     = "libvirt did not say whether the list of changes is in order"
	whyResized    = "the disk has another size now"
	whyRaw        = "raw disks and block devices cannot track changes"
	whySnapshot   = "the machine is off and its disk is a snapshot on another image"
	whyUnreadable = "the list of changes could not be read"
)

// checkpoint is one of ours on a domain. libvirt from 6.7 on, 9.0 looked at,
// keeps one recording bitmap on each disk for every checkpoint: none depends on
// another, whatever their parents say, and deleting one changes no other.
type checkpoint struct {
	Name string
	// Disks are those that it has a bitmap on, by libvirt's names.
	Disks []string
	// Sound says that libvirt found these bitmaps, closed cleanly.
	Sound bool
	// Unsaid: libvirt did not say whether they are sound. Then they stay, and
	// everything is read this time.
	Unsaid bool
	// Lost says that libvirt did not know it before it was told again.
	Lost bool
}

// newCheckpointName names a checkpoint for a drive. The names of one drive sort
// by age.
func newCheckpointName(drive string, now time.Time) string {
	var b [4]byte
	rand.Read(b[:])
	return fmt.Sprintf("%s%s-%010x-%s", checkpointPrefix, driveWord(drive), now.Unix(), hex.EncodeToString(b[:]))
}

// driveWord is the drive's part of a checkpoint's name.
func driveWord(drive string) string {
	word := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' {
			return r
		}
		return -1
	}, strings.ToLower(drive))
	return word[:min(len(word), 16)]
}

// splitCheckpointName returns the drive and the time of one of our checkpoints.
func splitCheckpointName(name string) (drive, made string, ok bool) {
	parts := strings.Split(name, "-")
	if len(parts) != 4 || parts[0]+"-" != checkpointPrefix || len(parts[2]) != 10 || len(parts[3]) != 8 {
		return "", "", false
	}
	if strings.Trim(parts[1], "0123456789abcdefghijklmnopqrstuvwxyz") != "" || strings.Trim(parts[2]+parts[3], "0123456789abcdef") != "" {
		return "", "", false
	}
	return parts[1], parts[2], true
}

// A token is what a restore point remembers of a disk: the domain, the checkpoint
// that was begun for it, and the size that the disk had. A checkpoint is of one
// disk and one export, its name is random, and its bitmap lives in the image
// itself. So an image that was put back has the bitmap of its own history or
// none, and one that was put behind another disk's target has not that disk's.
func token(uuid, checkpoint string, size int64) string {
	if checkpoint == "" {
		return ""
	}
	return fmt.Sprintf("libvirt1:%s:%s:%d", uuid, checkpoint, size)
}

// parseToken reads a token of this domain; ok is false for any other text.
func parseToken(text, uuid string) (checkpoint string, size int64, ok bool) {
	parts := strings.Split(text, ":")
	if len(parts) != 4 || parts[0] != "libvirt1" || !strings.EqualFold(parts[1], uuid) {
		return "", 0, false
	}
	if _, _, ours := splitCheckpointName(parts[2]); !ours {
		return "", 0, false
	}
	size, err := strconv.ParseInt(parts[3], 10, 64)
	return parts[2], size, err == nil && size >= 0
}

// surplus returns the checkpoints that have to go before one for the given drive
// is begun: those that do not hold what they should; those of the drive that no
// wanted token names, which exports left that never came to a point; and those
// of the drives that were longest not used, so that this one has its place.
func surplus(have []checkpoint, drive string, wanted []string) []string {
	word := driveWord(drive)
	newest := map[string]string{}
	var gone []string
	for _, c := range have {
		d, made, ok := splitCheckpointName(c.Name)
		switch {
		case !ok: // somebody else's
		case !c.Sound && !c.Unsaid, d == word && !slices.Contains(wanted, c.Name):
			gone = append(gone, c.Name)
		case d != word:
			newest[d] = max(newest[d], made)
		}
	}
	drives := make([]string, 0, len(newest))
	for d := range newest {
		drives = append(drives, d)
	}
	slices.SortFunc(drives, func(a, b string) int {
		return strings.Compare(newest[b]+b, newest[a]+a)
	})
	for _, d := range drives[min(len(drives), mostDrives-1):] {
		for _, c := range have {
			if of, _, ok := splitCheckpointName(c.Name); ok && of == d && !slices.Contains(gone, c.Name) {
				gone = append(gone, c.Name)
			}
		}
	}
	return gone
}

// base chooses where the changes of a disk are counted from: the checkpoint that
// its token names, if it is sound and the disk is still the one it was. Otherwise
// it returns "" and why everything has to be read.
func base(have []checkpoint, uuid, target, since string, size int64) (name, why string) {
	if since == "" {
		return "", whyFirst
	}
	name, was, ok := parseToken(since, uuid)
	if !ok {
		return "", whyUnknown
	}
	i := slices.IndexFunc(have, func(c checkpoint) bool { return c.Name == name })
	switch {
	case i < 0 || have[i].Lost && !have[i].Sound && !have[i].Unsaid || !slices.Contains(have[i].Disks, target):
		return "", whyUnknown
	case have[i].Unsaid:
		return "", whyUnsaid
	case !have[i].Sound:
		return "", whyBroken
	case was != size:
		return "", whyResized
	}
	return name, ""
}
