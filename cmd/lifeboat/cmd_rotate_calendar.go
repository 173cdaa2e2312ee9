package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/rotation"
)

// calendarWeeks is how far a calendar looks ahead: a holiday and the weeks around.
const calendarWeeks = 8

func (a *app) rotateCalendarCommand() *cobra.Command {
	var ics bool
	c := &cobra.Command{
		Use: "calendar [--ics]", Short: "Show the steps of the next eight weeks, or print them for a calendar",
		Long: "Shows who does what with which drive in the next eight weeks, if all goes as planned. With --ics\n" +
			"it prints an iCalendar file (RFC 5545) for the calendars of people. It holds no secret and not\n" +
			"the site's name, and an entry that is printed again replaces the one before.",
		Example:     "  lifeboat rotate calendar\n  lifeboat rotate calendar --ics > drives.ics",
		Annotations: exits(), Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.rotateCalendar(c.Context(), ics) },
	}
	c.Flags().BoolVar(&ics, "ics", false, "print an iCalendar file")
	return c
}

func (a *app) rotateCalendar(ctx context.Context, ics bool) error {
	j, err := a.judged(ctx)
	if err != nil {
		return err
	}
	if !j.rotates() {
		return &lifeboat.Problem{What: "this site has no rotation, and no steps", Safe: "nothing was printed", Next: howToBegin}
	}
	site, err := a.loadSite()
	if err != nil {
		return err
	}
	steps := j.coming(calendarWeeks * 7)
	switch {
	case ics:
		a.print("%s", calendarFile(j.now, j.calendarEvents(site.Site.ID, steps)))
	case a.json:
		a.printJSON(judgement{now: j.now, policy: j.policy, decision: rotation.Decision{Steps: steps}}.checklistJSON(exitDone).Steps)
	default:
		var rows [][]string
		for _, s := range steps {
			rows = append(rows, []string{onDay(s.Due, j.decision.Day), orDash(s.Person), cut(doing(s), 52)})
		}
		a.print("%s", table([]string{"DAY", "WHO", "WHAT"}, rows))
	}
	return nil
}

// stepLasts is how long an entry of a calendar is.
const stepLasts = 30 * time.Minute

// calendarEvents are the steps as entries, one each, at ten in the morning of the
// day on which they are due: time enough to ask somebody else.
func (j judgement) calendarEvents(siteID string, steps []rotation.Step) (all []calendarEvent) {
	for _, s := range steps {
		d := s.Due
		begins := time.Date(d.Year, d.Month, d.Day, 10, 0, 0, 0, j.zone())
		title := doing(s)
		if s.Person != "" {
			title = s.Person + ": " + title
		}
		all = append(all, calendarEvent{uid: calendarUID(siteID, s.ID), begins: begins, ends: begins.Add(stepLasts), title: title, place: s.Location,
			details: fmt.Sprintf("Afterwards: lifeboat rotate sign %s --by NAME", shellWord(shortID(s.ID)))})
	}
	return all
}
