package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"time"

	"lifeboat/hypervisor"
)

// agentPatience is how long a guest's agent may take to answer at all. A guest
// without one never does.
const agentPatience = 3 * time.Second

// agent is a connection to the agent in a guest. QEMU lets one at a time have
// it, so it is held no longer than needed.
type agent struct {
	conn  net.Conn
	lines *bufio.Reader
}

var errNoAgent = hypervisor.ErrNoAgent

// dialAgent connects to the agent and makes sure that it answers us, and not
// somebody before us.
func dialAgent(ctx context.Context, path string) (*agent, error) {
	limited, cancel := context.WithTimeoutCause(ctx, agentPatience, errNoAgent)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(limited, "unix", path)
	if err != nil {
		return nil, errNoAgent
	}
	a := &agent{conn: conn, lines: bufio.NewReader(conn)}
	if err := a.sync(limited); err != nil {
		conn.Close()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, errNoAgent // whatever was in the line was no answer of an agent
	}
	return a, nil
}

// sync throws away what earlier conversations left in the line.
func (a *agent) sync(ctx context.Context) error {
	stop := bound(ctx, a.conn, agentPatience)
	defer stop()
	id := rand.Int32()
	// The first byte ends whatever half command the agent still has.
	if _, err := fmt.Fprintf(a.conn, "\xff{\"execute\":\"guest-sync-delimited\",\"arguments\":{\"id\":%d}}\n", id); err != nil {
		return orCause(ctx, err)
	}
	for {
		if err := a.skipTo(0xff); err != nil {
			return orCause(ctx, err)
		}
		var reply struct {
			Return int32 `json:"return"`
		}
		// In the buffer that is there. What does not fit is no answer of ours.
		line, err := a.lines.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return orCause(ctx, err)
		}
		if json.Unmarshal(line, &reply) == nil && reply.Return == id {
			return nil
		}
	}
}

// skipTo reads and forgets everything up to a byte, in a buffer of fixed size:
// a guest may send whatever it likes.
func (a *agent) skipTo(delimiter byte) error {
	for {
		c, err := a.lines.ReadByte()
		if err != nil || c == delimiter {
			return err
		}
	}
}

// agentReplyLimit bounds an answer of a guest. Its agent keeps up to 16 MiB of
// what a program prints, and sends it in base64.
const agentReplyLimit = 24 << 20

// run carries out one command of the agent.
func (a *agent) run(ctx context.Context, limit time.Duration, command string, arguments args, result any) error {
	if err := a.send(ctx, limit, command, arguments); err != nil {
		return err
	}
	return a.receive(ctx, limit, command, result)
}

func (a *agent) send(ctx context.Context, limit time.Duration, command string, arguments args) error {
	stop := bound(ctx, a.conn, limit)
	defer stop()
	line, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments args   `json:"arguments,omitempty"`
	}{command, arguments})
	if err != nil {
		return err
	}
	if _, err := a.conn.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("%s: %w", command, orCause(ctx, err))
	}
	return nil
}

func (a *agent) receive(ctx context.Context, limit time.Duration, command string, result any) error {
	stop := bound(ctx, a.conn, limit)
	defer stop()
	var reply struct {
		Return json.RawMessage `json:"return"`
		Error  *commandError   `json:"error"`
	}
	limited := io.LimitedReader{R: a.lines, N: agentReplyLimit}
	if err := json.NewDecoder(&limited).Decode(&reply); err != nil {
		return fmt.Errorf("%s: %w", command, orCause(ctx, err))
	}
	if reply.Error != nil {
		reply.Error.Command, reply.Error.Class = command, hypervisor.GuestWords(reply.Error.Class)
		reply.Error.Desc = hypervisor.GuestWords(reply.Error.Desc)
		return reply.Error
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(reply.Return, result)
}

func (a *agent) close() { a.conn.Close() }

// agentShutdown asks the guest through its agent to shut down. It is no error if
// that is not possible: the power button was pressed as well.
func (m *machine) agentShutdown(ctx context.Context) {
	if !m.def.Machine.Agent {
		return
	}
	a, err := dialAgent(ctx, filepath.Join(m.sockets(), agentSocket))
	if err != nil {
		return
	}
	defer a.close()
	// The agent answers nothing when it succeeds.
	a.send(ctx, agentPatience, "guest-shutdown", args{"mode": "powerdown"})
}
