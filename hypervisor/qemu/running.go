package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/hypervisor"
)

// The sockets of a running machine.
const (
	commandSocket = "command.sock"
	workSocket    = "work.sock"
	guardSocket   = "guard.sock"
	agentSocket   = "agent.sock"
	serialSocket  = "serial.sock"
	vncSocket     = "vnc.sock"
	nbdSocket     = "nbd.sock"
)

// running is the content of running.json: where the sockets of a started machine
// are. It is a hint: whether the machine runs is decided by who answers there.
type running struct {
	Version     int         `json:"version"`
	Sockets     string      `json:"sockets"`
	StartedAt   time.Time   `json:"startedAt"`
	Accelerator Accelerator `json:"accelerator"`
	// Note is what an operator should know of how it runs.
	Note string `json:"note,omitempty"`
}

func (m *machine) saveRunning(r running) error {
	r.Version = 1
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(m.dir, runningFile, append(data, '\n'))
}

func (m *machine) loadRunning() (running, error) {
	data, err := os.ReadFile(m.path(runningFile))
	if err != nil {
		return running{}, err
	}
	var r running
	if err := json.Unmarshal(data, &r); err != nil {
		return running{}, fmt.Errorf("read where %s runs: %w", m.name(), err)
	}
	return r, nil
}

// sockets is the folder of the machine's sockets, whoever started it.
func (m *machine) sockets() string {
	if r, err := m.loadRunning(); err == nil {
		return r.Sockets
	}
	return m.host.socketDir("machine", m.folder)
}

// errOff says that nothing answers for the machine.
var errOff = errors.New("the machine is off")

// monitor connects to the running machine, or returns errOff. What answers must
// say that it is this machine.
func (m *machine) monitor(ctx context.Context, socket string) (*monitor, error) {
	path := filepath.Join(m.sockets(), socket)
	mon, err := dialMonitor(ctx, path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ECONNRESET):
		return nil, errOff
	case err != nil && isClosed(err):
		return nil, errOff
	case err != nil:
		return nil, fmt.Errorf("%s: %w", m.name(), err)
	}
	var id struct {
		UUID string `json:"UUID"`
	}
	if err := mon.run(ctx, "query-uuid", nil, &id); err != nil {
		mon.close()
		if isClosed(err) {
			return nil, errOff
		}
		return nil, fmt.Errorf("%s: %w", m.name(), err)
	}
	if !strings.EqualFold(id.UUID, m.uuid()) {
		mon.close()
		return nil, fmt.Errorf("%s: what answers at %s is another machine (%s)", m.name(), path, id.UUID)
	}
	return mon, nil
}

// power says what the machine is doing.
func (m *machine) power(ctx context.Context) (hypervisor.PowerState, error) {
	mon, err := m.monitor(ctx, commandSocket)
	if errors.Is(err, errOff) {
		return hypervisor.PowerOff, nil
	}
	if err != nil {
		return "", err
	}
	defer mon.close()
	return powerState(ctx, mon)
}

func powerState(ctx context.Context, mon *monitor) (hypervisor.PowerState, error) {
	var status struct {
		Running bool   `json:"running"`
		Status  string `json:"status"`
	}
	err := mon.run(ctx, "query-status", nil, &status)
	switch {
	case isClosed(err):
		return hypervisor.PowerOff, nil
	case err != nil:
		return "", err
	case status.Running:
		return hypervisor.PowerOn, nil
	}
	return hypervisor.PowerPaused, nil
}

// isClosed says that the machine went away while it was spoken with.
func isClosed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET)
}
