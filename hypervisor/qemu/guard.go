package qemu

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A guard is a small process of ours that is started before a guest is touched
// and outlives the exporting process by a moment. It holds the line to the
// guest's agent, so that it can always thaw what it froze: when it is told to,
// when its pipe closes because the exporter is gone, or when the limit is over.
// After a dead exporter it also lets the guest's CPUs go on and takes the
// export's nodes out of the running machine.
//
// It is this program again, started under another name. That happens here and
// not in a main function, so that no program that uses this room can forget it.
func init() {
	if len(os.Args) == 2 && os.Args[0] == guardName {
		os.Exit(guardMain(os.Stdin, os.Stdout, os.Args[1]))
	}
}

const guardName = "lifeboat-guard"

const (
	// freezePatience is how long the guest may take to freeze. One that is busy
	// writing may need seconds, and then a crash-consistent still is better.
	freezePatience = 5 * time.Second
	// frozenLimit is when the guard thaws by itself, inside the ten seconds that
	// are promised.
	frozenLimit = 8 * time.Second
	// attemptPatience is how long one attempt to let a guest go on may take, and
	// rescueInterval the time to the next.
	attemptPatience = 5 * time.Second
	rescueInterval  = 500 * time.Millisecond
	// rescuePatience is how long a guard tries to put a machine right.
	rescuePatience = 60 * time.Second
	// standingPatience is how long it tries where the guest may stand because we
	// stopped it: a storage that hangs may hang for a night.
	standingPatience = 24 * time.Hour
)

// guardOrder is what a guard has to know.
type guardOrder struct {
	Dir        string `json:"dir"`
	Folder     string `json:"folder"`
	RunDir     string `json:"runDir"`
	ScratchDir string `json:"scratchDir"`
	Binary     string `json:"binary"`
	// Serve is the command that gives out the disks of a machine that is off,
	// and ServeSocket where. It ends with the guard.
	Serve       []string `json:"serve,omitempty"`
	ServeSocket string   `json:"serveSocket,omitempty"`
}

// guard is the exporter's end.
type guard struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	once sync.Once
}

// startGuard starts a guard that shares the machine's lock.
func (m *machine) startGuard(lock *os.File, serve []string, serveSocket string) (*guard, error) {
	o := m.host.o
	order, err := json.Marshal(guardOrder{
		Dir: o.Dir, Folder: m.folder, RunDir: o.RunDir, ScratchDir: o.ScratchDir, Binary: o.Binary,
		Serve: serve, ServeSocket: serveSocket,
	})
	if err != nil {
		return nil, err
	}
	cmd := &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{guardName, string(order)},
		ExtraFiles: []*os.File{lock},
		// Out of reach of the Ctrl-C that is meant for the exporter.
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the guard of %s: %w", m.name(), err)
	}
	g := &guard{cmd: cmd, in: in, out: bufio.NewReader(out)}
	if err := g.answer(); err != nil {
		g.abandon()
		return nil, fmt.Errorf("start the guard of %s: %w", m.name(), err)
	}
	return g, nil
}

// tell gives the guard a word and waits until it has done it: "freeze" the file
// systems, or only "hold" where that is not possible, and "thaw" when the
// instant is over.
func (g *guard) tell(word string) error {
	if _, err := fmt.Fprintln(g.in, word); err != nil {
		return fmt.Errorf("the guard is gone: %w", err)
	}
	return g.answer()
}

func (g *guard) answer() error {
	line, err := g.out.ReadString('\n')
	switch text := strings.TrimSpace(line); {
	case err != nil:
		return fmt.Errorf("the guard is gone: %w", err)
	case text != "ok":
		return errors.New(text)
	}
	return nil
}

// dismiss sends the guard home: the machine is as it was. It may be called
// twice.
func (g *guard) dismiss() {
	g.once.Do(func() {
		fmt.Fprintln(g.in, "dismiss")
		g.in.Close()
		g.cmd.Wait()
	})
}

// abandon makes the guard put the machine right as if we had died, and waits
// for it, but not for as long as the guard may try.
func (g *guard) abandon() {
	g.once.Do(func() {
		g.in.Close()
		ended := make(chan struct{})
		go func() {
			g.cmd.Wait()
			close(ended)
		}()
		select {
		case <-ended:
		case <-time.After(rescuePatience):
		}
	})
}
