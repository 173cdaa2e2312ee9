package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/custody"
	"lifeboat/rotation"
)

// asideFlags are the answers of the commands that set a drive aside, and take it
// back into use.
type asideFlags struct {
	reason, by string
	location   string
	dryRun     bool
}

// asideCommand is what these commands have in common.
func (a *app) asideCommand(c *cobra.Command, f *asideFlags) *cobra.Command {
	c.Args = exactArgs("the label or id of a drive")
	c.ValidArgsFunction = a.completeItems(custody.KindDrive)
	c.Flags().StringVar(&f.reason, "reason", "", "why; it stands in the ledger")
	c.Flags().StringVar(&f.by, "by", "", "who says so, if it is not the one who types")
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "say what would be recorded")
	return c
}

func (a *app) driveQuarantineCommand() *cobra.Command {
	var f asideFlags
	c := &cobra.Command{
		Use: "quarantine DRIVE --reason TEXT", Short: "Set a drive aside: nothing is written to it, and it counts for nothing",
		Long: "Sets a drive aside until it was looked into. Nothing is written to it, and what is on it counts\n" +
			"for nothing: not as a copy, and not as one that is offsite. It can still be read, verified and\n" +
			"restored from. The drive need not be attached.",
		Example:     "  lifeboat drive quarantine A --reason \"it clicks\"\n  lifeboat drive quarantine 4f0c2b1e --reason \"it fell\" --by Anna",
		Annotations: exits(exitNoDrive),
		RunE: func(c *cobra.Command, args []string) error {
			if f.reason == "" {
				return usagef("say why: --reason TEXT")
			}
			return a.setDriveAside(c.Context(), args[0], custody.ActQuarantined, f)
		},
	}
	return a.asideCommand(c, &f)
}

func (a *app) driveReleaseCommand() *cobra.Command {
	var f asideFlags
	c := &cobra.Command{
		Use: "release DRIVE", Short: "Take a drive out of quarantine and use it again",
		Long: "Takes a drive back into use that was set aside. One that was lost and found, or that damage was\n" +
			"found on, has to be verified first: lifeboat verify DRIVE.",
		Example:     "  lifeboat drive release A\n  lifeboat drive release A --reason \"it was the cable\" --by Anna",
		Annotations: exits(exitNoDrive),
		RunE: func(c *cobra.Command, args []string) error {
			return a.setDriveAside(c.Context(), args[0], custody.ActReleased, f)
		},
	}
	return a.asideCommand(c, &f)
}

func (a *app) driveLostCommand() *cobra.Command {
	var f asideFlags
	c := &cobra.Command{
		Use: "lost DRIVE", Short: "Record that a drive is lost, and say what is lost with it",
		Long: "Records that nobody knows where a drive is. It counts for nothing from then on. Says which\n" +
			"machines have no other copy now, and what to do about the secrets that open it.",
		Example:     "  lifeboat drive lost B\n  lifeboat drive lost B --reason \"not in the safe at the bank\" --by Anna",
		Annotations: exits(exitNoDrive),
		RunE: func(c *cobra.Command, args []string) error {
			return a.setDriveAside(c.Context(), args[0], custody.ActLost, f)
		},
	}
	return a.asideCommand(c, &f)
}

func (a *app) driveFoundCommand() *cobra.Command {
	var f asideFlags
	c := &cobra.Command{
		Use: "found DRIVE", Short: "Record that a lost drive was found; it stays aside until it is verified",
		Long: "Records that a lost drive is there again. Nobody knows who had it meanwhile: it is in quarantine\n" +
			"until it was verified and released.",
		Example:     "  lifeboat drive found B\n  lifeboat drive found B --location office --reason \"behind the rack\"",
		Annotations: exits(exitNoDrive),
		RunE: func(c *cobra.Command, args []string) error {
			return a.setDriveAside(c.Context(), args[0], custody.ActFound, f)
		},
	}
	c.Flags().StringVar(&f.location, "location", "", "where it is now; without it the first location that is not offsite")
	return a.asideCommand(c, &f)
}

// asideResult is the JSON of these commands.
type asideResult struct {
	Drive custody.Item   `json:"drive"`
	Act   custody.Act    `json:"act"`
	From  *custody.Place `json:"from,omitempty"`
	To    *custody.Place `json:"to,omitempty"`
	// Entry is its number in the ledger; 0 with --dry-run.
	Entry uint64 `json:"entry,omitempty"`
	// LastCopies are the machines that have no verified copy on any other drive
	// in use.
	LastCopies []string `json:"lastCopies,omitempty"`
}

