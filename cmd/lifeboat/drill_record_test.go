package main

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/custody"
	"lifeboat/imagestore"
	"lifeboat/runbook"
)

const testRun = "3f2a9c1b7e5d40d2a8c6b1e0f9d87c65"

// aDrill is a site with the machine web on drive a, and a drill of it that passed,
// as the engine leaves it in its folder.
func aDrill(t *testing.T) (m controlMachine, a *app, dir string, r *runbook.Record) {
	t.Helper()
	m, folder := newSite(t)
	m.run("export", "--file", filepath.Join(folder, "disk.img"), "--as", "web", "--drive", filepath.Join(folder, "a"))
	a = newApp(strings.NewReader(""), new(bytes.Buffer), new(bytes.Buffer))
	a.stateDir = m.state
	cat := m.catalog()
	points, err := cat.Points(t.Context(), catalog.PointFilter{})
	drives, derr := cat.Drives(t.Context())
	site, serr := a.loadSite()
	if err != nil || derr != nil || serr != nil || len(points) != 1 {
		t.Fatal(len(points), err, derr, serr)
	}
	p := points[0]
	i := slices.IndexFunc(drives, func(d catalog.Drive) bool { return d.ID == p.DriveID })
	began := time.Now().Add(-time.Hour).UTC()
	r = &runbook.Record{Version: runbook.Version, RunID: testRun, Mode: runbook.Drill, Began: began, Ended: began.Add(time.Minute), User: "root", OpenedWith: "typed",
		BookText: "name: office\n", BookMeaning: "aa", Passed: true, Cleaned: true, RTA: 48 * time.Second,
		Plan: runbook.Plan{Book: "office", Mode: runbook.Drill, SiteID: site.Site.ID, Objectives: runbook.Objectives{RTO: time.Hour},
			Machines: []runbook.PlannedMachine{{Name: "web", ID: p.MachineID, Point: lifeboat.RestorePoint{ID: p.PointID}, DriveIDs: []string{p.DriveID}}}},
		Steps:    []runbook.StepRecord{{ID: "check-web", Kind: runbook.StepCheck, Machine: "web", Outcome: runbook.OutcomeDone}},
		Machines: []runbook.MachineRecord{{Name: "web", ID: p.MachineID, PointID: p.PointID, Passed: true, Checked: 2, Evidence: runbook.Evidence{Console: "evidence/web.txt"}}},
		Hosts:    []runbook.HostRecord{{Name: "local", Kind: "qemu", KVM: true}}, Drives: []runbook.DriveRecord{{ID: p.DriveID, Label: drives[i].Label}}}
	dir = filepath.Join(a.runsDir(), testRun)
	if err := os.MkdirAll(filepath.Join(dir, evidenceDir), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "evidence", "web.txt"), []byte("web login:"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := runbook.WriteRecord(dir, r); err != nil {
		t.Fatal(err)
	}
	return m, a, dir, r
}

// catalog is the catalogue of a control machine, until the test ends.
func (m controlMachine) catalog() *catalog.Catalog {
	m.t.Helper()
	cat, err := catalog.Open(m.t.Context(), filepath.Join(m.state, "catalog.db"))
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { cat.Close() })
	return cat
}

func (m controlMachine) proofs() []catalog.Proof {
	m.t.Helper()
	proofs, err := m.catalog().Proofs(m.t.Context(), "")
	if err != nil {
		m.t.Fatal(err)
	}
	return proofs
}

// acts counts the entries of the ledger of a kind.
func (m controlMachine) acts(act custody.Act) (found []custody.Entry) {
	m.t.Helper()
	entries, err := m.catalog().Ledger(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	for _, e := range entries {
		if e.Act == act {
			found = append(found, e)
		}
	}
	return found
}

func TestARecordIsKeptSealedProvenAndCarriedByItsDrive(t *testing.T) {
	m, a, dir, r := aDrill(t)
	if err := a.keepRecord(t.Context(), dir, r); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, recordFile))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(text)
	hash := hex.EncodeToString(sum[:])
	d, err := m.catalog().Drill(t.Context(), testRun)
	if err != nil || d.Record != string(text) || d.Hash != hash || !d.Passed {
		t.Errorf("the catalogue has %q of %q: %v", d.Record, text, err)
	}
	sealed := m.acts(custody.ActDrilled)
	if len(sealed) != 1 || sealed[0].Facts[factRecord] != hash || sealed[0].Facts[factRun] != testRun {
		t.Errorf("the ledger seals %+v, want %s", sealed, hash)
	}
	login := sha256.Sum256([]byte("web login:"))
	if r.Files["evidence/web.txt"] != hex.EncodeToString(login[:]) {
		t.Errorf("the record has of its evidence: %v", r.Files)
	}
	proofs := m.proofs()
	if len(proofs) != 1 || proofs[0].PointID != r.Machines[0].PointID || proofs[0].DriveID != r.Drives[0].ID || !proofs[0].At.Equal(r.Ended) || len(m.acts(custody.ActProven)) != 1 {
		t.Errorf("proven: %+v", proofs)
	}

	// Keeping it once more adds nothing.
	if err := a.keepRecord(t.Context(), dir, r); err != nil {
		t.Fatal(err)
	}
	if n := len(m.acts(custody.ActDrilled)); n != 1 || len(m.proofs()) != 1 {
		t.Errorf("kept twice: %d entries, %d proofs", n, len(m.proofs()))
	}

	folder := filepath.Dir(m.state)
	m.run("export", "--file", filepath.Join(folder, "disk.img"), "--as", "web", "--drive", filepath.Join(folder, "a"))
	drive, err := a.openDrive(t.Context(), filepath.Join(folder, "a"), imagestore.Read)
	if err != nil {
		t.Fatal(err)
	}
	defer drive.Close()
	there, _, err := drive.store.Enclosures(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	notes := map[string]string{}
	for _, e := range there {
		notes[e.Name] = e.Note
	}
	for _, name := range []string{recordFile, reportFile} {
		if notes[drillEnclosure+testRun+"/"+name] != hash {
			t.Errorf("the drive has of %s the note %q, want %s", name, notes[drillEnclosure+testRun+"/"+name], hash)
		}
	}
}

