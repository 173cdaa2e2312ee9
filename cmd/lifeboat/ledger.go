package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"time"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/custody"
	"lifeboat/rotation"
)

// record adds an entry to the ledger of the site, with what every entry says: the
// site, who records it on which computer, and when. A signer has to be one of the
// site's people who is still here, and whom the place lets in. The entry comes
// back as it is stored. What the ledger refuses is a *[lifeboat.Problem].
func (a *app) record(ctx context.Context, cat *catalog.Catalog, e custody.Entry) (custody.Entry, error) {
	e, err := a.complete(e)
	if err != nil {
		return custody.Entry{}, err
	}
	return cat.Append(ctx, e)
}

// wouldRecord is record without the recording, for a dry run: the entry as it
// would be stored, or why not. It has no number.
func (a *app) wouldRecord(entries []custody.Entry, e custody.Entry) (custody.Entry, error) {
	e, err := a.complete(e)
	if err != nil {
		return custody.Entry{}, err
	}
	added, err := custody.Append(entries, e)
	if err != nil {
		return custody.Entry{}, err
	}
	e = added[len(added)-1]
	e.Sequence, e.Previous = 0, ""
	return e, nil
}

// complete fills in what every entry says, and refuses a signer who cannot sign.
func (a *app) complete(e custody.Entry) (custody.Entry, error) {
	site, err := a.loadSite()
	if err != nil {
		return custody.Entry{}, err
	}
	e.SiteID = site.Site.ID
	e.User, e.Computer = thisUser(), thisComputer()
	e.RecordedAt = a.now()
	if e.HappenedAt.IsZero() {
		e.HappenedAt = e.RecordedAt
	}
	if e.Signer != "" {
		policy, err := a.policy()
		if err != nil {
			return custody.Entry{}, err
		}
		if err := maySign(policy, e); err != nil {
			return custody.Entry{}, err
		}
	}
	return e, nil
}

// enter records what has happened already, and only warns where that fails: an
// export is never lost for its bookkeeping. Without a catalogue, which was said
// before, there is no ledger, and none on a computer without a site.
func (a *app) enter(ctx context.Context, cat *catalog.Catalog, e custody.Entry) {
	if cat == nil {
		return
	}
	if site, err := a.siteOrNone(); err == nil && (site == nil || site.Site.ID == "") {
		return
	}
	ctx = context.WithoutCancel(ctx)
	var err error
	if e.Item != nil && slices.Contains(seenHere, e.Act) {
		err = a.noticed(ctx, cat, e.Item)
	}
	if err == nil {
		_, err = a.record(ctx, cat, e)
	}
	if err != nil {
		if errors.Is(err, custody.ErrBroken) {
			a.warnOfLedger(err)
			return
		}
		p := problemOf(err)
		a.warn("the ledger does not say %q: %s (%s)", e.Act, p.What, p.Next)
	}
}

// warnOfLedger says once in a command that the ledger does not hold, what that
// means, and how it is mended.
func (a *app) warnOfLedger(err error) {
	a.brokenLedger.Do(func() {
		a.warn("%s. Nothing is added to it, and where drives are, and which of them are in use, is not known: those that are not attached count for nothing. To mend it, attach a drive whose ledger is as it was, and run: lifeboat export (see also: lifeboat rotate audit)", problemOf(err).What)
	})
}

// item is a drive as the ledger names it.
func item(d lifeboat.Drive) *custody.Item {
	return &custody.Item{Kind: custody.KindDrive, ID: d.ID, Label: custody.Clean(d.Label)}
}

// thisUser is the account that a command runs under, and who became root for it.
func thisUser() string {
	name := fmt.Sprintf("uid %d", os.Getuid())
	if u, err := user.Current(); err == nil && u.Username != "" {
		name = u.Username
	}
	if other := os.Getenv("SUDO_USER"); other != "" && other != name && os.Geteuid() == 0 {
		name += " (sudo of " + other + ")"
	}
	return custody.Clean(name)
}

func thisComputer() string {
	name, err := os.Hostname()
	if err != nil || custody.Clean(name) == "" {
		return "a computer without a name"
	}
	return custody.Clean(name)
}

