package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/imagestore"
)

// keyTrial is a site with a drive that was away while its keys were changed.
type keyTrial struct{ state, drive string }

// in runs a command line in the trial's state.
func (k keyTrial) in(t *testing.T, words ...string) {
	t.Helper()
	var out, problem bytes.Buffer
	a := newApp(strings.NewReader(""), &out, &problem)
	if code := a.run(t.Context(), append(words, "--state", k.state)); code != 0 {
		t.Fatalf("%q exits %d: %s", words, code, problem.String())
	}
}

func newKeyTrial(t *testing.T) keyTrial {
	t.Helper()
	dir := t.TempDir()
	k := keyTrial{state: filepath.Join(dir, "state"), drive: filepath.Join(dir, "away")}
	home := filepath.Join(dir, "drive")
	words := map[string]string{"site": "barrel violet mongoose teacup lantern", "new": "granite feather tunnel biscuit harbour", "board": "silver turnip cathedral wagon oyster"}
	file := func(name string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(words[name]+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if err := os.Mkdir(home, 0o755); err != nil {
		t.Fatal(err)
	}
	k.in(t, "init", "--site", "s", "--passphrase-file", file("site"))
	k.in(t, "drive", "init", home, "--label", "K")
	k.in(t, "key", "add", "bert", "--recipient", "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p")
	if err := os.Rename(home, k.drive); err != nil {
		t.Fatal(err)
	}
	k.in(t, "key", "remove", "bert", "--yes")
	k.in(t, "key", "add", "anna", "--recipient", "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p")
	k.in(t, "key", "rotate", "--everywhere", "--yes")
	k.in(t, "key", "replace", "--new-passphrase-file", file("new"), "--yes")
	k.in(t, "key", "add", "board", "--new-passphrase-file", file("board"))
	return k
}

// copy is a trial like this one, to be cut off elsewhere.
func (k keyTrial) copy(t *testing.T) keyTrial {
	t.Helper()
	dir := t.TempDir()
	c := keyTrial{state: filepath.Join(dir, "state"), drive: filepath.Join(dir, "away")}
	for from, to := range map[string]string{k.state: c.state, k.drive: c.drive} {
		if err := os.CopyFS(to, os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func (k keyTrial) open(t *testing.T) (*app, *catalog.Catalog, *openedDrive) {
	t.Helper()
	a := newApp(strings.NewReader(""), &bytes.Buffer{}, &bytes.Buffer{})
	a.stateDir = k.state
	cat, err := a.openCatalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d, err := a.openDrive(t.Context(), k.drive, imagestore.Write)
	if err != nil {
		t.Fatal(err)
	}
	return a, cat, d
}

// Whatever was done on the drive before the process was killed, and was not
// written down any more, is done again without harm.
func TestPendingKeyChangesAreDoneAgainAfterAnyCut(t *testing.T) {
	t.Parallel()
	night := newKeyTrial(t)
	cuts := []int{3, 5} // each opening of a passphrase slot costs its work
	if os.Getenv("LIFEBOAT_SOAK") != "" {
		cuts = []int{0, 1, 2, 3, 4, 5}
	}
	for _, done := range cuts {
		t.Run(fmt.Sprintf("after %d changes", done), func(t *testing.T) {
			k := night.copy(t)
			a, cat, d := k.open(t)
			changes, err := cat.PendingKeyChanges(t.Context(), d.store.Drive().ID)
			if err != nil || len(changes) != 5 {
				t.Fatalf("%d changes wait: %v", len(changes), err)
			}
			_, secrets, err := a.loadPendingSecrets()
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range changes[:done] {
				if err := a.applyKeyChange(t.Context(), d, c, nil, secrets); err != nil {
					t.Fatalf("%s %s: %v", c.Kind, c.Slot, err)
				}
			}
			d.Close()
			cat.Close()
			checkReturned(t, k)
		})
	}
}

// checkReturned lets the drive return, and looks at who opens it then.
func checkReturned(t *testing.T, k keyTrial) {
	t.Helper()
	a, cat, d := k.open(t)
	defer cat.Close()
	if err := a.applyPendingKeys(t.Context(), cat, d); err != nil {
		t.Fatal(err)
	}
	if left, err := cat.PendingKeyChanges(t.Context(), d.store.Drive().ID); err != nil || len(left) > 0 {
		t.Errorf("still pending: %v, %v", left, err)
	}
	slots, err := d.store.Slots(t.Context())
	names := slotNames(slots)
	slices.Sort(names)
	if want := []string{"anna", "board", "control machine", "passphrase"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("it opens for %q, want %q: %v", names, want, err)
	}
	for slot, words := range map[string]string{passphraseSlot: "granite feather tunnel biscuit harbour", "board": "silver turnip cathedral wagon oyster"} {
		if _, err := firstThatOpens(t.Context(), d, slot, []string{words}); err != nil {
			t.Errorf("%q: %v", slot, err)
		}
	}
	if stray, err := d.store.StraySlots(t.Context()); err != nil || len(stray) > 0 {
		t.Errorf("it has stray slots: %q, %v", stray, err)
	}
	if _, secrets, err := a.loadPendingSecrets(); err != nil || len(secrets.Secrets) > 0 {
		t.Errorf("%d passphrases are kept that nothing waits for: %v", len(secrets.Secrets), err)
	}
	d.Close()
}

func TestWhatADriveOpensForOnceItReturns(t *testing.T) {
	slot := func(name, recipient string) catalog.KeySlot {
		return slotOf(catalog.KeyChange{Slot: name, Recipients: strings.Fields(recipient)})
	}
	change := func(kind catalog.KeyChangeKind, name, recipients string) catalog.PendingKeyChange {
		return catalog.PendingKeyChange{KeyChange: catalog.KeyChange{Kind: kind, Slot: name, Recipients: strings.Fields(recipients)}}
	}
	for name, c := range map[string]struct {
		waits []catalog.PendingKeyChange
		want  string
	}{
		"nothing waits":               {nil, "anna carl"},
		"removed":                     {[]catalog.PendingKeyChange{change(catalog.KeyRemove, "anna", "")}, "carl"},
		"another of that name":        {[]catalog.PendingKeyChange{change(catalog.KeyRemove, "carl", "age1old")}, "anna carl"},
		"removed and added again":     {[]catalog.PendingKeyChange{change(catalog.KeyRemove, "anna", ""), change(catalog.KeyAdd, "anna", "age1x")}, "carl anna"},
		"a new one, and its new word": {[]catalog.PendingKeyChange{change(catalog.KeyAdd, "dora", ""), change(catalog.KeyReplace, "dora", "")}, "anna carl dora"},
		"a new master key":            {[]catalog.PendingKeyChange{change(catalog.KeyRotate, "", "")}, "anna carl"},
	} {
		t.Run(name, func(t *testing.T) {
			k := driveKeys{Drive: lifeboat.Drive{Label: "K"}, Slots: []catalog.KeySlot{slot("anna", ""), slot("carl", "age1new")}, Waits: c.waits}
			var names []string
			for _, s := range k.coming() {
				names = append(names, s.Name)
			}
			if got := strings.Join(names, " "); got != c.want {
				t.Errorf("it opens for %q, want %q", got, c.want)
			}
		})
	}
}
