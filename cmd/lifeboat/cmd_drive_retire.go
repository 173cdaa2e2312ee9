package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/custody"
	"lifeboat/imagestore"
	"lifeboat/internal/durable"
	"lifeboat/rotation"
)

// retireFlags are the answers that `drive retire` takes.
type retireFlags struct {
	destroy, lastCopy, dryRun bool
	reason, by                string
	certificate               string
}

// destroyMethod is how the ledger names what is done.
const destroyMethod = "cryptographic erase, NIST SP 800-88 Rev. 1"

func (a *app) driveRetireCommand() *cobra.Command {
	var f retireFlags
	c := &cobra.Command{
		Use: "retire DRIVE", Short: "Take a drive out of use for good, and destroy its keys if asked",
		Long: "Records that a drive is used no more: nothing is written to it, and it counts for nothing. It\n" +
			"still opens.\n\n" +
			"With --destroy the drive, which has to be attached, is made unreadable: every copy of its key is\n" +
			"written over, read back as gone, and removed, and a certificate is written. Nobody can undo\n" +
			"that. The label has to be typed, and --last-copy given where it holds the last verified copy of\n" +
			"a machine.",
		Example:     "  lifeboat drive retire B --reason \"ten years old\"\n  lifeboat drive retire B --destroy --certificate b.html --by Anna",
		Annotations: exits(exitNoDrive, exitHeld, exitPerson, exitStopped), Args: exactArgs("the label or id of a drive"),
		ValidArgsFunction: a.completeItems(custody.KindDrive),
		RunE: func(c *cobra.Command, args []string) error {
			if f.certificate != "" && !f.destroy {
				return usagef("--certificate goes with --destroy")
			}
			return a.driveRetire(c.Context(), args[0], f)
		},
	}
	c.Flags().BoolVar(&f.destroy, "destroy", false, "destroy the keys of the attached drive, so that nobody can read it")
	c.Flags().BoolVar(&f.lastCopy, "last-copy", false, "even if no other drive in use holds a verified copy of a machine")
	c.Flags().StringVar(&f.certificate, "certificate", "", "write the certificate to this file: HTML, or text if it ends in .txt; without it into the state folder")
	c.Flags().StringVar(&f.reason, "reason", "", "why; it stands in the ledger")
	c.Flags().StringVar(&f.by, "by", "", "who says so, if it is not the one who types")
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "say what would be done")
	return c
}

// retirement is what `drive retire` did, or would do.
type retirement struct {
	Drive      custody.Item          `json:"drive"`
	Path       string                `json:"path,omitempty"`
	LastCopies []string              `json:"lastCopies,omitempty"`
	Destroyed  *imagestore.Destroyed `json:"destroyed,omitempty"`
	// Certificate is the file that it is in.
	Certificate string `json:"certificate,omitempty"`
	// Entry is the number of the entry that retires it.
	Entry uint64 `json:"entry,omitempty"`
}

func (a *app) driveRetire(ctx context.Context, want string, f retireFlags) error {
	cat, err := a.needCatalog(ctx)
	if err != nil {
		return err
	}
	defer cat.Close()
	kept, r, err := a.pickDrive(ctx, cat, want)
	if err != nil {
		return err
	}
	result := retirement{Drive: kept.Item}
	var dir durable.Dir
	if f.destroy {
		if result.Path, dir, err = a.toDestroy(ctx, cat, kept); err != nil {
			return err
		}
		defer closeDir(dir)
	}
	if result.LastCopies, err = a.lastCopiesOn(ctx, cat, kept.ID); err != nil {
		return err
	}
	if len(result.LastCopies) > 0 && !f.lastCopy {
		return &lifeboat.Problem{
			What: fmt.Sprintf("no other drive in use holds a verified copy of %s: this would be the end of the last one", strings.Join(result.LastCopies, ", ")),
			Safe: "nothing was done; the drive is as it was",
			Next: "make another copy first: lifeboat export --all or lifeboat copy, then lifeboat verify; or if the machines are not needed any more, add --last-copy",
		}
	}
	entry := custody.Entry{Act: custody.ActRetired, Item: &kept.Item, Signer: f.by, Note: f.reason}
	again := f.destroy && kept.Place.State == custody.Retired
	if _, err := a.wouldRecord(r.entries, entry); err != nil && !again {
		return err
	}
	if f.dryRun {
		return a.showRetirement(result, f)
	}
	if f.destroy {
		if err := a.destroy(ctx, cat, dir, f, &result); err != nil {
			return err
		}
	}
	after := context.WithoutCancel(ctx)
	if again {
		return a.showRetirement(result, f)
	}
	stored, err := a.record(after, cat, entry)
	if err != nil {
		return err
	}
	result.Entry = stored.Sequence
	return a.showRetirement(result, f)
}

