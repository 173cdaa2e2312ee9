package netlab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNoLab: nobody serves the lab of that folder.
var ErrNoLab = errors.New("the lab is not there")

// Client uses a lab that another process serves. Its methods may be called from
// several goroutines, and end with their contexts.
type Client struct {
	// Dir is the lab's folder.
	Dir string
}

// Tap makes a cable into a network of the lab, for a guest of the caller's.
func (c Client) Tap(ctx context.Context, network string) (*os.File, error) {
	_, file, err := c.ask(ctx, request{Do: doTap, Network: network}, true)
	return file, err
}

// Dial connects from inside the lab: "tcp" or "udp", with the address of a guest. A
// connection belongs to the caller and goes on without the one who serves the lab.
func (c Client) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	_, file, err := c.ask(ctx, request{Do: doDial, Network: network, Address: address}, true)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return net.FileConn(file)
}

// Namespace is the lab's network namespace, for a program that is to run inside. The
// caller closes it.
func (c Client) Namespace(ctx context.Context) (*os.File, error) {
	_, file, err := c.ask(ctx, request{Do: doEnter}, true)
	return file, err
}

// Ping sends an ICMP echo to a guest, again each second, and returns how long the
// first answer took.
func (c Client) Ping(ctx context.Context, address string) (time.Duration, error) {
	a, _, err := c.ask(ctx, request{Do: doPing, Address: address}, false)
	return time.Duration(a.Nanos), err
}

// Lookup asks the DNS server of a guest for the IPv4 addresses of a name. An empty
// server is the lab's own. A name that is not there is [ErrNoName].
func (c Client) Lookup(ctx context.Context, server, name string) ([]netip.Addr, error) {
	a, _, err := c.ask(ctx, request{Do: doLookup, Address: server, Name: name}, false)
	return a.Addresses, err
}

// Status is what the lab saw so far.
func (c Client) Status(ctx context.Context) (Status, error) {
	a, _, err := c.ask(ctx, request{Do: doStatus}, false)
	if err != nil || a.Status == nil {
		return Status{}, err
	}
	return *a.Status, nil
}

func (c Client) ask(ctx context.Context, r request, wantsFile bool) (a answer, file *os.File, err error) {
	conn, err := c.connect(ctx)
	if err != nil {
		return a, nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	line, err := json.Marshal(r)
	if err != nil {
		return a, nil, err
	}
	if len(line) > longestRequest {
		return a, nil, fmt.Errorf("%s: what was asked is too long", r.Do)
	}
	if _, err := conn.Write(line); err != nil {
		return a, nil, c.gone(ctx, err)
	}
	text, file, err := receive(conn)
	if err != nil {
		return a, nil, c.gone(ctx, err)
	}
	if err = json.Unmarshal(text, &a); err != nil {
		err = fmt.Errorf("read what the lab answers: %w", err)
	} else {
		err = a.err()
	}
	if err == nil && wantsFile && file == nil {
		err = fmt.Errorf("the lab gave no descriptor")
	}
	if file != nil && (err != nil || !wantsFile) {
		file.Close()
		file = nil
	}
	return a, file, err
}

// err is the error that came back, with the system's own where it was one.
func (a answer) err() error {
	switch {
	case a.Error == "":
		return nil
	case a.NoName:
		return fmt.Errorf("%w: %s", ErrNoName, a.Error)
	case a.Code != 0:
		return &remoteError{a.Error, a.Code}
	}
	return errors.New(a.Error)
}

// remoteError is an error of the system that another process met.
type remoteError struct {
	text string
	code unix.Errno
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.code }

// connect opens the control socket, however long its path is.
func (c Client) connect(ctx context.Context) (*net.UnixConn, error) {
	folder, err := os.Open(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoLab, err)
	}
	defer folder.Close()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d/%s", folder.Fd(), ControlFile))
	if err != nil {
		return nil, c.gone(ctx, err)
	}
	return conn.(*net.UnixConn), nil
}

func (c Client) gone(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("%w (%s): %w", ErrNoLab, c.Dir, err)
}

// receive reads a line and the descriptor that came with it.
func receive(conn *net.UnixConn) (text []byte, file *os.File, err error) {
	buffer := make([]byte, 16<<10)
	rights := make([]byte, unix.CmsgSpace(4))
	for !strings.HasSuffix(string(text), "\n") {
		n, control, _, _, err := conn.ReadMsgUnix(buffer, rights)
		if control > 0 && file == nil {
			file = descriptorIn(rights[:control])
		}
		switch {
		case err != nil:
		case n == 0:
			err = net.ErrClosed
		case len(text)+n > longestAnswer:
			err = errors.New("the answer is too long")
		default:
			text = append(text, buffer[:n]...)
		}
		if err != nil {
			if file != nil {
				file.Close()
			}
			return nil, nil, err
		}
	}
	return text, file, nil
}

// descriptorIn is the descriptor of a message. ReadMsgUnix sees to it that no child
// inherits it.
func descriptorIn(control []byte) *os.File {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil
	}
	for _, m := range messages {
		if fds, err := unix.ParseUnixRights(&m); err == nil && len(fds) > 0 {
			return os.NewFile(uintptr(fds[0]), "given by the lab")
		}
	}
	return nil
}
