package main

import (
	"slices"
	"strings"

	"lifeboat/custody"
	"lifeboat/rotation"
)

// placeWords says where an item is: "offsite at bank, with Anna".
func placeWords(p custody.Place) string {
	words := map[custody.State]string{custody.Onsite: "in the house", custody.Courier: "on the way", custody.Offsite: "offsite",
		custody.Recall: "offsite, called home", custody.Quarantined: "in quarantine", custody.Lost: "lost", custody.Retired: "retired"}[p.State]
	if p.Location != "" {
		words += " at " + p.Location
	}
	if p.Holder != "" {
		words += ", with " + p.Holder
	}
	if p.Box != "" {
		words += ", box " + p.Box
	}
	return strings.TrimSpace(words)
}

// drive finds a drive of the shelf by its id.
func (j judgement) drive(id string) (rotation.ShelfDrive, bool) {
	i := slices.IndexFunc(j.shelf.Drives, func(d rotation.ShelfDrive) bool { return d.ID == id })
	if i < 0 {
		return rotation.ShelfDrive{}, false
	}
	return j.shelf.Drives[i], true
}

// whereIs says where a drive is, as far as the ledger knows.
func (j judgement) whereIs(id string) string {
	d, ok := j.drive(id)
	if !ok {
		return "nobody knows where it is"
	}
	return "it is " + placeWords(d.Place)
}
