package lifeboat

import "time"

// RestorePoint is one machine at one moment, complete: every block of every
// disk that is not excluded can be read from the drive it is on. It depends on
// no other point.
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
	// CopiedFrom is the id of the drive that the point was copied from; empty
	// where it was exported to this one.
	CopiedFrom string `json:"copiedFrom,omitempty"`
}

// NewerThan says which of two points of a machine on one drive is the newer one.
// The order of commits says so, whatever the clocks said; but it says nothing of
// a point that was copied from another drive, for which its moment counts.
func (p RestorePoint) NewerThan(q RestorePoint) bool {
	if p.CopiedFrom == "" && q.CopiedFrom == "" || p.TakenAt.Equal(q.TakenAt) {
		return p.Sequence > q.Sequence
	}
	return p.TakenAt.After(q.TakenAt)
}

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
