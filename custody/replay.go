package custody

import (
	"fmt"
	"slices"
	"strconv"
	"time"
)

// List is what a ledger says is so: where every item is. Its order is that in
// which the items came into the ledger.
type List struct {
	Items []Kept
	// Revoked says of the entries that are taken back by which entry.
	Revoked map[uint64]uint64
	// Steps are the steps of checklists that are done and not revoked, by id.
	Steps map[string]Step
	// Discrepancies are what was recorded and does not fit together, in the order
	// of the ledger. Those that only time brings, see [List.Missing].
	Discrepancies []Discrepancy
}

// Kept is one item and where it is.
type Kept struct {
	Item
	Place Place
	// Since is when it came there, as it is said to have happened; Entry is the
	// entry that says so, and Signer, Note and Seal are of it.
	Since  time.Time
	Entry  uint64
	Signer string
	Note   string
	Seal   string
	// Due is the day on which it was promised back; zero: none was named.
	Due time.Time
	// Before is where an item was that is quarantined, lost or retired.
	Before Place
	// Homeward says of what is with a courier that it came from offsite.
	Homeward bool
	// SeenAt is when the program last had it attached.
	SeenAt time.Time
	// Destroyed: its key wraps were destroyed.
	Destroyed bool
}

// Step says who or what did a step of a checklist.
type Step struct {
	At     time.Time
	Signer string
	Entry  uint64
}

// Discrepancy says that the list and reality differ, or that two entries do.
type Discrepancy struct {
	Item Item `json:"item"`
	// Entry is the entry that shows it; 0: none, it shows today.
	Entry uint64    `json:"entry,omitempty"`
	At    time.Time `json:"at"`
	What  string    `json:"what"`
}

// Of returns what is known of an item by its id.
func (l *List) Of(id string) (Kept, bool) {
	i := slices.IndexFunc(l.Items, func(k Kept) bool { return k.ID == id })
	if i < 0 {
		return Kept{}, false
	}
	return l.Items[i], true
}

func (l *List) destroyed(id string) bool {
	k, _ := l.Of(id)
	return k.Destroyed
}

// Replay goes through a chain and returns where everything is. A revoked entry
// does not count, nor the courier's leg that it implied. The chain must hold
// ([Verify]).
func Replay(entries []Entry) List {
	l := List{Revoked: revoked(entries), Steps: map[string]Step{}}
	at := map[string]int{}
	for _, e := range entries {
		if l.Revoked[e.Sequence] != 0 {
			continue
		}
		if e.Step != "" {
			l.Steps[e.Step] = Step{At: e.HappenedAt, Signer: e.Signer, Entry: e.Sequence}
		}
		if e.Item == nil || e.Act == ActRevoked {
			continue
		}
		i, known := at[e.Item.ID]
		if !known && moves[e.Act] == nil {
			continue // nothing says where it is
		}
		if !known {
			i = len(l.Items)
			at[e.Item.ID] = i
			l.Items = append(l.Items, Kept{Item: *e.Item})
		}
		l.Discrepancies = append(l.Discrepancies, l.Items[i].apply(e)...)
	}
	return l
}

// revoked collects which entries are taken back, with those that they implied.
func revoked(entries []Entry) map[uint64]uint64 {
	by := map[uint64]uint64{}
	for _, e := range entries {
		if e.Revokes != 0 {
			by[e.Revokes] = e.Sequence
		}
	}
	for _, e := range entries {
		if other, err := strconv.ParseUint(e.Facts[FactLegOf], 10, 64); err == nil && by[other] != 0 {
			by[e.Sequence] = by[other]
		}
	}
	return by
}

// apply changes what is known of an item by one more entry, and returns what does
// not fit.
func (k *Kept) apply(e Entry) (odd []Discrepancy) {
	tell := func(format string, args ...any) {
		odd = append(odd, Discrepancy{Item: *e.Item, Entry: e.Sequence, At: e.HappenedAt, What: fmt.Sprintf(format, args...)})
	}
	k.Label = e.Item.Label
	switch e.Act {
	case ActExported, ActReadBack, ActVerified, ActProven, ActEjected, ActKeys, ActForgot, ActDocument:
		k.SeenAt = e.HappenedAt
	case ActDestroyed:
		k.Destroyed = true
	}
	if moves[e.Act] == nil {
		return odd
	}
	was := k.Place
	if e.Act == ActAttached {
		k.SeenAt = e.HappenedAt
		if why := surprise(*k); why != "" {
			tell("%s was attached here although it %s", k.Label, why)
		}
	}
	if fetched(was, *e.To) && k.Seal != "" && e.Seal != "" && k.Seal != e.Seal {
		tell("%s was deposited with seal %s and came back with seal %s", k.Label, k.Seal, e.Seal)
	}
	k.move(e)
	return odd
}

