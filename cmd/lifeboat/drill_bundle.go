package main

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/imagestore"
	"lifeboat/runbook"
)

// A drill on a computer without the site leaves its record there. A bundle brings
// it home: sealed with the key of the drive that was read, so that it may travel
// beside the drive, and that nobody without the drive's secret can make one.

const (
	bundleBegin, bundleEnd = "drill-", ".lifeboat"
	// bundlesLooked is how many bundles beside a drive's store are looked at when it
	// is attached.
	bundlesLooked = 16
	// bundleFiles is how many files a bundle may have: a picture and a text of each
	// machine and step of the largest runbook are fewer.
	bundleFiles = 10_000
)

// errBundleSize: a bundle is larger than what any run leaves.
var errBundleSize = errors.New("it unpacks to more than a run leaves")

func (a *app) drillExportCommand() *cobra.Command {
	var drive, output string
	c := &cobra.Command{
		Use: "export RUN --drive DRIVE", Short: "Pack the record of a drill that ran on this computer, to bring it home",
		Long: "Packs the record of a run and its pictures into one file, sealed so that only who opens the drive\n" +
			"can read it. Copy it to the control machine, or beside the store onto the drive's disk: the control\n" +
			"machine takes it over with drill import, or by itself when it next writes to the drive.",
		Example:     "  lifeboat drill export 3f2a --drive /mnt/lifeboat\n  lifeboat drill export 3f2a --drive /mnt/lifeboat --output /root/drill.lifeboat",
		Annotations: exits(exitNoDrive, exitDamage), Args: exactArgs("the id of a run"),
		ValidArgsFunction: a.completeDrills,
		RunE: func(c *cobra.Command, args []string) error {
			return a.drillExport(c.Context(), args[0], drive, output)
		},
	}
	c.Flags().StringVar(&drive, "drive", "", "the drive that the run read")
	c.Flags().StringVar(&output, "output", "", "write this file (default: drill-RUN.lifeboat in this folder)")
	return c
}

func (a *app) drillExport(ctx context.Context, prefix, drive, output string) error {
	k, _, err := a.findKept(ctx, prefix)
	if err != nil {
		return err
	}
	if k.Record == nil {
		return changedRecord(k)
	}
	d, err := a.openDrive(ctx, drive, imagestore.Read)
	if err != nil {
		return err
	}
	defer d.Close()
	if d.store.Drive().ID != k.DriveID {
		return &lifeboat.Problem{What: fmt.Sprintf("%s is not the drive that run %s read", d.name(), short(k.RunID)), Safe: "nothing was written",
			Next: "attach the drive " + short(k.DriveID) + " and name it: --drive PATH", Err: lifeboat.ErrWrongDrive}
	}
	body, left := a.packRun(k)
	sealed, err := d.store.SealBundle(body)
	if err != nil {
		return err
	}
	if output == "" {
		output = bundleBegin + k.RunID + bundleEnd
	}
	if err := writeFile(output, sealed, 0o600); err != nil {
		return &lifeboat.Problem{What: fmt.Sprintf("the bundle cannot be written: %v", err), Safe: "the record is kept as it was", Next: "name another file: --output FILE", Err: err}
	}
	if left > 0 {
		a.warn("%s did not fit: the record has their hashes, and they stay in this computer's state folder", count(left, "file of evidence"))
	}
	if a.json {
		a.printJSON(map[string]any{"run": k.RunID, "file": output, "leftOut": left})
		return nil
	}
	a.print("%s has run %s, sealed: bring it home, and there: lifeboat drill import %s\n", output, short(k.RunID), shellWord(filepath.Base(output)))
	return nil
}

// packRun is a run's record and evidence as one archive, and how many files of
// evidence did not fit.
func (a *app) packRun(k keptRun) (body []byte, left int) {
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	add := func(name string, data []byte) {
		// Writing to memory does not fail.
		if f, err := w.Create(name); err == nil {
			f.Write(data)
		}
	}
	add(recordFile, []byte(k.Drill.Record))
	for _, name := range evidenceOf(k.Record) {
		data, err := readEvidence(filepath.Join(a.runsDir(), filepath.Base(k.RunID)), name)
		if err != nil {
			continue
		}
		if out.Len()+len(data) > imagestore.BundleLimit-1<<20 {
			left++
			continue
		}
		add(name, data)
	}
	w.Close()
	return out.Bytes(), left
}

func (a *app) drillImportCommand() *cobra.Command {
	var drive string
	c := &cobra.Command{
		Use: "import FILE", Short: "Take over the record of a drill that ran on another computer",
		Long: "Takes over what drill export packed: the record comes into the catalogue, its hash into the ledger,\n" +
			"and the drill counts like one that ran here. The drive that it read has to be attached, whose key\n" +
			"opens the file.",
		Example:     "  lifeboat drill import drill-3f2a9c1b7e5d40d2a8c6b1e0f9d87c65.lifeboat\n  lifeboat drill import drill.lifeboat --drive B2",
		Annotations: exits(exitNoDrive, exitDamage), Args: exactArgs("a file"),
		RunE: func(c *cobra.Command, args []string) error { return a.drillImport(c.Context(), args[0], drive) },
	}
	c.Flags().StringVar(&drive, "drive", "", "the drive that the run read")
	return c
}