// toDestroy finds the one attached drive that is meant, and makes the catalogue's
// memory of it what is on it. One that opens with nothing any more, because a
// destruction was cut off, is known by the id outside of its store. dir is the
// store on the medium itself: whatever comes to the path later is not destroyed.
func (a *app) toDestroy(ctx context.Context, cat *catalog.Catalog, kept custody.Kept) (path string, dir durable.Dir, err error) {
	all, err := a.attachedDrives(ctx)
	if err != nil {
		return "", nil, err
	}
	var here []rotation.Found
	for _, f := range all {
		if f.Drive.ID == kept.ID {
			here = append(here, f)
		}
	}
	switch len(here) {
	case 0:
		return "", nil, &lifeboat.Problem{
			What: fmt.Sprintf("drive %s (%s) is not attached, and its keys can only be destroyed on itself", kept.Label, short(kept.ID)),
			Safe: "nothing was done",
			Next: "attach it and mount it; or retire it without --destroy",
			Err:  lifeboat.ErrNoDrive,
		}
	case 1:
	default:
		return "", nil, &lifeboat.Problem{
			What: fmt.Sprintf("drive %s is there twice, at %s and at %s: one is a copy of the other", kept.Label, here[0].Path, here[1].Path),
			Safe: "nothing was done",
			Next: "attach one of them alone, and destroy each for itself",
			Err:  lifeboat.ErrWrongDrive,
		}
	}
	path = here[0].Path
	if dir, err = rotation.OpenStore(path, false); err != nil {
		return "", nil, err
	}
	if err = a.isToDestroy(ctx, cat, dir, path, kept); err != nil {
		closeDir(dir)
		return "", nil, err
	}
	return path, dir, nil
}

// isToDestroy opens the drive that is to be destroyed, to be sure which it is and
// what it holds.
func (a *app) isToDestroy(ctx context.Context, cat *catalog.Catalog, dir durable.Dir, path string, kept custody.Kept) error {
	d, err := a.openDrive(ctx, path, imagestore.Read)
	if err != nil {
		if gone, gerr := imagestore.KeysGone(dir); gerr == nil && gone {
			a.warn("drive %s has no key any more: a destruction was cut off, and is ended now", kept.Label)
			return nil
		}
		return err
	}
	defer d.Close()
	if d.store.Drive().ID != kept.ID {
		return swapped(d, kept.ID)
	}
	points, _, err := d.store.Points(ctx)
	if err != nil {
		return err
	}
	return cat.ReplacePoints(ctx, kept.ID, points)
}

