// Package hypervisor is the contract with whatever runs machines.
//
// A [Host] lists machines, holds one still while it is copied, builds machines
// from Lifeboat's neutral description and boots them, and removes what it
// built. It promises that production does not suffer: a guest never sees an I/O
// error because it is being exported, and a process that dies leaves no guest
// frozen. It never knows where the bytes go: it gives out disks to read, and is
// given NBD servers to boot from.
package hypervisor

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"time"

	"lifeboat"
)

// Errors that callers branch on.
var (
	// ErrNoMachine: the host has no machine of that name or id.
	ErrNoMachine = errors.New("no such machine")
	// ErrMachineRunning: the operation needs the machine to be off.
	ErrMachineRunning = errors.New("the machine is running")
	// ErrMachineBusy: another export holds the machine still.
	ErrMachineBusy = errors.New("the machine is held by another export")
	// ErrMachineGone: the machine stopped or was deleted under an operation.
	ErrMachineGone = errors.New("the machine went away")
	// ErrStillBroken: the still can no longer be read (scratch space full, the
	// machine stopped). What was read before is right; nothing more is.
	ErrStillBroken = errors.New("the still is broken")
	// ErrReadAgain: what was read of a still is no good, because of how it was
	// read. The host remembers it, and another Freeze reads in another way.
	ErrReadAgain = errors.New("it has to be read again in another way")
	// ErrUnsupported: this host cannot do that.
	ErrUnsupported = errors.New("this host cannot do that")
)

// PowerState is what a machine is doing.
type PowerState string

// The states of a machine.
const (
	PowerOff    PowerState = "off"
	PowerOn     PowerState = "running"
	PowerPaused PowerState = "paused"
)

// Listed is one line of a host's inventory.
type Listed struct {
	Machine lifeboat.Machine
	// HostID is the host's own name or id for the machine.
	HostID string
	Power  PowerState
	// Recovery is the id of the run that booted the machine from a drive, or
	// empty for a machine of production. Recovered machines are not exported
	// before they have been moved to local disk.
	Recovery string
	// Settled is the run that booted the machine from a drive and moved it to storage
	// of its host since. Only a host whose HostID is a name says it: another machine
	// may have that name by now.
	Settled string
	// Refused says why the machine cannot be exported and what to do about it, in
	// a sentence for the operator ("it is a template", "its disk vdb is shared
	// with another machine"), or is empty. Freeze refuses it as well.
	Refused string
}

// Host is one hypervisor. Its methods may be called from several goroutines.
// Every wait ends with its context, and then nothing needs cleaning by hand.
type Host interface {
	// Name is what the operator called the host.
	Name() string

	// Check says what works on this host and what does not, without changing
	// anything. It returns findings even when it cannot reach the host.
	Check(ctx context.Context) []Finding

	// List returns every machine, in the order of their names. A machine that
	// cannot be read is named in the error and leaves the others in the list: an
	// error beside a list says that the list is not all. The methods below take a
	// machine's name, its Lifeboat id or its HostID.
	List(ctx context.Context) ([]Listed, error)

	// Freeze holds all disks of a machine at one instant and returns them for
	// reading. A running machine goes on running; its file systems are frozen
	// through the agent around that instant for well under a second, or the
	// still says that it is crash-consistent. Whatever happens to this process
	// afterwards, the guest keeps running and writing, and its file systems are
	// thawed within 10 seconds.
	//
	// It first removes what a dead export left behind on this machine.
	Freeze(ctx context.Context, machine string, o FreezeOptions) (Still, error)

	// Define builds a machine from its description with the given disks and
	// leaves it powered off. A name that exists is refused.
	Define(ctx context.Context, d Definition) error

	// PowerOn starts a machine; one that runs is left alone.
	PowerOn(ctx context.Context, machine string) error

	// PowerOff asks the guest to shut down, waits for grace, and then takes the
	// power away. A grace of zero takes it away at once. It returns when the
	// machine is off.
	PowerOff(ctx context.Context, machine string, grace time.Duration) error

	// Settle moves the disks of a running machine that was booted from NBD to
	// local files while it runs, and returns when nothing is read from NBD any
	// more. On error or cancel the machine goes on as before.
	Settle(ctx context.Context, machine string, progress func(done, total int64)) error

	// Screenshot returns the machine's screen as a PNG.
	Screenshot(ctx context.Context, machine string) ([]byte, error)

	// Console says how a person reaches the machine's screen and serial line.
	Console(ctx context.Context, machine string) (Console, error)

	// Remove deletes a machine that is off, with the disks that Define or
	// Settle made for it, and nothing else. A segment goes with its last machine.
	Remove(ctx context.Context, machine string) error

	// Abilities say which of the above this kind of host can do at all. What it
	// cannot do answers [ErrUnsupported].
	Abilities() Abilities

	// OpenGateway leads from this computer into a segment of the host.
	OpenGateway(ctx context.Context, s Segment) (Gateway, error)

	// NoRoot looks at what a machine that was just started has printed. If its
	// system gave up on its root device, and nothing that it printed since says
	// that it went on, it returns those words: the machine wants another disk
	// controller. Otherwise it returns "". See NoRootIn.
	NoRoot(ctx context.Context, machine string) (string, error)

	// Close ends the connection to the host. Machines go on.
	Close() error
}

