package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lifeboat"
	"lifeboat/hypervisor"
	"lifeboat/runbook"
)

// askedHost is a host whose machine answers what a test says.
type askedHost struct {
	hypervisor.Host
	mu      sync.Mutex
	links   map[int]bool
	printed string
	noAgent int // how often the agent is not there yet
	run     func(c hypervisor.GuestCommand) (hypervisor.GuestResult, error)
}

func (h *askedHost) Linked(_ context.Context, _ string, card int) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.links[card], nil
}

func (h *askedHost) Link(_ context.Context, _ string, card int, up bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.links[card] = up
	return nil
}

func (h *askedHost) Abilities() hypervisor.Abilities { return hypervisor.Abilities{Labs: true} }

func (h *askedHost) Printed(context.Context, string, int64) ([]byte, error) {
	return []byte(h.printed), nil
}

func (h *askedHost) GuestPing(context.Context, string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.noAgent--; h.noAgent >= 0 {
		return hypervisor.ErrNoAgent
	}
	return nil
}

func (h *askedHost) GuestRun(ctx context.Context, machine string, c hypervisor.GuestCommand) (hypervisor.GuestResult, error) {
	if err := h.GuestPing(ctx, machine); err != nil {
		return hypervisor.GuestResult{}, err
	}
	return h.run(c)
}

// testLab stands for a lab: its dials lead to a server of the test.
type testLab struct {
	to    string
	asked atomic.Int64
}

func (l *testLab) Dial(ctx context.Context, network, _ string) (net.Conn, error) {
	l.asked.Add(1)
	return (&net.Dialer{}).DialContext(ctx, network, l.to)
}

func (l *testLab) Ping(context.Context, string) (time.Duration, error) {
	l.asked.Add(1)
	return time.Millisecond, nil
}
func (l *testLab) Has(network string) bool                     { return network == "lan" }
func (l *testLab) Namespace(context.Context) (*os.File, error) { return os.Open("/proc/self/ns/net") }
func (l *testLab) Resolver() netip.Addr                        { return netip.Addr{} }

// askRuns gives each test a run of its own.
var askRuns atomic.Int64

// newAskTest is an asker in a mode, for a machine web with one card.
func newAskTest(t *testing.T, mode runbook.Mode, lab askLab) (*asker, *askedHost, runbook.Action) {
	t.Helper()
	host := &askedHost{links: map[int]bool{0: true}}
	a := newApp(strings.NewReader(""), &syncBuffer{}, &syncBuffer{})
	plan := &runbook.Plan{
		Mode: mode, Site: "Example Ltd",
		Networks: []runbook.PlannedNetwork{{Name: "lan", Cable: runbook.Cable{Kind: runbook.CableBridge, Name: "br-none"}}},
		Machines: []runbook.PlannedMachine{{Name: "web", Host: "here",
			Cards: []runbook.PlannedCard{{MAC: "52:54:00:00:00:01", Network: "lan", Address: []string{"127.0.0.2/8", "192.0.2.7/24"}}}}},
	}
	k := a.newAsker(askerOptions{
		plan: plan, lab: lab, run: &run{ID: fmt.Sprintf("%016x", askRuns.Add(1)), dir: t.TempDir()},
		find: func(context.Context, runbook.Action) (hypervisor.Host, hypervisor.Listed, bool, error) {
			return host, hypervisor.Listed{Machine: lifeboat.Machine{Name: "web", Agent: true}, HostID: "id", Power: hypervisor.PowerOn}, true, nil
		},
	})
	return k, host, runbook.Action{Plan: plan, Machine: &plan.Machines[0], Attempt: 1, Say: func(string) {},
		Step: runbook.PlannedStep{ID: "step-web", Machine: "web"}}
}

// checks lets a check step with one check run.
func (k *asker) checks(t *testing.T, act runbook.Action, c runbook.Check) (runbook.Result, error) {
	t.Helper()
	act.Step.Kind, act.Step.Step.Checks = runbook.StepCheck, []runbook.Check{c}
	return k.Do(t.Context(), act)
}

// dnsServer answers one name.
func dnsServer(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buffer := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			// RFC 1035: a header of 12 bytes, a name, its type and its class.
			end := bytes.IndexByte(buffer[12:n], 0) + 12 + 5
			answer := bytes.Clone(buffer[:end])
			answer[2], answer[3], answer[11] = 0x84, 0x80, 0 // an answer, without additional records
			switch {
			case !bytes.HasPrefix(buffer[12:n], []byte("\x02db\x07example\x03com\x00")):
				answer[3] |= 3 // there is no such name
			case buffer[end-3] == 1: // an A record is asked for
				answer[7] = 1
				answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 9)
			}
			conn.WriteTo(answer, from)
		}
	}()
	return conn.LocalAddr().String()
}

