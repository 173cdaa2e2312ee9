package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/custody"
	"lifeboat/imagestore"
)

// passphraseSlot is the slot of the site's secret, or of a drive's own one.
const passphraseSlot = "passphrase"

// pendingKeys says how many changes of key slots each known drive lacks, by the
// drive's id; one that lacks none, or is retired, is left out.
func (a *app) pendingKeys(ctx context.Context, cat *catalog.Catalog) (map[string]int, error) {
	drives, err := a.keyDrives(ctx, cat)
	if err != nil {
		return nil, err
	}
	pending := map[string]int{}
	for _, d := range drives {
		changes, err := cat.PendingKeyChanges(ctx, d.ID)
		if err != nil {
			return nil, err
		}
		if len(changes) > 0 {
			pending[d.ID] = len(changes)
		}
	}
	return pending, nil
}

// keyDrives are the drives of this site that changes of key slots are meant for:
// all that were ever seen and are not retired. A ledger that does not hold
// retires none.
func (a *app) keyDrives(ctx context.Context, cat *catalog.Catalog) ([]catalog.Drive, error) {
	site, err := a.loadSite()
	if err != nil {
		return nil, err
	}
	drives, err := cat.Drives(ctx)
	if err != nil {
		return nil, err
	}
	var list custody.List
	if entries, err := cat.Ledger(ctx); err == nil {
		list = custody.Replay(entries)
	}
	return slices.DeleteFunc(drives, func(d catalog.Drive) bool {
		kept, known := list.Of(d.ID)
		return d.SiteID != site.Site.ID || known && kept.Place.State == custody.Retired
	}), nil
}

// applyPendingKeys gives a drive that has returned the changes of its key slots
// that were made while it was away, in their order. It can be cut off anywhere and
// done again. What cannot be applied is warned of and stays pending; only what
// makes the drive unusable is an error. The drive may be open Write or Alone.
func (a *app) applyPendingKeys(ctx context.Context, cat *catalog.Catalog, d *openedDrive) error {
	changes, err := cat.PendingKeyChanges(ctx, d.store.Drive().ID)
	if err == nil {
		err = a.warnOfReturned(ctx, cat, d, changes)
	}
	if err != nil || len(changes) == 0 {
		return err
	}
	_, secrets, err := a.loadPendingSecrets()
	if err != nil {
		p := problemOf(err)
		a.warn("%s. Next: %s", p.What, p.Next)
	}
	waiting := map[string]bool{}
	for i, c := range changes {
		err := errWaitsForEarlier
		if !waiting[c.Slot] || c.Slot == "" {
			err = a.applyKeyChange(ctx, d, c, changes[i+1:], secrets)
		}
		if errors.Is(err, errSecretUnknown) && overtaken(c, changes[i+1:]) {
			err = nil
		}
		if ctx.Err() != nil || errors.Is(err, lifeboat.ErrDriveGone) || errors.Is(err, errDriveClosed) {
			return err
		}
		switch {
		case errors.Is(err, errKeepsOwn):
			d.keepsOwn = true
			a.note("%s has a secret of its own in %q, and keeps it", d.name(), c.Slot)
			err = cat.KeyChangeApplied(ctx, c.ID, d.store.Drive().ID, a.now())
		case err != nil:
			waiting[c.Slot] = true
			err = a.keyChangeWaits(ctx, cat, d, c, err)
		default:
			err = a.keyChangeDone(ctx, cat, d, c.KeyChange)
		}
		if err != nil {
			return err
		}
	}
	if err := a.sawDrive(ctx, cat, d); err != nil {
		return err
	}
	return a.dropSettledSecrets(ctx, cat)
}

// warnOfReturned tells of slots that were removed from the drive and open it
// again: who puts back the files of an older state is let in by that.
func (a *app) warnOfReturned(ctx context.Context, cat *catalog.Catalog, d *openedDrive, pending []catalog.PendingKeyChange) error {
	changes, err := cat.KeyChanges(ctx)
	if err != nil || len(changes) == 0 {
		return err
	}
	slots, err := d.store.Slots(ctx)
	if err != nil {
		return err
	}
	for _, c := range standing(changes) {
		waits := slices.ContainsFunc(pending, func(p catalog.PendingKeyChange) bool { return p.Slot == c.Slot })
		back := slices.ContainsFunc(slots, func(s imagestore.Slot) bool {
			meant := len(c.Recipients) == 0 || slices.Contains(c.Recipients, s.Recipient)
			return s.Name == c.Slot && meant && s.CreatedAt.Before(c.MadeAt)
		})
		if c.Kind == catalog.KeyRemove && back && !waits {
			a.warn("%s: key slot %q was removed, and opens it again: somebody put an older state back. Remove it, and find out who had the drive: lifeboat key remove %s --drive %s",
				d.name(), c.Slot, shellWord(c.Slot), shellWord(d.found.Drive.Label))
		}
	}
	return nil
}