// setDriveAside records one of the acts that take a drive out of use or back.
func (a *app) setDriveAside(ctx context.Context, want string, act custody.Act, f asideFlags) error {
	cat, err := a.needCatalog(ctx)
	if err != nil {
		return err
	}
	defer cat.Close()
	kept, r, err := a.pickDrive(ctx, cat, want)
	if err != nil {
		return err
	}
	e := custody.Entry{Act: act, Item: &kept.Item, Signer: f.by, Note: f.reason}
	switch act {
	case custody.ActReleased:
		if err := releasable(r, kept); err != nil {
			return err
		}
	case custody.ActFound:
		place := a.homePlace()
		if f.location != "" {
			place.Location = f.location
		}
		e.To = &place
	}
	result := asideResult{Drive: kept.Item, Act: act}
	if act == custody.ActLost || act == custody.ActQuarantined {
		if result.LastCopies, err = a.lastCopiesOn(ctx, cat, kept.ID); err != nil {
			return err
		}
	}
	if f.dryRun {
		e, err = a.wouldRecord(r.entries, e)
	} else {
		e, err = a.record(ctx, cat, e)
	}
	if err != nil {
		return err
	}
	result.From, result.To, result.Entry = e.From, e.To, e.Sequence
	if a.json {
		a.printJSON(result)
		return nil
	}
	a.sayAside(result, f)
	return nil
}

// pickDrive finds a drive by its label or id, attached or not, and reads the
// ledger.
func (a *app) pickDrive(ctx context.Context, cat *catalog.Catalog, want string) (custody.Kept, register, error) {
	r, err := a.register(ctx, cat)
	if err != nil {
		return custody.Kept{}, r, err
	}
	drives, err := cat.Drives(ctx)
	if err != nil {
		return custody.Kept{}, r, err
	}
	kept, err := pickItem(r.knownItems(drives, custody.KindDrive), want, "drive")
	return kept, r, err
}

// releasable refuses a drive that was lost, or that damage was found on, until
// everything on it was verified since.
func releasable(r register, k custody.Kept) error {
	var since time.Time
	why := ""
	for _, e := range r.entries {
		if e.Item == nil || e.Item.ID != k.ID || r.list.Revoked[e.Sequence] != 0 {
			continue
		}
		switch {
		case e.Act == custody.ActFault:
			since, why = e.HappenedAt, "damage was found on it"
		case e.Act == custody.ActFound, e.Act == custody.ActAttached && e.From != nil && e.From.State == custody.Lost:
			since, why = e.HappenedAt, "it was lost, and nobody knows who had it"
		case e.Act == custody.ActVerified:
			why = "" // everything on it was read since
		}
	}
	if why == "" {
		return nil
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("drive %s stays in quarantine: %s (%s), and it was not verified since", k.Label, why, stamp(since)),
		Safe: "nothing was recorded; what is on it can be read and restored",
		Next: "attach it and run: lifeboat verify " + shellWord(k.Label),
	}
}

// lastCopiesOn names the machines with points on a drive that have a verified
// point on no other drive that counts.
func (a *app) lastCopiesOn(ctx context.Context, cat *catalog.Catalog, driveID string) (names []string, err error) {
	shelf, err := a.shelf(ctx, cat)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, d := range shelf.Drives {
		for _, p := range d.Points {
			if d.ID == driveID {
				ids = append(ids, p.ID)
			}
		}
	}
	for _, id := range rotation.Loses(shelf, driveID, ids) {
		name := id
		if i := slices.IndexFunc(shelf.Machines, func(m rotation.ShelfMachine) bool { return m.ID == id }); i >= 0 {
			name = shelf.Machines[i].Name
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

// sayAside says what was recorded, and what has to be done now.
func (a *app) sayAside(r asideResult, f asideFlags) {
	said := map[custody.Act]string{custody.ActQuarantined: "is in quarantine", custody.ActReleased: "is in use again", custody.ActLost: "is recorded as lost", custody.ActFound: "is found, and in quarantine"}[r.Act]
	if f.dryRun {
		a.print("would record that drive %s %s\n", r.Drive.Label, said)
	} else {
		a.print("drive %s %s (entry %d of the ledger)\n", r.Drive.Label, said, r.Entry)
	}
	if len(r.LastCopies) > 0 {
		a.print("no other drive in use holds a verified copy of: %s\n", strings.Join(r.LastCopies, ", "))
		a.print("  make one now: lifeboat export --all, then lifeboat verify\n")
	}
	switch r.Act {
	case custody.ActLost:
		a.print("the drive is sealed: whoever finds it needs a secret as well. If a sheet or a secret may be with it:\n")
		a.print("  give the other drives a new key, without the secret that may be known: lifeboat key rotate --drive LABEL\n")
		a.print("see what would be lost now: lifeboat rotate status\n")
	case custody.ActFound:
		a.print("attach it and run: lifeboat verify %s; then: lifeboat drive release %s\n", shellWord(r.Drive.Label), shellWord(short(r.Drive.ID)))
	}
}
