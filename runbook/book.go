// Package runbook is recovery written down: it reads runbooks, says what would go
// wrong with one today, resolves it into a plan, executes the plan step by step,
// and keeps what was measured.
//
// It decides and keeps order. It never touches a machine, a drive or a network
// itself: a [World] does, which the program's roof implements and tests play. A
// drill and a recovery take the same way through it.
package runbook

import (
	"slices"
	"time"
)

// Version is the version of the files that this program writes. It reads every one
// up to it.
const Version = 1

// Book is a runbook as its file says it, without what follows from other things.
type Book struct {
	Version int
	// Name is what commands call it: lower-case letters, digits and '-'.
	Name string
	// Purpose is a sentence for people, and Contacts whom they call.
	Purpose  string
	Contacts []Contact
	// Period is how often a drill has to pass; zero means [DefaultPeriod].
	Period     time.Duration
	Objectives Objectives
	// Tiers are the objectives of single tiers, by their numbers.
	Tiers     map[int]Objectives
	LeadTimes []LeadTime
	Hosts     []HostRule
	Networks  []NetworkRule
	Groups    []Group
	Machines  []Machine
	Steps     []Step

	// Text is the file as it was read.
	Text []byte
}

// DefaultPeriod is a quarter: drills that nobody repeats prove little.
const DefaultPeriod = 92 * 24 * time.Hour

// Contact is somebody to call. It is no part of the meaning.
type Contact struct{ Name, Role, Phone string }

// Objectives are what the company promised itself; zero: nothing.
type Objectives struct {
	// RTO is how long until a machine serves, RPO how old its data may be.
	RTO time.Duration `json:"rto,omitempty"`
	RPO time.Duration `json:"rpo,omitempty"`
}

// LeadTime is time that passes before anybody can begin: travel, a rental. It is
// declared, never measured.
type LeadTime struct {
	Name string
	Time time.Duration
}

// HostRule says what may run on a host. Name is one of the site's hosts; "*" is any
// host, such as the one that a recovery runs on.
type HostRule struct {
	Name string `json:"name"`
	Line int    `json:"line,omitempty"`
	// Tiers and Machines may run there; both empty: all.
	Tiers    []int    `json:"tiers,omitempty"`
	Machines []string `json:"machines,omitempty"`
	// MemoryBytes and CPUs are at most used there; zero: what the host has, less
	// what it needs for itself. Boots is how many machines start at the same time.
	MemoryBytes int64 `json:"memoryBytes,omitempty"`
	CPUs        int   `json:"cpus,omitempty"`
	Boots       int   `json:"boots,omitempty"`
}

// NetworkRule says where the cards of the source's networks lead.
type NetworkRule struct {
	Name string `json:"name"`
	Line int    `json:"line,omitempty"`
	// Sources are the names of the networks at the source. Empty: Name itself.
	Sources []string `json:"sources,omitempty"`
	// CIDR is the network's own, for machines whose addresses nobody knows.
	CIDR string `json:"cidr,omitempty"`
	// Recover is where it leads in a recovery. In a drill it is always isolated.
	Recover Cable `json:"recover,omitzero"`
	// Forwards lead in, in a recovery on a NAT: [ADDRESS:]HOSTPORT:MACHINE:PORT.
	Forwards []Forward `json:"forwards,omitempty"`
	// VPN is the UDP port that staff reach a NAT's network by; 0: none.
	VPN int `json:"vpn,omitempty"`
	// Names are answered by the DNS of a NAT or a drill beside those of the
	// machines: a name and an address.
	Names map[string]string `json:"names,omitempty"`
}

// CableKind is where a network leads in a recovery.
type CableKind string

// The kinds: a private network behind this host's address; a bridge of the host; a
// network that the host knows by name; a network that only the machines see; none.
const (
	CableNAT      CableKind = "nat"
	CableBridge   CableKind = "bridge"
	CableNetwork  CableKind = "network"
	CableIsolated CableKind = "isolated"
	CableNone     CableKind = "none"
)