// keysArrived is applyPendingKeys for a command that has other work to do: only a
// drive that cannot be used any more stops it.
func (a *app) keysArrived(ctx context.Context, cat *catalog.Catalog, d *openedDrive) error {
	err := a.applyPendingKeys(ctx, cat, d)
	if err == nil || ctx.Err() != nil || errors.Is(err, lifeboat.ErrDriveGone) || errors.Is(err, errDriveClosed) {
		return err
	}
	p := problemOf(err)
	a.warn("%s: what was changed in who opens it may still be pending: %s (%s)", d.name(), p.What, p.Next)
	return nil
}

// errKeepsOwn: the drive has a passphrase of its own, and the site's new one is
// not meant for it.
var errKeepsOwn = errors.New("it has a secret of its own, and keeps it")

// errSecretUnknown: the new passphrase of a change is not kept here.
var errSecretUnknown = errors.New("its passphrase is not known on this computer")

// overtaken says of a change that cannot be made whether a later one makes it
// needless. What is in the slot of the site's own secret decides whether a later
// one is meant for the drive, so it is not.
func overtaken(c catalog.PendingKeyChange, later []catalog.PendingKeyChange) bool {
	return c.Slot != passphraseSlot && slices.ContainsFunc(later, func(l catalog.PendingKeyChange) bool {
		return l.Slot == c.Slot && (l.Kind == catalog.KeyRemove || l.Kind == catalog.KeyReplace)
	})
}

// errWaitsForEarlier: changes of one slot are applied in their order.
var errWaitsForEarlier = errors.New("an earlier change of this key slot waits")

func (a *app) keyChangeWaits(ctx context.Context, cat *catalog.Catalog, d *openedDrive, c catalog.PendingKeyChange, why error) error {
	p := problemOf(why)
	a.warn("%s: %s is still pending: %s", d.name(), changeWords(c.KeyChange), p.What)
	return cat.KeyChangeTrouble(ctx, c.ID, d.store.Drive().ID, oneLine(plainText(p.What)))
}

func (a *app) keyChangeDone(ctx context.Context, cat *catalog.Catalog, d *openedDrive, c catalog.KeyChange) error {
	if err := cat.KeyChangeApplied(ctx, c.ID, d.store.Drive().ID, a.now()); err != nil {
		return err
	}
	a.enter(ctx, cat, custody.Entry{Act: custody.ActKeys, Item: item(d.store.Drive()), Facts: keyFacts(c)})
	a.note("%s: %s is applied", d.name(), changeWords(c))
	return nil
}

// changeFacts are the ledger's words (docs/reference/ledger.md).
var changeFacts = map[catalog.KeyChangeKind]string{
	catalog.KeyAdd: "added", catalog.KeyRemove: "removed", catalog.KeyReplace: "replaced", catalog.KeyRotate: "rotated",
}

// keyFacts are what the ledger says of a change.
func keyFacts(c catalog.KeyChange) map[string]string {
	facts := map[string]string{"change": changeFacts[c.Kind], "changeId": c.ID}
	if c.Slot != "" {
		facts["slot"] = custody.Clean(c.Slot)
	}
	return facts
}

// changeWords names a change for people.
func changeWords(c catalog.KeyChange) string {
	text := map[catalog.KeyChangeKind]string{
		catalog.KeyAdd: "key slot %q that was added", catalog.KeyRemove: "the removal of key slot %q",
		catalog.KeyReplace: "the new passphrase of key slot %q", catalog.KeyRotate: "the new master key%.0s",
	}[c.Kind]
	return fmt.Sprintf(text, c.Slot) + " on " + c.MadeAt.Local().Format(time.DateOnly)
}

// applyKeyChange makes one change on a drive. It is nil for one that the drive has
// already, or that is undone by those that wait after it, which are later.
func (a *app) applyKeyChange(ctx context.Context, d *openedDrive, c catalog.PendingKeyChange, later []catalog.PendingKeyChange, known pendingSecrets) error {
	if c.Kind == catalog.KeyRotate {
		return a.rotatePending(ctx, d, known)
	}
	slots, err := d.store.Slots(ctx)
	if err != nil {
		return err
	}
	var slot *imagestore.Slot
	if i := slices.IndexFunc(slots, func(s imagestore.Slot) bool { return s.Name == c.Slot }); i >= 0 {
		slot = &slots[i]
	}
	switch c.Kind {
	case catalog.KeyAdd:
		return a.addPending(ctx, d, slot, c, known)
	case catalog.KeyRemove:
		if back, err := addedBack(ctx, d, slot, later, known); back || err != nil {
			return err
		}
		return a.removePending(ctx, d, slot, slots, c)
	case catalog.KeyReplace:
		return a.replacePending(ctx, d, slot, c, known)
	}
	return fmt.Errorf("a change of the kind %q is of a newer version of this program", c.Kind)
}

