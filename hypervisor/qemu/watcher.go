package qemu

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
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"lifeboat/hypervisor"
)

// watcher is the guard's own side.
type watcher struct {
	machine *machine
	agent   *agent
	holding bool // the exporter may have stopped the CPUs
	frozen  bool // the guest's file systems are frozen
	server  *exec.Cmd
	ended   chan struct{}
}

// guardMain is the whole life of a guard.
func guardMain(in io.Reader, out io.Writer, text string) int {
	// An exporter that dies takes the other end of this pipe with it. A guard that
	// died of its answer would leave the guest frozen. Neither does it end when it
	// is asked to: who stops a service asks all of its processes at once, and the
	// guard ends with the exporter.
	signal.Ignore(syscall.SIGPIPE, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
	var order guardOrder
	w := &watcher{}
	err := json.Unmarshal([]byte(text), &order)
	if err == nil {
		err = w.prepare(order)
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
				w.holding, alarm = true, time.After(frozenLimit)
				reply(out, w.freeze())
			case word == "hold":
				w.holding, alarm = true, time.After(frozenLimit)
				reply(out, nil)
			case word == "thaw":
				w.holding, alarm = false, nil
				reply(out, w.thaw(rescuePatience))
			}
		case <-alarm:
			// Until the exporter says that the guest runs: a "stop" of its own may
			// still be on its way.
			w.letGo()
			alarm = time.After(rescueInterval)
		}
	}
}

func reply(out io.Writer, err error) {
	text := "ok"
	if err != nil {
		text = strings.ReplaceAll(err.Error(), "\n", " ")
	}
	fmt.Fprintln(out, text)
}

// prepare finds the machine and starts what gives out its disks.
func (w *watcher) prepare(order guardOrder) error {
	h, err := Open(Options{Dir: order.Dir, RunDir: order.RunDir, ScratchDir: order.ScratchDir, Binary: order.Binary})
	if err != nil {
		return err
	}
	if w.machine, err = h.load(order.Folder); err != nil {
		return err
	}
	if len(order.Serve) == 0 {
		return nil
	}
	return w.startServer(order)
}

func (w *watcher) startServer(order guardOrder) error {
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
		Path: order.Serve[0], Args: order.Serve, Stdout: said, Stderr: said,
		SysProcAttr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	}
	if err := w.server.Start(); err != nil {
		return err
	}
	w.ended = make(chan struct{})
	go func() {
		w.server.Wait()
		close(w.ended)
	}()
	for deadline := time.Now().Add(rescuePatience); time.Now().Before(deadline); {
		// The socket is there a moment before anybody listens.
		if conn, err := net.Dial("unix", order.ServeSocket); err == nil {
			conn.Close()
			return nil
		}
		select {
		case <-w.ended:
			text, _ := os.ReadFile(said.Name())
			return errors.New(lastLine(string(text)))
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
	w.server.Process.Signal(syscall.SIGTERM)
	select {
	case <-w.ended:
	case <-time.After(5 * time.Second):
		w.server.Process.Kill()
		<-w.ended
	}
}

// freeze freezes the guest's file systems.
func (w *watcher) freeze() error {
	ctx := context.Background()
	a, err := dialAgent(ctx, filepath.Join(w.machine.sockets(), agentSocket))
	if err != nil {
		return err
	}
	w.agent, w.frozen = a, true
	var count int
	err = a.run(ctx, freezePatience, "guest-fsfreeze-freeze", nil, &count)
	if err == nil && count > 0 {
		return nil
	}
	if err == nil {
		err = errors.New("the guest has no file system that can be frozen")
	}
	// It may have frozen some of them, or may do so later.
	return errors.Join(err, w.thaw(rescuePatience))
}

// thaw thaws the guest's file systems and lets go of the agent.
func (w *watcher) thaw(patience time.Duration) error {
	if !w.frozen {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := errNoAgent
	if w.agent != nil {
		err = w.agent.run(ctx, agentPatience, "guest-fsfreeze-thaw", nil, nil)
		w.agent.close()
		w.agent = nil
	}
	if err != nil {
		err = w.machine.thaw(ctx)
	}
	w.frozen = err != nil
	return err
}

// thaw thaws the guest's file systems on a fresh line to its agent, and tries
// until ctx ends: an earlier answer may come late. A machine that is off has
// nothing frozen.
func (m *machine) thaw(ctx context.Context) error {
	for {
		err := m.thawOnce(ctx)
		if err == nil {
			return nil
		}
		if power, powerErr := m.power(ctx); powerErr == nil && power == hypervisor.PowerOff {
			return nil
		}
		if pause(ctx, 100*time.Millisecond) != nil {
			return err
		}
	}
}

func (m *machine) thawOnce(ctx context.Context) error {
	a, err := dialAgent(ctx, filepath.Join(m.sockets(), agentSocket))
	if err != nil {
		return err
	}
	defer a.close()
	return a.run(ctx, agentPatience, "guest-fsfreeze-thaw", nil, nil)
}

// letGo tries once to let the guest go on: CPUs first, because a guest that
// stands cannot thaw. It says whether the guest is known to run, or is off.
func (w *watcher) letGo() bool {
	runs := !w.holding
	if w.holding {
		ctx, cancel := context.WithTimeout(context.Background(), attemptPatience)
		defer cancel()
		err := w.machine.cont(ctx, guardSocket)
		if errors.Is(err, errOff) {
			w.frozen = false
		}
		runs = err == nil || refused(err) || errors.Is(err, errOff)
	}
	// Also where QEMU does not answer: the guest may stand still for no other
	// reason than ours.
	w.thaw(attemptPatience)
	return runs
}

// rescue puts the machine right after its exporter is gone, and tries until that
// is done.
func (w *watcher) rescue() {
	began := time.Now()
	for {
		if w.letGo() {
			w.holding = w.clear()
		}
		tried := time.Since(began)
		if !w.holding && (!w.frozen || tried > rescuePatience) || tried > standingPatience {
			return
		}
		time.Sleep(rescueInterval)
	}
}

// clear takes the exporter's nodes out, and says whether the guest may stand
// since. What else fails is done by the next Freeze.
func (w *watcher) clear() (stands bool) {
	ctx, cancel := context.WithTimeout(context.Background(), rescuePatience)
	defer cancel()
	mon, err := w.machine.monitor(ctx, guardSocket)
	if err != nil {
		return false
	}
	defer mon.close()
	err = w.machine.finishMove(ctx, mon)
	return errors.Is(errors.Join(err, w.machine.clearExport(ctx, mon, true)), errStands)
}
