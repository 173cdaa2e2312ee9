package lifeboat

import "errors"

// Problem is what an operator reads when something did not work: what failed,
// what is still safe, and the one thing to do next. It is made where the facts
// are known and printed in one place.
type Problem struct {
	// What failed, with the machine and the drive, in lower case.
	What string
	// Safe is what is still good. When that is not known, it says so.
	Safe string
	// Next is one command, or one thing to do with one's hands.
	Next string
	// Err is the cause, which a caller may branch on.
	Err error
}

// Error returns the first line, with its cause.
func (p *Problem) Error() string {
	if p.Err == nil {
		return p.What
	}
	return p.What + ": " + p.Err.Error()
}

// Unwrap returns the cause.
func (p *Problem) Unwrap() error { return p.Err }

// Errors that callers of more than one room branch on. The command line gives
// each its exit code.
var (
	// ErrNoDrive: no drive is attached, or several are and none was named.
	ErrNoDrive = errors.New("no drive to work on")
	// ErrWrongDrive: the medium is not a Lifeboat drive, or another site's, or
	// of a format that this program does not know.
	ErrWrongDrive = errors.New("not the right drive")
	// ErrWrongSecret: no key slot of the drive opens with what was given.
	ErrWrongSecret = errors.New("the secret does not open this drive")
	// ErrDriveHeld: another run holds the drive.
	ErrDriveHeld = errors.New("another run holds the drive")
	// ErrDriveFull: the drive has no room for what was to be written.
	ErrDriveFull = errors.New("the drive is full")
	// ErrDriveGone: the drive stopped answering.
	ErrDriveGone = errors.New("the drive is gone")
	// ErrDamaged: bytes on the drive are not what was written.
	ErrDamaged = errors.New("damaged on the drive")
	// ErrPartial: some of what was asked for was done, the rest is listed.
	ErrPartial = errors.New("done in part")
)
