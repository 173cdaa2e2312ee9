package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lifeboat"
)

// now is this command's clock. Everything that is decided or written down by the
// time goes by it, so that a trial can be told the time. It goes on from there
// as fast as the computer's clock does.
func (a *app) now() time.Time { return time.Now().Add(a.ahead) }

// zone is the time zone that people of the site write times in: that of its
// calendar, else this computer's.
func (a *app) zone() *time.Location {
	if p, err := a.policy(); err == nil && p.Calendar.Zone != nil {
		return p.Calendar.Zone
	}
	return time.Local
}

// setZone makes the site's zone that of this process, so that every time is read
// and printed in it, wherever the computer thinks that it is.
func (a *app) setZone() {
	if zone := a.zone(); a.ownProcess && zone != time.Local {
		time.Local = zone
	}
}

// clockWords are the forms of a time that a person types; those without a zone
// are read in the site's.
var clockWords = []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02T15:04"}

// parseClock reads the time of --now.
func parseClock(text string, zone *time.Location) (time.Time, error) {
	for _, form := range clockWords {
		if t, err := time.ParseInLocation(form, text, zone); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usagef("--now takes a time such as 2026-11-27T17:00:00Z or \"2026-11-27 17:00\", not %q", text)
}

// setClock takes the time of --now, which only a trial may be told: a real state
// that believed a false time would forget points, and call old copies new.
func (a *app) setClock(c *cobra.Command) error {
	// `stop` has a flag --now of its own, which says something else.
	if a.toldTime == "" && !c.Root().PersistentFlags().Changed("now") {
		if site, err := a.siteOrNone(); err == nil && strings.HasPrefix(commandName(c), "rotate") {
			a.sayTrial(site)
		}
		return nil
	}
	makesTrial := false
	if c.Name() == "init" {
		makesTrial, _ = c.Flags().GetBool("trial")
		// Whether the drive that it joins from is a trial's is not known yet.
		makesTrial = makesTrial && !c.Flags().Changed("from-drive")
	}
	if !makesTrial {
		if err := a.isTrial(); err != nil {
			return err
		}
	}
	t, err := parseClock(a.toldTime, a.zone())
	if err != nil {
		return err
	}
	a.ahead = time.Until(t)
	a.note("TRIAL: this command takes the time to be %s", t.In(a.zone()).Format("Mon 2 Jan 2006 15:04 MST"))
	return nil
}

// isTrial refuses a state that is not one of a trial. The site's sealed secrets
// must say so as well: an edited site.yaml does not make a trial of a real state.
func (a *app) isTrial() error {
	refused := func(what string) error { return usagef("--now sets the clock of a trial, and %s", what) }
	site, err := a.loadSite()
	if err != nil && !errors.Is(err, errNoSite) {
		return err
	}
	if err != nil {
		return refused("no site of a trial is in " + a.stateDir)
	}
	if !site.Site.Trial {
		return refused(fmt.Sprintf("the site %s is a real one; a trial is made with: lifeboat init --trial --state DIR", site.Site.Name))
	}
	if _, secrets, err := a.loadSiteSecrets(); err != nil || secrets.Site.ID != site.Site.ID {
		return refused("the secrets in " + a.secretsDir() + " are not those of the trial in site.yaml")
	}
	return nil
}

// sayTrial tells whoever looks at a trial that it is one.
func (a *app) sayTrial(site *siteFile) {
	if site != nil && site.Site.Trial {
		a.note("TRIAL: %s is a trial. Nothing here protects anything", site.Site.Name)
	}
}

// clockFlags hand this command's clock to a process that it starts.
func (a *app) clockFlags() []string {
	if a.toldTime == "" {
		return nil
	}
	return []string{"--now", a.now().Format(time.RFC3339Nano)}
}

// momentOf is a moment that a host told by its own clock, on this command's.
func (a *app) momentOf(t time.Time) time.Time { return t.Add(a.ahead) }

// checkTrial refuses a drive of a trial on a real control machine, and a real
// drive in a trial, in words that say so.
func checkTrial(site siteNames, drive lifeboat.Drive) error {
	p := &lifeboat.Problem{Safe: "nothing was changed on it", Err: lifeboat.ErrWrongDrive}
	switch trial := lifeboat.IsTrial(drive.SiteID); {
	case trial == site.Trial:
		return nil
	case trial:
		p.What = fmt.Sprintf("drive %s belongs to a trial, and %s is a real site", drive.Label, site.Name)
		p.Next = "attach a drive of this site, or use the trial's state folder: --state DIR"
	default:
		p.What = fmt.Sprintf("drive %s belongs to a real site, and %s is a trial", drive.Label, site.Name)
		p.Next = "make a drive for the trial: lifeboat drive init PATH --label LABEL; or use the real state folder: --state DIR"
	}
	return p
}