func (a *app) addPending(ctx context.Context, d *openedDrive, slot *imagestore.Slot, c catalog.PendingKeyChange, known pendingSecrets) error {
	collides := fmt.Errorf("it has another key slot named %q; remove that one: lifeboat key remove %s --drive %s", c.Slot, shellWord(c.Slot), shellWord(d.found.Drive.Label))
	if len(c.Recipients) > 0 {
		to, err := imagestore.ParseRecipient(c.Recipients[0])
		switch {
		case err != nil:
			return err
		case slot == nil:
			return d.store.AddSlot(ctx, imagestore.NewSlot{Name: c.Slot, Recipient: to})
		case slot.Recipient != to.String():
			return collides
		}
		return nil
	}
	secret, err := pendingPassphrase(c, known)
	switch {
	case err != nil:
		return err
	case slot == nil:
		return d.store.AddSlot(ctx, imagestore.NewSlot{Name: c.Slot, Secret: secret})
	case d.store.CheckSecret(ctx, c.Slot, secret) != nil:
		return collides
	}
	return nil
}

// pendingPassphrase is the new passphrase of a change.
func pendingPassphrase(c catalog.PendingKeyChange, known pendingSecrets) (imagestore.Secret, error) {
	s, ok := known.Secrets[c.ID]
	switch {
	case ok:
		return imagestore.Passphrase(s.New)
	case c.Slot == passphraseSlot:
		return imagestore.Secret{}, fmt.Errorf("%w (asked for by %s); on this drive, let another one in and remove that: lifeboat key add NAME --drive LABEL, lifeboat key remove %s --drive LABEL", errSecretUnknown, c.MadeBy, passphraseSlot)
	}
	return imagestore.Secret{}, fmt.Errorf("%w (asked for by %s); give it again: lifeboat key replace %s", errSecretUnknown, c.MadeBy, shellWord(c.Slot))
}

// addedBack says of a slot that is to be removed that it is the one which was added
// again later: a catalogue that was lost may know the removal and not that the drive
// has had both. What cannot be told apart is an error, and nothing is removed.
func addedBack(ctx context.Context, d *openedDrive, slot *imagestore.Slot, later []catalog.PendingKeyChange, known pendingSecrets) (bool, error) {
	i := -1
	if slot != nil {
		i = slices.IndexFunc(later, func(l catalog.PendingKeyChange) bool { return l.Slot == slot.Name && l.Kind == catalog.KeyAdd })
	}
	if i < 0 {
		return false, nil
	}
	add := later[i]
	if len(add.Recipients) > 0 || slot.Kind != "passphrase" {
		return slices.Contains(add.Recipients, slot.Recipient), nil
	}
	secret, err := pendingPassphrase(add, known)
	switch {
	case err == nil:
		return d.store.CheckSecret(ctx, slot.Name, secret) == nil, nil
	case slot.CreatedAt.Before(add.MadeAt):
		return false, nil
	}
	return false, fmt.Errorf("its key slot %q may be the one that was added again on %s; look who that is: lifeboat key list --drive %s",
		slot.Name, add.MadeAt.Local().Format(time.DateOnly), shellWord(d.found.Drive.Label))
}

func (a *app) removePending(ctx context.Context, d *openedDrive, slot *imagestore.Slot, slots []imagestore.Slot, c catalog.PendingKeyChange) error {
	if slot == nil {
		return nil
	}
	ours, err := a.identity()
	if err != nil {
		return err
	}
	meant := slices.Contains(c.Recipients, slot.Recipient)
	switch {
	case ours != nil && slot.Recipient == ours.String() && !meant:
		// On a drive that this computer made, the name is its own.
		return nil
	case len(c.Recipients) > 0 && !meant:
		return fmt.Errorf("its key slot %q holds another key than the one that was removed; look who that is: lifeboat key list --drive %s", c.Slot, shellWord(d.found.Drive.Label))
	case slot.Kind == "passphrase" && len(passphraseSlots(slots)) == 1:
		return fmt.Errorf("%q is its last passphrase; add another one first: lifeboat key add NAME --generate", c.Slot)
	}
	return d.store.RemoveSlot(ctx, c.Slot)
}

