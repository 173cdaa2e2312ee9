package vsphere

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// snapshotPrefix begins the names of the snapshots that Lifeboat makes.
	snapshotPrefix = "lifeboat-export-"
	// claimWords begin their descriptions, for people.
	claimWords = "Made by an export with Lifeboat, which removes it when it ends."
	// silence is how long an export on another computer may say nothing before it
	// is taken for dead: three beats. One that was never able to say anything,
	// because its user may not rename snapshots, gets longSilence, and so does one
	// that reads streams: a server may refuse to rename a snapshot that it sends.
	silence     = 15 * time.Minute
	longSilence = 24 * time.Hour
)

// beatEvery is how often an export says on its snapshot that it lives. A test
// shortens it.
var beatEvery = 5 * time.Minute

// claim is what the description of a snapshot says about who made it: enough to
// tell a snapshot that was left behind from one of an export that is under way,
// on this computer or another.
type claim struct {
	// by is the name of the computer, for people; computer tells it from all
	// others, and from itself after it was started anew.
	by, computer string
	// pid and born are the process: its number, and when it began in the clock
	// ticks of the kernel.
	pid, born int64
	// alive is when it was last heard of, in the server's time.
	alive time.Time
	// beats is how often it was heard of after the snapshot was made.
	beats int64
	// streams: it reads disks as streams.
	streams bool
}

// newClaim is of this process.
func newClaim(now time.Time) claim {
	name, err := os.Hostname()
	if err != nil {
		name = "unknown"
	}
	pid := int64(os.Getpid())
	return claim{by: claimWord(name), computer: thisComputer(), pid: pid, born: bornAt(pid), alive: now.UTC().Truncate(time.Second)}
}

// text is the claim as a description.
func (c claim) text() string {
	text := fmt.Sprintf("%s by=%s computer=%s pid=%d born=%d alive=%s beats=%d",
		claimWords, c.by, c.computer, c.pid, c.born, c.alive.Format(time.RFC3339), c.beats)
	if c.streams {
		text += " streams=1"
	}
	return text
}

// parseClaim reads a description. What is not ours word for word is somebody
// else's.
func parseClaim(text string) (claim, bool) {
	rest, ok := strings.CutPrefix(text, claimWords+" ")
	values := map[string]string{}
	for _, field := range strings.Fields(rest) {
		key, value, _ := strings.Cut(field, "=")
		values[key] = value
	}
	c := claim{by: values["by"], computer: values["computer"], streams: values["streams"] != ""}
	var err error
	number := func(key string) int64 {
		n, e := strconv.ParseInt(values[key], 10, 64)
		if e != nil {
			err = e
		}
		return n
	}
	c.pid, c.born, c.beats = number("pid"), number("born"), number("beats")
	alive, e := time.Parse(time.RFC3339, values["alive"])
	c.alive = alive
	return c, ok && err == nil && e == nil && c.computer != ""
}

// lives says whether the export that made a snapshot is under way, as far as can
// be known, and if so until when that is believed without another word of it.
// Now is the server's time.
func (c claim) lives(name string, now time.Time) (until time.Time, lives bool) {
	if c.computer == thisComputer() {
		if c.pid == int64(os.Getpid()) && c.born == bornAt(c.pid) {
			_, held := heldHere.Load(name)
			return now, held
		}
		born := bornAt(c.pid)
		return now, born != 0 && born == c.born
	}
	patience := silence
	if c.beats == 0 || c.streams {
		patience = longSilence
	}
	until = c.alive.Add(patience)
	return until, now.Before(until)
}

// heldHere holds the names of the snapshots that exports of this process use.
var heldHere sync.Map

// thisComputer is an id of this computer as it runs now.
var thisComputer = sync.OnceValue(func() string {
	h := sha256.New()
	for _, file := range []string{"/etc/machine-id", "/proc/sys/kernel/random/boot_id"} {
		if b, err := os.ReadFile(file); err == nil {
			h.Write(b)
		}
	}
	// Process numbers mean something inside their name space only.
	if space, err := os.Readlink("/proc/self/ns/pid"); err == nil {
		h.Write([]byte(space))
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
})

// bornAt is when a process of this computer began, in clock ticks since the
// computer was started; 0 if there is no such process.
func bornAt(pid int64) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The second field is a name in brackets, which may hold anything.
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	const startTime = 19 // the 22nd of proc(5), counted behind the name
	if len(fields) <= startTime {
		return 0
	}
	born, _ := strconv.ParseInt(fields[startTime], 10, 64)
	return born
}

// claimWord leaves of a name what a description can carry as one word.
func claimWord(name string) string {
	word := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '-' || r == '.' {
			return r
		}
		return -1
	}, name)
	if word == "" {
		return "unknown"
	}
	return word[:min(len(word), 64)]
}
