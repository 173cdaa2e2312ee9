//go:build libvirt_dlopen && cgo

package libvirt

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
// and outlives the exporting process by a moment. It has a connection to libvirt
// of its own, so that it can always thaw what it froze: when it is told to, when
// its pipe closes because the exporter is gone, or when the limit is over. After
// a dead exporter it also ends the backup job, which outlives the connection that
// began it, and removes its checkpoint and its scratch files.
//
// It is this program again, started under another name. That happens here and
// not in a main function, so that no program that uses this room can forget it.
func init() {
	if len(os.Args) == 2 && os.Args[0] == guardName {
		os.Exit(guardMain(os.Stdin, os.Stdout, os.Args[1]))
	}
}

const guardName = "lifeboat-libvirt-guard"

const (
	// freezePatience is how long the guest may take to freeze. One that is busy
	// writing may need seconds, and then a crash-consistent still is better.
	freezePatience = 5 * time.Second
	// frozenLimit is when the guard thaws by itself, inside the ten seconds that
	// are promised.
	frozenLimit = 8 * time.Second
	// rescueInterval is the time from one attempt to put a machine right to the
	// next.
	rescueInterval = 500 * time.Millisecond
	// rescuePatience is how long a guard tries that.
	rescuePatience = 60 * time.Second
	// frozenPatience is how long it tries where the guest may be frozen because
	// of us: an agent may be busy for a night.
	frozenPatience = 24 * time.Hour
	// latePatience is how long it looks for a job that was asked for and had not
	// begun when the exporter gave up.
	latePatience = 5 * time.Minute
)

// guardOrder is what a guard has to know. Nothing in it is secret: credentials
// are libvirt's business and stand in its own files.
type guardOrder struct {
	Host       string `json:"host"`
	URI        string `json:"uri"`
	Pool       string `json:"pool"`
	ScratchDir string `json:"scratchDir"`
	Name       string `json:"name"`
	UUID       string `json:"uuid"`
	// Fresh are the checkpoints that the export begins, and Bases those of the
	// drive that are not needed once its point is committed.
	Fresh []string `json:"fresh,omitempty"`
	Bases []string `json:"bases,omitempty"`
	// StoodStill: the machine was paused before, and stays so.
	StoodStill bool `json:"stoodStill,omitempty"`
	// Serve is the command that gives out the disks of a machine that is off,
	// and ServeSocket where. It ends with the guard.
	Serve       []string `json:"serve,omitempty"`
	ServeSocket string   `json:"serveSocket,omitempty"`
}

// guard is the exporter's end.
type guard struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	pipe *os.File // what out reads
	out  *bufio.Reader
	lost error // why it is not listened to any more
	once sync.Once
}

// startGuard starts a guard that shares the machine's lock.
func (d *domain) startGuard(lock *os.File, order guardOrder) (*guard, error) {
	o := d.h.o
	order.Host, order.URI, order.Pool, order.ScratchDir = o.Name, o.URI, o.Pool, o.ScratchDir
	order.Name, order.UUID = d.name, d.uuid
	text, err := json.Marshal(order)
	if err != nil {
		return nil, err
	}
	cmd := &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{guardName, string(text)},
		ExtraFiles: []*os.File{lock},
		// Out of reach of the Ctrl-C that is meant for the exporter.
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	pipe, far, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout = far
	err = cmd.Start()
	far.Close()
	if err != nil {
		pipe.Close()
		return nil, fmt.Errorf("start the guard of %s: %w", d.name, err)
	}
	g := &guard{cmd: cmd, in: in, pipe: pipe, out: bufio.NewReader(pipe)}
	// It may connect first, and then start a server.
	if err := g.answer(2*rescuePatience + answerGrace); err != nil {
		g.abandon()
		return nil, fmt.Errorf("start the guard of %s: %w", d.name, err)
	}
	return g, nil
}

// answerGrace is what the guard may take beside what it does in the guest or on
// the host.
const answerGrace = 10 * time.Second

// tell gives the guard a word and waits until it has done it: "freeze" the file
// systems, or only "hold" where that is not possible, "thaw" when the instant is
// over, "late" when a job was asked for and may begin at any time, and
// "committed" when the point is on the drive.
func (g *guard) tell(word string) error {
	if g.lost != nil {
		return g.lost
	}
	if _, err := fmt.Fprintln(g.in, word); err != nil {
		return fmt.Errorf("the guard is gone: %w", err)
	}
	switch word {
	case "freeze":
		return g.answer(frozenLimit + answerGrace)
	case "thaw":
		return g.answer(rescuePatience + answerGrace)
	}
	return g.answer(answerGrace)
}

// answer waits for the guard's answer. A guard that gave none in time is not
// asked again: its next answer would be taken for another question's.
func (g *guard) answer(patience time.Duration) error {
	err := g.pipe.SetReadDeadline(time.Now().Add(patience))
	line := ""
	if err == nil {
		line, err = g.out.ReadString('\n')
	}
	switch text := strings.TrimSpace(line); {
	case errors.Is(err, os.ErrDeadlineExceeded):
		g.lost = fmt.Errorf("the guard does not answer after %v", patience)
		return g.lost
	case err != nil:
		g.lost = fmt.Errorf("the guard is gone: %w", err)
		return g.lost
	case text != "ok":
		return errors.New(text)
	}
	return nil
}

// dismiss sends the guard home: the machine is as it was. It may be called
// twice.
func (g *guard) dismiss() {
	g.once.Do(func() {
		// A guard that is gone already has nothing left to do.
		_, _ = fmt.Fprintln(g.in, "dismiss")
		select {
		case <-g.end():
		case <-time.After(rescuePatience):
			_ = g.cmd.Process.Kill() // it has nothing to do any more
		}
	})
}

// abandon makes the guard put the machine right as if we had died, and waits
// for it, but not for as long as the guard may try.
func (g *guard) abandon() {
	g.once.Do(func() {
		select {
		case <-g.end():
		case <-time.After(rescuePatience):
		}
	})
}

// leave is abandon without waiting.
func (g *guard) leave() { g.once.Do(func() { g.end() }) }

// end closes the guard's pipe, and says when it has ended.
func (g *guard) end() <-chan struct{} {
	_ = g.in.Close()
	ended := make(chan struct{})
	go func() {
		_ = g.cmd.Wait() // its exit code says nothing that is not looked at
		_ = g.pipe.Close()
		close(ended)
	}()
	return ended
}
