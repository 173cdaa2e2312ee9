package custody

import (
	"errors"
	"fmt"
	"slices"

	"lifeboat"
)

// ErrMove: the item cannot go there from where it is.
var ErrMove = errors.New("the item cannot go there from where it is")

// nowhere is the state of an item that the ledger did not know before.
const nowhere State = ""

// moves says for each act that puts an item somewhere in which state the item may
// be after it, by the state it was in. What is not listed is refused.
var moves = map[Act]map[State][]State{
	ActMade: {nowhere: {Onsite, Courier, Offsite}},
	ActMoved: {
		nowhere:     {Onsite, Courier, Offsite},
		Onsite:      {Onsite, Courier},
		Courier:     {Courier, Onsite, Offsite},
		Offsite:     {Offsite, Recall, Courier},
		Recall:      {Offsite, Courier},
		Quarantined: {Quarantined},
	},
	// Whatever the ledger says: what is attached is here. A lost drive that turns
	// up is looked into first.
	ActAttached: {
		nowhere: {Onsite}, Onsite: {Onsite}, Courier: {Onsite}, Offsite: {Onsite}, Recall: {Onsite},
		Quarantined: {Quarantined}, Lost: {Quarantined}, Retired: {Retired},
	},
	ActQuarantined: {
		nowhere: {Quarantined}, Onsite: {Quarantined}, Courier: {Quarantined}, Offsite: {Quarantined}, Recall: {Quarantined},
	},
	ActReleased: {Quarantined: {Onsite, Courier, Offsite}},
	ActLost: {
		nowhere: {Lost}, Onsite: {Lost}, Courier: {Lost}, Offsite: {Lost}, Recall: {Lost}, Quarantined: {Lost},
	},
	ActFound: {Lost: {Quarantined}},
	ActRetired: {
		nowhere: {Retired}, Onsite: {Retired}, Courier: {Retired}, Offsite: {Retired}, Recall: {Retired},
		Quarantined: {Retired}, Lost: {Retired},
	},
}

// MayMove says whether an act may bring an item from one state into another. The
// empty state is that of an item of which nothing is recorded.
func MayMove(act Act, from, to State) bool {
	return slices.Contains(moves[act][from], to)
}

// legs completes a move: from where the item is, to where it goes, and where the
// way leads through a courier who was not mentioned, that first.
func legs(was Kept, known bool, e Entry) ([]Entry, error) {
	from := nowhere
	if known {
		from = was.Place.State
		if e.From != nil && (e.From.State != from || e.From.Location != was.Place.Location) {
			return nil, refuseMove(was, e, fmt.Sprintf("the ledger has %s %s, not %s", e.Item.Label, placeWords(was.Place), placeWords(*e.From)))
		}
		place := was.Place
		e.From = &place
	}
	e.To = destination(was, known, e)
	if e.To != nil && MayMove(e.Act, from, e.To.State) && !crosses(was.Place, e) {
		return []Entry{e}, nil
	}
	if e.Act != ActMoved || e.To == nil || !MayMove(ActMoved, from, Courier) || !MayMove(ActMoved, Courier, e.To.State) {
		return nil, refuseMove(was, e, "")
	}
	hand := Place{State: Courier, Holder: e.Signer, Box: e.To.Box}
	first := e
	first.To, first.Step, first.Facts = &hand, "", map[string]string{}
	second := e
	second.From = &hand
	return []Entry{first, second}, nil
}

// crosses says that a move goes from one place away from here to another: somebody
// carries the item, and meanwhile it is at neither.
func crosses(was Place, e Entry) bool {
	return e.Act == ActMoved && was.State == Offsite && e.To.State == Offsite && was.Location != e.To.Location
}

// destination fills in where an act leaves the item, where that follows from where
// it is.
func destination(was Kept, known bool, e Entry) *Place {
	to := Place{}
	if known {
		to = was.Place
	}
	if e.To != nil {
		to = *e.To
	}
	switch e.Act {
	case ActQuarantined, ActFound:
		to.State = Quarantined
	case ActLost:
		to.State = Lost
	case ActRetired:
		to.State = Retired
	case ActAttached:
		if to = (Place{}); e.To != nil {
			to = *e.To
		}
		to.State = Onsite
		if known && len(moves[ActAttached][was.Place.State]) > 0 {
			to.State = moves[ActAttached][was.Place.State][0]
		}
	case ActReleased:
		if e.To == nil {
			to = was.Before
		}
	default:
		if e.To == nil {
			return nil
		}
	}
	if to.State == Courier && to.Holder == "" {
		to.Holder = e.Signer
	}
	return &to
}

// refuseMove says why an item cannot go where it should, and what may follow.
func refuseMove(was Kept, e Entry, what string) error {
	if what == "" {
		what = fmt.Sprintf("%s %s: it cannot be %s from there", e.Item.Label, placeWords(was.Place), actWords(e))
	}
	return &lifeboat.Problem{
		What: what,
		Safe: "nothing was recorded; the ledger is as it was",
		Next: afterwards(was.Place.State),
		Err:  ErrMove,
	}
}

// afterwards says in words what may follow a state.
func afterwards(from State) string {
	switch from {
	case nowhere:
		return "record first that it exists: lifeboat drive list, or lifeboat rotate item add"
	case Onsite:
		return "from here it goes to a courier, or straight to a place offsite"
	case Courier:
		return "from a courier it goes to a place offsite, home, or to another courier"
	case Offsite, Recall:
		return "from there it is recalled, collected by a courier, or brought home"
	case Quarantined:
		return "look into why it was put aside; then release it, or retire it"
	case Lost:
		return "say first that it was found"
	}
	return "what is retired stays so; use another"
}

// actWords says an act as what is done to an item.
func actWords(e Entry) string {
	if e.Act != ActMoved || e.To == nil {
		return string(e.Act)
	}
	return "moved to the state " + string(e.To.State)
}

// placeWords says where something is.
func placeWords(p Place) string {
	var text string
	switch p.State {
	case nowhere:
		return "is not in the ledger"
	case Courier:
		return "is with courier " + p.Holder
	case Recall:
		text = "is recalled from " + orElse(p.Location, "offsite")
	case Onsite, Offsite:
		text = "is " + string(p.State)
		if p.Location != "" {
			text += " at " + p.Location
		}
	default:
		text = "is " + string(p.State)
	}
	if p.Box != "" {
		text += " in box " + p.Box
	}
	return text
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}
