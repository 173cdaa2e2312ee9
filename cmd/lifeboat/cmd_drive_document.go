package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/custody"
	"lifeboat/imagestore"
	"lifeboat/rotation"
)

// documentNameLimit leaves room for what begins the name on a drive, and noteLimit
// fits a line of a list.
const (
	documentNameLimit = 200
	documentNoteLimit = 500
)

func (a *app) driveAttachDocumentCommand() *cobra.Command {
	var name, note string
	var dryRun bool
	c := &cobra.Command{
		Use: "attach-document FILE", Short: "Put a document, sealed, onto every drive of the site",
		Long: "For what is needed on the worst day beside the servers: licence keys, passwords of the registrar\n" +
			"and of the directory, the firewall's configuration, phone numbers. Drives that are attached get\n" +
			"it now, others when they return. It is sealed on the drives and on this computer; whoever opens\n" +
			"a drive can read it, with the program on the drive alone. A document of the same name is\n" +
			"replaced. The file itself stays where it is: remove it yourself.",
		Example:     "  lifeboat drive attach-document firewall.cfg --note 'edge router, 2026-11'\n  lifeboat drive attach-document /root/dsrm.txt --name 'directory restore password'",
		Annotations: exits(exitPartial, exitHeld), Args: exactArgs("a file"),
		RunE: func(c *cobra.Command, args []string) error {
			if name == "" {
				name = filepath.Base(args[0])
			}
			return a.attachDocument(c.Context(), args[0], name, note, dryRun)
		},
	}
	c.Flags().StringVar(&name, "name", "", "what it is called on the drives; without it the file's name")
	c.Flags().StringVar(&note, "note", "", "a line about it")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "say which drives would get it, now and later")
	return c
}

func (a *app) driveRemoveDocumentCommand() *cobra.Command {
	var dryRun bool
	c := &cobra.Command{
		Use: "remove-document NAME", Short: "Remove a document from every drive of the site",
		Long: "Attached drives lose it now, others when they return. Whoever could open a drive may have read\n" +
			"it; what was secret in it is better changed.",
		Example:     "  lifeboat drive remove-document firewall.cfg\n  lifeboat drive remove-document 'directory restore password' --dry-run",
		Annotations: exits(exitPartial, exitHeld), Args: exactArgs("the name of a document"),
		ValidArgsFunction: a.completeDocuments,
		RunE: func(c *cobra.Command, args []string) error {
			return a.removeDocument(c.Context(), args[0], dryRun)
		},
	}
	c.Flags().BoolVar(&dryRun, "dry-run", false, "say which drives would lose it, now and later")
	return c
}

func (a *app) driveDocumentsCommand() *cobra.Command {
	var drive, get, to string
	c := &cobra.Command{
		Use: "documents", Short: "List the documents on a drive, or get one",
		Long: "Needs nothing but the drive and its secret: it works on a computer that never saw the site.\n" +
			"On a control machine without a drive at hand it lists what the drives are to carry.",
		Example:     "  lifeboat drive documents --drive A\n  lifeboat drive documents --get firewall.cfg --to firewall.cfg",
		Annotations: exits(exitNoDrive, exitDamage), Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if (get == "") != (to == "") {
				return usagef("--get NAME and --to FILE go together")
			}
			if get != "" {
				return a.getDocument(c.Context(), drive, get, to)
			}
			return a.listDocuments(c.Context(), drive)
		},
	}
	c.Flags().StringVar(&get, "get", "", "the document to write to a file")
	c.Flags().StringVar(&to, "to", "", "the new file, readable by you alone; - for the screen")
	c.RegisterFlagCompletionFunc("get", a.completeDocuments)
	a.driveFlag(c, &drive)
	return c
}

