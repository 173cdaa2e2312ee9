package main

import (
	"path/filepath"
	"testing"

	"lifeboat/catalog"
	"lifeboat/custody"
)

// A drive that the program reads is here, whatever the ledger said before, and
// also one that is in quarantine.
func TestADriveThatIsReadIsHere(t *testing.T) {
	m, folder := newSite(t)
	path, label := filepath.Join(folder, "a"), filepath.Base(folder)+"a"
	m.run("export", "--file", filepath.Join(folder, "disk.img"), "--as", "web", "--drive", path)
	cat, err := catalog.Open(t.Context(), filepath.Join(m.state, "catalog.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer cat.Close()
	a := &app{stateDir: m.state}
	where := func() custody.Kept {
		entries, err := cat.Ledger(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		list := custody.Replay(entries)
		for _, k := range list.Items {
			if k.Label == label {
				return k
			}
		}
		t.Fatal("the ledger does not have the drive")
		return custody.Kept{}
	}
	deposited := func() {
		k := where()
		bank := custody.Place{State: custody.Offsite, Location: "bank"}
		if _, err := a.record(t.Context(), cat, custody.Entry{Act: custody.ActMoved, Item: &k.Item, Signer: "Ben", To: &bank}); err != nil {
			t.Fatal(err)
		}
		if s := where().Place.State; s != custody.Offsite {
			t.Fatalf("it is %s", s)
		}
	}

	deposited()
	m.run("verify", path)
	if s := where().Place.State; s != custody.Onsite {
		t.Errorf("verified here it is %s", s)
	}
	deposited()
	m.run("drive", "quarantine", label, "--reason", "it fell")
	m.run("verify", path)
	if s := where().Place.State; s != custody.Quarantined {
		t.Errorf("read while set aside it is %s", s)
	}
	m.run("drive", "release", label)
	if s := where().Place.State; s != custody.Onsite {
		t.Errorf("released here it is %s", s)
	}
}