// Cable is where a network leads. An empty Kind lets the plan choose: NAT on a host
// with a single uplink.
type Cable struct {
	Kind CableKind `json:"kind"`
	Name string    `json:"name,omitempty"`
}

// Forward is a port of the recovery's host that leads to a machine. An empty
// Address is the loopback: nothing listens publicly unless the runbook says so.
type Forward struct {
	Address  string `json:"address,omitempty"`
	HostPort int    `json:"hostPort"`
	Machine  string `json:"machine"`
	Port     int    `json:"port"`
}

// Group are machines that belong together: they come back from one export run.
type Group struct {
	Name     string   `json:"name"`
	Line     int      `json:"line,omitempty"`
	Machines []string `json:"machines"`
	// SkewAllowed lets each come from its own newest run.
	SkewAllowed bool `json:"skewAllowed,omitempty"`
}

// PointChoice is which restore point a machine comes back from.
type PointChoice string

// The choices; anything else is a date or a moment (2006-01-02, RFC 3339): the
// newest point that is not after it.
const (
	PointLatest   PointChoice = "latest"
	PointVerified PointChoice = "latest-verified"
)

// Machine is one server of the runbook.
type Machine struct {
	Name string `json:"name"`
	Line int    `json:"line,omitempty"`
	// ID, if given, is Lifeboat's own id, for names that two machines had.
	ID    string      `json:"id,omitempty"`
	Point PointChoice `json:"point"`
	// Tier is 1 or more; lower ones come first. [Parse] says 1 where the file says
	// nothing.
	Tier int `json:"tier"`
	// After are the machines whose checks pass before this one starts.
	After []string `json:"after,omitempty"`
	// Host is the only host that it may run on, if given.
	Host string `json:"host,omitempty"`
	// MemoryBytes and CPUs replace those that it had, if not zero.
	MemoryBytes int64 `json:"memoryBytes,omitempty"`
	CPUs        int   `json:"cpus,omitempty"`
	// Addresses, by network name, are for a machine whose addresses nobody knows.
	Addresses  map[string]string `json:"addresses,omitempty"`
	Objectives Objectives        `json:"objectives,omitzero"`
	Checks     []Check           `json:"checks,omitempty"`
	OnFailure  OnFailure         `json:"onFailure"`
	// Settle moves it to local disk in a recovery after its checks passed.
	Settle bool `json:"settle,omitempty"`
}

// OnFailure is what happens when a check of a machine, or a step, fails for good.
type OnFailure string

// The ways on: the runbook stops where what needs it would begin; it goes on
// without; the machine comes back from an older point; it is built with another
// kind of disk controller.
const (
	FailStop       OnFailure = "stop"
	FailContinue   OnFailure = "continue"
	FailOlderPoint OnFailure = "older-point"
	FailOtherBus   OnFailure = "other-bus"
)

// CheckKind is how a service is asked.
type CheckKind string

// The kinds of checks.
const (
	CheckTCP     CheckKind = "tcp"
	CheckHTTP    CheckKind = "http"
	CheckHTTPS   CheckKind = "https"
	CheckDNS     CheckKind = "dns"
	CheckPing    CheckKind = "ping"
	CheckAgent   CheckKind = "agent"   // the guest agent answers
	CheckConsole CheckKind = "console" // the serial line printed a text
	CheckCommand CheckKind = "command" // on the control side
	CheckGuest   CheckKind = "guest"   // a command in the guest, through the agent
)

