package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/custody"
	"lifeboat/imagestore"
	"lifeboat/rotation"
)

// joined is what became of joining a site from a drive.
type joined struct {
	Site  string `json:"site"`
	ID    string `json:"id"`
	State string `json:"state"`
	// Slot is the name under which this computer's identity opens the drive.
	Slot    string  `json:"slot"`
	Catalog rebuilt `json:"catalog"`
	// Passwords are the hosts whose passwords have to be given again.
	Passwords []string `json:"passwords"`
	// SiteFile says that the drive had the site's file.
	SiteFile bool `json:"siteFile"`
}

// joinSite makes this computer a control machine of the site that a drive belongs
// to: with the drive and its secret alone. What the drive holds is only added to.
func (a *app) joinSite(ctx context.Context, path string) error {
	if err := a.holdsNoSite(""); err != nil {
		return err
	}
	d, err := a.openToJoin(ctx, path)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := a.holdsNoSite(d.store.Site().ID); err != nil {
		return err
	}
	site, text, err := a.siteOn(ctx, d)
	if err != nil {
		return err
	}
	if err := a.makeStateFolders(); err != nil {
		return err
	}
	id, err := a.identity()
	if err == nil && id == nil {
		id, err = a.newIdentity()
	}
	if err != nil {
		return err
	}
	j := joined{Site: site.Site.Name, ID: site.Site.ID, State: a.stateDir, SiteFile: text != nil, Passwords: []string{}}
	if j.Slot, err = addOwnSlot(ctx, d, id); err != nil {
		return err
	}
	// The secrets come after the slot, and site.yaml last: a start that was cut off
	// is simply done again.
	secrets := siteSecrets{Version: 1, Site: d.store.Site(), Passphrase: d.keys.Passphrase}
	if used := d.store.UsedSlot(); used != passphraseSlot {
		secrets.Borrowed = used
		a.warn("the secret that was given is that of %q and not the site's: it opens the drives that are there, and no new drive is made with it. Give the site a new one: lifeboat key replace passphrase", used)
	}
	if err := a.saveSiteSecrets(id, secrets); err != nil {
		return err
	}
	if j.Catalog, err = a.rebuildAt(ctx, d); err != nil {
		return err
	}
	if text != nil {
		err = writeFile(a.sitePath(), text, 0o644)
	} else {
		err = a.saveSite(site)
	}
	if err != nil {
		return err
	}
	if err := a.rememberFolder(ctx, site, d.found.Path); err != nil {
		return err
	}
	for _, h := range site.Hosts {
		if h.needsPassword() {
			j.Passwords = append(j.Passwords, h.Name)
		}
	}
	a.tellJoined(ctx, d, j)
	a.showJoined(d, j)
	return nil
}

// holdsNoSite refuses a state folder that is a control machine's already. Secrets
// without a site.yaml are those of a join that was cut off: it goes on with a drive
// of that site, whose id is empty while it is not known.
func (a *app) holdsNoSite(id string) error {
	before, err := a.siteOfHosts()
	_, there := os.Stat(a.sitePath())
	another := false
	if a.hasSiteSecrets() && id != "" {
		_, kept, err := a.loadSiteSecrets()
		if err != nil {
			return err
		}
		another = kept.Site.ID != id
	}
	if there == nil && (err != nil || before.Site.ID != "") || another {
		return &lifeboat.Problem{
			What: fmt.Sprintf("%s holds a site already", a.stateDir),
			Safe: "nothing was changed",
			Next: "use it as it is, or choose another folder: --state DIR; if its catalogue was lost: lifeboat catalog rebuild",
		}
	}
	return nil
}

// openToJoin opens the drive with its secret, which new drives of the site will
// open with as well: an identity alone would leave this computer without one.
func (a *app) openToJoin(ctx context.Context, path string) (*openedDrive, error) {
	found, err := rotation.Attached(ctx, nil)
	if err != nil {
		return nil, err
	}
	one, err := rotation.Select(found, path)
	if err != nil {
		return nil, err
	}
	text, given, err := a.givenPassphrase()
	if err != nil {
		return nil, err
	}
	if !given {
		if text, err = a.askPassphrase(ctx, "Secret of drive "+one.Drive.Label); err != nil {
			return nil, err
		}
	}
	return a.openFound(ctx, one, secretKeys{Passphrase: text}, imagestore.Write, nil)
}

