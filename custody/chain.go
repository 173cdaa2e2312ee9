package custody

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"lifeboat"
)

// ErrBroken: the chain of a ledger does not hold; [Verify] says where.
var ErrBroken = errors.New("the chain of the ledger is broken")

// ErrForked: two ledgers of one site say different things under one number.
var ErrForked = errors.New("the ledgers differ")

// ErrRevoke: there is nothing there that can be revoked.
var ErrRevoke = errors.New("that entry cannot be revoked")

// Names of facts that this package reads or writes; docs/reference/ledger.md has
// the others.
const (
	// FactDue is the day on which an item was promised back: 2026-11-27.
	FactDue = "due"
	// FactLegOf is on a hand-over that another one implied: the number of that
	// other, with which it is revoked.
	FactLegOf = "legOf"
)

// Head is the newest entry of a ledger: its number, and its hash. The head of an
// empty ledger is zero.
type Head struct {
	Sequence uint64 `json:"sequence"`
	Hash     Hash   `json:"hash,omitempty"`
}

// HeadOf returns the head of a chain.
func HeadOf(entries []Entry) Head {
	if len(entries) == 0 {
		return Head{}
	}
	last := entries[len(entries)-1]
	return Head{Sequence: last.Sequence, Hash: HashOf(Encode(last))}
}

// String is how a page shows a head, and how a person types it: 12:4f0c...
func (h Head) String() string { return fmt.Sprintf("%d:%s", h.Sequence, h.Hash) }

// minTyped is how many digits of a hash a person has to type: 64 bits, which
// nobody finds a second text for.
const minTyped = 16

// ParseHead reads a head as a person types it from a page: the number, a colon,
// and the hash, of which the first 16 digits are enough. Blanks and upper case do
// not matter.
func ParseHead(text string) (Head, error) {
	number, hash, ok := strings.Cut(strings.ToLower(strings.Join(strings.Fields(text), "")), ":")
	n, err := strconv.ParseUint(number, 10, 63)
	if !ok || err != nil || n == 0 || len(hash) < minTyped || len(hash) > 64 || !isHex(hash, len(hash)) {
		return Head{}, fmt.Errorf("%q is not a head: a number, a colon, and %d to 64 hex digits", text, minTyped)
	}
	return Head{Sequence: n, Hash: Hash(hash)}, nil
}

// Append makes a new entry the last of a chain, and returns what is to be added:
// the entry with its number, its predecessor's hash and where the item was; and
// before it the hand-over to a courier that it implies, if any. The chain must
// hold ([Verify]). Site, act, signer, user, computer and times are the caller's.
//
// It refuses, with a *[lifeboat.Problem] that wraps [ErrInvalid], [ErrMove],
// [ErrTogether] or [ErrRevoke], what an entry may not say, a move that is not
// allowed from where the item is, one that would bring a drive and what opens it
// together, and a revocation of what cannot be revoked.
func Append(entries []Entry, e Entry) ([]Entry, error) {
	list := Replay(entries)
	added := []Entry{e}
	var err error
	switch {
	case len(entries) >= MaxEntries-1:
		return nil, refuse(fmt.Errorf("%w: the ledger is full", ErrInvalid))
	case e.Act == ActRevoked:
		added[0], err = revocation(entries, list, e)
	case moves[e.Act] != nil && e.Item != nil:
		was, known := list.Of(e.Item.ID)
		added, err = legs(was, known, e)
	}
	if err != nil {
		return nil, err
	}
	head := HeadOf(entries)
	for i := range added {
		added[i].Sequence, added[i].Previous = head.Sequence+1, head.Hash
		added[i].HappenedAt, added[i].RecordedAt = e.HappenedAt.UTC().Round(0), e.RecordedAt.UTC().Round(0)
		if i < len(added)-1 {
			added[i].Facts = maps.Clone(added[i].Facts)
			added[i].Facts[FactLegOf] = strconv.FormatUint(added[i].Sequence+1, 10)
		}
		if err := Check(added[i]); err != nil {
			return nil, refuse(err)
		}
		if text := Encode(added[i]); len(text) > MaxLine {
			return nil, refuse(fmt.Errorf("%w: it is longer than %d bytes", ErrInvalid, MaxLine))
		}
		if err := list.apart(added[i]); err != nil {
			return nil, err
		}
		head = HeadOf(added[:i+1])
	}
	return added, nil
}

