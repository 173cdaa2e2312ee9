// Package custody is the chain of custody: who had which drive, or which secret,
// where and when, as entries that are only ever added and that hold each other by
// their hashes.
//
// It promises that a changed, removed or inserted entry is found, and that a
// chain which was computed anew is found by the heads that drives and printed
// pages carry. It is pure: it reads no clock, no file and no drive.
package custody

import "time"

// Hash is a SHA-256 as 64 lower-case hex digits; empty stands before the first
// entry of a chain.
type Hash string

// State is where an item is in its round.
type State string

// The states. An item goes onsite, courier, offsite, recall, courier, onsite.
// A courier counts as neither onsite nor offsite; an item that is recalled is
// still where it was. What is quarantined, lost or retired counts for nothing.
const (
	Onsite      State = "onsite"
	Courier     State = "courier"
	Offsite     State = "offsite"
	Recall      State = "recall"
	Quarantined State = "quarantined"
	Lost        State = "lost"
	Retired     State = "retired"
)

// Kind says what an item is.
type Kind string

// The kinds of items. A sheet is a printed recovery sheet; a secret is anything
// else that opens drives: a hardware key, an envelope with a passphrase. Neither
// may be in one box, or in one courier's hands, with a drive.
const (
	KindDrive  Kind = "drive"
	KindSheet  Kind = "sheet"
	KindSecret Kind = "secret"
)

// Item is a thing that is handed over.
type Item struct {
	Kind Kind `json:"kind"`
	// ID is the drive's id, or one made up for a sheet or a secret: 32 lower-case
	// hex digits.
	ID string `json:"id"`
	// Label is what stands on its sticker.
	Label string `json:"label"`
}

// Place is where an item is, or was.
type Place struct {
	State State `json:"state"`
	// Location is the name of a location of the site; empty for a courier.
	Location string `json:"location,omitempty"`
	// Holder is the person who has it, or who answers for it there.
	Holder string `json:"holder,omitempty"`
	// Box is the container it lies in, with a name or a bar code of its own.
	Box string `json:"box,omitempty"`
}

// Act says what an entry tells.
type Act string

// The acts.
const (
	ActMade        Act = "made"        // an item came into being at To
	ActMoved       Act = "moved"       // a hand-over: From, To
	ActExported    Act = "exported"    // points were committed on a drive
	ActReadBack    Act = "read back"   // what a run wrote was read from the medium
	ActVerified    Act = "verified"    // every block of a drive's points was read
	ActProven      Act = "proven"      // booted from the drive, and its checks passed
	ActFault       Act = "fault"       // damage found: what was proven before is taken back
	ActEjected     Act = "ejected"     // a drive was unmounted and may be unplugged
	ActAttached    Act = "attached"    // a drive was seen again
	ActSigned      Act = "signed"      // a person says that a step is done
	ActRevoked     Act = "revoked"     // an entry is taken back: Revokes
	ActPrinted     Act = "printed"     // a checklist, label or sheet was printed
	ActForgot      Act = "forgot"      // points were forgotten
	ActKeys        Act = "keys"        // key slots of a drive were changed
	ActQuarantined Act = "quarantined" // a drive is put aside, for a reason
	ActReleased    Act = "released"    // and taken back into use
	ActLost        Act = "lost"
	ActFound       Act = "found"
	ActRetired     Act = "retired"
	ActDestroyed   Act = "destroyed" // its key wraps were destroyed
	ActDocument    Act = "document"  // a document was attached
	ActJoined      Act = "joined"    // a control machine joined the site
	ActDrilled     Act = "drilled"   // a runbook was rehearsed; the facts seal its record
	ActRecovered   Act = "recovered" // a runbook was executed in earnest; so do these
)

// Entry is one line of the ledger.
type Entry struct {
	// Sequence counts from 1. Previous is the hash of the entry before.
	Sequence uint64 `json:"sequence"`
	Previous Hash   `json:"previous,omitempty"`
	SiteID   string `json:"siteId"`
	Act      Act    `json:"act"`
	Item     *Item  `json:"item,omitempty"`
	From     *Place `json:"from,omitempty"`
	To       *Place `json:"to,omitempty"`
	// Signer is who says so, which nobody proves; User is the account of the
	// operating system that recorded it, on Computer.
	Signer   string `json:"signer,omitempty"`
	User     string `json:"user"`
	Computer string `json:"computer"`
	// HappenedAt is when it is said to have happened, RecordedAt when it was
	// written down.
	HappenedAt time.Time `json:"happenedAt"`
	RecordedAt time.Time `json:"recordedAt"`
	Seal       string    `json:"seal,omitempty"`
	Note       string    `json:"note,omitempty"`
	// Step is the id of the step of a checklist that this does, if any.
	Step string `json:"step,omitempty"`
	// Revokes is the sequence of the entry that this one takes back.
	Revokes uint64 `json:"revokes,omitempty"`
	// Facts are what else belongs to the act, such as a run's id; the words are
	// those of docs/reference/ledger.md.
	Facts map[string]string `json:"facts,omitempty"`
}
