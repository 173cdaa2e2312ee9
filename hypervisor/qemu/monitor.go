package qemu

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// commandLimit bounds one command of the machine protocol, so that a QEMU that
// hangs never hangs us with it. Only tests change it.
var commandLimit = 30 * time.Second

// monitor is a connection to the machine protocol of one QEMU. It is used by
// one goroutine at a time, and never again after a command failed by anything
// but a [commandError].
type monitor struct {
	path  string
	conn  net.Conn
	lines *bufio.Reader
	// last is the id of the last command. It begins with a random number:
	// an answer to somebody who hung up goes to whoever connects next.
	last uint64
}

// commandError is QEMU's own refusal of a command.
type commandError struct {
	Command string
	Class   string `json:"class"`
	Desc    string `json:"desc"`
}

func (e *commandError) Error() string { return e.Command + ": " + e.Desc }

// dialMonitor connects to a QEMU. It takes turns with others on the same
// socket: QEMU greets one at a time.
func dialMonitor(ctx context.Context, path string) (*monitor, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	m := &monitor{path: path, conn: conn, lines: bufio.NewReader(conn), last: rand.Uint64() >> 12}
	if err := m.greet(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("speak with qemu at %s: %w", path, err)
	}
	return m, nil
}

func (m *monitor) greet(ctx context.Context) error {
	stop := bound(ctx, m.conn, commandLimit)
	defer stop()
	var greeting struct {
		QMP *json.RawMessage `json:"QMP"`
	}
	for range mostStale {
		if err := m.receive(ctx, &greeting); err != nil {
			return err
		}
		if greeting.QMP != nil {
			return m.run(ctx, "qmp_capabilities", nil, nil)
		}
	}
	return errors.New("what answers is not qemu")
}

// mostStale is how many lines for somebody before us may come first.
const mostStale = 16

// args are the arguments of a command.
type args map[string]any

// run carries out one command and decodes what it returns into result, which
// may be nil.
func (m *monitor) run(ctx context.Context, command string, a args, result any) error {
	stop := bound(ctx, m.conn, commandLimit)
	defer stop()
	m.last++
	request := struct {
		Execute   string `json:"execute"`
		Arguments args   `json:"arguments,omitempty"`
		ID        uint64 `json:"id"`
	}{command, a, m.last}
	line, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	if _, err := m.conn.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("%s: %w", command, orCause(ctx, err))
	}
	for {
		var reply struct {
			ID     uint64          `json:"id"`
			Return json.RawMessage `json:"return"`
			Error  *commandError   `json:"error"`
		}
		if err := m.receive(ctx, &reply); err != nil {
			return fmt.Errorf("%s: %w", command, err)
		}
		switch {
		case reply.ID != m.last: // an event, or an answer to somebody else
		case reply.Error != nil:
			reply.Error.Command = command
			return reply.Error
		case result == nil:
			return nil
		default:
			return json.Unmarshal(reply.Return, result)
		}
	}
}

func (m *monitor) receive(ctx context.Context, into any) error {
	line, err := m.lines.ReadBytes('\n')
	if err != nil {
		return orCause(ctx, err)
	}
	if err := json.Unmarshal(bytes.TrimSpace(line), into); err != nil {
		return fmt.Errorf("what qemu said cannot be read: %w", err)
	}
	return nil
}

// peer is the process at the other end, as the kernel knows it.
func (m *monitor) peer() (process, error) {
	raw, err := m.conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return process{}, err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(err, credErr); err != nil {
		return process{}, fmt.Errorf("ask who answers: %w", err)
	}
	return processOf(int(cred.Pid))
}

func (m *monitor) close() { m.conn.Close() }

// bound makes reads and writes of a connection end with the context, and in any
// case after limit.
func bound(ctx context.Context, conn net.Conn, limit time.Duration) (stop func()) {
	conn.SetDeadline(time.Now().Add(limit))
	cancel := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	return func() { cancel() }
}

// orCause prefers the reason of an ended context over the broken read that it
// caused.
func orCause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