// refuse is the problem of an entry that says what it may not.
func refuse(err error) error {
	return &lifeboat.Problem{
		What: "this cannot be recorded: " + strings.TrimPrefix(err.Error(), ErrInvalid.Error()+": "),
		Safe: "nothing was recorded; the ledger is as it was",
		Next: "correct what was given, and run the command again",
		Err:  err,
	}
}

// revocable are the acts that a person says, and may take back. What the program
// saw stays seen.
var revocable = []Act{ActMoved, ActSigned, ActQuarantined, ActReleased, ActLost, ActFound, ActRetired}

// keepsAside says of an entry that set a drive aside that only the drive's release
// ends that. A loss that was said by mistake may be taken back while nothing else
// was said of where the drive is.
func (l *List) keepsAside(e Entry) bool {
	k, _ := l.Of(e.Item.ID)
	return e.Act == ActQuarantined || e.Act == ActFound || e.Act == ActLost && k.Entry != e.Sequence
}

// revocation completes an entry that takes back another.
func revocation(entries []Entry, list List, e Entry) (Entry, error) {
	i := slices.IndexFunc(entries, func(o Entry) bool { return o.Sequence == e.Revokes })
	problem := func(what string) error {
		return &lifeboat.Problem{
			What: what,
			Safe: "nothing was recorded; the ledger is as it was",
			Next: "see the entries with their numbers: lifeboat rotate report custody",
			Err:  ErrRevoke,
		}
	}
	if i < 0 {
		return e, problem(fmt.Sprintf("the ledger has no entry %d", e.Revokes))
	}
	old := entries[i]
	switch {
	case old.Act == ActRevoked:
		return e, problem(fmt.Sprintf("entry %d is itself a revocation: say what is so with a new entry instead", old.Sequence))
	case !slices.Contains(revocable, old.Act):
		return e, problem(fmt.Sprintf("entry %d (%s) is what the program saw, and stays", old.Sequence, old.Act))
	case old.Item != nil && old.Item.Kind == KindDrive && list.keepsAside(old):
		return e, &lifeboat.Problem{
			What: fmt.Sprintf("entry %d (%s) set drive %s aside: revoking it would use the drive again without a look at it", old.Sequence, old.Act, old.Item.Label),
			Safe: "nothing was recorded; the ledger is as it was",
			Next: "if it is lost, say that it was found: lifeboat drive found; then lifeboat verify, and lifeboat drive release",
			Err:  ErrRevoke,
		}
	case list.Revoked[old.Sequence] != 0:
		return e, problem(fmt.Sprintf("entry %d is revoked already, by entry %d", old.Sequence, list.Revoked[old.Sequence]))
	case old.Act == ActRetired && list.destroyed(old.Item.ID):
		return e, problem(fmt.Sprintf("the keys of %s were destroyed: it stays retired", old.Item.Label))
	}
	e.Item = old.Item
	return e, nil
}

// ForkError says where two ledgers of one site begin to differ. It wraps
// [ErrForked].
type ForkError struct {
	// Sequence is the first number under which they differ; Ours and Theirs are
	// what they say there.
	Sequence     uint64
	Ours, Theirs Entry
}

// Error names the number.
func (e *ForkError) Error() string { return fmt.Sprintf("%v from entry %d on", ErrForked, e.Sequence) }

// Unwrap returns [ErrForked].
func (e *ForkError) Unwrap() error { return ErrForked }

// Union returns the longer of two chains of which one begins with the other. Any
// others are a *[ForkError]: they are shown to a person, and never mixed.
func Union(ours, theirs []Entry) ([]Entry, error) {
	for i := range min(len(ours), len(theirs)) {
		if Encode(ours[i]) != Encode(theirs[i]) {
			return nil, &ForkError{Sequence: ours[i].Sequence, Ours: ours[i], Theirs: theirs[i]}
		}
	}
	if len(theirs) > len(ours) {
		return theirs, nil
	}
	return ours, nil
}