func TestARecordThatWasChangedEndsTheListWithDamage(t *testing.T) {
	m, a, dir, r := aDrill(t)
	if err := a.keepRecord(t.Context(), dir, r); err != nil {
		t.Fatal(err)
	}
	if out := m.run("drill", "list"); !strings.Contains(out, "passed") {
		t.Fatalf("the list says %s", out)
	}
	cat := m.catalog()
	// Somebody makes the drill a minute faster, and the hash of the catalogue fit.
	forged := *r
	forged.RTA, forged.Ended = time.Second, r.Ended.Add(time.Second)
	text, err := json.Marshal(&forged)
	if err != nil {
		t.Fatal(err)
	}
	if err := cat.RecordDrill(t.Context(), drillOf(&forged, string(text))); err != nil {
		t.Fatal(err)
	}
	if out := m.fails(exitDamage, "drill", "list"); !strings.Contains(out, "seals another record of this run") {
		t.Errorf("the list says %s", out)
	}
	m.fails(exitDamage, "drill", "sign", testRun, "--as", "Anna")
	if past, err := a.pastRuns(t.Context()); err != nil || len(past) != 0 {
		t.Errorf("it still counts: %+v %v", past, err)
	}
}

// A run that met damage is told as one, and proves nothing.
func TestARunThatMetDamageProvesNothing(t *testing.T) {
	m, a, dir, r := aDrill(t)
	if err := saveJSON(servingPath(dir), diskServing{Damage: []string{"block 7 of root cannot be read"}}); err != nil {
		t.Fatal(err)
	}
	if err := a.keepRecord(t.Context(), dir, r); err != nil {
		t.Fatal(err)
	}
	if proofs := m.proofs(); len(proofs) > 0 {
		t.Errorf("proven: %+v", proofs)
	}
	if r.Verdict() != runbook.VerdictPartial || len(r.Damage) != 1 {
		t.Errorf("it is %s: %q, %q", r.Verdict(), r.Partial, r.Damage)
	}
}

// bundled packs a record as a computer without a site does, and names a file for it.
func bundled(t *testing.T, folder string, r *runbook.Record) (string, []byte) {
	t.Helper()
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(folder, "drill.lifeboat"), zipped(t, zipEntry{recordFile, string(text), 0}, zipEntry{"evidence/web.txt", "web login:", 0})
}