func (a *app) drillImport(ctx context.Context, path, drive string) error {
	cat, err := a.needCatalog(ctx)
	if err != nil {
		return err
	}
	defer cat.Close()
	bundle, err := readBundle(path)
	if err != nil {
		return badBundle(path, err)
	}
	d, err := a.openDrive(ctx, drive, imagestore.Read)
	if err != nil {
		return err
	}
	defer d.Close()
	r, err := a.takeBundle(ctx, cat, d, bundle)
	if err != nil {
		return badBundle(path, err)
	}
	if a.json {
		a.printJSON(map[string]string{"run": r.RunID, "runbook": r.Plan.Book, "result": string(r.Verdict())})
		return nil
	}
	a.print("taken over: %s\n", oneLine(recordWords(r)))
	return nil
}

func badBundle(path string, err error) error {
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s is no record that can be taken over: %v", path, err),
		Safe: "nothing was taken over; the catalogue and the ledger are as they were",
		Next: "attach the drive that the drill read and name it with --drive; or copy the file once more from where it was made",
		Err:  err,
	}
}

// readBundle reads a file of which anybody may be the author.
func readBundle(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > 2*imagestore.BundleLimit {
		return nil, errors.New("it is not a bundle")
	}
	return io.ReadAll(io.LimitReader(f, 2*imagestore.BundleLimit))
}

// takeBundle takes over a run that ran elsewhere: its files into a folder of its
// own, its record into the catalogue and the ledger, and its points are proven, as
// if it had run here. One that is known is left as it is.
func (a *app) takeBundle(ctx context.Context, cat *catalog.Catalog, d *openedDrive, bundle []byte) (*runbook.Record, error) {
	body, err := d.store.OpenBundle(bundle)
	if err != nil {
		return nil, err
	}
	files, err := unpack(body)
	if err != nil {
		return nil, err
	}
	text := string(files[recordFile])
	var r runbook.Record
	if err := json.Unmarshal([]byte(text), &r); err != nil || len(text) > catalog.MaxRecord {
		return nil, errors.New("its record cannot be read")
	}
	switch {
	case !isRunID(r.RunID) || r.Mode != runbook.Drill && r.Mode != runbook.Recover:
		return nil, errors.New("its record is of no run")
	case r.Plan.SiteID != "" && r.Plan.SiteID != d.store.Site().ID:
		return nil, errors.New("its record is of another site")
	case r.Began.After(a.now().AddDate(0, 0, 1)):
		return nil, fmt.Errorf("its record is of %s, which has not come yet: a clock is wrong", stamp(r.Began))
	}
	if _, err := cat.Drill(ctx, r.RunID); err == nil {
		return &r, nil
	}
	dir := filepath.Join(a.runsDir(), r.RunID)
	if err := os.MkdirAll(filepath.Join(dir, evidenceDir), 0o700); err != nil {
		return nil, err
	}
	for name, data := range files {
		if err := writeFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return nil, err
		}
	}
	if err := a.rememberRecord(ctx, cat, &r, text); err != nil {
		return nil, err
	}
	a.proveRecord(ctx, cat, &r)
	return &r, nil
}

// isRunID says whether a text is the id of a run: it becomes the name of a folder.
func isRunID(text string) bool {
	return len(text) == 32 && strings.Trim(text, "0123456789abcdef") == ""
}

// unpack reads the archive of a bundle: the record and plain files of evidence,
// each once, within bounds.
func unpack(body []byte) (map[string][]byte, error) {
	z, err := zip.NewReader(bytes.NewReader(body), int64(len(body)))
	if err != nil {
		return nil, err
	}
	if len(z.File) > bundleFiles {
		return nil, errBundleSize
	}
	files, total := map[string][]byte{}, int64(0)
	for _, f := range z.File {
		if f.Name != recordFile && !isEvidence(f.Name) || !f.Mode().IsRegular() {
			return nil, fmt.Errorf("%w: %q", errNoEvidence, f.Name)
		}
		if _, twice := files[f.Name]; twice {
			return nil, fmt.Errorf("it has %q twice", f.Name)
		}
		data, err := inflate(f)
		if err != nil {
			return nil, err
		}
		if total += int64(len(data)); total > 8*imagestore.BundleLimit {
			return nil, errBundleSize
		}
		files[f.Name] = data
	}
	return files, nil
}

// inflate reads one file of an archive, whatever length the archive says it has.
func inflate(f *zip.File) ([]byte, error) {
	in, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	data, err := io.ReadAll(io.LimitReader(in, evidenceMost+1))
	if err == nil && len(data) > evidenceMost {
		err = errBundleSize
	}
	return data, err
}

// joinDrills takes over the bundles that somebody put beside a drive's store. What
// fails of it is said, and stops nothing.
func (a *app) joinDrills(ctx context.Context, cat *catalog.Catalog, d *openedDrive) {
	paths, err := filepath.Glob(filepath.Join(globWord(d.found.Path), bundleBegin+"*"+bundleEnd))
	if err != nil {
		return
	}
	for _, path := range paths[:min(len(paths), bundlesLooked)] {
		id := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), bundleBegin), bundleEnd)
		if _, err := cat.Drill(ctx, id); err == nil {
			continue
		}
		bundle, err := readBundle(path)
		var r *runbook.Record
		if err == nil {
			r, err = a.takeBundle(ctx, cat, d, bundle)
		}
		if err != nil {
			a.warn("%s is not taken over: %v", path, err)
			continue
		}
		a.note("taken over from %s: %s; %s may be removed", d.name(), recordWords(r), path)
	}
}

// globWord is a path in which no letter stands for others.
func globWord(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}