// Check asks one service of one machine.
type Check struct {
	Kind CheckKind `json:"kind"`
	Line int       `json:"line,omitempty"`
	// Port is for tcp, http, https and dns; 0: the usual one.
	Port int `json:"port,omitempty"`
	// Path, Status and Body are for http: the status that is wanted (0: 200) and a
	// text that the body has.
	Path   string `json:"path,omitempty"`
	Status int    `json:"status,omitempty"`
	Body   string `json:"body,omitempty"`
	// HostName is the name that is asked for (http, https), or looked up (dns).
	HostName string `json:"hostName,omitempty"`
	// Text is what the console has to print.
	Text string `json:"text,omitempty"`
	// Command and its arguments; never through a shell that nobody asked for.
	Command []string `json:"command,omitempty"`
	// Within bounds it, tries and pauses included (zero: [DefaultWithin]). Each try
	// has Timeout, and has to pass Passes times in a row (0: once), so that a
	// service that flaps is not taken for one that serves.
	Within  time.Duration `json:"within,omitempty"`
	Timeout time.Duration `json:"timeout,omitempty"`
	Passes  int           `json:"passes,omitempty"`
}

// DefaultWithin is what a check may take that says nothing of it.
const DefaultWithin = 5 * time.Minute

// StepKind is what a step does.
type StepKind string

// The kinds of steps.
const (
	StepBoot     StepKind = "boot"
	StepCheck    StepKind = "check" // waits until a machine's checks pass
	StepRun      StepKind = "run"
	StepGuest    StepKind = "guest"
	StepConfirm  StepKind = "confirm"
	StepMessage  StepKind = "message"
	StepPause    StepKind = "pause"
	StepSettle   StepKind = "settle"
	StepConnect  StepKind = "connect"
	StepShutdown StepKind = "shutdown"
)

// When says in which mode a step is done.
type When string

// In both (the empty word), in a drill or in a recovery only.
const (
	WhenAlways  When = ""
	WhenDrill   When = "drill"
	WhenRecover When = "recover"
)

// Step is one step as the file says it.
type Step struct {
	// ID names it for after:, --skip and --from-step. [Parse] gives one to a step
	// without: its kind and the machine (boot-db) where it is about one, else its
	// kind and the number of it in the file (confirm-2, boot-tier-1). Where a step is
	// about several machines, each of them has its own as well: boot-db, boot-web.
	ID   string   `json:"id,omitempty"`
	Line int      `json:"line,omitempty"`
	Kind StepKind `json:"kind"`
	// Machines are those that it is about: one boot step may start several.
	Machines []string `json:"machines,omitempty"`
	// Tier stands for all machines of a tier, in place of Machines.
	Tier int `json:"tier,omitempty"`
	// After are ids of steps, of the file or KIND-MACHINE of what follows from a
	// machine (boot, connect, check, settle). A machine's name is its checks passed.
	After []string `json:"after,omitempty"`
	When  When     `json:"when,omitempty"`
	// Text is what a person reads: of a message or a confirm. Who has to say yes.
	Text string `json:"text,omitempty"`
	Who  string `json:"who,omitempty"`
	// Checks are those of a check step that brings its own.
	Checks []Check `json:"checks,omitempty"`
	// Command, Env and Limit are for run and guest; Limit is for confirm and pause
	// too.
	Command []string          `json:"command,omitempty"`
	Env     map[string]string `json:"env,omitempty"`
	Limit   time.Duration     `json:"limit,omitempty"`
	// Essential: if it fails, OnFailure counts; else it is told and the rest goes on.
	// [Parse] says true where the file says nothing.
	Essential bool      `json:"essential,omitempty"`
	OnFailure OnFailure `json:"onFailure,omitempty"`
	Retries   int       `json:"retries,omitempty"`
	// Done is a probe that exits with 0 when the step's work is done already;
	// RepeatSafe says that doing it twice does no harm. Without either, one that was
	// begun and not finished waits for a person.
	Done       []string `json:"done,omitempty"`
	RepeatSafe bool     `json:"repeatSafe,omitempty"`
}

// Has says that the runbook brings back a machine of that name.
func (b *Book) Has(machine string) bool {
	return slices.ContainsFunc(b.Machines, func(m Machine) bool { return m.Name == machine })
}
