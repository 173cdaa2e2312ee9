package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/custody"
	"lifeboat/imagestore"
	"lifeboat/rotation"
)

func everywhereFlag(c *cobra.Command, everywhere *bool) {
	c.Flags().BoolVar(everywhere, "everywhere", false, "on every drive of the site, now or when it returns")
}

// everyDrive says whether a change of key slots is meant for every drive of the
// site: what a control machine means where no drive is named.
func (a *app) everyDrive(drive string, everywhere bool) (bool, error) {
	if everywhere && drive != "" {
		return false, usagef("--everywhere and --drive exclude each other")
	}
	if drive != "" {
		return false, nil
	}
	_, err := a.loadSite()
	if errors.Is(err, errNoSite) && !everywhere {
		return false, nil
	}
	return err == nil, err
}

// keyOrder is a change for every drive of the site, as a person asked for it.
type keyOrder struct {
	change catalog.KeyChange
	secret pendingSecret
	// shown is a passphrase that was made up.
	shown       string
	yes, dryRun bool
	// check refuses what cannot be, and fills in what the drives decide. plan is
	// what a person agrees to; without one nobody is asked.
	check func(o *keyOrder, drives []driveKeys) error
	plan  string
	// typed is the word to type where yes is not enough.
	typed string
}

// keyOrderResult is the JSON of such a change.
type keyOrderResult struct {
	Name   string `json:"name,omitempty"`
	Change string `json:"change,omitempty"`
	// Passphrase is the one that was made up; it is shown once.
	Passphrase string `json:"passphrase,omitempty"`
	// Applied are drives that have it, Pending those that get it later.
	Applied []keyOrderDrive `json:"applied"`
	Pending []keyOrderDrive `json:"pending"`
}

type keyOrderDrive struct {
	ID    string `json:"driveId"`
	Label string `json:"label"`
	// Why says of an attached drive why it does not have the change.
	Why string `json:"why,omitempty"`
}

// order makes a change: it is written down, and then applied to the drives that
// are attached. From the moment that it is written down every drive gets it.
func (a *app) order(ctx context.Context, o keyOrder) error {
	cat, err := a.openCatalog(ctx)
	if err != nil {
		return err
	}
	defer cat.Close()
	mode := imagestore.Write
	if o.dryRun {
		mode = imagestore.Read
	}
	open, refused, err := a.openEvery(ctx, cat, mode)
	if err != nil {
		return err
	}
	defer func() {
		for _, d := range open {
			d.Close()
		}
	}()
	drives, err := a.driveKeys(ctx, cat, open)
	if err != nil {
		return err
	}
	if len(drives) == 0 {
		return &lifeboat.Problem{
			What: "no drive of this site is attached, and none was ever seen here",
			Safe: "nothing was changed",
			Next: "attach a drive, or make one: lifeboat drive init PATH --label A",
			Err:  lifeboat.ErrNoDrive,
		}
	}
	if err := o.check(&o, drives); err != nil {
		return err
	}
	if o.dryRun {
		a.showKeyOrder(o, plannedOrder(drives))
		return nil
	}
	if err := a.agree(ctx, o); err != nil {
		return err
	}
	if err := a.writeDown(ctx, cat, &o); err != nil {
		return err
	}
	if o.shown != "" && !a.json {
		a.print("%s\n", o.shown)
	}
	own := map[string]bool{}
	for _, d := range open {
		if err := a.applyPendingKeys(ctx, cat, d); err != nil {
			refused[d.store.Drive().ID] = problemOf(err).What
		}
		own[d.store.Drive().ID] = d.keepsOwn
		a.leaveOn(ctx, cat, d)
	}
	result, err := a.orderResult(ctx, cat, o, refused, own)
	if err != nil {
		return err
	}
	a.showKeyOrder(o, result)
	return notEverywhere(result)
}

