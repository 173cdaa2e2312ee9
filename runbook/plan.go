package runbook

import (
	"time"

	"lifeboat"
)

// Plan is what a runbook comes to today: every point, drive and host is named, and
// every step stands in a graph. It is plain data: it is printed, kept with the run,
// and executed.
type Plan struct {
	Book    string `json:"runbook"`
	Meaning string `json:"meaning"`
	Mode    Mode   `json:"mode"`
	Site    string `json:"site"`
	SiteID  string `json:"siteId"`
	// Isolated: checks go through isolated networks until a person releases a tier:
	// the steps release-tier-N, which connect steps wait for.
	Isolated bool `json:"isolated,omitempty"`
	// MadeAt is the moment of the situation that it follows from.
	MadeAt   time.Time        `json:"madeAt"`
	Machines []PlannedMachine `json:"machines"`
	Drives   []PlannedDrive   `json:"drives"`
	Hosts    []PlannedHost    `json:"hosts"`
	Networks []PlannedNetwork `json:"networks"`
	Groups   []PlannedGroup   `json:"groups,omitempty"`
	Steps    []PlannedStep    `json:"steps"`
	Findings []Finding        `json:"findings,omitempty"`
	// Objectives are those of the runbook as a whole.
	Objectives Objectives `json:"objectives,omitzero"`
	// Estimate is until the last check, from past drills; zero: none is known. Known
	// says how many machines it knows the past of.
	Estimate time.Duration `json:"estimate,omitempty"`
	Known    int           `json:"known,omitempty"`
	// Lead is the sum of the declared lead times.
	Lead time.Duration `json:"lead,omitempty"`
	// Transfer, if an uplink was given, is how long each tier takes over it.
	Transfer []TierTransfer `json:"transfer,omitempty"`
}

// PlannedMachine is a machine with its point and its host.
type PlannedMachine struct {
	Name  string                `json:"name"`
	ID    string                `json:"id"`
	Tier  int                   `json:"tier"`
	Point lifeboat.RestorePoint `json:"point"`
	// DriveIDs are where Point is read from; Older are the points to fall back to,
	// newest first, each with its drives. Those of machines of one group are of the
	// same runs in the same order. Why says why it is this point, where that is not
	// plain.
	DriveIDs []string     `json:"driveIds"`
	Older    []OlderPoint `json:"older,omitempty"`
	Why      string       `json:"why,omitempty"`
	// Host is empty where it fits nowhere: a finding says so. HostWhy says why it
	// runs there.
	Host       string        `json:"host"`
	HostWhy    string        `json:"hostWhy,omitempty"`
	MayRunOn   []string      `json:"mayRunOn"`
	Memory     int64         `json:"memoryBytes"`
	CPUs       int           `json:"cpus"`
	Cards      []PlannedCard `json:"cards"`
	Checks     []Check       `json:"checks,omitempty"`
	OnFailure  OnFailure     `json:"onFailure"`
	Objectives Objectives    `json:"objectives"`
	Settle     bool          `json:"settle,omitempty"`
	// Estimate is until its last check, from past drills; zero: it was never measured.
	Estimate time.Duration `json:"estimate,omitempty"`
}

// OlderPoint is a point to fall back to.
type OlderPoint struct {
	PointID  string    `json:"pointId"`
	TakenAt  time.Time `json:"takenAt"`
	DriveIDs []string  `json:"driveIds"`
}

// PlannedCard is a network card and where its cable goes.
type PlannedCard struct {
	MAC     string   `json:"mac"`
	Network string   `json:"network"`
	Address []string `json:"addresses,omitempty"`
}

// PlannedDrive is a drive that the plan reads.
type PlannedDrive struct {
	lifeboat.Drive
	Attached bool   `json:"attached"`
	Path     string `json:"path,omitempty"`
	Where    string `json:"where,omitempty"`
}

// PlannedHost is a host and what runs there.
type PlannedHost struct {
	Name     string   `json:"name"`
	Kind     string   `json:"kind"`
	KVM      bool     `json:"kvm"`
	Remote   bool     `json:"remote,omitempty"`
	Machines []string `json:"machines"`
	// MemoryBytes and CPUs are what machines may take there in all; 0: no limit is
	// known.
	MemoryBytes int64 `json:"memoryBytes"`
	CPUs        int   `json:"cpus"`
	// Boots is how many machines may start there at the same time.
	Boots int `json:"boots"`
}

// PlannedNetwork is a network of the run. In a drill Cable is isolated.
type PlannedNetwork struct {
	Name     string            `json:"name"`
	Cable    Cable             `json:"cable"`
	CIDR     string            `json:"cidr,omitempty"`
	Gateway  string            `json:"gateway,omitempty"`
	DNS      []string          `json:"dns,omitempty"`
	Names    map[string]string `json:"names,omitempty"`
	Forwards []Forward         `json:"forwards,omitempty"`
	VPN      int               `json:"vpn,omitempty"`
}

// PlannedGroup is a group with the run that it comes back from, and how far apart
// the moments of its machines are.
type PlannedGroup struct {
	Name string `json:"name"`
	// Machines belong together: they go back to an older point together too.
	Machines []string      `json:"machines"`
	RunID    string        `json:"runId,omitempty"`
	Skew     time.Duration `json:"skew"`
	Allowed  bool          `json:"allowed,omitempty"`
	Why      string        `json:"why,omitempty"`
}

// PlannedStep is one step about at most one machine. After are the ids of the steps
// that end before it begins.
type PlannedStep struct {
	ID      string   `json:"id"`
	Kind    StepKind `json:"kind"`
	Machine string   `json:"machine,omitempty"`
	Tier    int      `json:"tier,omitempty"`
	After   []string `json:"after,omitempty"`
	// Step is what the file says of it; a step that follows from a machine has only
	// what that says. A check step without Checks asks for those of its machine.
	Step Step `json:"step"`
}

// TierTransfer is what sending a tier over a line takes.
type TierTransfer struct {
	Tier  int           `json:"tier"`
	Bytes int64         `json:"bytes"`
	Time  time.Duration `json:"time"`
}

// Severity says what a finding means for a plan.
type Severity string

// A finding stops the plan, or is to be known.
const (
	Stops Severity = "stops"
	Warns Severity = "warns"
)

// Finding is one thing that would go wrong today.
type Finding struct {
	Severity Severity `json:"severity"`
	// Code is a word that stays the same, such as no-point; the list is in
	// docs/reference/findings.md.
	Code string `json:"code"`
	// Machine is the one that it is about, if it is about one.
	Machine string `json:"machine,omitempty"`
	// Line is where the runbook speaks of it; 0: nowhere.
	Line int    `json:"line,omitempty"`
	What string `json:"what"`
	Next string `json:"next,omitempty"`
}

// Readiness is whether a runbook was proven.
type Readiness struct {
	Ready bool `json:"ready"`
	// Why it is not, each a sentence; empty when it is.
	Why []string `json:"why,omitempty"`
	// LastPassed is the drill that it rests on, Until when it counts.
	LastPassed string    `json:"lastPassed,omitempty"`
	At         time.Time `json:"at,omitzero"`
	Until      time.Time `json:"until,omitzero"`
}
