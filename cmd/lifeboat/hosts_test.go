package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lifeboat"
	"lifeboat/hypervisor"
)

// smallHost has one machine, or does not answer.
type smallHost struct {
	hypervisor.Host
	name  string
	deaf  bool
	asked bool
}

func (h *smallHost) Name() string { return h.name }

func (h *smallHost) List(ctx context.Context) ([]hypervisor.Listed, error) {
	h.asked = true
	if h.deaf {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	return []hypervisor.Listed{{HostID: "1", Machine: lifeboat.Machine{ID: strings.Repeat("ab", 16), Name: "db"}}}, nil
}

func TestAHostThatNobodyNamedIsNotWaitedFor(t *testing.T) {
	lab, vc := hostFile{Name: "lab", Kind: kindQEMU, Dir: "/nonexistent"}, hostFile{Name: "vc", Kind: kindVSphere}
	site := &siteFile{Hosts: []hostFile{lab, vc, {Name: localHost, Kind: kindQEMU, Dir: "/nonexistent"}}}
	for _, c := range []struct {
		why   string
		words string
		list  func(a *app, ctx context.Context, words []string) ([]machineOn, error)
		// asked says whether the deaf host is asked, waited for how long.
		asked  bool
		waited time.Duration
	}{
		{"show lab/db", "lab/db", func(a *app, ctx context.Context, w []string) ([]machineOn, error) {
			return a.machinesNamed(ctx, site, w)
		}, false, 0},
		{"show db", "db", func(a *app, ctx context.Context, w []string) ([]machineOn, error) {
			return a.machinesNamed(ctx, site, w)
		}, true, listPatience},
		{"show other/db", "other/db", func(a *app, ctx context.Context, w []string) ([]machineOn, error) {
			return a.machinesNamed(ctx, site, w)
		}, true, listPatience},
		{"show lab/db vc/web", "lab/db vc/web", func(a *app, ctx context.Context, w []string) ([]machineOn, error) {
			return a.machinesNamed(ctx, site, w)
		}, true, listPatience},
		{"export lab/db", "lab/db", func(a *app, ctx context.Context, w []string) ([]machineOn, error) {
			return a.machinesBeside(ctx, site, w)
		}, true, otherPatience},
		{"export db", "db", func(a *app, ctx context.Context, w []string) ([]machineOn, error) {
			return a.machinesBeside(ctx, site, w)
		}, true, listPatience},
		{"export --all", "", func(a *app, ctx context.Context, w []string) ([]machineOn, error) {
			return a.machinesBeside(ctx, site, w)
		}, true, listPatience},
	} {
		synctest.Test(t, func(t *testing.T) {
			deaf := &smallHost{name: "vc", deaf: true}
			a := newApp(strings.NewReader(""), &bytes.Buffer{}, &bytes.Buffer{})
			a.stateDir = "/nonexistent"
			a.hosts = map[hostFile]hypervisor.Host{lab: &smallHost{name: "lab"}, vc: deaf, site.Hosts[2]: &smallHost{name: localHost}}
			began := time.Now()
			all, err := c.list(a, t.Context(), strings.Fields(c.words))
			if waited := time.Since(began); deaf.asked != c.asked || waited < c.waited || waited > c.waited+time.Second {
				t.Errorf("%s: asked %v, waited %v", c.why, deaf.asked, waited)
			}
			if len(all) == 0 || all[0].place() != "lab/db" || (err != nil) != c.asked {
				t.Errorf("%s: %v, %v", c.why, all, err)
			}
		})
	}
}

func TestTwoThatChangeTheSiteAtOnceLoseNothing(t *testing.T) {
	state, secret := t.TempDir(), filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(scriptSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	one := func() *app {
		a := newApp(strings.NewReader(""), io.Discard, io.Discard)
		a.stateDir = state
		return a
	}
	if code := one().run(t.Context(), []string{"--state", state, "init", "--site", "test", "--passphrase-file", secret}); code != 0 {
		t.Fatal("no site")
	}
	const several = 12
	var work sync.WaitGroup
	for i := range several {
		name := fmt.Sprint("vc", i)
		work.Go(func() {
			if err := one().keepHost(hostFile{Name: name, Kind: kindVSphere, URL: "https://" + name + ".example.org", User: "u"}, "secret of "+name); err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
	s, err := one().loadSite()
	if err != nil || len(s.Hosts) != several {
		t.Fatalf("%d hosts are left of %d, %v", len(s.Hosts), several, err)
	}
	for _, h := range s.Hosts {
		if got, err := one().hostPassword(h.Name); err != nil || got != "secret of "+h.Name {
			t.Errorf("%s: %v", h.Name, err)
		}
	}
}

func TestTwoMachinesOfOneNameOnOneHostAreToldApart(t *testing.T) {
	on := func(id, hostID string) machineOn {
		return machineOn{hypervisor.Listed{Machine: lifeboat.Machine{ID: id, Name: "web"}, HostID: hostID}, namedHost{name: "vc"}}
	}
	all := []machineOn{on("aaaaaaaa", "50120b3c-0001"), on("bbbbbbbb", "50120b3c-0002")}
	for word, want := range map[string]string{
		"50120b3c-0001": "aaaaaaaa", "vc/50120B3C-0002": "bbbbbbbb", "bbbbbb": "bbbbbbbb", "vc/aaaaaa": "aaaaaaaa",
	} {
		if got, err := findMachines(all, []string{word}); err != nil || got[0].Machine.ID != want {
			t.Errorf("%s: %v, %v", word, got, err)
		}
	}
	for _, word := range []string{"web", "vc/web"} {
		if _, err := findMachines(all, []string{word}); err == nil || !strings.Contains(err.Error(), "hostId") {
			t.Errorf("%s: %v", word, err)
		}
	}
}