func TestEachKindOfCheckPassesAndFailsForTheRightReason(t *testing.T) {
	t.Parallel()
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/moved":
			http.Redirect(w, r, "http://production.example.com/", http.StatusFound)
		case r.Host == "shop.example.com":
			fmt.Fprint(w, "the shop")
		default:
			fmt.Fprint(w, "welcome")
		}
	}))
	t.Cleanup(page.Close)
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "safe") }))
	t.Cleanup(secure.Close)
	hanging, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { hanging.Close() })
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	web, tls, dns := page.Listener.Addr().String(), secure.Listener.Addr().String(), dnsServer(t)

	tests := []struct {
		name, to string
		check    runbook.Check
		want     string // in the detail
		fails    string // in the problem
	}{
		{"tcp", web, runbook.Check{Kind: runbook.CheckTCP, Port: 80}, "tcp 80", ""},
		{"tcp refused", closed.Addr().String(), runbook.Check{Kind: runbook.CheckTCP, Port: 80}, "", "connection refused"},
		{"http", web, runbook.Check{Kind: runbook.CheckHTTP, Body: "welcome"}, "answers 200", ""},
		{"http of a name", web, runbook.Check{Kind: runbook.CheckHTTP, HostName: "shop.example.com", Body: "the shop"}, "answers 200", ""},
		{"http status", web, runbook.Check{Kind: runbook.CheckHTTP, Status: 503}, "", "answers 200 OK, and 503 is wanted"},
		{"http body", web, runbook.Check{Kind: runbook.CheckHTTP, Body: "goodbye"}, "", `does not have the text "goodbye"`},
		{"a redirect is not followed", web, runbook.Check{Kind: runbook.CheckHTTP, Path: "/moved"}, "", "answers 302 Found"},
		{"a redirect that is wanted", web, runbook.Check{Kind: runbook.CheckHTTP, Path: "/moved", Status: 302}, "answers 302", ""},
		{"http that hangs", hanging.Addr().String(), runbook.Check{Kind: runbook.CheckHTTP}, "", "deadline exceeded"},
		{"https", tls, runbook.Check{Kind: runbook.CheckHTTPS}, "certificate SHA-256", ""},
		{"https of its name", tls, runbook.Check{Kind: runbook.CheckHTTPS, HostName: "example.com"}, "would refuse it today", ""},
		{"https of another name", tls, runbook.Check{Kind: runbook.CheckHTTPS, HostName: "mail.example.org"}, "", "is for another"},
		{"dns", dns, runbook.Check{Kind: runbook.CheckDNS, HostName: "db.example.com"}, "is 192.0.2.9", ""},
		{"dns without the name", dns, runbook.Check{Kind: runbook.CheckDNS, HostName: "nobody.example.com"}, "", "no such host"},
		{"ping", "", runbook.Check{Kind: runbook.CheckPing}, "answers in 1ms", ""},
		{"agent", "", runbook.Check{Kind: runbook.CheckAgent}, "agent", ""},
		{"console", "", runbook.Check{Kind: runbook.CheckConsole, Text: "login:"}, "printed", ""},
		{"console without it", "", runbook.Check{Kind: runbook.CheckConsole, Text: "panic"}, "", `its last line is "web login:"`},
		{"guest", "", runbook.Check{Kind: runbook.CheckGuest, Command: []string{"good"}}, "all rows", ""},
		{"guest that fails", "", runbook.Check{Kind: runbook.CheckGuest, Command: []string{"bad"}}, "", "it ended with 3: no rows"},
		{"command", "", runbook.Check{Kind: runbook.CheckCommand, Command: []string{"echo", "fine"}}, "fine", ""},
		{"command that fails", "", runbook.Check{Kind: runbook.CheckCommand, Command: []string{"sh", "-c", "echo broken; exit 4"}}, "", "it ended with 4: broken"},
		{"command that is not there", "", runbook.Check{Kind: runbook.CheckCommand, Command: []string{"no-such-program-here"}}, "", "has no program"},
		{"a kind of a later program", "", runbook.Check{Kind: "smoke"}, "", "knows no check"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			k, host, act := newAskTest(t, runbook.Recover, &testLab{to: test.to})
			host.printed = "Debian\r\nweb login: "
			host.run = func(c hypervisor.GuestCommand) (hypervisor.GuestResult, error) {
				if c.Path == "good" {
					return hypervisor.GuestResult{Stdout: []byte("all rows\n")}, nil
				}
				return hypervisor.GuestResult{ExitCode: 3, Stderr: []byte("no rows\n")}, nil
			}
			test.check.Within = 2 * time.Minute
			if test.fails != "" {
				test.check.Within, test.check.Timeout = 3*time.Second, 2*time.Second
			}
			r, err := k.checks(t, act, test.check)
			if test.fails == "" && (err != nil || !strings.Contains(r.Detail, test.want)) {
				t.Errorf("%v; detail %q", err, r.Detail)
			}
			if test.fails != "" && (!errors.Is(err, runbook.ErrCheckFailed) || !strings.Contains(problemOf(err).What, test.fails)) {
				t.Errorf("failed with: %v", err)
			}
		})
	}
}

