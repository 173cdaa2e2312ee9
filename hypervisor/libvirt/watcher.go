//go:build libvirt_dlopen && cgo

package libvirt

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"lifeboat/hypervisor"
)

// watcher is the guard's own side.
type watcher struct {
	domain    *domain
	order     guardOrder
	frozen    bool // the guest's file systems may be frozen
	committed bool
	late      bool // a job was asked for and may begin at any time
	server    *exec.Cmd
	ended     chan struct{}
}

// guardMain is the whole life of a guard.
func guardMain(in io.Reader, out io.Writer, text string) int {
	// An exporter that dies takes the other end of this pipe with it. A guard that
	// died of its answer would leave the guest frozen. Neither does it end when it
	// is asked to: who stops a service asks all of its processes at once, and the
	// guard ends with the exporter.
	signal.Ignore(syscall.SIGPIPE, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
	w := &watcher{}
	err := json.Unmarshal([]byte(text), &w.order)
	if err == nil {
		err = w.prepare()
	}
	reply(out, err)
	if err != nil {
		return 1
	}
	defer w.stopServer()
	words := make(chan string)
	go func() {
		defer close(words)
		for s := bufio.NewScanner(in); s.Scan(); {
			words <- s.Text()
		}
	}()
	var alarm <-chan time.Time
	for {
		select {
		case word, ok := <-words:
			switch {
			case !ok:
				w.rescue()
				return 0
			case word == "dismiss":
				return 0
			case word == "freeze":
				alarm = time.After(frozenLimit)
				reply(out, w.freeze())
			case word == "hold":
				err := w.hold()
				if err == nil {
					alarm = nil
				}
				reply(out, err)
			case word == "thaw":
				alarm = nil
				err := w.thaw(rescuePatience)
				if w.frozen {
					alarm = time.After(rescueInterval)
				}
				reply(out, err)
			case word == "late":
				w.late = true
				reply(out, nil)
			case word == "committed":
				w.committed = true
				reply(out, nil)
			}
		case <-alarm:
			// The exporter hangs. It learns that its instant took too long from the
			// time that it took.
			alarm = nil
			if w.thaw(rescueInterval) != nil {
				alarm = time.After(rescueInterval)
			}
		}
	}
}

func reply(out io.Writer, err error) {
	text := "ok"
	if err != nil {
		text = strings.ReplaceAll(err.Error(), "\n", " ")
	}
	// An exporter that is gone is seen at the other pipe.
	_, _ = fmt.Fprintln(out, text)
}

// prepare connects, because there is no time for that while a guest is frozen.
func (w *watcher) prepare() error {
	o := w.order
	h, err := Open(Options{Name: o.Host, URI: o.URI, Pool: o.Pool, ScratchDir: o.ScratchDir})
	if err != nil {
		return err
	}
	w.domain = &domain{h: h, name: o.Name, uuid: o.UUID}
	w.domain.stoodStill.Store(o.StoodStill)
	ctx, cancel := context.WithTimeout(context.Background(), rescuePatience)
	defer cancel()
	if _, err := w.domain.active(ctx); err != nil {
		return err
	}
	if len(o.Serve) == 0 {
		return nil
	}
	return w.startServer()
}

// freeze freezes the guest's file systems, or leaves none of them frozen.
func (w *watcher) freeze() error {
	ctx, cancel := context.WithTimeout(context.Background(), freezePatience+time.Second)
	defer cancel()
	// A guest whose agent is not there or does not answer is asked for nothing.
	// Then nothing can be frozen, and nobody has to thaw it.
	if err := w.domain.pingGuest(ctx); err != nil {
		return err
	}
	// What somebody else froze is his to thaw: he may be taking a snapshot.
	if frozen, err := w.domain.frozenByOthers(ctx); err != nil {
		return err
	} else if frozen {
		return errors.New("somebody else holds them frozen")
	}
	w.frozen = true
	err := w.domain.freezeGuest(ctx)
	if err == nil {
		return nil
	}
	// It may have frozen some of them, or may do so later.
	return errors.Join(err, w.thaw(frozenLimit-freezePatience))
}

// hold lets an instant begin without frozen file systems: none may be frozen, or
// be about to be. The alarm goes on thawing them.
func (w *watcher) hold() error {
	if w.frozen {
		return errors.New("the guest's file systems may still be frozen, and are being thawed")
	}
	return nil
}

// thaw thaws the guest's file systems.
func (w *watcher) thaw(patience time.Duration) error {
	if !w.frozen {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := w.domain.thawGuest(ctx)
	w.frozen = err != nil && !errors.Is(err, hypervisor.ErrMachineGone)
	return err
}

// rescue puts right what a dead exporter left: first the guest, then what stands
// on the host.
func (w *watcher) rescue() {
	w.stopServer()
	begun := time.Now()
	for tidy := false; !tidy || w.frozen; {
		// An agent that does not answer must not keep the job from ending.
		_ = w.thaw(agentPatience)
		if !tidy {
			came := w.late && w.hasJob()
			tidy = w.tidy() == nil && (came || !w.late || time.Since(begun) > latePatience)
		}
		patience := rescuePatience
		switch {
		case w.frozen:
			patience = frozenPatience
		case w.late:
			patience += latePatience
		}
		if tidy && !w.frozen || time.Since(begun) > patience {
			return
		}
		time.Sleep(rescueInterval)
	}
}

// hasJob says that the machine has a backup job.
func (w *watcher) hasJob() bool {
	ctx, cancel := context.WithTimeout(context.Background(), rescuePatience)
	defer cancel()
	_, there, err := w.domain.backupSocket(ctx)
	return err == nil && there
}

// tidy removes the export's job, its files, and the checkpoints that no point
// needs.
func (w *watcher) tidy() error {
	ctx, cancel := context.WithTimeout(context.Background(), rescuePatience)
	defer cancel()
	gone := w.order.Fresh
	if w.committed {
		gone = w.order.Bases
	}
	err := w.domain.clearExport(ctx)
	if errors.Is(err, hypervisor.ErrMachineGone) || errors.Is(err, hypervisor.ErrMachineBusy) {
		return nil // nothing of ours is there
	}
	if err != nil {
		return err
	}
	for _, name := range gone {
		err = errors.Join(err, w.domain.removeCheckpoint(ctx, name))
	}
	return err
}

// startServer starts the program that gives out the disks of a machine that is
// off, and waits until it does.
func (w *watcher) startServer() error {
	// The signal below follows the thread that starts the child. We are inside
	// init, which runs on the main thread.
	runtime.LockOSThread()
	said, err := os.CreateTemp("", "lifeboat-guard-*.txt")
	if err != nil {
		return err
	}
	defer os.Remove(said.Name())
	defer said.Close()
	w.server = &exec.Cmd{
		Path: w.order.Serve[0], Args: w.order.Serve, Stdout: said, Stderr: said,
		SysProcAttr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	}
	if err := w.server.Start(); err != nil {
		return err
	}
	w.ended = make(chan struct{})
	go func() {
		_ = w.server.Wait() // what it said is in the file
		close(w.ended)
	}()
	for deadline := time.Now().Add(rescuePatience); time.Now().Before(deadline); {
		// The socket is there a moment before anybody listens.
		if conn, err := net.Dial("unix", w.order.ServeSocket); err == nil {
			return conn.Close()
		}
		select {
		case <-w.ended:
			text, _ := os.ReadFile(said.Name())
			lines := strings.Split(strings.TrimSpace(string(text)), "\n")
			return errors.New(hypervisor.GuestWords(lines[0]))
		case <-time.After(2 * time.Millisecond):
		}
	}
	w.stopServer()
	return errors.New("the disks are not given out")
}

func (w *watcher) stopServer() {
	if w.server == nil {
		return
	}
	_ = w.server.Process.Signal(syscall.SIGTERM) // or it has ended
	select {
	case <-w.ended:
	case <-time.After(5 * time.Second):
		_ = w.server.Process.Kill()
		<-w.ended
	}
}
