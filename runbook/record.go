package runbook

import "time"

// Outcome is how a step ended.
type Outcome string

// The outcomes. Waiting is not an end: the run stopped there for a person.
const (
	OutcomeDone    Outcome = "done"
	OutcomeFailed  Outcome = "failed"
	OutcomeSkipped Outcome = "skipped"
	OutcomeNotRun  Outcome = "not run"
	OutcomeWaiting Outcome = "waiting"
)

// Record is everything that a run leaves: what a report is made from. It holds no
// secret.
type Record struct {
	Version int       `json:"version"`
	RunID   string    `json:"run"`
	Mode    Mode      `json:"mode"`
	Began   time.Time `json:"began"`
	Ended   time.Time `json:"ended,omitzero"`
	// Program is the version of Lifeboat; Computer and User ran it. Declared is who
	// declared a disaster and Reason why, in a recovery.
	Program  string `json:"program"`
	Computer string `json:"computer"`
	User     string `json:"user"`
	Declared string `json:"declared,omitempty"`
	Reason   string `json:"reason,omitempty"`
	// BookText is the file word for word, BookHash its SHA-256, BookMeaning the hash
	// of what it means.
	BookText    string `json:"runbookText"`
	BookHash    string `json:"runbookHash"`
	BookMeaning string `json:"runbookMeaning"`
	Plan        Plan   `json:"plan"`

	Steps    []StepRecord    `json:"steps"`
	Machines []MachineRecord `json:"machines"`
	Hosts    []HostRecord    `json:"hosts"`
	Drives   []DriveRecord   `json:"drives"`

	// OpenedWith says what opened the drive: "typed", "sheet" or "identity". Only the
	// first two make a drill a whole one.
	OpenedWith string `json:"openedWith"`
	// RTA is from the command to the last check, and in a recovery to the last machine
	// that was plugged in; Lead the declared lead times.
	RTA  time.Duration `json:"rta"`
	Lead time.Duration `json:"lead,omitempty"`
	// PersonWait is how long of the RTA confirm steps waited for a person.
	PersonWait time.Duration `json:"personWait,omitempty"`
	// Passed, Partial and Missed are as in [PastRun].
	Passed  bool     `json:"passed"`
	Partial string   `json:"partial,omitempty"`
	Missed  []string `json:"missed,omitempty"`
	// NotRepresentative says why the times are not those of a recovery; empty: they are.
	NotRepresentative string `json:"notRepresentative,omitempty"`
	// Later is what came of a recovery that was taken up again after it had passed.
	// The figures stay those of the recovery.
	Later []LaterRun `json:"later,omitempty"`
	// Left is what a drill's cleanup could not take away; empty: nothing is left.
	Left    []string `json:"left,omitempty"`
	Cleaned bool     `json:"cleaned,omitempty"`
	// Damage is what the drives did not give as it was written, in words. A run that
	// met any proves no point, and makes no runbook ready.
	Damage []string `json:"damage,omitempty"`
	// Files are the SHA-256 of the files of evidence, by their names in the run's
	// folder, as they were when the record was made: what seals the record seals them.
	Files map[string]string `json:"files,omitempty"`
}

// LaterRun is one time that a recovery was taken up again after it had passed.
type LaterRun struct {
	Began time.Time `json:"began"`
	Ended time.Time `json:"ended,omitzero"`
	// Outcome is how it ended, such as "passed" or "failed"; empty: it goes on, or was
	// killed. Problems are the steps that failed or wait.
	Outcome  string   `json:"outcome,omitempty"`
	Problems []string `json:"problems,omitempty"`
	// Machines are those that are not any more where, or of the point, that the
	// record says.
	Machines []LaterMachine `json:"machines,omitempty"`
}

// LaterMachine is a machine of a later run that is another one than the record says.
type LaterMachine struct {
	Name    string    `json:"name"`
	PointID string    `json:"point"`
	TakenAt time.Time `json:"takenAt"`
	Host    string    `json:"host"`
}

// StepRecord is one step as it went.
type StepRecord struct {
	ID      string    `json:"id"`
	Kind    StepKind  `json:"kind"`
	Machine string    `json:"machine,omitempty"`
	Began   time.Time `json:"began,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
	Outcome Outcome   `json:"outcome"`
	// Attempts is how often it was begun; Problem why it failed; Reason why a person
	// skipped it.
	Attempts int      `json:"attempts,omitempty"`
	Problem  string   `json:"problem,omitempty"`
	Reason   string   `json:"reason,omitempty"`
	Result   Result   `json:"result,omitzero"`
	Evidence Evidence `json:"evidence,omitzero"`
}

// MachineRecord is one machine as it came back.
type MachineRecord struct {
	Name    string    `json:"name"`
	ID      string    `json:"id"`
	Tier    int       `json:"tier"`
	PointID string    `json:"point"`
	TakenAt time.Time `json:"takenAt"`
	Host    string    `json:"host"`
	// Form says what was put in the place of what, if anything was.
	Form string `json:"form,omitempty"`
	Measured
	Objectives Objectives `json:"objectives"`
	// WentBack says why it came back from an older point than the plan's; empty: it
	// did not.
	WentBack string `json:"wentBack,omitempty"`
	// Passed: each of its checks did, and in a recovery it was plugged in. Checked says
	// how many it has.
	Passed  bool `json:"passed"`
	Checked int  `json:"checked"`
	// Disks are the keys of its disks that were booted; none where it came back from an
	// older point, of which they are not known.
	Disks    []string `json:"disks"`
	Evidence Evidence `json:"evidence,omitzero"`
}

// HostRecord is what a run ran on.
type HostRecord struct {
	Name        string `json:"name"`
	Kind        string `json:"kind"`
	KVM         bool   `json:"kvm"`
	CPUs        int    `json:"cpus,omitempty"`
	MemoryBytes int64  `json:"memoryBytes,omitempty"`
	System      string `json:"system,omitempty"`
}

// DriveRecord is a drive that a run read, and its custody when it began.
type DriveRecord struct {
	ID      string `json:"id"`
	Label   string `json:"label"`
	Model   string `json:"model,omitempty"`
	Link    string `json:"link,omitempty"`
	Custody string `json:"custody,omitempty"`
	// VerifiedAt is when everything on it was last read, LedgerHead the head of the
	// ledger that was known.
	VerifiedAt time.Time `json:"verifiedAt,omitzero"`
	LedgerHead string    `json:"ledgerHead,omitempty"`
	ReadBytes  int64     `json:"readBytes,omitempty"`
}
