package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"lifeboat"
	"lifeboat/hypervisor"
)

// hearingHost hears from its guest which address it has.
type hearingHost struct {
	hypervisor.Host
	asked string
	cards []lifeboat.NIC
	err   error
}

func (h *hearingHost) Addresses(_ context.Context, machine string) ([]lifeboat.NIC, error) {
	h.asked = machine
	return h.cards, h.err
}

// A check on a network of others asks where the guest is now, and not where the
// original was when it was exported.
func TestACheckAsksTheAddressThatTheGuestTells(t *testing.T) {
	original := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("original")) }))
	defer original.Close()
	recovered, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("recovered")) })}
	go server.Serve(recovered)
	defer server.Close()
	port := recovered.Addr().(*net.TCPAddr).Port

	// The loopback is no address of a guest, so the rule for a check is tried
	// with what dial returns, and the answer with what is there.
	h := &hearingHost{cards: []lifeboat.NIC{{Addresses: []string{"fe80::1/64"}}, {Addresses: []string{"10.9.0.7/24"}}}}
	b := &booter{host: h, booted: &bootedRun{Machines: []bootedMachine{{Name: "web", HostID: "uuid-1"}}}}
	m := plannedBoot{Name: "web"}
	c := bootCheck{Machine: "web", Kind: "http", Port: port, Path: "/", Dial: strings.TrimPrefix(original.URL, "http://"), direct: true}
	to, err := b.dial(t.Context(), m, c)
	if err != nil || to != "10.9.0.7:"+strconv.Itoa(port) || h.asked != "uuid-1" {
		t.Errorf("%q of %q, %v", to, h.asked, err)
	}

	// Without a word of the guest nobody else is asked.
	h.cards[1].Addresses = nil
	synctest.Test(t, func(t *testing.T) {
		if answer, err := b.ask(t.Context(), m, c); err == nil || !strings.Contains(err.Error(), "--address web=") {
			t.Errorf("it answered %q, %v", answer, err)
		}
	})
	h.err = errors.New("no session")
	if _, err := b.ask(t.Context(), m, c); !errors.Is(err, h.err) {
		t.Errorf("%v", err)
	}

	// An address that a person gave is asked, and so is a forward of ours.
	m.readdressed = true
	if answer, err := b.ask(t.Context(), m, c); err != nil || answer != "original" {
		t.Errorf("%q, %v", answer, err)
	}
	m.readdressed, c.direct, c.Dial = false, false, recovered.Addr().String()
	if answer, err := b.ask(t.Context(), m, c); err != nil || answer != "recovered" {
		t.Errorf("%q, %v", answer, err)
	}
}