// destroy asks, destroys the keys of the drive whose store is dir, writes the certificate and records it. From the
// first key on nothing that fails beside it stops it.
func (a *app) destroy(ctx context.Context, cat *catalog.Catalog, dir durable.Dir, f retireFlags, r *retirement) error {
	plan := fmt.Sprintf("This makes drive %s (%s) at %s unreadable for everybody, for good.\n", r.Drive.Label, short(r.Drive.ID), r.Path)
	if len(r.LastCopies) > 0 {
		plan += fmt.Sprintf("It holds the last verified copy of: %s.\n", strings.Join(r.LastCopies, ", "))
	}
	if !isTerminal(a.stdin) {
		return &lifeboat.Problem{
			What: oneLine(strings.ReplaceAll(plan, "\n", " ")) + " A person has to type its label for that, and none is here",
			Safe: "nothing was done; the drive opens as before",
			Next: "run this at a terminal",
			Err:  errNeedsPerson,
		}
	}
	if err := a.confirmWord(ctx, false, plan, r.Drive.Label); err != nil {
		return err
	}
	done, err := imagestore.Destroy(ctx, dir, r.Drive.ID)
	if errors.Is(err, lifeboat.ErrWrongDrive) {
		return &lifeboat.Problem{
			What: fmt.Sprintf("what is at %s is not drive %s any more: %v", r.Path, r.Drive.Label, err),
			Safe: "no key was destroyed",
			Next: "see which drives are attached: lifeboat drive list",
			Err:  err,
		}
	}
	if err != nil {
		return &lifeboat.Problem{
			What: fmt.Sprintf("the keys of drive %s are not all destroyed: %v", r.Drive.Label, err),
			Safe: "what was done is not undone; the drive may still open with some of its secrets",
			Next: "run the same command again: it goes on where it was",
			Err:  err,
		}
	}
	r.Destroyed = &done
	after := context.WithoutCancel(ctx)
	text, werr := a.certify(after, cat, f, r)
	facts := map[string]string{"method": destroyMethod, "slots": strconv.Itoa(done.Slots), "overwritten": strconv.FormatBool(done.Overwritten)}
	if werr == nil {
		facts["certificate"] = string(custody.HashOf(text))
	}
	a.enter(after, cat, custody.Entry{Act: custody.ActDestroyed, Item: &r.Drive, Signer: f.by, Note: f.reason, Facts: facts})
	if err := cat.ReplacePoints(after, r.Drive.ID, nil); err != nil {
		a.warn("the catalogue does not know yet that nothing on drive %s can be read: %v", r.Drive.Label, err)
	}
	if werr != nil {
		return fmt.Errorf("the keys of drive %s are destroyed, and the certificate could not be written: %w", r.Drive.Label, werr)
	}
	return nil
}

// certify writes the certificate, and returns its text.
func (a *app) certify(ctx context.Context, cat *catalog.Catalog, f retireFlags, r *retirement) (string, error) {
	d := rotation.Destruction{Drive: lifeboat.Drive{ID: r.Drive.ID, Label: r.Drive.Label}, Signer: f.by, User: thisUser(), Computer: thisComputer(),
		At: a.now(), Slots: r.Destroyed.Slots, Overwritten: r.Destroyed.Overwritten, FromMemory: r.Destroyed.FromMemory, LastCopies: r.LastCopies}
	if site, err := a.loadSite(); err == nil {
		d.Site = site.Site.Name
	}
	if known, err := cat.Drive(ctx, r.Drive.ID); err == nil {
		d.Drive = known.Drive
	}
	if all, err := cat.Facts(ctx, r.Drive.ID); err == nil && len(all) > 0 {
		last := all[len(all)-1]
		d.Model, d.Serial = last.Model, last.Serial
	}
	r.Certificate = f.certificate
	if r.Certificate == "" {
		folder := filepath.Join(a.stateDir, "certificates")
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return "", fmt.Errorf("make the folder of certificates: %w", err)
		}
		r.Certificate = filepath.Join(folder, r.Drive.ID+".html")
	}
	text := rotation.CertificateText(d)
	if filepath.Ext(r.Certificate) != ".txt" {
		var err error
		if text, err = rotation.CertificateHTML(d); err != nil {
			return "", err
		}
	}
	return text, writeFile(r.Certificate, []byte(text), 0o600)
}

// showRetirement says what was done, or with --dry-run what would be.
func (a *app) showRetirement(r retirement, f retireFlags) error {
	switch {
	case a.json:
		a.printJSON(r)
		return nil
	case f.dryRun && f.destroy:
		a.print("would destroy the keys of drive %s at %s, and retire it\n", r.Drive.Label, r.Path)
	case f.dryRun:
		a.print("would retire drive %s\n", r.Drive.Label)
	case r.Destroyed != nil:
		a.print("the keys of drive %s are destroyed (%d files); it is retired\nthe certificate is in %s\n", r.Drive.Label, r.Destroyed.Slots, r.Certificate)
		a.note("copies of the drive that were made before still open; flash may keep older bytes. The certificate says what it covers")
	default:
		a.print("drive %s is retired (entry %d of the ledger)\n", r.Drive.Label, r.Entry)
		a.note("it still opens with its secrets; to make it unreadable: lifeboat drive retire %s --destroy", shellWord(short(r.Drive.ID)))
	}
	if len(r.LastCopies) > 0 {
		a.print("no other drive in use holds a verified copy of: %s\n", strings.Join(r.LastCopies, ", "))
	}
	return nil
}