// agree asks, where there is something to ask.
func (a *app) agree(ctx context.Context, o keyOrder) error {
	switch {
	case o.typed != "" && !isTerminal(a.stdin):
		return &lifeboat.Problem{
			What: oneLine(o.plan),
			Safe: "nothing was changed: what opened the drives before opens them now",
			Next: "if that is meant, run it at a terminal and type " + o.typed,
			Err:  errNeedsPerson,
		}
	case o.typed != "":
		return a.confirmWord(ctx, false, o.plan, o.typed)
	case o.plan != "":
		return a.confirm(ctx, o.yes, o.plan)
	}
	return nil
}

// writeDown keeps the secret and the change, in this order: a change whose secret
// nobody knows can never be applied, a secret without a change is no harm.
func (a *app) writeDown(ctx context.Context, cat *catalog.Catalog, o *keyOrder) error {
	o.change.ID, o.change.MadeAt, o.change.MadeBy = newID(), a.now(), thisUser()+" on "+thisComputer()
	unlock, err := a.lockState()
	if err != nil {
		return err
	}
	defer unlock()
	if o.secret.New != "" {
		if err := a.changePendingSecrets(func(all map[string]pendingSecret) { all[o.change.ID] = o.secret }); err != nil {
			return err
		}
	}
	if o.change, err = cat.AddKeyChange(ctx, o.change); err != nil {
		return err
	}
	a.enter(ctx, cat, custody.Entry{Act: custody.ActKeys, Facts: keyFacts(o.change)})
	if o.change.Kind != catalog.KeyReplace || o.change.Slot != passphraseSlot {
		return nil
	}
	id, site, err := a.loadSiteSecrets()
	if err != nil {
		return err
	}
	site.Passphrase, site.Borrowed = o.secret.New, ""
	return a.saveSiteSecrets(id, site)
}

// openEvery opens every drive of the site that is attached. refused says of those
// that it could not open why, by their ids.
func (a *app) openEvery(ctx context.Context, cat *catalog.Catalog, mode imagestore.Mode) (open []*openedDrive, refused map[string]string, err error) {
	site, err := a.loadSite()
	if err != nil {
		return nil, nil, err
	}
	found, err := a.attachedDrives(ctx)
	if err != nil {
		return nil, nil, err
	}
	keys, err := a.keys()
	if err != nil {
		return nil, nil, err
	}
	refused = map[string]string{}
	times := map[string]int{}
	for _, f := range found {
		times[f.Drive.ID]++
	}
	aside := custody.List{}
	if entries, err := cat.Ledger(ctx); err == nil && mode != imagestore.Read {
		aside = custody.Replay(entries)
	}
	for _, f := range found {
		if !f.Usable() || f.Drive.SiteID != site.Site.ID {
			continue
		}
		// A drive that is set aside is read only: the change waits for its release.
		if kept, ok := aside.Of(f.Drive.ID); ok {
			if err := setAside(kept); err != nil {
				refused[f.Drive.ID] = problemOf(err).What
				continue
			}
		}
		if times[f.Drive.ID] > 1 {
			refused[f.Drive.ID] = "it is attached twice: one is a copy of the other"
			continue
		}
		d, err := a.openOneOf(ctx, cat, f, a.allKeys(keys), mode)
		if ctx.Err() != nil {
			return open, refused, context.Cause(ctx)
		}
		if err != nil {
			refused[f.Drive.ID] = problemOf(err).What
			continue
		}
		open = append(open, d)
	}
	return open, refused, nil
}

func (a *app) openOneOf(ctx context.Context, cat *catalog.Catalog, f rotation.Found, keys secretKeys, mode imagestore.Mode) (*openedDrive, error) {
	d, err := a.openFound(ctx, f, keys, mode, nil)
	if errors.Is(err, lifeboat.ErrWrongSecret) {
		for _, known := range a.siteSecretsFor(ctx, f) {
			if d, err = a.openFound(ctx, f, a.allKeys(known), mode, nil); !errors.Is(err, lifeboat.ErrWrongSecret) {
				break
			}
		}
	}
	if err != nil {
		return nil, err
	}
	err = a.checkSite(d)
	if err == nil {
		err = a.sawDrive(ctx, cat, d)
	}
	if err != nil {
		d.Close()
		return nil, err
	}
	if mode != imagestore.Read {
		a.joinOrWarn(ctx, cat, d)
	}
	return d, nil
}

