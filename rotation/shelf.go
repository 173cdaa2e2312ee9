package rotation

import (
	"time"

	"lifeboat"
	"lifeboat/custody"
)

// Shelf is everything that is known of the drives, their contents and where they
// are: what a decision is made from.
type Shelf struct {
	Drives   []ShelfDrive
	Machines []ShelfMachine
	Items    []ShelfItem
	// Done are the steps of checklists that the ledger has as done and not
	// revoked, by their ids.
	Done map[string]DoneStep
	// LastCommit is the newest moment at which anything was committed, on any
	// drive: a clock that is before it, or far after it, is doubted. It is at least
	// ClockConfirmedAt, and leaves out what that settled.
	LastCommit time.Time
	// ClockJumpAt is when the clock last jumped since it was confirmed, as
	// [ClockJump] reads it from the ledger's times; zero: never.
	ClockJumpAt time.Time
	// ClockConfirmedAt is when a person last said that the clock is right, by this
	// clock; zero: never. ClockSettledUpTo is the newest moment that anything bore
	// then: what lies between them is of a clock that was ahead, and known. See
	// [Shelf.ConfirmClock].
	ClockConfirmedAt, ClockSettledUpTo time.Time
}

// ShelfDrive is one drive.
type ShelfDrive struct {
	lifeboat.Drive
	Place custody.Place
	// Since is when it came there; Due is when it was promised back, if it was.
	Since, Due time.Time
	// Homeward: a courier brings it home, rather than away.
	Homeward bool
	Attached bool
	// DepositedAt is when it last came to a place that is offsite, wherever it is
	// now; zero: never.
	DepositedAt time.Time
	// Suspect says why its contents are not believed (rolled back, forked, a
	// clone of another); empty: they are.
	Suspect string
	// Damage says what is broken on it and not repaired yet; empty: nothing known.
	Damage string
	// EjectedAt is when it was last unmounted after a reading back; zero when it
	// was written or attached since.
	EjectedAt time.Time
	// TotalBytes and FreeBytes are as of SeenAt.
	TotalBytes, FreeBytes int64
	SeenAt                time.Time
	// Fills are its free room at past moments, oldest first, for its pace.
	Fills []Fill
	// VerifiedAt and ProvenAt are the drive's own dates: everything on it was
	// read; a machine was booted from it and answered.
	VerifiedAt, ProvenAt time.Time
	// PendingKeys counts changes of keys that wait for its return.
	PendingKeys int
	Points      []ShelfPoint
}

// Fill is how much room a drive had at a moment.
type Fill struct {
	At        time.Time
	FreeBytes int64
}

// ShelfPoint is a restore point on a drive.
type ShelfPoint struct {
	ID, MachineID, RunID string
	Sequence             uint64
	TakenAt, CommittedAt time.Time
	// VerifiedAt is when the block of it was read that was read longest ago; zero
	// when not every block was read since it was written, or a fault was found.
	VerifiedAt time.Time
	ProvenAt   time.Time
	// Held says why somebody wants it kept, until HeldUntil (zero: for good).
	Held      string
	HeldUntil time.Time
	// Together are the drives, by id, on which the machine's disks of this instant
	// were committed, this one too, and Parts the points there, by id; both are empty
	// where all disks are in this point. A point that is a part counts only while
	// each part is on a drive that counts.
	Together, Parts []string
	DataBytes       int64
	// Copied: it came from another drive, so its place among the commits says
	// nothing of its age.
	Copied bool
}

// partial says that disks of the machine lie on other drives.
func (p *ShelfPoint) partial() bool { return len(p.Together) > 0 }

// ShelfMachine is a machine that is, or was, protected.
type ShelfMachine struct {
	ID, Name string
	// Retired: it is gone for good; its points are kept, but nothing waits for a
	// newer one.
	Retired bool
	// DataBytes is how much it holds; Disks are its disks.
	DataBytes int64
	Disks     []ShelfDisk
	// Home are the drives of each set, by set and disk key, on which its disks
	// lie: placement is sticky.
	Home map[string]map[string]string
}

// ShelfDisk is one disk of a machine, for placing it.
type ShelfDisk struct {
	Key       string
	DataBytes int64
}

// ShelfItem is a sheet or a secret.
type ShelfItem struct {
	custody.Item
	Place custody.Place
	Since time.Time
}

// DoneStep says who or what did a step.
type DoneStep struct {
	At     time.Time
	Signer string
	Entry  uint64
}