// Retrier is a [Host] whose machines boot from NBD. They stop, and see no error,
// while the drive behind an NBD server is away.
type Retrier interface {
	// Retry lets a machine go on that stopped because one of its disks could not
	// be read or written for the time being; its guest's requests are tried
	// again, and it stops again if they fail. Any other machine is left alone.
	Retry(ctx context.Context, machine string) error
}

// Addresser is a [Host] that hears from its guests which addresses they have,
// without an agent of ours.
type Addresser interface {
	// Addresses returns the cards of a running machine with the addresses that
	// its guest tells now. It may tell none for a while after the start.
	Addresses(ctx context.Context, machine string) ([]lifeboat.NIC, error)
}

// Abilities are what a kind of host can do.
type Abilities struct {
	// BootNBD: machines start straight from an NBD server on this computer.
	// Where it is false, disks are given as Copy and stand on the host before
	// Define returns.
	BootNBD bool
	// Segments: private networks of their own, with a gateway.
	Segments bool
	// Labs: cards can be plugged into a lab of this computer.
	Labs bool
	// Settle: running machines move to local disk.
	Settle bool
	// Buses and Cards are the disk buses and the network card models that a
	// machine may have here, the best choice for an unknown guest first.
	Buses []lifeboat.Bus
	Cards []string
}

// Finding is one line of what a host can do.
type Finding struct {
	// What was looked at, for example "KVM" or "free memory".
	What string `json:"what"`
	OK   bool   `json:"ok"`
	// Detail is a sentence: the figure, or what is missing and which command
	// helps.
	Detail string `json:"detail"`
}

// FreezeOptions say for which drive the still is and what it already holds.
type FreezeOptions struct {
	// DriveID is the drive to write. A host that tracks changes keeps one base
	// per drive, because drives rotate.
	DriveID string
	// Since holds, per disk key, the token of the machine's newest point on
	// that drive. A disk without one is read whole.
	Since map[string]string
	// Exclude holds the keys of disks that are not to be read.
	Exclude map[string]bool
	// Method forces one way of reading where a host has several; empty lets the
	// host choose. An unknown one is ErrUnsupported and names those there are.
	Method string
}