// plannedOrder is what a change would reach.
func plannedOrder(drives []driveKeys) keyOrderResult {
	r := keyOrderResult{Applied: []keyOrderDrive{}, Pending: []keyOrderDrive{}}
	for _, d := range drives {
		if d.Attached {
			r.Applied = append(r.Applied, keyOrderDrive{ID: d.ID, Label: d.Label})
		} else {
			r.Pending = append(r.Pending, keyOrderDrive{ID: d.ID, Label: d.Label})
		}
	}
	return r
}

// orderResult says which drives have a change, as the catalogue knows it. Those
// that keep a secret of their own are left out.
func (a *app) orderResult(ctx context.Context, cat *catalog.Catalog, o keyOrder, refused map[string]string, own map[string]bool) (keyOrderResult, error) {
	r := keyOrderResult{Name: o.change.Slot, Change: o.change.ID, Passphrase: o.shown, Applied: []keyOrderDrive{}, Pending: []keyOrderDrive{}}
	drives, err := a.keyDrives(ctx, cat)
	if err != nil {
		return r, err
	}
	for _, d := range drives {
		one := keyOrderDrive{ID: d.ID, Label: d.Label, Why: refused[d.ID]}
		pending, err := cat.PendingKeyChanges(ctx, d.ID)
		if err != nil {
			return r, err
		}
		i := slices.IndexFunc(pending, func(p catalog.PendingKeyChange) bool { return p.ID == o.change.ID })
		switch {
		case own[d.ID]:
		case i < 0:
			r.Applied = append(r.Applied, one)
		case one.Why == "":
			one.Why = pending[i].Trouble
			fallthrough
		default:
			r.Pending = append(r.Pending, one)
		}
	}
	return r, nil
}

// notEverywhere is the problem of drives that are attached and do not have the
// change.
func notEverywhere(r keyOrderResult) error {
	var why []string
	for _, d := range r.Pending {
		if d.Why != "" {
			why = append(why, fmt.Sprintf("drive %s: %s", d.Label, d.Why))
		}
	}
	if len(why) == 0 {
		return nil
	}
	return &lifeboat.Problem{
		What: "attached drives do not have the change yet: " + list(why),
		Safe: "it is written down, and each drive gets it as soon as it can; until then what opened it before opens it",
		Next: "see what waits, and for what: lifeboat key list",
		Err:  lifeboat.ErrPartial,
	}
}

func labelsOf(drives []keyOrderDrive) string {
	var labels []string
	for _, d := range drives {
		labels = append(labels, d.Label)
	}
	return list(labels)
}

func (a *app) showKeyOrder(o keyOrder, r keyOrderResult) {
	r.Name = o.change.Slot
	if a.json {
		a.printJSON(r)
		return
	}
	would := "is"
	if o.dryRun {
		would = "would be"
	}
	what := map[catalog.KeyChangeKind]string{
		catalog.KeyAdd: fmt.Sprintf("%q %s let into", o.change.Slot, would), catalog.KeyRemove: fmt.Sprintf("%q %s shut out of", o.change.Slot, would),
		catalog.KeyReplace: fmt.Sprintf("the passphrase %q %s a new one on", o.change.Slot, would), catalog.KeyRotate: "a new master key " + would + " made on",
	}[o.change.Kind]
	if len(r.Applied) > 0 {
		a.print("%s drive %s\n", what, labelsOf(r.Applied))
	}
	if len(r.Pending) > 0 {
		a.print("pending on drive %s, until it returns\n", labelsOf(r.Pending))
	}
}
