package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/imagestore"
	"lifeboat/internal/durable"
	"lifeboat/rotation"
)

// driveInitFlags are the answers that `drive init` takes.
type driveInitFlags struct {
	label  string
	erase  bool
	dryRun bool
}

func (a *app) driveInitCommand() *cobra.Command {
	var f driveInitFlags
	c := &cobra.Command{
		Use: "init DEVICE|PATH --label A", Short: "Make a drive of a disk, or of a mounted file system or folder",
		Long: "Of a disk (/dev/sdX) it shows model, serial number, size and what is on it, lays it out anew and\n" +
			"makes a drive of it: a small part with START-HERE.txt that any PC reads, and ext4 for the rest. A\n" +
			"disk that holds anything is refused unless --erase is given and its name is typed at the terminal;\n" +
			"one that is in use, or holds this system, always.\n\n" +
			"Into an empty, mounted file system or a folder it writes the store, the programs for a recovery,\n" +
			"START-HERE.txt, and erases nothing. The drive opens with the site's secret, or with one of its own\n" +
			"from --passphrase-file, and with this computer's identity.",
		Example:     "  lifeboat drive init /dev/sdb --label A\n  lifeboat drive init /media/usb1 --label B",
		Annotations: exits(exitNoDrive, exitPerson), Args: exactArgs("a disk such as /dev/sdb, or the path of a mounted file system or a folder"),
		ValidArgsFunction: completeDisks,
		RunE: func(c *cobra.Command, args []string) error {
			if f.label == "" {
				return usagef("say what stands on its sticker: --label A")
			}
			return a.driveInit(c.Context(), args[0], f)
		},
	}
	c.Flags().StringVar(&f.label, "label", "", "what stands on the drive's sticker")
	c.Flags().BoolVar(&f.erase, "erase", false, "erase what is on the disk, after its name was typed")
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "say what would be written, and what is in the way")
	return c
}

func (a *app) driveInit(ctx context.Context, path string, f driveInitFlags) error {
	if isDevice(path) && !f.dryRun {
		if err := releaseInterrupted(ctx, path); err != nil {
			return err
		}
	}
	n, err := a.newDrive(ctx, f.label, path)
	if err != nil {
		return err
	}
	if isDevice(path) {
		return a.driveInitDisk(ctx, path, f, n)
	}
	if f.erase {
		return usagef("--erase goes with a disk such as /dev/sdb; nothing is erased in a folder")
	}
	if path, err = filepath.Abs(path); err != nil {
		return err
	}
	if f.dryRun {
		return a.driveInitPlan(path, n)
	}
	drive, err := rotation.Init(ctx, path, n.options)
	if err != nil {
		return err
	}
	if err := a.rememberFolder(ctx, n.site, path); err != nil {
		return err
	}
	return a.driveIsMade(ctx, drive, path, n)
}

func isDevice(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&os.ModeDevice != 0
}

func (a *app) driveInitPlan(path string, n *newDrive) error {
	if err := rotation.CheckInit(path, n.options.Label); err != nil {
		return err
	}
	if a.json {
		a.printJSON(map[string]any{"path": path, "label": n.options.Label, "programs": len(n.options.Programs)})
		return nil
	}
	a.print("would make drive %s at %s, with %d programs for a recovery\n", n.options.Label, path, len(n.options.Programs))
	return nil
}

// newDrive is everything that is known of a drive before it is made.
type newDrive struct {
	site    *siteFile
	options rotation.InitOptions
	missing []missingProgram
	// changes of the site's key slots are those that it is made with.
	changes []catalog.KeyChange
}

func (a *app) newDrive(ctx context.Context, label, path string) (*newDrive, error) {
	site, err := a.loadSite()
	if err != nil {
		return nil, err
	}
	id, secrets, err := a.loadSiteSecrets()
	if err != nil {
		return nil, err
	}
	secret, err := a.driveSecret(secrets)
	if err != nil {
		return nil, err
	}
	if err := a.mayMakeDrive(ctx, site); err != nil {
		return nil, err
	}
	if err := a.labelIsFree(ctx, site, label, path); err != nil {
		return nil, err
	}
	slots, changes, err := a.slotsOfNewDrive(ctx, id, secret)
	if err != nil {
		return nil, err
	}
	n := &newDrive{site: site, changes: changes}
	n.options = rotation.InitOptions{Label: label, SiteID: secrets.Site.ID, Contact: site.Site.Contact, Now: a.now()}
	n.options.Programs, n.missing = a.programs()
	if site.Site.NameOnDrives {
		n.options.CompanyName = site.Site.Name
	}
	n.options.CreateStore = func(ctx context.Context, dir durable.Dir, drive lifeboat.Drive) error {
		return imagestore.Create(ctx, dir, imagestore.CreateOptions{Drive: drive, Site: secrets.Site, Program: version, Now: a.now(), Slots: slots})
	}
	return n, nil
}

// driveIsMade tells the catalogue and the person of a drive that now exists.
func (a *app) driveIsMade(ctx context.Context, drive lifeboat.Drive, path string, n *newDrive) error {
	for _, m := range n.missing {
		a.warn("the drive carries no program for %s: %s", m.platform, m.why)
	}
	if err := a.rememberDrive(ctx, path); err != nil {
		a.warn("drive %s is made, but the catalogue does not know it yet: %v", drive.Label, err)
	}
	if err := a.newDriveHas(ctx, drive.ID, n.changes); err != nil {
		a.warn("drive %s is made, but the catalogue does not know who was let into it: %v", drive.Label, err)
	}
	if a.json {
		a.printJSON(struct {
			lifeboat.Drive
			Path string `json:"path"`
		}{drive, path})
		return nil
	}
	a.print("drive %s is ready at %s (id %s)\n", drive.Label, path, drive.ID)
	a.note("print its recovery sheet now, and keep it apart from the drive: lifeboat key sheet --drive %s", shellWord(drive.Label))
	return nil
}

// driveName is a label and the beginning of an id, as a folder is named.
func driveName(d lifeboat.Drive) string { return fmt.Sprintf("%s-%s", d.Label, short(d.ID)) }
