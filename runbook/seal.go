package runbook

import "time"

// Signature is somebody who signed a run.
type Signature struct {
	Name string    `json:"name"`
	At   time.Time `json:"at"`
	// Entry is that of the ledger, User and Computer who recorded it where.
	Entry    uint64 `json:"entry"`
	User     string `json:"user"`
	Computer string `json:"computer"`
	Note     string `json:"note,omitempty"`
	// Other: what was signed was an earlier or another record of the run.
	Other bool `json:"other,omitempty"`
}

// Seal is what the ledger says of a record.
type Seal struct {
	// Hash is the SHA-256 of the record's text.
	Hash string `json:"hash"`
	// Entry is the entry that has this hash; 0: none has.
	Entry uint64    `json:"entry,omitempty"`
	At    time.Time `json:"at,omitzero"`
	// Broken says that the record is not the one that was kept; empty: it is, as far
	// as is known.
	Broken string `json:"broken,omitempty"`
}
