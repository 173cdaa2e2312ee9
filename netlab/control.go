package netlab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ControlFile is the socket in a lab's folder by which other processes use it. Only
// its owner may: a connection asks one thing, in a line of JSON, and gets a line
// back, with a descriptor where it asked for one.
const ControlFile = "control"

// Bounds of what goes through the control socket.
const (
	longestRequest = 4 << 10
	longestAnswer  = 256 << 10
	mostAsking     = 256
)

// request is one question. Who hangs up takes it back.
type request struct {
	Do string `json:"do"`
	// Network is for a tap the lab's network, for a dial "tcp" or "udp".
	Network string `json:"network,omitempty"`
	Address string `json:"address,omitempty"`
	Name    string `json:"name,omitempty"`
}

// The questions.
const (
	doTap    = "tap"
	doDial   = "dial"
	doPing   = "ping"
	doLookup = "lookup"
	doStatus = "status"
	doEnter  = "enter"
)

// answer is what comes back.
type answer struct {
	Error     string       `json:"error,omitempty"`
	Code      unix.Errno   `json:"code,omitempty"` // of the system, for refused and the like
	NoName    bool         `json:"noName,omitempty"`
	Nanos     int64        `json:"nanos,omitempty"`
	Addresses []netip.Addr `json:"addresses,omitempty"`
	Status    *Status      `json:"status,omitempty"`
}

// Status is what a lab saw so far.
type Status struct {
	// Cables is how many cards are plugged in.
	Cables int `json:"cables"`
	// Leases are the addresses that guests asked for and got, by MAC.
	Leases map[string]netip.Addr `json:"leases,omitempty"`
	// Strangers is how many requests came from cards that nobody knows.
	Strangers int `json:"strangers,omitempty"`
	// Unknown are the last names that were asked for and that the lab does not know.
	Unknown []string `json:"unknown,omitempty"`
	// Closed are the ways in that could not be opened, such as a port that is taken.
	Closed []string `json:"closed,omitempty"`
}

// listenControl opens the control socket in a folder that only the caller may enter.
// A path of any length is right.
func listenControl(dir string) (*net.UnixListener, error) {
	folder, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	if err := os.Remove(filepath.Join(dir, ControlFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	path := fmt.Sprintf("/proc/self/fd/%d/%s", folder.Fd(), ControlFile)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("open the control socket of the lab: %w", err)
	}
	l.SetUnlinkOnClose(false) // the name is of another process by then
	return l, os.Chmod(filepath.Join(dir, ControlFile), 0o600)
}

// control answers until the listener is closed.
func (s *server) control(ctx context.Context, l *net.UnixListener) {
	var asking sync.WaitGroup
	defer asking.Wait()
	free := make(chan struct{}, mostAsking)
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return
		}
		select {
		case free <- struct{}{}:
		default:
			conn.Close() // nobody honest asks so much at once
			continue
		}
		asking.Go(func() {
			defer func() { <-free }()
			defer conn.Close()
			s.serveOne(ctx, conn)
		})
	}
}

func (s *server) serveOne(ctx context.Context, conn *net.UnixConn) {
	conn.SetReadDeadline(time.Now().Add(time.Minute))
	var r request
	if err := json.NewDecoder(io.LimitReader(conn, longestRequest)).Decode(&r); err != nil {
		return
	}
	conn.SetReadDeadline(time.Time{})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Nothing more comes, so a read ends when the other side is gone.
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	go func() {
		conn.Read(make([]byte, 1))
		cancel()
	}()
	a, file := s.answer(ctx, r)
	var rights []byte
	if file != nil {
		defer file.Close()
		rights = unix.UnixRights(int(file.Fd()))
	}
	line, err := json.Marshal(a)
	if err != nil {
		return
	}
	conn.SetWriteDeadline(time.Now().Add(time.Minute))
	line = append(line, '\n')
	n, _, err := conn.WriteMsgUnix(line, rights, nil)
	if err == nil && n < len(line) {
		conn.Write(line[n:])
	}
}

// answer does what was asked.
func (s *server) answer(ctx context.Context, r request) (a answer, give *os.File) {
	var err error
	switch r.Do {
	case doTap:
		give, err = s.lab.Tap(r.Network)
	case doDial:
		give, err = s.dialFile(ctx, r.Network, r.Address)
	case doEnter:
		give, err = s.lab.namespace()
	case doPing:
		var took time.Duration
		took, err = s.lab.Ping(ctx, r.Address)
		a.Nanos = int64(took)
	case doLookup:
		a.Addresses, err = s.lab.Lookup(ctx, r.Address, r.Name)
		a.NoName = errors.Is(err, ErrNoName)
	case doStatus:
		a.Status, err = s.status()
	default:
		err = fmt.Errorf("a lab does not know %q", r.Do)
	}
	if err != nil {
		a.Error = err.Error()
		errors.As(err, &a.Code)
	}
	return a, give
}

// dialFile connects and returns the connection as a file to be given away.
func (s *server) dialFile(ctx context.Context, network, address string) (*os.File, error) {
	conn, err := s.lab.Dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.(interface{ File() (*os.File, error) }).File()
}
