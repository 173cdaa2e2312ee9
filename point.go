package lifeboat

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// RestorePoint is one machine at one moment, complete: every block of every
// disk that is not excluded can be read from the drive it is on. It depends on
// no other point. Only a part, of a machine whose disks lie on several drives,
// needs the other parts: see Together.
type RestorePoint struct {
	// ID is 32 lower-case hex digits, never used twice.
	ID string `json:"id"`
	// Sequence counts the commits of the drive; a later point has a higher one,
	// whatever the clocks said.
	Sequence uint64 `json:"sequence"`
	// RunID is shared by all points of one export run.
	RunID string `json:"runId"`
	// TakenAt is the moment that the disks hold; CommittedAt is when the point
	// came into being on the drive.
	TakenAt     time.Time   `json:"takenAt"`
	CommittedAt time.Time   `json:"committedAt"`
	Consistency Consistency `json:"consistency"`
	// Host is the name of the host that the machine was exported from.
	Host    string      `json:"host,omitempty"`
	Machine Machine     `json:"machine"`
	Disks   []PointDisk `json:"disks"`
	// Program is the version of Lifeboat that wrote the point.
	Program string `json:"program"`
	// Change says how unusual it was what had changed; nil in a point of before
	// that was known.
	Change *Change `json:"change,omitempty"`
	// CopiedFrom is the id of the drive that the point was copied from; empty
	// where it was exported to this one.
	CopiedFrom string `json:"copiedFrom,omitempty"`
	// Together is set in a part: it lists all parts of the machine at this moment,
	// this one too, in the same order in each of them. Only together they are the
	// machine, and each disk that is not excluded is in one of them.
	Together []Part `json:"together,omitempty"`
}

// Part is what one drive has of a machine whose disks lie on several drives.
type Part struct {
	// PointID is the point that the drive has of it.
	PointID string `json:"pointId"`
	// DriveID and Label are those of the drive that it was exported to. A copy may
	// be on another one.
	DriveID string `json:"driveId"`
	Label   string `json:"label"`
	// Disks are the keys of the disks in it.
	Disks []string `json:"disks"`
}

// Has says that a disk is in this part.
func (p Part) Has(key string) bool { return slices.Contains(p.Disks, key) }

// IsPart says that the point has some disks of its machine only.
func (p RestorePoint) IsPart() bool { return len(p.Together) > 0 }

// PartWith is the part that has a disk.
func (p RestorePoint) PartWith(key string) (Part, bool) {
	i := slices.IndexFunc(p.Together, func(part Part) bool { return part.Has(key) })
	if i < 0 {
		return Part{}, false
	}
	return p.Together[i], true
}

// CheckTogether finds what contradicts itself in a part: each disk has to be in
// one part, and the point in the list with the disks that it has itself.
func (p RestorePoint) CheckTogether() error {
	if !p.IsPart() {
		return nil
	}
	if len(p.Together) < 2 {
		return errors.New("a part without another one")
	}
	points, parts := map[string]bool{}, map[string]int{}
	var own []string
	for _, part := range p.Together {
		if part.PointID == "" || points[part.PointID] || len(part.Disks) == 0 {
			return fmt.Errorf("part %q is listed twice, or has no disk", part.PointID)
		}
		points[part.PointID] = true
		for _, key := range part.Disks {
			parts[key]++
		}
		if part.PointID == p.ID {
			own = slices.Sorted(slices.Values(part.Disks))
		}
	}
	var here []string
	for _, d := range p.Disks {
		here = append(here, d.Key)
	}
	slices.Sort(here)
	if !slices.Equal(own, here) {
		return fmt.Errorf("the part says that it has the disks %q and has %q", own, here)
	}
	for _, d := range p.Machine.Disks {
		want := 1
		if d.Excluded != "" {
			want = 0
		}
		if parts[d.Key] != want {
			return fmt.Errorf("disk %s is in %d parts", d.Key, parts[d.Key])
		}
		delete(parts, d.Key)
	}
	if len(parts) > 0 {
		return errors.New("a part has a disk that the machine has not")
	}
	return nil
}

// Record is the point as JSON for the drive that keeps it, sealed: with the state
// of the machine's TPM, which JSON of a point is without otherwise.
func (p RestorePoint) Record() ([]byte, error) {
	type machine struct {
		Machine
		TPM *keptTPM `json:"tpm,omitempty"`
	}
	return json.Marshal(struct {
		RestorePoint
		Machine machine `json:"machine"`
	}{p, machine{p.Machine, (*keptTPM)(p.Machine.TPM)}})
}

// NewerThan says which of two points of a machine on one drive is the newer one:
// the one that was committed later, whatever the clocks said. Only of a copied
// point the later commit says nothing; it is newer if its moment is.
func (p RestorePoint) NewerThan(q RestorePoint) bool {
	if p.Sequence <= q.Sequence {
		return p.Sequence < q.Sequence && !q.NewerThan(p)
	}
	return p.CopiedFrom == "" || !p.TakenAt.Before(q.TakenAt)
}

