package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/custody"
)

func (a *app) pointHoldCommand() *cobra.Command {
	var reason, until, by string
	c := &cobra.Command{
		Use: "hold POINT", Short: "Keep a restore point whatever the rules say",
		Long: "Keeps a point on every drive that has it, also on those that are away, until a day has ended\n" +
			"or until: lifeboat point release. Without --reason it shows what is held.",
		Example:     "  lifeboat point hold 3f2a91c0 --reason \"tax audit 2026\" --until 2027-12-31\n  lifeboat point hold",
		Annotations: exits(), Args: oneArgAtMost("a point"), ValidArgsFunction: a.completeKnownPoints,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				if reason != "" || until != "" || by != "" {
					return usagef("say which point: lifeboat point hold POINT --reason TEXT")
				}
				return a.showHolds(c.Context())
			}
			return a.hold(c.Context(), args[0], reason, until, by)
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why it has to be kept; whoever meets it in a list reads this")
	c.Flags().StringVar(&until, "until", "", "the last day of the hold, for example 2027-12-31; without it the point is held for good")
	c.Flags().StringVar(&by, "by", "", "who wants it; this account if not said")
	return c
}

func (a *app) hold(ctx context.Context, name, reason, until, by string) error {
	h := catalog.Hold{Reason: custody.Clean(oneLine(reason)), By: custody.Clean(oneLine(by)), At: a.now()}
	if h.Reason == "" {
		return usagef("say why: --reason TEXT")
	}
	if h.By == "" {
		h.By = thisUser()
	}
	if until != "" {
		day, err := time.ParseInLocation(time.DateOnly, until, a.zone())
		if err != nil {
			return usagef("--until takes a day such as 2027-12-31, not %q", until)
		}
		h.Until = day.AddDate(0, 0, 1).Add(-time.Second)
		if h.Until.Before(h.At) {
			return usagef("--until %s is over already", until)
		}
	}
	cat, err := a.needCatalog(ctx)
	if err != nil {
		return err
	}
	defer cat.Close()
	p, err := knownPoint(ctx, cat, name)
	if err != nil {
		return err
	}
	h.PointID = p.PointID
	if err := cat.Hold(ctx, h); err != nil {
		return err
	}
	if a.json {
		a.printJSON(h)
		return nil
	}
	a.print("point %s of %s, taken %s, is held %s: %s\n", short(p.PointID), p.MachineName, stamp(p.TakenAt), a.untilWords(h.Until), h.Reason)
	return nil
}

// untilWords says how long a hold lasts.
func (a *app) untilWords(until time.Time) string {
	if until.IsZero() {
		return "for good"
	}
	return "until " + until.In(a.zone()).Format(time.DateOnly)
}

func (a *app) showHolds(ctx context.Context) error {
	cat, err := a.needCatalog(ctx)
	if err != nil {
		return err
	}
	defer cat.Close()
	holds, err := cat.Holds(ctx)
	if err != nil {
		return err
	}
	if a.json {
		a.printJSON(append([]catalog.Hold{}, holds...))
		return nil
	}
	points, err := cat.Points(ctx, catalog.PointFilter{})
	if err != nil {
		return err
	}
	var rows [][]string
	for _, h := range holds {
		machine, taken := "on no drive", ""
		if i := slices.IndexFunc(points, func(p catalog.Point) bool { return p.PointID == h.PointID }); i >= 0 {
			machine, taken = points[i].MachineName, stamp(points[i].TakenAt)
		}
		rows = append(rows, []string{short(h.PointID), machine, taken, a.untilWords(h.Until), h.By, h.Reason})
	}
	a.print("%s", table([]string{"POINT", "MACHINE", "TAKEN", "HELD", "BY", "REASON"}, rows))
	return nil
}

func (a *app) pointReleaseCommand() *cobra.Command {
	return &cobra.Command{
		Use: "release POINT", Short: "End the hold of a restore point",
		Long:        "Ends a hold. The point stays until the rules or a person let it go.",
		Example:     "  lifeboat point release 3f2a91c0\n  lifeboat point hold",
		Annotations: exits(), Args: exactArgs("a point"), ValidArgsFunction: a.completeKnownPoints,
		RunE: func(c *cobra.Command, args []string) error {
			cat, err := a.needCatalog(c.Context())
			if err != nil {
				return err
			}
			defer cat.Close()
			id, err := heldPoint(c.Context(), cat, args[0])
			if err != nil {
				return err
			}
			if err := cat.Release(c.Context(), id); err != nil {
				return err
			}
			a.print("point %s is not held any more\n", short(id))
			return nil
		},
	}
}

// heldPoint finds a point that is held, which may be on no drive any more.
func heldPoint(ctx context.Context, cat *catalog.Catalog, name string) (string, error) {
	holds, err := cat.Holds(ctx)
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(holds, func(h catalog.Hold) bool { return isPointID(name) && strings.HasPrefix(h.PointID, name) })
	if i < 0 {
		return "", &lifeboat.Problem{What: fmt.Sprintf("no point %q is held", name), Safe: "nothing was changed", Next: "see what is held: lifeboat point hold"}
	}
	return holds[i].PointID, nil
}

// isPointID says that a text can be the beginning of a point's id: six digits or
// more.
func isPointID(text string) bool {
	return len(text) >= 6 && strings.Trim(text, "0123456789abcdef") == ""
}

// knownPoint finds a point on any drive that was ever seen, by the beginning of
// its id.
func knownPoint(ctx context.Context, cat *catalog.Catalog, name string) (catalog.Point, error) {
	points, err := cat.Points(ctx, catalog.PointFilter{})
	if err != nil {
		return catalog.Point{}, err
	}
	var found []catalog.Point
	for _, p := range points {
		if isPointID(name) && strings.HasPrefix(p.PointID, name) && !slices.ContainsFunc(found, func(q catalog.Point) bool { return q.PointID == p.PointID }) {
			found = append(found, p)
		}
	}
	if len(found) == 1 {
		return found[0], nil
	}
	problem := &lifeboat.Problem{
		What: fmt.Sprintf("no drive that was seen has a point %q", name),
		Safe: "nothing was changed",
		Next: "take the beginning of an id, six digits or more, from: lifeboat point list",
		Err:  errors.New("no such point"),
	}
	if len(found) > 1 {
		problem.What = fmt.Sprintf("%d points begin with %q", len(found), name)
	}
	return catalog.Point{}, problem
}

// completeKnownPoints offers all points that were ever seen.
func (a *app) completeKnownPoints(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, p := range a.rememberedPoints(c.Context()) {
		names = append(names, short(p.PointID)+"\t"+p.MachineName+" "+stamp(p.TakenAt))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