// siteOn is the site's file as it lies on a drive, and its text. A drive that has
// none, or one that cannot be used, gives the site's names alone.
func (a *app) siteOn(ctx context.Context, d *openedDrive) (*siteFile, []byte, error) {
	sealed := d.store.Site()
	bare := &siteFile{Version: siteVersion, Site: siteNames{ID: sealed.ID, Name: sealed.Name, Trial: lifeboat.IsTrial(sealed.ID)}}
	var text bytes.Buffer
	_, err := d.store.ReadEnclosure(ctx, siteEnclosure, &text)
	if errors.Is(err, imagestore.ErrNoEnclosure) {
		a.warn("%s has no site.yaml: hosts, folders and exclusions have to be said again", d.name())
		return bare, nil, nil
	}
	if ctx.Err() != nil {
		return nil, nil, err
	}
	var site *siteFile
	if err == nil {
		site, err = parseSite(text.Bytes())
	}
	if err == nil && site.Site.ID != sealed.ID {
		err = fmt.Errorf("it is of the site %s", site.Site.Name)
	}
	if err != nil {
		a.warn("the site.yaml on %s cannot be used: %v; hosts, folders and exclusions have to be said again", d.name(), err)
		return bare, nil, nil
	}
	return site, text.Bytes(), nil
}

// addOwnSlot makes this computer's identity open the drive, under a name that no
// other slot has. One that is there already, from a try that was cut off, is used.
func addOwnSlot(ctx context.Context, d *openedDrive, id *imagestore.Identity) (string, error) {
	slots, err := d.store.Slots(ctx)
	if err != nil {
		return "", err
	}
	for _, s := range slots {
		if s.Recipient == id.String() {
			return s.Name, nil
		}
	}
	name := ownSlotName(slotNames(slots))
	return name, d.store.AddSlot(ctx, imagestore.NewSlot{Name: name, Recipient: id.Recipient()})
}

// ownSlotName is a name for this computer's key slot beside those that there are.
func ownSlotName(taken []string) string {
	base := controlMachineSlot + " " + thisComputer()
	base = strings.ToValidUTF8(base[:min(len(base), slotNameLimit-4)], "") // room for a number
	name := base
	for n := 2; slices.Contains(taken, name); n++ {
		name = fmt.Sprintf("%s %d", base, n)
	}
	return name
}

// tellJoined records that this computer joined, and leaves that on the drive. It
// is bookkeeping: what fails of it is said.
func (a *app) tellJoined(ctx context.Context, d *openedDrive, j joined) {
	cat := a.remembered(ctx)
	if cat == nil {
		return
	}
	a.enter(ctx, cat, custody.Entry{Act: custody.ActJoined, Note: custody.Clean("key slot " + j.Slot)})
	// The site's other drives let this computer in when they come here.
	if err := a.letIn(ctx, cat, d, j.Slot); err != nil {
		a.warn("the site's other drives will ask for their secret: %v", err)
	}
	if err := a.sawDrive(ctx, cat, d); err != nil {
		a.warn("the catalogue does not learn what is on %s now: %v", d.name(), err)
	}
	a.leaveOn(ctx, cat, d)
}

// needsPassword says whether a host is signed in at with a password, which is in
// no extract.
func (h hostFile) needsPassword() bool { return h.Kind == "vsphere" }

// letIn makes this computer's key slot a change that is meant for every drive.
func (a *app) letIn(ctx context.Context, cat *catalog.Catalog, d *openedDrive, slot string) error {
	id, err := a.identity()
	if err != nil {
		return err
	}
	known, err := cat.KeyChanges(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(known, func(c catalog.KeyChange) bool {
		return c.Kind == catalog.KeyAdd && slices.Contains(c.Recipients, id.String())
	}) {
		_, err := cat.AddKeyChange(ctx, catalog.KeyChange{ID: imagestore.NewID(), Kind: catalog.KeyAdd, Slot: slot, Recipients: []string{id.String()},
			MadeAt: a.now(), MadeBy: thisUser() + " on " + thisComputer()})
		if err != nil {
			return err
		}
	}
	return a.keysArrived(ctx, cat, d)
}

func (a *app) showJoined(d *openedDrive, j joined) {
	if a.json {
		a.printJSON(j)
		return
	}
	a.print("this computer is a control machine of %s, in %s\n", j.Site, j.State)
	a.print("its identity opens %s as %q\n", d.name(), j.Slot)
	a.showRebuilt(j.Catalog)
	for _, h := range j.Passwords {
		a.print("host %s: give its password again: lifeboat host password %s\n", h, shellWord(h))
	}
	a.note("the site's other drives let this computer in when they are written to here. If the old control machine is gone for good, shut its identity out: lifeboat key list, then lifeboat key remove NAME.\n" +
		"If it was stolen, give the site a new secret as well: lifeboat key replace passphrase\n" +
		"next: lifeboat export --all")
}
