package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lifeboat/catalog"
	"lifeboat/custody"
)

// machine runs commands of a control machine whose state is in one folder.
type controlMachine struct {
	t     *testing.T
	state string
}

func (m controlMachine) run(args ...string) string {
	m.t.Helper()
	var out, problem bytes.Buffer
	a := newApp(strings.NewReader(""), &out, &problem)
	if code := a.run(m.t.Context(), append(args, "--state", m.state)); code != exitDone {
		m.t.Fatalf("%v ends with %d:\n%s%s", args, code, out.String(), problem.String())
	}
	return out.String() + problem.String()
}

// knows is everything that the catalogue holds, but for what the tables that no
// drive carries say.
func (m controlMachine) knows() string {
	m.t.Helper()
	cat, err := catalog.Open(m.t.Context(), filepath.Join(m.state, "catalog.db"))
	if err != nil {
		m.t.Fatal(err)
	}
	defer cat.Close()
	site, err := (&app{stateDir: m.state}).loadSite()
	if err != nil {
		m.t.Fatal(err)
	}
	var text bytes.Buffer
	if err := cat.WriteExtract(m.t.Context(), site.Site.ID, &text); err != nil {
		m.t.Fatal(err)
	}
	ledger, err := cat.Ledger(m.t.Context())
	if err == nil {
		err = custody.Write(&text, ledger)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	return text.String()
}

// newSite is a control machine with drives in the folders a and b beside it, and
// a disk of a machine.
func newSite(t *testing.T) (m controlMachine, folder string) {
	t.Helper()
	folder = t.TempDir()
	m = controlMachine{t, filepath.Join(folder, "state")}
	for name, text := range map[string]string{"secret.txt": scriptSecret, "disk.img": strings.Repeat("a disk ", 1000), "plan.txt": "call Anna"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m.run("init", "--site", "lab", "--passphrase-file", filepath.Join(folder, "secret.txt"))
	for _, drive := range []string{"a", "b"} {
		if err := os.Mkdir(filepath.Join(folder, drive), 0o755); err != nil {
			t.Fatal(err)
		}
		m.run("drive", "init", filepath.Join(folder, drive), "--label", filepath.Base(folder)+drive)
	}
	return m, folder
}

func TestARebuiltCatalogueEqualsTheLostOneInEveryTable(t *testing.T) {
	m, folder := newSite(t)
	at := func(name string) string { return filepath.Join(folder, name) }
	m.run("drive", "attach-document", at("plan.txt"))
	for _, drive := range []string{"a", "b", "b"} {
		m.run("export", "--file", at("disk.img"), "--as", "web", "--drive", at(drive))
		m.run("verify", at(drive))
	}
	m.run("export", "--file", at("disk.img"), "--as", "mail", "--drive", at("a"))
	want := m.knows()
	for _, from := range [][]string{{at("a"), at("b")}, {at("a")}} {
		if err := os.Rename(filepath.Join(m.state, "catalog.db"), at("lost.db")); err != nil {
			t.Fatal(err)
		}
		args := []string{"catalog", "rebuild"}
		for _, path := range from {
			args = append(args, "--from", path)
		}
		m.run(args...)
		if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(m.knows(), "\n")); diff != "" {
			t.Errorf("from %d drives it differs (- lost, + rebuilt):\n%s", len(from), diff)
		}
	}
}

func TestTwoControlMachinesThatNeverMetAreShownAndNeverMixed(t *testing.T) {
	m, folder := newSite(t)
	at := func(name string) string { return filepath.Join(folder, name) }
	m.run("export", "--file", at("disk.img"), "--as", "web", "--drive", at("a"))
	m.run("export", "--file", at("disk.img"), "--as", "web", "--drive", at("b"))
	if err := os.CopyFS(at("copied"), os.DirFS(m.state)); err != nil {
		t.Fatal(err)
	}
	other := controlMachine{t, at("copied")}
	m.run("export", "--file", at("disk.img"), "--as", "here", "--drive", at("a"))
	other.run("export", "--file", at("disk.img"), "--as", "there", "--drive", at("b"))

	before := m.knows()
	out := m.run("export", "--file", at("disk.img"), "--as", "here", "--drive", at("b"), "--accept-drive")
	if !strings.Contains(out, "differ from entry") {
		t.Errorf("the other history is not said:\n%s", out)
	}
	if !strings.HasPrefix(ledgerOf(m.knows()), ledgerOf(before)) {
		t.Error("our own ledger was changed")
	}
	// The drive has both ledgers.
	a := newApp(strings.NewReader(""), &bytes.Buffer{}, &bytes.Buffer{})
	a.stateDir = m.state
	d, err := a.openDriveQuietly(t.Context(), at("b"))
	if err != nil {
		t.Fatal(err)
	}
	all, _, err := d.store.Enclosures(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	var names []string
	for _, e := range all {
		names = append(names, e.Name)
	}
	if got := strings.Join(names, " "); !strings.Contains(got, "ledger.fork-") || !strings.Contains(got, "ledger.jsonl") {
		t.Errorf("the drive has %s", got)
	}
	m.audits(t)
	// A rebuild shows it as well.
	if out := m.run("catalog", "rebuild", "--from", at("a"), "--from", at("b"), "--yes"); strings.Contains(out, "lacks") {
		t.Error(out)
	}
	// And the same fork is not told every night.
	if out := m.run("export", "--file", at("disk.img"), "--as", "here", "--drive", at("b")); strings.Contains(out, "differ from entry") {
		t.Errorf("it is told again:\n%s", out)
	}
}

// fails is run for a command that ends with another code than 0.
func (m controlMachine) fails(code int, args ...string) string {
	m.t.Helper()
	var out bytes.Buffer
	if got := newApp(strings.NewReader(""), &out, &out).run(m.t.Context(), append(args, "--state", m.state)); got != code {
		m.t.Fatalf("%v ends with %d, want %d:\n%s", args, got, code, out.String())
	}
	return out.String()
}

// audits looks at an audit of a ledger beside which there is another: both are
// shown, until a person says what was found out.
func (m controlMachine) audits(t *testing.T) {
	t.Helper()
	out := m.fails(exitDamage, "rotate", "audit")
	for _, want := range []string{"another ledger, found on drive ", "this computer's head  ", "the other one's head  ", "here, entry ", "there, entry ", "exported ",
		"differ from entry", "let one control machine alone write", "every entry holds the one before it"} {
		if !strings.Contains(out, want) {
			t.Errorf("the audit does not say %q:\n%s", want, out)
		}
	}
	_, after, _ := strings.Cut(out, "rotate sign ")
	step, _, _ := strings.Cut(after, " ")
	m.fails(exitUsage, "rotate", "sign", step, "--by", "Anna")
	m.fails(exitFailed, "rotate", "sign", "ledger/0123456789abcdef", "--by", "Anna", "--note", "x")
	m.run("rotate", "sign", step, "--by", "Anna", "--note", "the old computer exported once more")
	if out := m.run("rotate", "audit"); !strings.Contains(out, "remark: another ledger") || !strings.Contains(out, "Anna looked into it on ") {
		t.Errorf("it is not settled:\n%s", out)
	}
	m.run("rotate", "revoke", step, "--by", "Anna", "--reason", "it was not that computer")
	m.fails(exitDamage, "rotate", "audit")
}

// ledgerOf is the ledger's part of what a catalogue knows.
func ledgerOf(text string) string {
	i := strings.Index(text, `{"sequence":1,`)
	if i < 0 {
		return ""
	}
	return text[i:]
}

func TestALedgerThatIsBehindTheDriveIsJoinedBeforeAnythingIsRecorded(t *testing.T) {
	m, folder := newSite(t)
	at := func(name string) string { return filepath.Join(folder, name) }
	if err := os.CopyFS(at("older"), os.DirFS(m.state)); err != nil {
		t.Fatal(err)
	}
	m.run("export", "--file", at("disk.img"), "--as", "web", "--drive", at("a"))
	want := ledgerOf(m.knows())
	older := controlMachine{t, at("older")}
	out := older.run("export", "--file", at("disk.img"), "--as", "web", "--drive", at("a"))
	if got := ledgerOf(older.knows()); !strings.HasPrefix(got, want) || want == "" || got == want {
		t.Errorf("the ledger does not go on from the drive's:\n%s\nand said\n%s", got, out)
	}
	if strings.Contains(out, "differ from entry") {
		t.Error(out)
	}
}

func TestAChangedRowOfTheLedgerIsPutBackFromADrive(t *testing.T) {
	m, folder := newSite(t)
	at := func(name string) string { return filepath.Join(folder, name) }
	m.run("export", "--file", at("disk.img"), "--as", "web", "--drive", at("a"))
	want := ledgerOf(m.knows())
	changeLedger(t, filepath.Join(m.state, "catalog.db"))
	out := m.run("export", "--file", at("disk.img"), "--as", "web", "--drive", at("a"))
	if !strings.Contains(out, "put back") {
		t.Errorf("it is not said:\n%s", out)
	}
	if got := ledgerOf(m.knows()); !strings.HasPrefix(got, want) {
		t.Errorf("the entry is not as it was:\n%s", got)
	}
}

// changeLedger changes one row of a ledger as an editor of databases would.
func changeLedger(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	i := bytes.Index(data, []byte(`"act":"made"`))
	if i < 0 {
		t.Fatal("the ledger has no entry that can be changed")
	}
	copy(data[i:], `"act":"lost"`)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestACatalogueIsNotReplacedUnderARun(t *testing.T) {
	m, folder := newSite(t)
	a := newApp(strings.NewReader(""), &bytes.Buffer{}, &bytes.Buffer{})
	a.stateDir = m.state
	r, err := a.beginRun("export", nil)
	if err != nil {
		t.Fatal(err)
	}
	out := m.fails(exitHeld, "catalog", "rebuild", "--from", filepath.Join(folder, "a"))
	if !strings.Contains(out, "run "+short(r.ID)+" (export") || !strings.Contains(out, "lifeboat run attach "+short(r.ID)) {
		t.Errorf("it does not name the run:\n%s", out)
	}
	m.run("catalog", "rebuild", "--from", filepath.Join(folder, "a"), "--dry-run")
	r.end("done", nil)
	m.run("catalog", "rebuild", "--from", filepath.Join(folder, "a"), "--yes")
}