func TestAServiceThatFlapsDoesNotPass(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1)%2 == 0 {
			w.WriteHeader(http.StatusBadGateway)
		}
	}))
	defer page.Close()
	k, _, act := newAskTest(t, runbook.Recover, &testLab{to: page.Listener.Addr().String()})
	var told []string
	act.Say = func(text string) { told = append(told, text) }
	_, err := k.checks(t, act, runbook.Check{Kind: runbook.CheckHTTP, Passes: 3, Within: 10 * time.Second})
	if !errors.Is(err, runbook.ErrCheckFailed) || !strings.Contains(problemOf(err).What, "passed and failed again") {
		t.Errorf("a service that answers every second time: %v", err)
	}
	if !strings.Contains(strings.Join(told, "\n"), "502") {
		t.Errorf("nobody was told: %q", told)
	}
}

func TestAServiceThatIsUpLaterPassesAndTheTimeIsMeasured(t *testing.T) {
	t.Parallel()
	k, host, act := newAskTest(t, runbook.Recover, nil)
	host.noAgent = 2
	r, err := k.checks(t, act, runbook.Check{Kind: runbook.CheckAgent, Within: 2 * time.Minute, Passes: 2})
	if err != nil || r.Spent[runbook.SpentService] < 2*tryFirst {
		t.Errorf("%v; it took %v", err, r.Spent)
	}
}

func TestAStoppedCheckSaysWhyAndIsNotTheMachinesFault(t *testing.T) {
	t.Parallel()
	k, host, act := newAskTest(t, runbook.Recover, nil)
	host.noAgent = 1 << 30
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped by a person")
	time.AfterFunc(300*time.Millisecond, func() { cancel(stopped) })
	act.Step.Kind, act.Step.Step.Checks = runbook.StepCheck, []runbook.Check{{Kind: runbook.CheckAgent}}
	if _, err := k.Do(ctx, act); !errors.Is(err, stopped) || errors.Is(err, runbook.ErrCheckFailed) {
		t.Errorf("it ended with %v", err)
	}
}

// A drill that has no lab asks the machine inside, through its agent, and whoever
// has its address on this computer's networks is asked nothing.
func TestADrillNeverAsksOverTheNetworksOfThisComputer(t *testing.T) {
	t.Parallel()
	production, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Skipf("this computer has no 127.0.0.2: %v", err)
	}
	defer production.Close()
	var connected atomic.Int64
	go func() {
		for {
			conn, err := production.Accept()
			if err != nil {
				return
			}
			connected.Add(1)
			conn.Close()
		}
	}()
	port := production.Addr().(*net.TCPAddr).Port
	k, host, act := newAskTest(t, runbook.Drill, nil)
	act.Machine.Cards[0].Address = []string{"127.0.0.2/8"}
	host.run = func(c hypervisor.GuestCommand) (hypervisor.GuestResult, error) {
		return hypervisor.GuestResult{Stdout: []byte(fmt.Sprintf("  sl  local_address rem_address   st\n   0: 00000000:%04X 00000000:0000 0A 0\n", port))}, nil
	}
	r, err := k.checks(t, act, runbook.Check{Kind: runbook.CheckTCP, Port: port, Within: time.Minute})
	if err != nil || !strings.Contains(r.Detail, "the guest says") {
		t.Errorf("%v; %q", err, r.Detail)
	}
	for _, c := range []runbook.Check{{Kind: runbook.CheckPing}, {Kind: runbook.CheckDNS, HostName: "x"}} {
		c.Within = time.Minute
		if _, err := k.checks(t, act, c); !errors.Is(err, runbook.ErrCheckFailed) || !strings.Contains(problemOf(err).What, "guest agent alone") {
			t.Errorf("%s: %v", c.Kind, err)
		}
	}
	if _, err := k.checks(t, act, runbook.Check{Kind: runbook.CheckCommand, Command: []string{"true"}, Within: time.Minute}); err == nil || !strings.Contains(problemOf(err).What, "runs no command on this computer") {
		t.Errorf("a command on this computer: %v", err)
	}
	if n := connected.Load(); n != 0 {
		t.Errorf("production was asked %d times", n)
	}
}