func (a *app) completeDocuments(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	if !a.hasMemory() {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	cat, err := a.openCatalog(c.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	defer cat.Close()
	docs, err := cat.Documents(c.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, d := range docs {
		if d.RemovedAt.IsZero() {
			names = append(names, d.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// checkDocumentName refuses what would not stand on one line of a list.
func checkDocumentName(name, note string) error {
	for what, text := range map[string]string{"--name": name, "--note": note} {
		if !utf8.ValidString(text) || plainText(text) != text || oneLine(text) != text {
			return usagef("%s %q has to be one line of plain text, without blanks around it", what, text)
		}
	}
	switch {
	case name == "" || len(name) > documentNameLimit:
		return usagef("a document's name has 1 to %d bytes", documentNameLimit)
	case len(note) > documentNoteLimit:
		return usagef("a document's note has at most %d bytes", documentNoteLimit)
	}
	return nil
}

func (a *app) attachDocument(ctx context.Context, path, name, note string, dryRun bool) error {
	if err := checkDocumentName(name, note); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return usagef("%v", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return usagef("%s is not a file", path)
	}
	if info.Size() > imagestore.EnclosureLimit {
		return documentTooLong(path)
	}
	id, _, err := a.loadSiteSecrets()
	if err != nil {
		return err
	}
	cat, err := a.openCatalog(ctx)
	if err != nil {
		return err
	}
	defer cat.Close()
	if dryRun {
		return a.documentPlan(ctx, cat, "would get "+name)
	}
	hash, size, err := a.keepDocument(id, f)
	if errors.Is(err, imagestore.ErrEnclosureTooLong) {
		return documentTooLong(path)
	}
	if err != nil {
		return err
	}
	old, err := documentNamed(ctx, cat, name)
	if err != nil {
		return err
	}
	doc := catalog.Document{Name: name, Note: note, SizeBytes: size, Hash: hash, ChangedAt: a.now().UTC()}
	if err := cat.PutDocument(ctx, doc); err != nil {
		return err
	}
	if old.Hash != "" && old.Hash != hash {
		if err := a.dropDocument(ctx, cat, old.Hash); err != nil {
			a.warn("the older form of %s stays sealed on this computer: %v", name, err)
		}
	}
	return a.spreadDocument(ctx, cat, "attached", doc)
}

func documentTooLong(path string) error {
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s is larger than %d MiB, which is the most of a document", path, imagestore.EnclosureLimit>>20),
		Safe: "nothing was changed",
		Next: "store it as a machine's disk instead: lifeboat export --file FILE --as NAME",
		Err:  imagestore.ErrEnclosureTooLong,
	}
}

// documentNamed is the document of a name, or one without a hash.
func documentNamed(ctx context.Context, cat *catalog.Catalog, name string) (catalog.Document, error) {
	all, err := cat.Documents(ctx)
	if err != nil {
		return catalog.Document{}, err
	}
	if i := slices.IndexFunc(all, func(d catalog.Document) bool { return d.Name == name && d.RemovedAt.IsZero() }); i >= 0 {
		return all[i], nil
	}
	return catalog.Document{}, nil
}

func (a *app) removeDocument(ctx context.Context, name string, dryRun bool) error {
	if _, err := a.loadSite(); err != nil {
		return err
	}
	cat, err := a.openCatalog(ctx)
	if err != nil {
		return err
	}
	defer cat.Close()
	doc, err := documentNamed(ctx, cat, name)
	if err != nil {
		return err
	}
	if doc.Hash == "" {
		return noDocument("this site", name, nil)
	}
	if dryRun {
		return a.documentPlan(ctx, cat, "would lose "+name)
	}
	doc.RemovedAt = a.now().UTC()
	if err := cat.PutDocument(ctx, doc); err != nil {
		return err
	}
	if err := a.dropDocument(ctx, cat, doc.Hash); err != nil {
		return err
	}
	return a.spreadDocument(ctx, cat, "removed", doc)
}

// spreadResult says which drives have a change of a document.
type spreadResult struct {
	Document catalog.Document `json:"document"`
	// Done are the labels of drives that have the change, Pending of those that
	// get it when they return, Failed of those that are here and did not take it.
	Done    []string `json:"done"`
	Pending []string `json:"pending"`
	Failed  []string `json:"failed,omitempty"`
}

// spreadDocument records a change in the ledger and brings it to every drive that
// is attached.
func (a *app) spreadDocument(ctx context.Context, cat *catalog.Catalog, what string, doc catalog.Document) error {
	// An entry comes after the first drive's ledger was compared with ours.
	enter := sync.OnceFunc(func() {
		a.enter(ctx, cat, custody.Entry{Act: custody.ActDocument, Note: custody.Clean(what + ": " + doc.Name), Facts: map[string]string{"hash": doc.Hash}})
	})
	result := spreadResult{Document: doc, Done: []string{}, Pending: []string{}}
	here, away, err := a.drivesOfSite(ctx, cat)
	if err != nil {
		return err
	}
	result.Pending = append(result.Pending, away...)
	var first error
	for _, path := range here {
		label, err := a.leaveAt(ctx, path, enter)
		if err != nil {
			a.warn("drive %s does not have the change yet: %v; it gets it at its next export", label, err)
			result.Failed, first = append(result.Failed, label), errors.Join(first, err)
			continue
		}
		result.Done = append(result.Done, label)
	}
	enter()
	if a.json {
		a.printJSON(result)
	} else {
		a.print("%s: %s on %s\n", doc.Name, what, orNone(result.Done, "no drive yet"))
		if len(result.Pending) > 0 {
			a.print("waits for the return of %s\n", list(result.Pending))
		}
	}
	if first != nil {
		return &lifeboat.Problem{
			What: fmt.Sprintf("%s: not on drive %s yet", doc.Name, list(result.Failed)),
			Safe: "it is kept sealed on this computer; the other drives are as listed",
			Next: "every export brings it to its drive; or run the command again when the drive is free",
			Err:  errors.Join(lifeboat.ErrPartial, first),
		}
	}
	return nil
}

func orNone(names []string, none string) string {
	if len(names) == 0 {
		return none
	}
	return list(names)
}

// drivesOfSite are the paths of the site's drives that are attached, and the
// labels of those that are known and away.
func (a *app) drivesOfSite(ctx context.Context, cat *catalog.Catalog) (here, away []string, err error) {
	site, err := a.loadSite()
	if err != nil {
		return nil, nil, err
	}
	found, err := a.attachedDrives(ctx)
	if err != nil {
		return nil, nil, err
	}
	seen := map[string]bool{}
	for _, f := range found {
		if f.Usable() && f.Drive.SiteID == site.Site.ID {
			here, seen[f.Drive.ID] = append(here, f.Path), true
		}
	}
	known, err := cat.Drives(ctx)
	for _, d := range known {
		if !seen[d.ID] {
			away = append(away, d.Label)
		}
	}
	return here, away, err
}

// leaveAt brings a drive up to date with what all drives carry.
func (a *app) leaveAt(ctx context.Context, path string, enter func()) (label string, err error) {
	label = path
	err = a.writeDrive(ctx, path, "", false, func(cat *catalog.Catalog, d *openedDrive) error {
		label = d.found.Drive.Label
		if cat == nil {
			return errors.New("there is no catalogue to go by")
		}
		enter()
		return a.leaveDocuments(ctx, cat, d)
	})
	return label, err
}

func (a *app) documentPlan(ctx context.Context, cat *catalog.Catalog, what string) error {
	here, away, err := a.drivesOfSite(ctx, cat)
	if err != nil {
		return err
	}
	if a.json {
		a.printJSON(map[string]any{"now": here, "pending": away})
		return nil
	}
	a.print("%s: %s now; %s at their return\n", what, orNone(here, "no drive"), orNone(away, "no drive"))
	return nil
}

// documentRow is a document as it is listed: on a drive, or as all drives are to
// carry it.
type documentRow struct {
	Name      string    `json:"name"`
	Note      string    `json:"note,omitempty"`
	SizeBytes int64     `json:"sizeBytes"`
	WrittenAt time.Time `json:"writtenAt"`
	Hash      string    `json:"hash"`
	// On are the labels of the drives that had it when they were last here.
	On []string `json:"on,omitempty"`
}

func (a *app) listDocuments(ctx context.Context, want string) error {
	found, err := a.attachedDrives(ctx)
	if err != nil {
		return err
	}
	if want == "" && a.hasState() && !slices.ContainsFunc(found, rotation.Found.Usable) {
		return a.listKnownDocuments(ctx)
	}
	d, err := a.openDrive(ctx, want, imagestore.Read)
	if err != nil {
		return err
	}
	defer d.Close()
	there, faults, err := documentsOn(ctx, d)
	if err != nil {
		return err
	}
	rows := []documentRow{}
	for name, e := range there {
		rows = append(rows, documentRow{Name: name, Note: e.Note, SizeBytes: e.SizeBytes, WrittenAt: e.WrittenAt, Hash: e.Hash})
	}
	a.showDocuments(d.name(), rows)
	if len(faults) > 0 {
		return &lifeboat.Problem{
			What: fmt.Sprintf("%s: %s cannot be read", d.name(), count(len(faults), "document")),
			Safe: "the others are whole; no restore point is concerned",
			Next: "see the other drives of the site; then heal this one with: lifeboat repair " + shellWord(d.found.Drive.Label),
			Err:  lifeboat.ErrDamaged,
		}
	}
	return nil
}

func (a *app) listKnownDocuments(ctx context.Context) error {
	cat, err := a.openCatalog(ctx)
	if err != nil {
		return err
	}
	defer cat.Close()
	docs, err := cat.Documents(ctx)
	if err != nil {
		return err
	}
	drives, err := cat.Drives(ctx)
	if err != nil {
		return err
	}
	on, err := cat.DriveDocuments(ctx)
	if err != nil {
		return err
	}
	rows := []documentRow{}
	for _, doc := range docs {
		if !doc.RemovedAt.IsZero() {
			continue
		}
		row := documentRow{Name: doc.Name, Note: doc.Note, SizeBytes: doc.SizeBytes, WrittenAt: doc.ChangedAt, Hash: doc.Hash}
		for _, d := range drives {
			if on[d.ID][doc.Name] == doc.Hash {
				row.On = append(row.On, d.Label)
			}
		}
		rows = append(rows, row)
	}
	a.showDocuments("this site", rows)
	return nil
}

func (a *app) showDocuments(where string, rows []documentRow) {
	slices.SortFunc(rows, func(x, y documentRow) int {
		if x.Name < y.Name {
			return -1
		}
		return 1
	})
	if a.json {
		a.printJSON(rows)
		return
	}
	if len(rows) == 0 {
		a.print("%s has no documents\n", where)
		return
	}
	var cells [][]string
	for _, r := range rows {
		cells = append(cells, []string{oneLine(r.Name), humanBytes(r.SizeBytes), r.WrittenAt.Local().Format(time.DateOnly), list(r.On), oneLine(r.Note)})
	}
	a.print("%s", table([]string{"DOCUMENT", "SIZE", "OF", "ON", "NOTE"}, cells))
}

// getDocument writes a document to a new file of which nobody else reads a byte,
// or to the screen.
func (a *app) getDocument(ctx context.Context, want, name, to string) error {
	d, err := a.openDrive(ctx, want, imagestore.Read)
	if err != nil {
		return err
	}
	defer d.Close()
	if to == "-" {
		_, err := a.readDocument(ctx, d, name, a.stdout)
		return err
	}
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return &lifeboat.Problem{What: fmt.Sprintf("%s exists already", to), Safe: "it was not changed", Next: "name another file: --to FILE", Err: err}
	}
	if err != nil {
		return err
	}
	e, err := a.readDocument(ctx, d, name, f)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		os.Remove(to)
		return err
	}
	if a.json {
		a.printJSON(documentRow{Name: name, Note: e.Note, SizeBytes: e.SizeBytes, WrittenAt: e.WrittenAt, Hash: e.Hash})
		return nil
	}
	a.print("%s is in %s: %s, as it was attached on %s\n", name, to, humanBytes(e.SizeBytes), e.WrittenAt.Local().Format(time.DateOnly))
	return nil
}

func (a *app) readDocument(ctx context.Context, d *openedDrive, name string, w io.Writer) (imagestore.Enclosure, error) {
	e, err := d.store.ReadEnclosure(ctx, documentEnclosure+name, w)
	if !errors.Is(err, imagestore.ErrNoEnclosure) {
		return e, err
	}
	there, _, lerr := documentsOn(ctx, d)
	var names []string
	for known := range there {
		names = append(names, known)
	}
	slices.Sort(names)
	return e, errors.Join(noDocument(d.name(), name, names), lerr)
}
