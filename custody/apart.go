package custody

import (
	"errors"
	"fmt"
	"time"

	"lifeboat"
)

// ErrTogether: a drive and what opens it would come together.
var ErrTogether = errors.New("a drive and what opens it would be together")

// apart refuses a hand-over that a person records, if it brings a drive and what
// opens it together. What the program sees, such as an attached drive, is recorded
// as it is, and [List.Together] tells.
func (l *List) apart(e Entry) error {
	asked := e.Act == ActMoved || e.Act == ActReleased || e.Act == ActMade && e.Item.Kind != KindDrive
	if !asked {
		return nil
	}
	for _, other := range l.Items {
		if other.ID == e.Item.ID {
			continue
		}
		if where := together(Kept{Item: *e.Item, Place: *e.To}, other); where != "" {
			return &lifeboat.Problem{
				What: fmt.Sprintf("%s (%s) and %s (%s) would be %s: whoever takes both opens the drive", e.Item.Label, e.Item.Kind, other.Label, other.Kind, where),
				Safe: "nothing was recorded; the ledger is as it was",
				Next: "keep them apart: another box, another person, another place",
				Err:  ErrTogether,
			}
		}
	}
	return nil
}

// Together returns the pairs that are now where one hand can take both: a drive,
// and a sheet or secret.
func (l *List) Together(now time.Time) []Discrepancy {
	var all []Discrepancy
	for i, a := range l.Items {
		for _, b := range l.Items[:i] {
			if where := together(a, b); where != "" {
				all = append(all, Discrepancy{Item: a.Item, At: now.UTC(), What: fmt.Sprintf("%s (%s) and %s (%s) are %s", a.Label, a.Kind, b.Label, b.Kind, where)})
			}
		}
	}
	return all
}

// together says in which way a drive and what opens it are together; "" where
// they are not. One location may hold both in two boxes.
func together(a, b Kept) string {
	there := func(p Place) bool { return p.State != Lost && p.State != Retired && p.State != nowhere }
	p, q := a.Place, b.Place
	switch {
	case (a.Kind == KindDrive) == (b.Kind == KindDrive), !there(p), !there(q), a.Destroyed, b.Destroyed:
		return ""
	case p.State == Courier && q.State == Courier && p.Holder == q.Holder:
		return "in the hands of " + p.Holder
	case p.Box != "" && p.Box == q.Box:
		return "in one box: " + p.Box
	case p.Location != "" && p.Location == q.Location && (p.Box == "" || q.Box == ""):
		return fmt.Sprintf("at one place, %s, and not in boxes of their own", p.Location)
	}
	return ""
}
