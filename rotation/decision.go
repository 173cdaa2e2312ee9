package rotation

import (
	"time"

	"lifeboat/custody"
)

// Decision is what should happen now, with a reason for each line. It changes
// nothing by itself.
type Decision struct {
	Day Date
	// Period is the turn that is running, such as 2026-W47, or a date where sets
	// change daily; it begins each step's id. A turn that nobody ended runs on:
	// after missed weeks it is the first of them, and SwapOn is in the past.
	Period string
	// SwapOn is the day on which the turn should end.
	SwapOn Date
	// Missed counts the swaps that were due before today and did not happen.
	Missed int
	// Set is the one that exports go to now: the one that goes out at the end of
	// the turn or, when that has left, the one that came home. Write are the drives
	// of it that can be written; one that is not Attached has to be attached.
	Set   string
	Write []Pick
	// Take leaves the house, Bring comes home, in this period.
	Take, Bring []Pick
	// Steps are the checklist, in an order in which no step breaks a promise.
	Steps []Step
	// Verdicts say of each point on a drive that is here what becomes of it.
	Verdicts []Verdict
	Exposure []Exposure
	// Doubt says why the clock is not believed; then nothing is forgotten.
	Doubt string
	// Blocked are things that should be done and must not, with what to do.
	Blocked []string
	// Reminders are other things that are due: a verification, a key change, a
	// drive that will be full, a custodian who left.
	Reminders []string
}

// Pick is a drive that was chosen, and why.
type Pick struct {
	DriveID, Label string
	Why            string
	// Location is where it goes, or where it is; Person carries it.
	Location, Person string
}

// StepKind says what a step is.
type StepKind string

// The kinds of steps, in the order of one drive's way out of the house and home.
const (
	StepAttach  StepKind = "attach"
	StepExport  StepKind = "export"
	StepVerify  StepKind = "verify"
	StepEject   StepKind = "eject" // reads back what was written, then unmounts
	StepDepart  StepKind = "depart"
	StepDeposit StepKind = "deposit"
	StepRecall  StepKind = "recall"
	StepCollect StepKind = "collect"
	StepArrive  StepKind = "arrive"
)

// stepID is the id of a step: 2026-W47/deposit/A.
func stepID(period string, kind StepKind, label string) string {
	return period + "/" + string(kind) + "/" + label
}

// Step is one line of a checklist.
type Step struct {
	// ID is stable for the period: 2026-W47/deposit/A.
	ID       string
	Kind     StepKind
	DriveID  string
	Label    string
	Due      Date
	Person   string
	Location string
	Why      string
	// Needs are the ids of the steps that must be done before.
	Needs []string
	// Seen: the program ticks it; else a person signs.
	Seen bool
	Done *DoneStep
	// Waits says which promise it would break, although what it needs is done;
	// empty: none. Such a step, and what needs it, must not be done.
	Waits string
	// Ask: the list counts on an export that is still to come and may fail. Whoever
	// goes by a printed page asks the program once more before this step.
	Ask bool
	// To is where the drive is after the step.
	To custody.Place
}

// Verdict says what becomes of one point on one drive.
type Verdict struct {
	DriveID, PointID, MachineID string
	Keep                        bool
	// Why is the rule, or the promise, that decided.
	Why string
}

// Exposure answers for one machine what would be lost if the building burned
// down now.
type Exposure struct {
	MachineID, Machine string
	// DriveID is empty when no point of it is offsite.
	DriveID, Label, PointID string
	TakenAt                 time.Time
	Age                     time.Duration
	VerifiedAt, ProvenAt    time.Time
	Objective               time.Duration
	Missed                  bool
	// InHandAt is when the drive could be here, by its location's lead time and
	// days; zero when unknown.
	InHandAt time.Time
}
