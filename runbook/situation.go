package runbook

import (
	"net/netip"
	"time"

	"lifeboat"
)

// Mode is what a plan is executed for.
type Mode string

// The modes.
const (
	Drill   Mode = "drill"
	Recover Mode = "recover"
)

// Situation is everything outside the file that a plan follows from, as it was
// found. Whoever plans gathers it; nothing here is looked up.
type Situation struct {
	Now    time.Time
	Mode   Mode
	SiteID string
	Site   string
	Points []KnownPoint
	Drives []KnownDrive
	Hosts  []KnownHost
	// Past are the drills and recoveries that are known, oldest first.
	Past []PastRun
	// Machines are those that are protected now and not retired, as of their newest
	// point, by their ids.
	Machines map[string]lifeboat.Machine
	// PortsTaken are ports of this computer that somebody listens on.
	PortsTaken []TakenPort
	// UplinkBitsPerSecond, if given, is the line that a drive would be sent over.
	UplinkBitsPerSecond int64
	// Uplinks is how many networks this computer has that lead out.
	Uplinks int
	// AllowEmulation lets a recovery run without hardware virtualisation.
	AllowEmulation bool
	// Isolated: a recovery checks everything in isolated networks first, and then a
	// person releases it tier by tier.
	Isolated bool
	// Only, if given, are the machines, by name, that the plan is about; what waits
	// for others takes them for there. InOtherBooks are the names of machines that
	// another runbook of the site brings back.
	Only, InOtherBooks []string
}

// TakenPort is a port of this computer that somebody listens on.
type TakenPort struct {
	// UDP: it is one of UDP, not of TCP.
	UDP  bool
	Port int
	// Address is the only one that it is taken on; not valid, or 0.0.0.0 or ::, means
	// all.
	Address netip.Addr
}

// clashes says that two cannot both be listened on.
func (p TakenPort) clashes(o TakenPort) bool {
	all := func(a netip.Addr) bool { return !a.IsValid() || a.IsUnspecified() }
	return p.UDP == o.UDP && p.Port == o.Port && (all(p.Address) || all(o.Address) || p.Address.Unmap() == o.Address.Unmap())
}

// KnownPoint is a restore point and the drives that have all of it.
type KnownPoint struct {
	lifeboat.RestorePoint
	// DriveIDs are the drives to read it from: one, or one per part.
	DriveIDs []string
	// VerifiedAt and ProvenAt are zero where nobody did. Damage says what is broken.
	VerifiedAt, ProvenAt time.Time
	Damage               string
	// DataBytes is what its disks hold, StoredBytes about what that takes up on the
	// drive; 0: nobody knows.
	DataBytes, StoredBytes int64
	// Failed are the machines whose export failed in this point's run, by their names.
	Failed []string
}

// KnownDrive is a drive and where it is.
type KnownDrive struct {
	lifeboat.Drive
	Attached bool
	Path     string
	// Where it is and who has it, in words: "bank, box 4711, held by Eva Lindt".
	Where string
	// FetchTime is how long it takes to have it here; 0: nobody knows.
	FetchTime time.Duration
	// Suspect says why it is not believed; empty: it is.
	Suspect string
	// ReadBytesPerSecond is what it was measured to give; 0: nobody knows.
	ReadBytesPerSecond int64
}

// KnownHost is a host that could run machines.
type KnownHost struct {
	Name, Kind string
	// Reached says that it answered; Why not, if it did not.
	Reached bool
	Why     string
	// KVM: it has hardware virtualisation.
	KVM bool
	// TotalMemoryBytes, FreeMemoryBytes and CPUs are what it has; FreeDiskBytes is
	// room for overlays and settled disks. 0: it does not tell.
	TotalMemoryBytes, FreeMemoryBytes int64
	CPUs                              int
	FreeDiskBytes                     int64
	// ClockAhead is how far its clock is before this computer's.
	ClockAhead time.Duration
	// Segments, BootNBD and Links: it has isolated networks, boots from the drive,
	// and can leave a card unplugged until it is told.
	Segments, BootNBD, Links bool
	// Networks are the bridges and networks that it knows.
	Networks []string
	// Running are the names of the machines that it has.
	Running []string
	Remote  bool
}

// PastRun is a drill or a recovery of before.
type PastRun struct {
	RunID   string
	Book    string
	Meaning string
	Mode    Mode
	Began   time.Time
	// Passed: every check passed and each objective was met. Partial says why it
	// does not make a runbook ready all the same; empty: it does.
	Passed  bool
	Partial string
	RTA     time.Duration
	// Machines are what was measured of each, by name; Disks the keys of the disks
	// that each had, by Lifeboat's id.
	Machines map[string]Measured
	Disks    map[string][]string
	Drive    string
	HostKind string
	// Missed are the objectives that it missed, in words.
	Missed []string
}

// Measured is what a run measured of one machine.
type Measured struct {
	// RTA is from the command to the last of its checks, RPA how old its data was
	// when the run began.
	RTA, RPA time.Duration
	// Spent says where the time went, by the names of [Spending].
	Spent map[Spending]time.Duration
	// ReadBytes came from the drive until its checks passed.
	ReadBytes int64
}

// Spending is a part of the time that a machine took.
type Spending string

// Where time goes: until its turn came, finding the drive, opening it, defining the
// machine, starting it, until its service answered; until a person had confirmed a
// step that it needed, and in tries that came to nothing. They add up to the RTA.
const (
	SpentWaiting Spending = "wait"
	SpentFind    Spending = "find drive"
	SpentOpen    Spending = "open"
	SpentDefine  Spending = "define"
	SpentBoot    Spending = "boot"
	SpentService Spending = "service"
	SpentPerson  Spending = "person"
	SpentTries   Spending = "earlier tries"
)