// replacePending gives a passphrase slot its new secret. The site's secret is
// replaced on drives that it opens: a drive with a secret of its own keeps that.
func (a *app) replacePending(ctx context.Context, d *openedDrive, slot *imagestore.Slot, c catalog.PendingKeyChange, known pendingSecrets) error {
	secret, err := pendingPassphrase(c, known)
	if err != nil {
		return err
	}
	s := known.Secrets[c.ID]
	if slot != nil && slot.Kind != "passphrase" {
		return fmt.Errorf("its key slot %q is a public key, not a passphrase", c.Slot)
	}
	if slot != nil && s.Old != "" {
		_, err := firstThatOpens(ctx, d, c.Slot, []string{s.Old, s.New})
		if errors.Is(err, lifeboat.ErrWrongSecret) {
			return errKeepsOwn
		}
		if err != nil {
			return err
		}
	}
	// Again even where it opens already: a replacement that was cut off leaves the
	// old one beside it.
	return d.store.ReplaceSlot(ctx, imagestore.NewSlot{Name: c.Slot, Secret: secret})
}

// errDriveClosed: a drive was closed to be opened alone, and did not open again.
var errDriveClosed = errors.New("the drive could not be opened again")

// rotatePending gives a drive its new master key, which nobody may be beside.
func (a *app) rotatePending(ctx context.Context, d *openedDrive, known pendingSecrets) error {
	slots, err := d.store.Slots(ctx)
	if err != nil {
		return err
	}
	site := ""
	if _, s, err := a.loadSiteSecrets(); err == nil {
		site = s.Passphrase
	}
	texts := knownPassphrases(d.keys.Passphrase, site, known)
	secrets := map[string]imagestore.Secret{}
	for _, name := range passphraseSlots(slots) {
		secret, err := firstThatOpens(ctx, d, name, texts)
		if errors.Is(err, lifeboat.ErrWrongSecret) {
			return fmt.Errorf("the passphrase of its key slot %q is not known here; rotate it by hand: lifeboat key rotate --drive %s --secret-of %s=FILE", name, shellWord(d.found.Drive.Label), shellWord(name))
		}
		if err != nil {
			return err
		}
		secrets[name] = secret
	}
	return a.alone(ctx, d, func() error { return d.store.Rotate(ctx, imagestore.RotateOptions{Secrets: secrets}) })
}

// knownPassphrases are those that may open a slot of a drive, each once: what
// opened it, the site's, and those that wait or were replaced.
func knownPassphrases(used, site string, known pendingSecrets) (texts []string) {
	add := func(text string) {
		if text = lineOf(text); text != "" && !slices.Contains(texts, text) {
			texts = append(texts, text)
		}
	}
	add(used)
	add(site)
	for _, s := range known.Secrets {
		add(s.New)
		add(s.Old)
	}
	return texts
}

// alone does work on a drive that nobody else has open, and leaves it open for
// writing as before. An error that wraps errDriveClosed leaves it closed.
func (a *app) alone(ctx context.Context, d *openedDrive, work func() error) error {
	if d.store.Mode() == imagestore.Alone {
		return work()
	}
	held := a.reopen(ctx, d, imagestore.Alone)
	if held == nil {
		held = work()
	}
	// Also after a refusal: somebody reads the drive, and may go on reading.
	return errors.Join(held, a.reopen(context.WithoutCancel(ctx), d, imagestore.Write))
}

// reopen closes a drive and opens the same one in another mode.
func (a *app) reopen(ctx context.Context, d *openedDrive, mode imagestore.Mode) error {
	keys := a.allKeys(d.keys)
	err := d.Close()
	if err == nil || mode == imagestore.Write {
		var again *openedDrive
		if again, err = a.openFound(ctx, d.found, keys, mode, nil); err == nil {
			d.store, d.dir = again.store, again.dir
			return nil
		}
	}
	if mode == imagestore.Write {
		return errors.Join(errDriveClosed, err)
	}
	return err
}

// allKeys are what opened a drive, and this computer's identity beside it: the
// passphrase may just have been changed.
func (a *app) allKeys(keys secretKeys) secretKeys {
	if id, err := a.identity(); err == nil && id != nil {
		keys.Identity = id.SecretText()
	}
	return keys
}

// dropSettledSecrets forgets the passphrases that no drive waits for any more.
// Those of changes that the catalogue does not know stay: it may be a new one.
func (a *app) dropSettledSecrets(ctx context.Context, cat *catalog.Catalog) error {
	unlock, err := a.lockState()
	if err != nil {
		return err
	}
	defer unlock()
	_, secrets, err := a.loadPendingSecrets()
	if err != nil || len(secrets.Secrets) == 0 {
		return nil // what is damaged was said
	}
	changes, err := cat.KeyChanges(ctx)
	if err != nil {
		return err
	}
	drives, err := a.keyDrives(ctx, cat)
	if err != nil {
		return err
	}
	waited := map[string]bool{}
	for _, d := range drives {
		pending, err := cat.PendingKeyChanges(ctx, d.ID)
		if err != nil {
			return err
		}
		for _, c := range pending {
			waited[c.ID] = true
		}
	}
	return a.changePendingSecrets(func(all map[string]pendingSecret) {
		for _, c := range changes {
			if !waited[c.ID] {
				delete(all, c.ID)
			}
		}
	})
}