// bring writes a bundle with that body, sealed for drive a.
func bring(t *testing.T, m controlMachine, a *app, path string, body []byte) {
	t.Helper()
	drive, err := a.openDrive(t.Context(), filepath.Join(filepath.Dir(m.state), "a"), imagestore.Read)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := drive.store.SealBundle(body)
	drive.Close()
	if err == nil {
		err = os.WriteFile(path, sealed, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestADrillThatIsBroughtHomeProvesItsPointsUnlessDamageWasFoundSince(t *testing.T) {
	m, a, dir, r := aDrill(t)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	drive := filepath.Join(filepath.Dir(m.state), "a")
	for i, c := range []struct {
		name   string
		fault  *catalog.Fault
		damage []string
		proven int
	}{
		{"nothing was found", nil, nil, 1},
		{"it met damage where it was run", nil, []string{"block 7 of root"}, 0},
		{"damage before it ran", &catalog.Fault{At: time.Now().Add(-48 * time.Hour), What: "old", Others: true}, nil, 1},
		{"damage of another point", &catalog.Fault{At: time.Now(), What: "new", PointID: "another"}, nil, 1},
		{"damage somewhere after it", &catalog.Fault{At: time.Now(), What: "new", Others: true}, nil, 0},
	} {
		r.Damage, r.RunID = c.damage, strings.Repeat(itoa(i), 32)
		if c.fault != nil {
			c.fault.DriveID, c.fault.RunID = r.Drives[0].ID, "fault"+itoa(i)
			if err := m.catalog().RecordFault(t.Context(), *c.fault); err != nil {
				t.Fatal(err)
			}
		}
		path, body := bundled(t, filepath.Dir(m.state), r)
		bring(t, m, a, path, body)
		m.run("drill", "import", path, "--drive", drive)
		proven := 0
		for _, p := range m.proofs() {
			if p.RunID == r.RunID && p.At.Equal(r.Ended) && p.RevokedAt.IsZero() {
				proven++
			}
		}
		if proven != c.proven {
			t.Errorf("%s: %d points are proven, not %d", c.name, proven, c.proven)
		}
		if data, err := os.ReadFile(filepath.Join(a.runsDir(), r.RunID, "evidence", "web.txt")); err != nil || string(data) != "web login:" {
			t.Errorf("%s: its evidence is %q: %v", c.name, data, err)
		}
	}
}

type zipEntry struct {
	name, text string
	mode       fs.FileMode
}

// zipped is an archive of files as they are given, in that order.
func zipped(t *testing.T, files ...zipEntry) []byte {
	t.Helper()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, f := range files {
		h := &zip.FileHeader{Name: f.name, Method: zip.Deflate}
		h.SetMode(f.mode)
		in, err := w.CreateHeader(h)
		if err == nil {
			_, err = in.Write([]byte(f.text))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// Who holds a drive's secret may have any intent: a bundle reaches no file but those
// of its own run, and fills no disk.
func TestHostileBundlesAreRefused(t *testing.T) {
	record := zipEntry{recordFile, "{}", 0}
	many := make([]zipEntry, bundleFiles+1)
	for i := range many {
		many[i] = zipEntry{"evidence/" + itoa(i), "", 0}
	}
	huge := strings.Repeat("0", evidenceMost)
	var wide []zipEntry
	for i := range 8*imagestore.BundleLimit/evidenceMost + 1 {
		wide = append(wide, zipEntry{"evidence/" + itoa(i), huge, 0})
	}
	for name, files := range map[string][]zipEntry{
		"a way out":         {record, {"../site.yaml", "x", 0}},
		"a way out below":   {record, {"evidence/../../site.yaml", "x", 0}},
		"an absolute path":  {record, {"/etc/passwd", "x", 0}},
		"a folder below":    {record, {"evidence/a/b", "x", 0}},
		"a backslash":       {record, {`evidence\a`, "x", 0}},
		"the folder itself": {record, {"evidence/.", "x", 0}},
		"no name":           {record, {"evidence/", "", 0}},
		"a zero byte":       {record, {"evidence/a\x00b", "x", 0}},
		"a long name":       {record, {"evidence/" + strings.Repeat("a", 300), "x", 0}},
		"a symbolic link":   {record, {"evidence/link", "/etc/passwd", fs.ModeSymlink | 0o777}},
		"another file":      {record, {"plan.json", "x", 0}},
		"twice":             {record, record},
		"too large a file":  {record, {"evidence/a", huge + "0", 0}},
		"too much in all":   wide,
		"too many files":    many,
	} {
		if files, err := unpack(zipped(t, files...)); err == nil {
			t.Errorf("%s: %d files are unpacked", name, len(files))
		}
	}
	whole := zipped(t, record, zipEntry{"evidence/web.png", "x", 0})
	if files, err := unpack(whole); err != nil || len(files) != 2 {
		t.Errorf("a good one: %v, %d files", err, len(files))
	}
	for n := range whole {
		if _, err := unpack(whole[:n]); err == nil {
			t.Fatalf("%d of %d bytes are a bundle", n, len(whole))
		}
	}
}

// A bundle that is sealed as it should be may still hold what no run leaves.
func TestRecordsOfABundleThatAreNoneAreRefused(t *testing.T) {
	m, a, dir, r := aDrill(t)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*runbook.Record){
		"leaves its folder": func(r *runbook.Record) { r.RunID = "../../../../../../../../etc/passw" },
		"no id":             func(r *runbook.Record) { r.RunID = "" },
		"no mode":           func(r *runbook.Record) { r.Mode = "rehearsal" },
		"another site":      func(r *runbook.Record) { r.Plan.SiteID = otherSite },
		"from the future":   func(r *runbook.Record) { r.Began = time.Now().AddDate(1, 0, 0) },
	} {
		bad := *r
		change(&bad)
		path, body := bundled(t, filepath.Dir(m.state), &bad)
		bring(t, m, a, path, body)
		out := m.fails(1, "drill", "import", path, "--drive", filepath.Join(filepath.Dir(m.state), "a"))
		if !strings.Contains(out, "nothing was taken over") {
			t.Errorf("%s: %s", name, out)
		}
	}
	if _, err := os.Stat(dir); err == nil || len(m.acts(custody.ActDrilled)) > 0 {
		t.Error("something was taken over")
	}
}

// otherSite is the id of a site that is not that of the test.
const otherSite = "00000000000000000000000000000001"