// Newest returns the newest point of each machine, by the machine's id, of the
// points of one drive. They are compared in the order of their commits: with
// clocks that were wrong, three points may each be newer than another.
func Newest(points []RestorePoint) map[string]RestorePoint {
	newest := map[string]RestorePoint{}
	for _, p := range slices.SortedFunc(slices.Values(points), func(a, b RestorePoint) int { return cmp.Compare(a.Sequence, b.Sequence) }) {
		if known, ok := newest[p.Machine.ID]; !ok || p.NewerThan(known) {
			newest[p.Machine.ID] = p
		}
	}
	return newest
}

// UnusualScore is the score from which on a change is told to people.
const UnusualScore = 50

// Change compares what was new in a point with the points before it of the same
// machine on the same drive. Data that somebody encrypts is new, and cannot be
// compressed.
type Change struct {
	// Score, from 0 to 100, is how much the change looks like that. From
	// [UnusualScore] on it is told to people.
	Score int `json:"score"`
	// Why says it in words; empty below UnusualScore.
	Why string `json:"why,omitempty"`
	// First: the drive had no point of the machine before, so all was new.
	First bool `json:"first,omitempty"`
	// Share is what was new on the drive as a part of the machine's data, from 0
	// to 1. Density is what the new data took up on the drive, compressed, as a
	// part of its plain size: about 1 for data that cannot be compressed.
	Share   float64 `json:"share"`
	Density float64 `json:"density"`
	// Whole is the density of everything the machine had when it was first
	// exported to the drive.
	Whole float64 `json:"whole,omitempty"`
	// History holds the nights before, newest last, at most [ChangeHistory].
	History []Night `json:"history,omitempty"`
}

// ChangeHistory is how many nights a point remembers.
const ChangeHistory = 20

// Night is what changed in one export. A density of 0 means that there was too
// little new data to tell.
type Night struct {
	Share   float64 `json:"share"`
	Density float64 `json:"density,omitempty"`
}

// ScoreOrZero is the score, also of a point that has none.
func (c *Change) ScoreOrZero() int {
	if c == nil {
		return 0
	}
	return c.Score
}

// WholeOrZero is Whole, also of a point that has none.
func (c *Change) WholeOrZero() float64 {
	if c == nil {
		return 0
	}
	return c.Whole
}

// IfUnusual is the change if people should be told of it, else nil.
func (c *Change) IfUnusual() *Change {
	if !c.Unusual() {
		return nil
	}
	return c
}

// Unusual says that people should be told.
func (c *Change) Unusual() bool { return c.ScoreOrZero() >= UnusualScore }

// PointDisk is what a point knows about one of its disks beyond the machine's
// description of it.
type PointDisk struct {
	Key string `json:"key"`
	// DataBytes counts the bytes of the disk that are not zero blocks.
	DataBytes int64 `json:"dataBytes"`
	// ReadBytes is what the export read from the source for this point, and
	// NewBytes what of it was not on the drive before (plain bytes).
	ReadBytes int64 `json:"readBytes"`
	NewBytes  int64 `json:"newBytes"`
	// Token names the moment in the source's own change tracking; empty where
	// there is none. It means something only to the host that gave it.
	Token string `json:"token,omitempty"`
	// FullRead is empty when only changed blocks were read, else the reason why
	// everything was.
	FullRead string `json:"fullRead,omitempty"`
	// SinceCheck counts the exports in a row that believed the source's list of
	// changed blocks; CheckedBytes of ReadBytes were read in this one to see
	// whether it was right, and ChangeListWrong says that it was not.
	SinceCheck      int   `json:"sinceCheck,omitempty"`
	CheckedBytes    int64 `json:"checkedBytes,omitempty"`
	ChangeListWrong bool  `json:"changeListWrong,omitempty"`
}

// Consistency says what the guest knew of the moment a point was taken.
type Consistency string

// From best to least: the machine was off; its file systems were frozen through
// the agent; it was as if the power had been cut.
const (
	ConsistentOff         Consistency = "powered-off"
	ConsistentFilesystems Consistency = "filesystems"
	ConsistentCrash       Consistency = "crash"
)

// Drive is one medium with a store on it.
type Drive struct {
	// ID is written on the drive, 32 lower-case hex digits. It is the drive's
	// identity; serial numbers are notes, because docks report their own.
	ID string `json:"id"`
	// Label is what stands on the sticker.
	Label string `json:"label"`
	// SiteID is the site that the drive belongs to.
	SiteID string `json:"siteId"`
	// CreatedAt is when the drive was initialised.
	CreatedAt time.Time `json:"createdAt"`
}
