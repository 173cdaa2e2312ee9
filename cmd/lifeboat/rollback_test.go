package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lifeboat"
	"lifeboat/hypervisor"
	"lifeboat/runbook"
)

// TestARollbackTakesNothingOfProduction: the hosts of a recovery have machines of
// the same names that are production's.
func TestARollbackTakesNothingOfProduction(t *testing.T) {
	a := newApp(strings.NewReader(""), io.Discard, io.Discard)
	a.stateDir = t.TempDir()
	t.Cleanup(a.closeHosts)
	run := newID()
	dir := filepath.Join(a.runsDir(), run)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	define := func(file hostFile, name, recovery string) string {
		host, err := a.openHost(file)
		if err != nil {
			t.Fatal(err)
		}
		m := lifeboat.Machine{Name: name, ID: newID(), Firmware: lifeboat.Firmware{Kind: lifeboat.FirmwareBIOS}, MemoryBytes: 64 << 20, CPUs: 1}
		if err := host.Define(t.Context(), hypervisor.Definition{Name: name, Recovery: recovery, Machine: m}); err != nil {
			t.Fatal(err)
		}
		return m.ID
	}
	first := hostFile{Name: "first", Kind: kindQEMU, Dir: t.TempDir()}
	second := hostFile{Name: "second", Kind: kindQEMU, Dir: t.TempDir()}
	db := define(first, "db", run)
	define(first, "web", "") // production's
	web := define(second, "web", run)
	define(second, "db", "")           // production's
	mail := define(second, "mail", "") // it came back after the one of the run was removed
	b := &bootedRun{Run: run, Mode: runbook.Recover, Host: first, Others: []hostFile{second}, Machines: []bootedMachine{
		{Name: "db", Planned: "db", Machine: db, HostID: "db"},
		{Name: "web", Planned: "web", Machine: web, HostID: "web", Host: "second"},
		{Name: "mail", Planned: "mail", Machine: mail, HostID: "mail", Host: "second", Settled: true},
	}}
	if err := b.save(dir); err != nil {
		t.Fatal(err)
	}
	machines, err := a.machinesOfRun(t.Context(), run, dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range takeBack(t.Context(), machines) {
		if row.err != nil || row.Folder == "" {
			t.Errorf("%s on %s: %q, %v", row.Machine, row.Host, row.Folder, row.err)
		}
	}
	for path, want := range map[string]bool{
		first.Dir + "/db": false, first.Dir + "/web": true,
		second.Dir + "/web": false, second.Dir + "/db": true, second.Dir + "/mail": true,
	} {
		if _, err := os.Stat(path + "/machine.json"); (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", path, err == nil, want)
		}
	}
}