// Still is a machine held at one moment while it is copied.
type Still interface {
	// Machine describes the machine at that moment, NVRAM included.
	Machine() lifeboat.Machine
	// TakenAt is the moment.
	TakenAt() time.Time
	// Consistency says what the guest knew of it, and Note why it is not
	// better, in a sentence for the operator, or is empty.
	Consistency() (c lifeboat.Consistency, note string)
	// FrozenFor is how long the guest's file systems were frozen, and PausedFor
	// how long its CPUs stood still. Negative means that the host does not tell.
	FrozenFor() time.Duration
	PausedFor() time.Duration
	// Disk returns a disk to read. Disks may be read at the same time.
	Disk(key string) (StillDisk, error)
	// Committed tells the host that a point with these tokens exists now on the
	// drive, so that older bases for that drive may go.
	Committed(ctx context.Context) error
	// Release lets go: the machine is as it was before Freeze. Without a
	// preceding Committed the older base stays valid. It is safe to call twice,
	// and after the machine went away.
	Release(ctx context.Context) error
}

// StillDisk is one disk of a still. It satisfies imagestore.Source.
type StillDisk interface {
	// SizeBytes is the exact size of the disk.
	SizeBytes() int64
	// Token names this moment for a later Since; empty where the host cannot
	// track changes.
	Token() string
	// Changed returns a superset of what differs from the point that
	// FreezeOptions.Since named, in ascending order without overlaps. Where
	// that is unknown for any reason it returns ok false and the reason in a
	// few words: everything has to be read. It is never an error.
	Changed(ctx context.Context) (extents []lifeboat.Extent, ok bool, why string)
	// Extents returns the runs of the disk, inside the given one, that may hold
	// anything but zeros, ascending, without overlaps.
	Extents(ctx context.Context, within lifeboat.Extent) ([]lifeboat.Extent, error)
	// ReadAt fills p from the given offset, or fails: bytes that cannot be read
	// are an error, never zeros. Many reads may be in flight.
	ReadAt(ctx context.Context, p []byte, offset int64) error
}

// Definition is a machine to be built.
type Definition struct {
	Machine lifeboat.Machine
	// Name is the name on the target, usually the machine's own.
	Name string
	// Disks says, per disk key, where the bytes are. A disk that is missing
	// here (an excluded one) is made empty, of its own size.
	Disks map[string]Backing
	// Networks says, per NIC in order, where its cable goes. Missing ones stay
	// unplugged.
	Networks []Network
	// Recovery is the run that boots the machine, recorded with it.
	Recovery string
	// Throwaway allows overlays that ignore flushes: for drills and probes
	// whose writes nobody will want. A recovery never sets it.
	Throwaway bool
	// NewMACs gives every NIC a fresh address.
	NewMACs bool
}

// Backing is where the bytes of a disk come from: exactly one of its fields.
type Backing struct {
	// Copy is a disk that is copied to the host's own storage before Define
	// returns, for hosts that cannot boot from NBD.
	Copy DiskReader
	// NBD is a read-only export on a Unix socket; writes go to a local overlay.
	NBD *NBDBacking
	// File is a local disk image that the machine owns from now on.
	File *FileBacking
}

// DiskReader is a disk that can be read, for example one of a restore point.
type DiskReader interface {
	SizeBytes() int64
	// Extents and ReadAt are as in [StillDisk].
	Extents(ctx context.Context, within lifeboat.Extent) ([]lifeboat.Extent, error)
	ReadAt(ctx context.Context, p []byte, offset int64) error
}

// NBDBacking names an export of an NBD server on this host. A server that
// answers a read with ENOSPC says that its drive is away: the machine stops, its
// guest sees no error, and it reads again when it is resumed.
//
// Whoever may enter the socket's folder may use the socket: the folder is the
// guard, and a host whose QEMU runs as another user lets that user through. So
// the machines find their server again when it was restarted with a new socket.
type NBDBacking struct {
	Socket string `json:"socket"`
	Export string `json:"export"`
}

// FileBacking names a disk image and its format, "raw" or "qcow2".
type FileBacking struct {
	Path   string
	Format string
}

