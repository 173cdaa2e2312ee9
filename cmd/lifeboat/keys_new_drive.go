package main

import (
	"context"
	"fmt"
	"slices"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/imagestore"
)

// controlMachineSlot is what a control machine's slot is called where the site
// knows no other name for it.
const controlMachineSlot = "control machine"

// slotsOfNewDrive are the key slots that a new drive of the site begins with: its
// passphrase, this computer, and whoever was let into every drive since. The
// changes are those that it has thereby.
func (a *app) slotsOfNewDrive(ctx context.Context, id *imagestore.Identity, secret imagestore.Secret) (slots []imagestore.NewSlot, changes []catalog.KeyChange, err error) {
	slots = []imagestore.NewSlot{{Name: passphraseSlot, Secret: secret}, {Name: controlMachineSlot, Recipient: id.Recipient()}}
	cat, err := a.openCatalog(ctx)
	if err != nil {
		a.warn("%v; who was let into the other drives since they were made is not let into this one", err)
		return slots, nil, nil
	}
	defer cat.Close()
	if changes, err = cat.KeyChanges(ctx); err != nil {
		return nil, nil, err
	}
	known, err := cat.KeySlots(ctx)
	if err != nil {
		return nil, nil, err
	}
	if i := slices.IndexFunc(known, func(s catalog.KeySlot) bool { return s.Recipient == id.String() }); i >= 0 {
		slots[1].Name = known[i].Name
	}
	_, pending, err := a.loadPendingSecrets()
	if err != nil {
		return nil, nil, err
	}
	for _, c := range standing(changes) {
		switch {
		case c.Kind == catalog.KeyRemove && c.Slot == passphraseSlot && a.passphraseFile == "":
			return nil, nil, siteSecretRemoved(c)
		case c.Kind == catalog.KeyRemove || c.Slot == passphraseSlot || c.Slot == slots[1].Name:
			continue
		}
		slot, err := newDriveSlot(c, pending)
		if err != nil {
			a.warn("%q opens the other drives and not this one: %v", c.Slot, err)
			continue
		}
		slots = append(slots, slot)
	}
	return slots, changes, nil
}

// newDriveSlot is the slot that a change makes on a new drive.
func newDriveSlot(c catalog.KeyChange, pending pendingSecrets) (slot imagestore.NewSlot, err error) {
	slot.Name = c.Slot
	if len(c.Recipients) > 0 {
		slot.Recipient, err = imagestore.ParseRecipient(c.Recipients[0])
		return slot, err
	}
	s, ok := pending.Secrets[c.ID]
	if !ok {
		return slot, fmt.Errorf("its passphrase is not kept here; give it once more: lifeboat key add %s --drive LABEL", shellWord(c.Slot))
	}
	slot.Secret, err = imagestore.Passphrase(s.New)
	return slot, err
}

// standing is the newest change of each slot, in the order in which the slots were
// first changed.
func standing(changes []catalog.KeyChange) (last []catalog.KeyChange) {
	for _, c := range changes {
		if c.Kind == catalog.KeyRotate {
			continue
		}
		if i := slices.IndexFunc(last, func(l catalog.KeyChange) bool { return l.Slot == c.Slot }); i >= 0 {
			last[i] = c
			continue
		}
		last = append(last, c)
	}
	return last
}

// siteSecretRemoved refuses to make a drive that opens with a secret which every
// other drive was closed to.
func siteSecretRemoved(c catalog.KeyChange) error {
	return &lifeboat.Problem{
		What: fmt.Sprintf("the site's secret was removed from every drive on %s, and a new drive has no other", dayWords(c.MadeAt)),
		Safe: "nothing was written",
		Next: "give the site a new secret: lifeboat key replace --generate; or this drive one of its own: --passphrase-file FILE",
	}
}

// newDriveHas remembers that a new drive has the changes that it was made with.
func (a *app) newDriveHas(ctx context.Context, driveID string, changes []catalog.KeyChange) error {
	if len(changes) == 0 {
		return nil
	}
	return a.withMemory(ctx, func(cat *catalog.Catalog) error {
		for _, c := range changes {
			if err := cat.KeyChangeApplied(ctx, c.ID, driveID, a.now()); err != nil {
				return err
			}
		}
		return nil
	})
}