// move puts the item where an entry says.
func (k *Kept) move(e Entry) {
	was := k.Place
	aside := func(s State) bool { return s == Quarantined || s == Lost || s == Retired }
	switch {
	case aside(e.To.State) && e.Act == ActAttached, e.Act == ActFound:
		k.Before = Place{State: Onsite, Location: e.To.Location, Holder: e.To.Holder, Box: e.To.Box}
	case aside(e.To.State) && !aside(was.State):
		k.Before = was
	case !aside(e.To.State):
		k.Before = Place{}
	}
	k.Homeward = e.To.State == Courier && (was.State == Offsite || was.State == Recall || was.State == Courier && k.Homeward)
	if e.To.State == Offsite || was.State == nowhere || e.Seal != "" {
		k.Seal = e.Seal
	}
	if e.To.State == Onsite || e.Facts[FactDue] != "" {
		k.Due = time.Time{}
	}
	if due, err := time.Parse(time.DateOnly, e.Facts[FactDue]); err == nil {
		k.Due = due
	}
	if was.State != e.To.State || was.Location != e.To.Location || k.Since.IsZero() {
		k.Since = e.HappenedAt
	}
	k.Place, k.Entry, k.Signer, k.Note = *e.To, e.Sequence, e.Signer, e.Note
}

// fetched says that a move takes an item from a place offsite on its way home.
func fetched(was, to Place) bool {
	away := was.State == Offsite || was.State == Recall
	return away && (to.State == Courier || to.State == Onsite) || was.State == Courier && to.State == Onsite
}

// Unexpected returns, of the drives that are attached now, those that should be
// elsewhere. An entry about it is only written when such a drive is worked with.
func (l *List) Unexpected(attached []string, now time.Time) []Discrepancy {
	var all []Discrepancy
	for _, id := range attached {
		if k, known := l.Of(id); known {
			if why := surprise(k); why != "" {
				all = append(all, Discrepancy{Item: k.Item, At: now.UTC(), What: fmt.Sprintf("%s is attached here although it %s", k.Label, why)})
			}
		}
	}
	return all
}

// surprise says why a drive should not be here; "" where it may be.
func surprise(k Kept) string {
	switch k.Place.State {
	case Offsite, Recall, Lost, Retired:
		return placeWords(k.Place)
	case Courier:
		if !k.Homeward {
			return placeWords(k.Place) + ", on the way to a place offsite"
		}
	}
	return ""
}

// courierDays is how long an item may be with a courier before it is missed. A
// drive that left on Friday is somewhere by Monday.
const courierDays = 4

// Missing returns what was expected by now and is not seen: what is overdue, what
// is with a courier too long, and what is lost.
func (l *List) Missing(now time.Time) []Discrepancy {
	var all []Discrepancy
	for _, k := range l.Items {
		what := ""
		switch {
		case k.Place.State == Retired:
		case k.Place.State == Lost:
			what = fmt.Sprintf("%s is lost since %s", k.Label, k.Since.Format(time.DateOnly))
		case k.Place.State == Courier && now.Sub(k.Since) > courierDays*24*time.Hour:
			what = fmt.Sprintf("%s is with courier %s since %s", k.Label, k.Place.Holder, k.Since.Format(time.DateOnly))
		case !k.Due.IsZero() && now.After(k.Due.AddDate(0, 0, 1)) && k.Place.State != Onsite && k.Place.State != Quarantined:
			what = fmt.Sprintf("%s was due back on %s and %s", k.Label, k.Due.Format(time.DateOnly), placeWords(k.Place))
		}
		if what != "" {
			all = append(all, Discrepancy{Item: k.Item, At: now.UTC(), What: what})
		}
	}
	return all
}
