package main

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lifeboat"
	"lifeboat/hypervisor"
	"lifeboat/runbook"
)

// strayOf starts a process that belongs to a run, and is collected when it ends.
func strayOf(t *testing.T, run string, args ...string) {
	t.Helper()
	cmd := exec.Command("sleep", append(args, "600")...)
	cmd.Env = append(os.Environ(), "LIFEBOAT_RUN="+run)
	detached(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	t.Cleanup(func() { cmd.Process.Kill(); <-ended })
}

// deadDrill is a state with a drill whose program died.
func deadDrill(t *testing.T) (a *app, id, dir string) {
	t.Helper()
	a = newApp(strings.NewReader(""), io.Discard, io.Discard)
	a.stateDir = t.TempDir()
	id = newID()
	dir = filepath.Join(a.runsDir(), id)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	plan := runbook.Plan{Mode: runbook.Drill, Machines: []runbook.PlannedMachine{{Name: "db", Host: localHost}}}
	dead := runFile{ID: id, Kind: "drill", Began: time.Now(), Process: process{PID: 1 << 22, Start: "1", BootID: "none"}}
	for file, v := range map[string]any{planFile: plan, "run.json": dead} {
		if err := saveJSON(filepath.Join(dir, file), v); err != nil {
			t.Fatal(err)
		}
	}
	return a, id, dir
}

func TestCleaningADrillTakesEverythingOfItAndNothingElse(t *testing.T) {
	a, id, dir := deadDrill(t)
	other := newID()
	strayOf(t, id)
	strayOf(t, other)
	sockets, err := socketFolder(id)
	if err != nil {
		t.Fatal(err)
	}
	host, err := a.openHost(a.localHostFile())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.closeHosts)
	for name, run := range map[string]string{"db": id, "web": other} {
		d := hypervisor.Definition{Name: name, Recovery: run, Machine: lifeboat.Machine{Name: name, ID: newID(), Firmware: lifeboat.Firmware{Kind: lifeboat.FirmwareBIOS}, MemoryBytes: 64 << 20, CPUs: 1}}
		if err := host.Define(context.Background(), d); err != nil {
			t.Fatal(err)
		}
	}
	if found := a.leftOf(context.Background(), id, dir, []string{localHost}); len(found) != 3 {
		t.Fatalf("found before: %q, want a machine, a process and a folder", found)
	}
	left, err := a.cleanDrill(context.Background(), id)
	if err != nil || len(left) > 0 {
		t.Fatalf("left %q, %v", left, err)
	}
	if _, err := os.Lstat(sockets); err == nil {
		t.Errorf("the folder of the sockets is still there")
	}
	if still := a.leftOf(context.Background(), other, filepath.Join(a.runsDir(), other), []string{localHost}); len(still) != 2 {
		t.Errorf("of the other run there is %q, want its machine and its process", still)
	}
	f, err := readRun(dir)
	if err != nil || needsCleaning(dir, f) {
		t.Errorf("the drill still needs cleaning (%v)", err)
	}
}

func TestAHostThatCannotBeAskedIsNotCalledClean(t *testing.T) {
	a, id, dir := deadDrill(t)
	plan := runbook.Plan{Machines: []runbook.PlannedMachine{{Name: "db", Host: "gone"}}}
	if err := saveJSON(filepath.Join(dir, planFile), plan); err != nil {
		t.Fatal(err)
	}
	left, err := a.cleanDrill(context.Background(), id)
	if err != nil || len(left) == 0 {
		t.Fatalf("left %q, %v; want the host that was not asked", left, err)
	}
	if f, _ := readRun(dir); !needsCleaning(dir, f) {
		t.Error("it is not cleaned again")
	}
}
