package hypervisor

import (
	"context"
	"errors"
	"time"
)

// What a kind of host can do beside [Host], each an interface of its own. A host
// that cannot do it at all does not have the interface, or answers
// [ErrUnsupported].

// Linker is a [Host] that plugs the cables of network cards in and pulls them.
type Linker interface {
	// Link plugs the cable of a card in, or pulls it; card counts from 0 in the
	// order of the machine's NICs. It stays so when the machine is started again.
	// A card that is so already is left alone. A card that was defined without a
	// cable ([NetworkNone]) cannot be plugged in: [ErrNoCable].
	Link(ctx context.Context, machine string, card int, up bool) error
	// Linked says whether the cable of a card is in.
	Linked(ctx context.Context, machine string, card int) (bool, error)
}

// ErrNoCable: the card leads nowhere, so it cannot be plugged in.
var ErrNoCable = errors.New("the network card has no cable")

// Bridger is a [Host] that knows the bridges of this computer behind the networks
// that it calls by name.
type Bridger interface {
	// BridgeOf is the bridge of a network; [ErrUnsupported] where that is not on
	// this computer.
	BridgeOf(ctx context.Context, network string) (string, error)
}

// GuestRunner is a [Host] that has programs run in its guests, through the agent
// there.
type GuestRunner interface {
	// GuestRun runs a program in the guest and waits until it has ended. It is
	// started once or not at all; an error that is [ErrNoAgent] says that it was
	// not. A program that ended with another code than 0 is no error.
	GuestRun(ctx context.Context, machine string, c GuestCommand) (GuestResult, error)
	// GuestPing says whether the agent answers: nil, [ErrNoAgent], or why not.
	GuestPing(ctx context.Context, machine string) error
}

// ErrNoAgent: no agent answers in the guest.
var ErrNoAgent = errors.New("no agent answers in the guest")

// GuestCommand is a program that is run in a guest.
type GuestCommand struct {
	// Path is the program, looked for in the agent's own search path if it is no
	// path, and Args its arguments. No shell reads them.
	Path string
	Args []string
	// Env are variables for it, NAME=VALUE. If there are any, the agent's own are
	// not given to it, except the search path.
	Env   []string
	Stdin []byte
	// Limit is how long it may take (0: as long as the context). At its end the
	// program is killed in the guest where the agent can do that.
	Limit time.Duration
}

// GuestResult is how a program in a guest ended.
type GuestResult struct {
	// ExitCode is what it ended with; Signal the signal that ended it, or 0.
	ExitCode, Signal int
	// Stdout and Stderr are the ends of what it printed, each at most
	// [MostGuestOutput] bytes. Cut says that there was more.
	Stdout, Stderr []byte
	Cut            bool
}

// MostGuestOutput bounds what is kept of each stream of a program in a guest.
const MostGuestOutput = 64 << 10

// ErrGuestLimit: the program in the guest had not ended at its limit.
var ErrGuestLimit = errors.New("the program in the guest did not end in its time")

// Printer is a [Host] that keeps what its machines print on the serial line.
type Printer interface {
	// Printed returns the last bytes that a machine printed since it was defined,
	// at most so many; none if it printed nothing. They are the guest's own words:
	// anything at all.
	Printed(ctx context.Context, machine string, last int64) ([]byte, error)
}

// Sizer is a [Host] that says how much it has.
type Sizer interface {
	Size(ctx context.Context) (HostSize, error)
}

// HostSize is what a host has. What it does not tell is zero.
type HostSize struct {
	TotalMemoryBytes, FreeMemoryBytes int64
	CPUs                              int
	// FreeDiskBytes is room for overlays and for disks that are settled.
	FreeDiskBytes int64
	// KVM: guests run on the processor itself, with no emulation between. On
	// vSphere they always do.
	KVM bool
	// Clock is the host's own time when it was asked.
	Clock time.Time
	// Networks are the names that [NetworkBridge] and [NetworkNamed] know there.
	Networks []string
	// System is what it runs, for people: "QEMU emulator version 8.2.2".
	System string
}