// Network is where the cable of a NIC goes.
type Network struct {
	// Kind is one of the constants below.
	Kind NetworkKind `json:"kind"`
	// Name is the bridge, the name of the segment, or what the host calls its
	// network.
	Name string `json:"name,omitempty"`
	// Forwards are ports of the loopback of this host that lead into the guest;
	// for NetworkUser only.
	Forwards []Forward `json:"forwards,omitempty"`
	// Unplugged: the cable lies there and is not in. The card has no link from
	// the guest's first instruction on, until [Linker.Link] plugs it in.
	Unplugged bool `json:"unplugged,omitempty"`
	// Lab is the folder of the lab that Name is a network of; for NetworkLab only.
	Lab string `json:"lab,omitempty"`
}

// NetworkKind is a kind of cable.
type NetworkKind string

// The kinds: unplugged; the hypervisor's own address translation; a private
// segment that only machines on the same one see; a bridge of the host; a network
// that the host knows by name (a libvirt network, a VMware port group); a network of
// a lab (package netlab), which answers as production did and lets nothing out.
const (
	NetworkNone    NetworkKind = "none"
	NetworkUser    NetworkKind = "user"
	NetworkSegment NetworkKind = "segment"
	NetworkBridge  NetworkKind = "bridge"
	NetworkNamed   NetworkKind = "network"
	NetworkLab     NetworkKind = "lab"
)

// Segment is a private network that only the machines on it see. Nothing is
// routed out of it, and this computer gets no route into it; what leads in are
// the forwards of its [Gateway].
type Segment struct {
	// Name is what the machines' [Network] says.
	Name string
	// CIDR is the network that the guests believe to be on, and HostAddress the
	// address in it that the gateway answers at.
	CIDR        string
	HostAddress string
	// Forwards lead from this computer's loopback to guests, which keep the
	// addresses they have in production.
	Forwards []SegmentForward
}

// SegmentForward leads from a TCP port of this computer's loopback to a port of
// a guest on the segment.
type SegmentForward struct {
	HostPort  int
	Address   string
	GuestPort int
}

// Gateway is the open way into a segment. It lives in the process that opened
// it, and ends with it.
type Gateway interface {
	// Answers are the guests' ports behind forwards that took the last
	// connection, ascending.
	Answers() []netip.AddrPort
	// Ended is closed when the gateway does not work any more.
	Ended() <-chan struct{}
	Close() error
}

// Forward leads from a TCP port of this host's loopback to one of the guest.
type Forward struct {
	HostPort  int `json:"hostPort"`
	GuestPort int `json:"guestPort"`
}

// Console is how a person reaches a machine.
type Console struct {
	// VNCSocket is a Unix socket that speaks VNC, SerialSocket one that carries
	// the serial line, SerialLog the file that keeps what was printed there.
	VNCSocket    string `json:"vncSocket,omitempty"`
	SerialSocket string `json:"serialSocket,omitempty"`
	SerialLog    string `json:"serialLog,omitempty"`
	// URL is the page of a browser that shows the screen.
	URL string `json:"url,omitempty"`
}

// Notes are what a host has to remember from one run of the program to the next,
// for example the checkpoints that libvirt has to be told again. Losing them
// costs a full read and nothing else. Methods may be called from several
// goroutines.
type Notes interface {
	// Note returns what was kept under a name for a machine (its HostID), or nil.
	Note(ctx context.Context, hostID, name string) ([]byte, error)
	// SetNote keeps data in place of what was there; nil forgets it.
	SetNote(ctx context.Context, hostID, name string, data []byte) error
}

// DerivedID is the Lifeboat id of a machine that carries none: it follows from
// the id that its host gave it, so that every computer that looks at the host
// finds the same history. Kind is that of the host ("libvirt", "vsphere").
func DerivedID(kind, hostID string) string {
	sum := sha256.Sum256([]byte("machine\x00" + kind + "\x00" + strings.ToLower(hostID)))
	return hex.EncodeToString(sum[:16])
}
