package main

import (
	"bytes"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lifeboat"
	"lifeboat/catalog"
)

// TestTheShellIsToldMachinesWithoutASignIn: a person who types is no reason to
// send a password.
func TestTheShellIsToldMachinesWithoutASignIn(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	called := make(chan bool, 1)
	go func() {
		if conn, err := server.Accept(); err == nil {
			conn.Close()
			called <- true
		}
	}()
	state := t.TempDir()
	var out, errs bytes.Buffer
	a := newApp(strings.NewReader(""), &out, &errs)
	a.stateDir = state
	cat, err := a.openCatalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p := point(strings.Repeat("ab", 16), "web", 1)
	p.TakenAt = time.Unix(1, 0)
	drive := lifeboat.Drive{ID: strings.Repeat("cd", 16), Label: "A1"}
	if err := cat.RecordDrive(t.Context(), catalog.Drive{Drive: drive, SeenAt: p.TakenAt}); err != nil {
		t.Fatal(err)
	}
	if err := cat.AddPoint(t.Context(), drive.ID, p); err != nil {
		t.Fatal(err)
	}
	cat.Close()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(scriptSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	if code := a.run(t.Context(), []string{"--state", state, "init", "--site", "test", "--passphrase-file", secret}); code != 0 {
		t.Fatal(errs.String())
	}
	vc := hostFile{Name: "vc", Kind: kindVSphere, URL: "https://" + server.Addr().String(), User: "u"}
	site, err := a.loadSite()
	if err != nil {
		t.Fatal(err)
	}
	site.Hosts = append(site.Hosts, vc)
	if err := errors.Join(a.saveSite(site), a.setHostPassword(vc.Name, "secret")); err != nil {
		t.Fatal(err)
	}
	run := &bootedRun{Run: strings.Repeat("ef", 16), Drive: lifeboat.Drive{Label: "A1"}, Host: vc,
		Machines: []bootedMachine{{Name: "web-try"}}}
	r, err := a.beginRun("boot", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := run.save(r.dir); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ command, want string }{
		{"export", "web\tlast exported 1970-01-01"},
		{"stop", "web-try\tbooted by run"},
	} {
		out.Reset()
		if code := a.run(t.Context(), []string{"--state", state, "__complete", c.command, ""}); code != 0 || !strings.Contains(out.String(), c.want) {
			t.Errorf("%s: exit %d, %s%s", c.command, code, out.String(), errs.String())
		}
	}
	select {
	case <-called:
		t.Error("the server was called")
	default:
	}
}
