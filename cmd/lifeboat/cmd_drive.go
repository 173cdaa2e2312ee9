package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/imagestore"
	"lifeboat/internal/durable"
	"lifeboat/rotation"
)

func (a *app) driveCommand() *cobra.Command {
	return group("drive", "Prepare and look at drives",
		"  lifeboat drive init /media/usb1 --label A\n  lifeboat drive list", "set",
		a.driveInitCommand(), a.driveListCommand(), a.driveShowCommand())
}

func (a *app) driveInitCommand() *cobra.Command {
	var label string
	var dryRun bool
	c := &cobra.Command{
		Use: "init PATH --label A", Short: "Make a drive of a mounted file system or folder",
		Long: "Writes onto an empty, mounted file system (or a folder) what makes it a drive: the store, the\n" +
			"programs for a recovery, START-HERE.txt. It opens with the site's secret, or with one of its\n" +
			"own from --passphrase-file, and with this computer's identity.",
		Example:     "  lifeboat drive init /media/usb1 --label A\n  lifeboat drive init /srv/trial --label T --passphrase-file own.txt",
		Annotations: exits(exitNoDrive), Args: exactArgs("the path of a mounted file system or a folder"),
		RunE: func(c *cobra.Command, args []string) error {
			if label == "" {
				return usagef("say what stands on its sticker: --label A")
			}
			return a.driveInit(c.Context(), args[0], label, dryRun)
		},
	}
	c.Flags().StringVar(&label, "label", "", "what stands on the drive's sticker")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be written")
	return c
}

func (a *app) driveInit(ctx context.Context, path, label string, dryRun bool) error {
	site, err := a.loadSite()
	if err != nil {
		return err
	}
	id, secrets, err := a.loadSiteSecrets()
	if err != nil {
		return err
	}
	secret, err := a.driveSecret(secrets)
	if err != nil {
		return err
	}
	if path, err = filepath.Abs(path); err != nil {
		return err
	}
	if err := a.labelIsFree(ctx, site, label); err != nil {
		return err
	}
	programs, missing := a.programs()
	if dryRun && a.json {
		a.printJSON(map[string]any{"path": path, "label": label, "programs": len(programs)})
		return nil
	}
	if dryRun {
		a.print("would make drive %s at %s, with %d programs for a recovery\n", label, path, len(programs))
		return nil
	}
	o := rotation.InitOptions{Label: label, SiteID: secrets.Site.ID, Contact: site.Site.Contact, Programs: programs, Now: a.now()}
	if site.Site.NameOnDrives {
		o.CompanyName = site.Site.Name
	}
	o.CreateStore = func(ctx context.Context, dir durable.Dir, drive lifeboat.Drive) error {
		return imagestore.Create(ctx, dir, imagestore.CreateOptions{Drive: drive, Site: secrets.Site, Program: version, Now: a.now(), Slots: []imagestore.NewSlot{
			{Name: "passphrase", Secret: secret},
			{Name: "control machine", Recipient: id.Recipient()},
		}})
	}
	drive, err := rotation.Init(ctx, path, o)
	if err != nil {
		return err
	}
	for _, m := range missing {
		a.warn("the drive carries no program for %s: %s", m.platform, m.why)
	}
	if err := a.rememberFolder(ctx, site, path); err != nil {
		return err
	}
	if err := a.rememberDrive(ctx, path); err != nil {
		a.warn("drive %s is made, but the catalogue does not know it yet: %v", label, err)
	}
	if a.json {
		a.printJSON(drive)
		return nil
	}
	a.print("drive %s is ready at %s (id %s)\n", drive.Label, path, drive.ID)
	a.note("print its recovery sheet now, and keep it apart from the drive: lifeboat key sheet --drive %s", shellWord(label))
	return nil
}

// driveSecret is the passphrase of a new drive: its own, or the site's.
func (a *app) driveSecret(site siteSecrets) (imagestore.Secret, error) {
	text, given, err := a.givenPassphrase()
	if err != nil {
		return imagestore.Secret{}, err
	}
	if !given {
		return imagestore.Passphrase(site.Passphrase)
	}
	if err := imagestore.CheckPassphrase(text); err != nil {
		return imagestore.Secret{}, weakPassphrase(err)
	}
	return imagestore.Passphrase(text)
}