// maySign refuses a signature of somebody who is none of the site's people, who
// has left, or whom the place does not let in. Who signs is not proven: it keeps
// honest people from mistakes. A site without people takes any name.
func maySign(p rotation.Policy, e custody.Entry) error {
	if len(p.People) == 0 {
		return nil
	}
	i := slices.IndexFunc(p.People, func(q rotation.Person) bool { return q.Name == e.Signer })
	if i < 0 {
		return cannotSign(fmt.Sprintf("%s is none of the site's people", e.Signer), stillHere(p, e.HappenedAt))
	}
	person := p.People[i]
	if hasLeft(p, person, e.HappenedAt) {
		left := time.Date(person.Left.Year, person.Left.Month, person.Left.Day, 0, 0, 0, 0, time.UTC).Format(time.DateOnly)
		return cannotSign(fmt.Sprintf("%s left on %s and signs for nothing after it", person.Name, left), deputies(p, person, e.HappenedAt))
	}
	for _, place := range []*custody.Place{e.From, e.To} {
		if l, ok := locationOf(p, place); ok && len(l.Authorised) > 0 && !slices.Contains(l.Authorised, e.Signer) {
			return cannotSign(fmt.Sprintf("%s is not authorised at %s", e.Signer, l.Name), l.Authorised)
		}
	}
	return nil
}

// cannotSign names those who can.
func cannotSign(what string, instead []string) error {
	next := "ask one who can: " + list(instead)
	if len(instead) == 0 {
		next = "correct people in site.yaml: nobody there can sign this"
	}
	return &lifeboat.Problem{What: what, Safe: "nothing was recorded; the ledger is as it was", Next: next}
}

// hasLeft says whether a person had left on the day of a moment.
func hasLeft(p rotation.Policy, person rotation.Person, at time.Time) bool {
	if person.Left == (rotation.Date{}) {
		return false
	}
	if p.Calendar.Zone != nil {
		at = at.In(p.Calendar.Zone)
	}
	left := time.Date(person.Left.Year, person.Left.Month, person.Left.Day, 0, 0, 0, 0, at.Location())
	return !at.Before(left.AddDate(0, 0, 1))
}

// deputies are those who stand in for a person and are still here; where none is,
// everybody who is.
func deputies(p rotation.Policy, person rotation.Person, at time.Time) []string {
	here := stillHere(p, at)
	var names []string
	for _, name := range person.Deputies {
		if slices.Contains(here, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return here
	}
	return names
}

func stillHere(p rotation.Policy, at time.Time) (names []string) {
	for _, person := range p.People {
		if !hasLeft(p, person, at) {
			names = append(names, person.Name)
		}
	}
	return names
}

// locationOf finds the location of the policy where a place is.
func locationOf(p rotation.Policy, place *custody.Place) (rotation.Location, bool) {
	if place == nil || place.Location == "" {
		return rotation.Location{}, false
	}
	i := slices.IndexFunc(p.Locations, func(l rotation.Location) bool { return l.Name == place.Location })
	if i < 0 {
		return rotation.Location{}, false
	}
	return p.Locations[i], true
}

// homePlace is where a drive is that is attached to this computer: the first
// location of the site that is not offsite, if it has any.
func (a *app) homePlace() custody.Place {
	place := custody.Place{State: custody.Onsite}
	p, err := a.policy()
	if err != nil {
		return place
	}
	for _, l := range p.Locations {
		if !l.Offsite {
			place.Location = l.Name
			break
		}
	}
	return place
}

// noticed records that a drive is attached, if the ledger does not have it here.
// A drive that is lost, put aside or retired stays put aside or retired.
func (a *app) noticed(ctx context.Context, cat *catalog.Catalog, drive *custody.Item) error {
	entries, err := cat.Ledger(ctx)
	if err != nil {
		return err
	}
	list := custody.Replay(entries)
	kept, known := list.Of(drive.ID)
	here := kept.Place.State == custody.Onsite || kept.Place.State == custody.Retired ||
		kept.Place.State == custody.Quarantined && kept.Before.State == custody.Onsite
	if known && here {
		return nil
	}
	place := a.homePlace()
	_, err = a.record(ctx, cat, custody.Entry{Act: custody.ActAttached, Item: drive, To: &place})
	return err
}

// seenHere are the acts of the program that need the drive attached: whatever the
// ledger said before, the drive is here.
var seenHere = []custody.Act{custody.ActExported, custody.ActReadBack, custody.ActVerified, custody.ActProven, custody.ActFault, custody.ActEjected}
