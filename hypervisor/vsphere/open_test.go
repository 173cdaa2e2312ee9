package vsphere

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/soap"

	"lifeboat"
	"lifeboat/hypervisor"
)

// simulated starts govmomi's simulator with TLS. It ends with the test.
func simulated(t *testing.T, model *simulator.Model) *simulator.Server {
	t.Helper()
	if err := model.Create(); err != nil {
		t.Fatal(err)
	}
	model.Service.TLS = new(tls.Config)
	// Without this the simulator takes any name and password.
	model.Service.Listen = &url.URL{User: url.UserPassword("lifeboat", "right horse")}
	s := model.Service.NewServer()
	t.Cleanup(func() {
		s.Close()
		model.Remove()
	})
	return s
}

// optionsFor signs in to a simulator, its certificate pinned.
func optionsFor(s *simulator.Server) Options {
	return Options{
		Name: "vc", URL: "https://" + s.URL.Host, User: "lifeboat", Password: "right horse",
		Thumbprint: soap.ThumbprintSHA256(s.CertificateInfo().Certificate),
	}
}

// opened is a host on a simulator. It is closed with the test.
func opened(t *testing.T, o Options) *Host {
	t.Helper()
	h, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// problem is the Problem of an error; the test ends without one.
func problem(t *testing.T, err error) *lifeboat.Problem {
	t.Helper()
	var p *lifeboat.Problem
	if !errors.As(err, &p) {
		t.Fatalf("%v is no problem an operator could read", err)
	}
	if p.What == "" || p.Safe == "" || p.Next == "" {
		t.Fatalf("the problem does not say everything: %+v", p)
	}
	return p
}

// sessions counts who is signed in, as the server tells it.
func sessions(t *testing.T, s *simulator.Server) int {
	t.Helper()
	ctx := context.Background()
	c, err := vim25.NewClient(ctx, soap.NewClient(s.URL, true))
	if err != nil {
		t.Fatal(err)
	}
	m := session.NewManager(c)
	if err := m.Login(ctx, s.URL.User); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.Logout(ctx) }()
	list, err := sessionList(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, one := range list {
		if one.UserAgent == "lifeboat" {
			n++
		}
	}
	return n
}

func TestTheURLOfAServerHoldsNoSecretAndIsEncrypted(t *testing.T) {
	for _, bad := range []string{"", "http://vc", "https://", "https://me:secret@vc", "https://vc:x%zz", "ftp://vc"} {
		_, err := Open(Options{Name: "vc", URL: bad, User: "u"})
		if err == nil {
			t.Errorf("%q was taken", bad)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: the error tells the password: %v", bad, err)
		}
	}
	for _, good := range []string{"vc", "https://vc", "https://vc/", "https://vc/sdk"} {
		h, err := Open(Options{Name: "vc", URL: good, User: "u"})
		if err != nil || h.url.String() != "https://vc/sdk" {
			t.Errorf("%q became %v, %v", good, h, err)
		}
	}
}

func TestASessionIsOpenedOnceAndEndsWithTheHost(t *testing.T) {
	s := simulated(t, simulator.VPX())
	h := opened(t, optionsFor(s))
	if n := sessions(t, s); n != 0 {
		t.Fatalf("%d sessions before anything was asked", n)
	}
	for range 3 {
		if _, err := h.find(t.Context(), "DC0_H0_VM0"); err != nil {
			t.Fatal(err)
		}
	}
	if n := sessions(t, s); n != 1 {
		t.Fatalf("%d sessions, not one", n)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if n := sessions(t, s); n != 0 {
		t.Fatalf("%d sessions are left", n)
	}
	if _, err := h.find(t.Context(), "DC0_H0_VM0"); !errors.Is(err, errClosed) {
		t.Errorf("a closed host answers: %v", err)
	}
}

func TestAnExpiredSessionIsMadeAnewAndTheCallGoesOn(t *testing.T) {
	s := simulated(t, simulator.VPX())
	h := opened(t, optionsFor(s))
	for range 3 {
		if _, err := h.find(t.Context(), "DC0_H0_VM0"); err != nil {
			t.Fatal(err)
		}
		endSessions(t, s)
	}
	if _, err := h.find(t.Context(), "DC0_H0_VM0"); err != nil {
		t.Fatal(err)
	}
}

func TestAWrongPasswordIsSaidOnceAndNeverShown(t *testing.T) {
	s := simulated(t, simulator.VPX())
	o := optionsFor(s)
	o.Password = "wrong horse"
	h := opened(t, o)
	_, err := h.find(t.Context(), "DC0_H0_VM0")
	p := problem(t, err)
	if !strings.Contains(p.Next, "lifeboat host password vc") {
		t.Errorf("next: %s", p.Next)
	}
	for e := err; e != nil; e = errors.Unwrap(e) {
		if strings.Contains(e.Error(), o.Password) {
			t.Errorf("the error tells the password: %v", e)
		}
	}
	// The server now takes it; we do not ask again, since that locks accounts.
	h.o.Password = "right horse"
	if _, again := h.find(t.Context(), "DC0_H0_VM0"); again == nil || again.Error() != err.Error() {
		t.Errorf("the second answer: %v", again)
	}
}

func TestAnUnknownCertificateIsShownWithTheCommandThatPinsIt(t *testing.T) {
	s := simulated(t, simulator.VPX())
	o := optionsFor(s)
	print := o.Thumbprint
	o.Thumbprint = ""
	_, err := opened(t, o).find(t.Context(), "DC0_H0_VM0")
	p := problem(t, err)
	if !strings.Contains(p.Next, "--thumbprint "+print) {
		t.Errorf("next: %s", p.Next)
	}
	o.Thumbprint = strings.Repeat("ab", 32)
	_, err = opened(t, o).find(t.Context(), "DC0_H0_VM0")
	if p := problem(t, err); !strings.Contains(p.What, "not the one that was pinned") || !strings.Contains(p.Next, print) {
		t.Errorf("a wrong pin: %+v", p)
	}
	for _, pin := range []string{
		soap.ThumbprintSHA1(s.CertificateInfo().Certificate),
		strings.ToLower(strings.ReplaceAll(print, ":", "")),
	} {
		o.Thumbprint = pin
		if _, err := opened(t, o).find(t.Context(), "DC0_H0_VM0"); err != nil {
			t.Errorf("pinned by %s: %v", pin, err)
		}
	}
}

func TestAServerThatIsAwayIsAProblemAndNotAHang(t *testing.T) {
	s := simulated(t, simulator.VPX())
	h := opened(t, optionsFor(s))
	s.Close()
	_, err := h.find(t.Context(), "DC0_H0_VM0")
	if p := problem(t, err); !strings.Contains(p.What, "does not answer") {
		t.Errorf("what: %s", p.What)
	}
}

func TestAMachineIsFoundByNamePathUUIDAndLifeboatID(t *testing.T) {
	for kind, model := range map[string]*simulator.Model{"vCenter": simulator.VPX(), "ESXi": simulator.ESX()} {
		t.Run(kind, func(t *testing.T) {
			s := simulated(t, model)
			h := opened(t, optionsFor(s))
			name, path := "DC0_H0_VM0", "/DC0/vm/DC0_H0_VM0"
			if kind == "ESXi" {
				name, path = "ha-host_VM0", "/ha-datacenter/vm/ha-host_VM0"
			}
			f, err := h.find(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			for _, word := range []string{path, f.hostID(), strings.ToUpper(f.hostID()), f.id()} {
				if g, err := h.find(t.Context(), word); err != nil || g.ref != f.ref {
					t.Errorf("%s: %v", word, err)
				}
			}
			for _, word := range []string{"nobody", "/DC0/vm/nobody", strings.Repeat("0", 32), ""} {
				if _, err := h.find(t.Context(), word); !errors.Is(err, hypervisor.ErrNoMachine) {
					t.Errorf("%s: %v", word, err)
				}
			}
		})
	}
}

func TestACallerDoesNotWaitForAnothersConnectionLongerThanItMay(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	h, err := Open(Options{Name: "vc", URL: "https://" + silent.Addr().String(), User: "u"})
	if err != nil {
		t.Fatal(err)
	}
	first, stop := context.WithCancel(t.Context())
	var connecting sync.WaitGroup
	connecting.Go(func() { _, _ = h.client(first) })
	defer connecting.Wait()
	defer stop()
	if _, err := silent.Accept(); err != nil {
		t.Fatal(err)
	}
	second, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := h.client(second); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > bootCeiling {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
}
