package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"lifeboat"
	"lifeboat/hypervisor"
)

// listingHost is a host that only lists.
type listingHost struct {
	namedHost
	listed []hypervisor.Listed
	err    error
}

func (h listingHost) List(context.Context) ([]hypervisor.Listed, error) { return h.listed, h.err }

func (h listingHost) Abilities() hypervisor.Abilities { return hypervisor.Abilities{} }

// newListing is an app that has one open host.
func newListing(t *testing.T, kind string, h listingHost) (*app, hostFile, *bytes.Buffer) {
	t.Helper()
	file := hostFile{Name: h.name, Kind: kind}
	var out bytes.Buffer
	return &app{stdout: &out, stderr: &out, stateDir: t.TempDir(), hosts: map[hostFile]hypervisor.Host{file: h}}, file, &out
}

// record writes a boot run down.
func record(t *testing.T, a *app, b *bootedRun) {
	t.Helper()
	r, err := a.beginRun("boot", nil)
	if err != nil {
		t.Fatal(err)
	}
	b.Run = r.ID
	if err := b.save(r.dir); err != nil {
		t.Fatal(err)
	}
	r.end("", nil)
}

func TestProductionIsNeverTakenForAMachineOfARun(t *testing.T) {
	const run = "the run's own id"
	for _, c := range []struct {
		what, kind string
		recorded   bootedMachine
		there      hypervisor.Listed
		ours       bool
	}{
		{"it reads from the drive", kindLibvirt, bootedMachine{}, hypervisor.Listed{Recovery: run}, true},
		{"another run's", kindLibvirt, bootedMachine{Settled: true, HostID: "u1"}, hypervisor.Listed{HostID: "u1", Recovery: "other"}, false},
		{"the boot ended before it was defined, and production came back", kindLibvirt, bootedMachine{}, hypervisor.Listed{HostID: "u1"}, false},
		{"its definition was taken away, and production came back", kindLibvirt, bootedMachine{HostID: "u1"}, hypervisor.Listed{HostID: "u1"}, false},
		{"the copy was never defined, because production has its name", kindVSphere, bootedMachine{Settled: true}, hypervisor.Listed{HostID: "u1"}, false},
		{"the copy was defined", kindVSphere, bootedMachine{Settled: true, HostID: "u2"}, hypervisor.Listed{HostID: "u2"}, true},
		{"the copy is gone, and production has its name", kindVSphere, bootedMachine{Settled: true, HostID: "u2"}, hypervisor.Listed{HostID: "u1"}, false},
		{"it was moved to local disk", kindLibvirt, bootedMachine{Settled: true, HostID: "u1"}, hypervisor.Listed{HostID: "u1"}, true},
		{"it was moved by an older program", kindQEMU, bootedMachine{Settled: true}, hypervisor.Listed{HostID: "web"}, true},
	} {
		c.there.Machine, c.there.Power = lifeboat.Machine{ID: "m1", Name: "web"}, hypervisor.PowerOn
		c.recorded.Machine, c.recorded.Name = "m1", "web"
		a, file, _ := newListing(t, c.kind, listingHost{namedHost: namedHost{name: "vc"}})
		b := &bootedRun{Host: file, Machines: []bootedMachine{c.recorded}}
		record(t, a, b)
		if c.there.Recovery == run {
			c.there.Recovery = b.Run
		}
		a.hosts[file] = listingHost{namedHost: namedHost{name: "vc"}, listed: []hypervisor.Listed{c.there}}
		rows, err := a.runningRows(t.Context())
		if err != nil || (len(rows) == 1) != c.ours {
			t.Errorf("%s: ps has %+v, %v", c.what, rows, err)
		}
	}
}

func TestNothingIsBootedOnAHostThatDoesNotSayWhatItHas(t *testing.T) {
	broken := errors.New("a machine cannot be read")
	points := []lifeboat.RestorePoint{point("a", "db", 1)}
	h := listingHost{namedHost: namedHost{name: "vc"}, err: broken}
	a, _, _ := newListing(t, kindVSphere, h)
	if _, err := a.planBoot(t.Context(), h, newID(), bootFlags{}, points); !errors.Is(err, broken) || !strings.Contains(err.Error(), "host vc") {
		t.Errorf("got %v", err)
	}
	// One machine that is broken does not keep the others from coming back.
	h.listed = []hypervisor.Listed{{Machine: lifeboat.Machine{Name: "web"}}}
	a, _, said := newListing(t, kindVSphere, h)
	if _, err := a.planBoot(t.Context(), h, newID(), bootFlags{}, points); err != nil || !strings.Contains(said.String(), broken.Error()) {
		t.Errorf("got %v, said %q", err, said)
	}
	if entries, err := os.ReadDir(a.runsDir()); len(entries) != 0 {
		t.Errorf("a plan left %v, %v", entries, err)
	}
}

func TestAHostOfARunIsTheOneThatTheSiteHasNow(t *testing.T) {
	then := hostFile{Name: "vc", Kind: kindVSphere, URL: "https://old", User: "u", Thumbprint: "AA"}
	now := hostFile{Name: "vc", Kind: kindVSphere, URL: "https://new", User: "u", Thumbprint: "BB"}
	old, current := namedHost{name: "old"}, namedHost{name: "new"}
	a := &app{stdout: io.Discard, stderr: io.Discard, stateDir: t.TempDir(), hosts: map[hostFile]hypervisor.Host{then: old, now: current}}
	b := &bootedRun{Run: newID(), Host: then}
	if h, err := a.openRunHost(b); err != nil || h.Name() != "old" {
		t.Errorf("without a site: %v, %v", h, err)
	}
	if err := a.saveSite(&siteFile{Version: siteVersion, Hosts: []hostFile{now}}); err != nil {
		t.Fatal(err)
	}
	if h, err := a.openRunHost(b); err != nil || h.Name() != "new" {
		t.Errorf("after the host was trusted anew: %v, %v", h, err)
	}
	b.Host.Kind = kindQEMU
	a.hosts[b.Host] = old
	if h, err := a.openRunHost(b); err != nil || h.Name() != "old" {
		t.Errorf("another host of that name: %v, %v", h, err)
	}
}