// labelIsFree refuses a label that another drive of the site in sight has, and says when one
// that is away has it: two stickers that say the same get mixed up.
func (a *app) labelIsFree(ctx context.Context, site *siteFile, label string) error {
	found, err := a.attachedDrives(ctx)
	if err != nil {
		return err
	}
	sameSticker := func(d lifeboat.Drive) bool {
		return d.Label == label && (d.SiteID == "" || d.SiteID == site.Site.ID)
	}
	for _, f := range found {
		if sameSticker(f.Drive) {
			return &lifeboat.Problem{
				What: fmt.Sprintf("the label %s is taken: drive %s (%s) is attached at %s", label, label, short(f.Drive.ID), f.Path),
				Safe: "nothing was written",
				Next: "choose another label: --label LABEL",
			}
		}
	}
	away, err := a.addKnownDrives(ctx, nil)
	if err != nil {
		return err
	}
	for _, r := range away {
		if sameSticker(r.Drive) {
			a.warn("another drive %s (%s) was last seen %s; if it still exists, give one of the two another label", label, short(r.ID), humanAge(a.now(), r.SeenAt))
		}
	}
	return nil
}

// rememberDrive writes a new drive into the catalogue, so that it is known when
// it is away, and known for the same when it is back.
func (a *app) rememberDrive(ctx context.Context, path string) error {
	cat, err := a.openCatalog(ctx)
	if err != nil {
		return err
	}
	defer cat.Close()
	d, err := a.openDriveQuietly(ctx, path)
	if err != nil {
		return err
	}
	defer d.Close()
	return a.sawDrive(ctx, cat, d)
}

// rememberFolder keeps the path of a drive that is no mounted file system, so
// that it is found again without --drive.
func (a *app) rememberFolder(ctx context.Context, site *siteFile, path string) error {
	found, err := rotation.Attached(ctx, nil)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(found, func(f rotation.Found) bool { return f.Path == path }) || slices.Contains(site.Drives, path) {
		return nil
	}
	return a.changeSite(func(s *siteFile) error {
		if !slices.Contains(s.Drives, path) {
			s.Drives = append(s.Drives, path)
		}
		return nil
	})
}

func (a *app) driveListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the drives that are attached, and those that were seen before",
		Example:     "  lifeboat drive list\n  lifeboat drive list --json",
		Annotations: exits(), Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.driveList(c.Context())
		},
	}
}

type driveRow struct {
	lifeboat.Drive
	Path       string    `json:"path,omitempty"`
	Attached   bool      `json:"attached"`
	SeenAt     time.Time `json:"seenAt,omitzero"`
	FreeBytes  int64     `json:"freeBytes,omitempty"`
	TotalBytes int64     `json:"totalBytes,omitempty"`
	// VerifiedAt is when everything on it was last verified, as far as this
	// computer knows.
	VerifiedAt time.Time `json:"verifiedAt,omitzero"`
	Note       string    `json:"note,omitempty"`
}

func (a *app) driveList(ctx context.Context) error {
	found, err := a.attachedDrives(ctx)
	if err != nil {
		return err
	}
	rows := []driveRow{}
	for _, f := range found {
		rows = append(rows, driveRow{Drive: f.Drive, Path: f.Path, Attached: true, FreeBytes: f.FreeBytes, TotalBytes: f.TotalBytes, SeenAt: a.now().UTC(), Note: f.Note})
	}
	if a.hasState() {
		if rows, err = a.addKnownDrives(ctx, rows); err != nil {
			return err
		}
	}
	if a.json {
		a.printJSON(rows)
		return nil
	}
	var cells [][]string
	for _, r := range rows {
		where, space := "not attached, seen "+humanAge(a.now(), r.SeenAt), "-"
		if r.Attached {
			where = r.Path
		}
		if r.TotalBytes > 0 {
			space = fmt.Sprintf("%s of %s free", humanBytes(r.FreeBytes), humanBytes(r.TotalBytes))
		}
		verified := "-"
		if !r.VerifiedAt.IsZero() {
			verified = r.VerifiedAt.Local().Format(time.DateOnly)
		}
		cells = append(cells, []string{r.Label, where, space, verified, short(r.ID), r.Note})
	}
	a.print("%s", table([]string{"DRIVE", "WHERE", "SPACE", "VERIFIED", "ID", ""}, cells))
	return nil
}