func TestWhoListensIsReadFromTheGuestsOwnTable(t *testing.T) {
	t.Parallel()
	table := `  sl  local_address rem_address   st tx_queue rx_queue
   0: 0100007F:1538 00000000:0000 0A 00000000:00000000
   1: 00000000:0016 00000000:0000 0A 00000000:00000000
   2: 0702000A:01BB 0102000A:9C40 01 00000000:00000000
   3: 00000000000000000000000001000000:0277 00000000000000000000000000000000:0000 0A
   4: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A
   x: nonsense:zz 0A 0A
`
	for port, want := range map[int]bool{22: true, 80: true, 5432: false, 443: false, 631: false, 0: false} {
		if listens(table, port) != want {
			t.Errorf("port %d", port)
		}
	}
}

func TestSecretsAreTakenOutOfWhatIsKept(t *testing.T) {
	t.Parallel()
	secrets := secretValues(map[string]string{"DB_PASSWORD": "hunter2!", "API_TOKEN": "abc", "HOST": "db1"})
	text := mask("db1 hunter2! abc\npassword=pw1 user=eva\nAuthorization: Bearer xyz.1\nhttps://eva:geheim@example.com/x\n"+
		"-----BEGIN RSA PRIVATE KEY-----\nMIIB\n-----END RSA PRIVATE KEY-----\nend", secrets)
	for _, secret := range []string{"hunter2!", "pw1", "xyz.1", "geheim", "MIIB"} {
		if strings.Contains(text, secret) {
			t.Errorf("%q is still in: %s", secret, text)
		}
	}
	for _, rest := range []string{"db1", "abc", "user=eva", "example.com/x", "end"} {
		if !strings.Contains(text, rest) {
			t.Errorf("%q is gone: %s", rest, text)
		}
	}
}

func TestAGuestStepWaitsForTheAgentAndKeepsWhatWasPrinted(t *testing.T) {
	t.Parallel()
	k, host, act := newAskTest(t, runbook.Drill, nil)
	host.noAgent = 2
	var env []string
	host.run = func(c hypervisor.GuestCommand) (hypervisor.GuestResult, error) {
		env = c.Env
		return hypervisor.GuestResult{Stdout: bytes.Repeat([]byte("row\n"), 5000), Stderr: []byte("token: s3cr3t\n")}, nil
	}
	act.Step.Kind, act.Step.Step = runbook.StepGuest, runbook.Step{Command: []string{"promote"}, Env: map[string]string{"A": "b"}, Limit: 2 * time.Minute}
	r, err := k.Do(t.Context(), act)
	if err != nil || len(r.Output) > mostOutput || strings.Contains(r.Output, "s3cr3t") || !strings.HasPrefix(r.Output, "row\n") {
		t.Errorf("%v; output of %d bytes", err, len(r.Output))
	}
	if joined := strings.Join(env, " "); !strings.Contains(joined, "LIFEBOAT_MODE=drill") || !strings.Contains(joined, "A=b") {
		t.Errorf("its variables are %s", joined)
	}
	if entries, err := os.ReadDir(filepath.Join(k.run.dir, outputFolder)); err != nil || len(entries) != 1 {
		t.Errorf("kept: %v (%v)", entries, err)
	}
	act.Step.Step.Done = []string{"probe"}
	for code, want := range map[int]bool{0: true, 1: false} {
		host.run = func(hypervisor.GuestCommand) (hypervisor.GuestResult, error) {
			return hypervisor.GuestResult{ExitCode: code}, nil
		}
		if done, err := k.Done(t.Context(), act); err != nil || done != want {
			t.Errorf("a probe that ends with %d: %v, %v", code, done, err)
		}
	}
}
