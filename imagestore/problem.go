package imagestore

import (
	"errors"
	"fmt"

	"lifeboat"
)

// label is how messages name the drive.
func (s *Store) label() string {
	if s.super.Label == "" {
		return "the drive at " + s.dir.String()
	}
	return "drive " + s.super.Label
}

// nameOnSticker is what --drive takes.
func (s *Store) nameOnSticker() string {
	if s.super.Label == "" {
		return s.dir.String()
	}
	return s.super.Label
}

// explain turns what the medium did into the three lines for the operator; what
// is a Problem already, or says nothing about the medium, stays as it is.
func (s *Store) explain(err error) error {
	var known *lifeboat.Problem
	var damage *Damage
	switch {
	case err == nil || errors.As(err, &known):
		return err
	case errors.Is(err, lifeboat.ErrDriveFull):
		return &lifeboat.Problem{
			What: fmt.Sprintf("%s is full", s.label()),
			Safe: "every restore point committed before is whole",
			Next: fmt.Sprintf("free room: lifeboat point forget, then lifeboat prune %s; or attach a larger drive; then run the same command again", s.nameOnSticker()),
			Err:  err,
		}
	case errors.Is(err, lifeboat.ErrDriveGone):
		return &lifeboat.Problem{
			What: fmt.Sprintf("%s does not answer any more", s.label()),
			Safe: "every restore point committed before is on the drive; what was being written is not one",
			Next: "attach the drive again, look at it with: lifeboat verify, and run the command again",
			Err:  err,
		}
	}
	if errors.As(err, &damage) {
		return &lifeboat.Problem{
			What: fmt.Sprintf("drive %s is damaged at %d bytes from %d of disk %s", damage.Drive, damage.Length, damage.Offset, damage.Disk),
			Safe: "no wrong byte was given out; which points are whole is not known before a verification",
			Next: "attach another drive that has this machine, or see what is hurt with: lifeboat verify --drive " + damage.Drive,
			Err:  err,
		}
	}
	return err
}

// Damage is a place of a restore point that cannot be read from this drive. It
// wraps lifeboat.ErrDamaged.
type Damage struct {
	Drive string
	// PointID, Disk, Offset and Length say what is lost.
	PointID, Disk  string
	Offset, Length int64
	// Pack is the file that should hold it, or empty when that is unknown.
	Pack string
	Why  error
}

func (d *Damage) Error() string {
	where := d.Pack
	if where == "" {
		where = "no pack"
	}
	return fmt.Sprintf("drive %s is damaged: point %s, disk %s, %d bytes from %d (%s): %v",
		d.Drive, d.PointID, d.Disk, d.Length, d.Offset, where, d.Why)
}

// Unwrap lets callers branch on lifeboat.ErrDamaged.
func (d *Damage) Unwrap() []error { return []error{lifeboat.ErrDamaged, d.Why} }
