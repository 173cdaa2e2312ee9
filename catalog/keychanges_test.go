package catalog_test

import (
	"testing"
	"time"

	"lifeboat/catalog"
)

func TestAKeyChangeWaitsForEachDriveUntilItHasIt(t *testing.T) {
	ctx, cat := t.Context(), fresh(t)
	add, err := cat.AddKeyChange(ctx, catalog.KeyChange{ID: "c1", Kind: catalog.KeyAdd, Slot: "anna", Recipients: []string{"age1x"}, MadeAt: noon, MadeBy: "root on control"})
	must(t, err)
	again, err := cat.AddKeyChange(ctx, catalog.KeyChange{ID: "c1", Kind: catalog.KeyRemove, Slot: "other"})
	equal(t, err, again, add)
	// The clock was set back: the order is that of asking.
	remove, err := cat.AddKeyChange(ctx, catalog.KeyChange{ID: "c0", Kind: catalog.KeyRemove, Slot: "anna", MadeAt: noon.Add(-time.Hour), MadeBy: "root on control"})
	must(t, err)
	all, err := cat.KeyChanges(ctx)
	equal(t, err, all, []catalog.KeyChange{add, remove})

	must(t, cat.KeyChangeApplied(ctx, "c1", "A", noon))
	must(t, cat.KeyChangeTrouble(ctx, "c0", "A", "the last passphrase"))
	onA, err := cat.PendingKeyChanges(ctx, "A")
	equal(t, err, onA, []catalog.PendingKeyChange{{KeyChange: remove, Trouble: "the last passphrase"}})
	onB, err := cat.PendingKeyChanges(ctx, "B")
	equal(t, err, onB, []catalog.PendingKeyChange{{KeyChange: add}, {KeyChange: remove}})
	must(t, cat.KeyChangeApplied(ctx, "c0", "A", noon))
	must(t, cat.KeyChangeTrouble(ctx, "c0", "A", "late news"))
	onA, err = cat.PendingKeyChanges(ctx, "A")
	equal(t, err, onA, nil)
}

func TestTheSlotsOfADriveAreThoseThatWereSeenLast(t *testing.T) {
	ctx, cat := t.Context(), fresh(t)
	slot := catalog.KeySlot{DriveID: "A", Name: "anna", Kind: "recipient", Recipient: "age1x", CreatedAt: noon, Generations: "1"}
	must(t, cat.RecordKeySlots(ctx, "A", []catalog.KeySlot{slot, {Name: "board", Kind: "passphrase", CreatedAt: noon, Generations: "1"}}, noon))
	must(t, cat.RecordKeySlots(ctx, "A", []catalog.KeySlot{slot}, noon.Add(time.Hour)))
	slot.SeenAt = noon.Add(time.Hour)
	slots, err := cat.KeySlots(ctx)
	equal(t, err, slots, []catalog.KeySlot{slot})
}