// addKnownDrives adds the drives that the catalogue remembers and that are not here.
func (a *app) addKnownDrives(ctx context.Context, rows []driveRow) ([]driveRow, error) {
	cat, err := a.openCatalog(ctx)
	if err != nil {
		return nil, err
	}
	defer cat.Close()
	known, err := cat.Drives(ctx)
	if err != nil {
		return nil, err
	}
	for _, k := range known {
		if i := slices.IndexFunc(rows, func(r driveRow) bool { return r.ID == k.ID }); i >= 0 {
			rows[i].VerifiedAt = k.VerifiedAt
			continue
		}
		rows = append(rows, driveRow{Drive: k.Drive, SeenAt: k.SeenAt, FreeBytes: k.FreeBytes, TotalBytes: k.TotalBytes, VerifiedAt: k.VerifiedAt})
	}
	return rows, nil
}

func (a *app) driveShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show [LABEL|PATH]", Short: "Show a drive: what is on it, who opens it, whether its programs are whole",
		Example:     "  lifeboat drive show A\n  lifeboat drive show /media/usb1 --json",
		Annotations: exits(exitNoDrive, exitDamage), Args: oneArgAtMost("the label or path of a drive"),
		ValidArgsFunction: a.completeDrives,
		RunE: func(c *cobra.Command, args []string) error {
			want := ""
			if len(args) == 1 {
				want = args[0]
			}
			return a.driveShow(c.Context(), want)
		},
	}
}

func (a *app) driveShow(ctx context.Context, want string) error {
	d, err := a.openDrive(ctx, want, imagestore.Read)
	if err != nil {
		return err
	}
	defer d.Close()
	points, faults, err := d.store.Points(ctx)
	if err != nil {
		return err
	}
	usage, err := d.store.Usage(ctx)
	if err != nil {
		return err
	}
	slots, err := d.store.Slots(ctx)
	if err != nil {
		return err
	}
	checked, err := d.store.Checked(ctx)
	if err != nil {
		return err
	}
	coverage, err := d.store.Coverage(ctx)
	if err != nil {
		return err
	}
	programs, err := a.checkPrograms(d)
	if err != nil {
		return err
	}
	newest := newestPoints(points)
	if a.json {
		a.printJSON(struct {
			Drive       lifeboat.Drive     `json:"drive"`
			Path        string             `json:"path"`
			Site        string             `json:"site"`
			Fingerprint string             `json:"fingerprint"`
			Head        imagestore.Head    `json:"head"`
			Points      int                `json:"points"`
			Machines    int                `json:"machines"`
			Usage       imagestore.Usage   `json:"usage"`
			Slots       []imagestore.Slot  `json:"slots"`
			Faults      []imagestore.Fault `json:"faults,omitempty"`
			// Programs compares those on the drive with this version's.
			Programs []rotation.ProgramFinding `json:"programs"`
			Checked  imagestore.Checked        `json:"checked"`
			Coverage imagestore.Coverage       `json:"coverage"`
		}{d.store.Drive(), d.found.Path, d.store.Site().Name, d.store.Fingerprint(), d.store.Head(), len(points), len(newest), usage, slots, faults, programs, checked, coverage})
		return lostPoints(d, faults)
	}
	var names []string
	for _, s := range slots {
		names = append(names, s.Name)
	}
	a.print("drive %s at %s\n", d.found.Drive.Label, d.found.Path)
	a.print("  id          %s\n  site        %s\n  key         %s\n  opened by   %s\n", d.store.Drive().ID, d.store.Site().Name, d.store.Fingerprint(), list(names))
	a.print("  points      %d of %d machines\n", len(points), len(newest))
	a.print("  store       %s in %d packs, %s free\n", humanBytes(usage.StoredBytes), usage.Packs, humanBytes(usage.FreeBytes))
	a.print("  verified    %s\n  read back   %s\n", driveVerifiedWords(a.now(), checked.VerifiedAt), coverageWords(a.now(), coverage))
	if coverage.DamagedBytes > 0 {
		a.print("  damaged     damage is known in files of %s; heal what can be healed: lifeboat repair %s\n", humanBytes(coverage.DamagedBytes), shellWord(d.found.Drive.Label))
	}
	if !checked.UnfinishedFrom.IsZero() {
		a.print("  unfinished  a verification of %s; it goes on with: lifeboat verify %s\n", stamp(checked.UnfinishedFrom), shellWord(d.found.Drive.Label))
	}
	a.print("  programs    %s\n", programWords(programs))
	for _, p := range newest {
		a.print("  newest      %s  %s, %s\n", p.Machine.Name, stamp(p.TakenAt), humanAge(a.now(), p.TakenAt))
	}
	return lostPoints(d, faults)
}
