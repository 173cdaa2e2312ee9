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
	// rescuePatience is how long a guard tries to put a machine right.
	rescuePatience = 60 * time.Second
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
// for it.
func (g *guard) abandon() {
	g.once.Do(func() {
		g.in.Close()
		g.cmd.Wait()
	})
}

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
	// died of its answer would leave the guest frozen.
	signal.Ignore(syscall.SIGPIPE)
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
				w.rescue(true)
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
				reply(out, w.thaw())
			}
		case <-alarm:
			w.rescue(false)
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
	return errors.Join(err, w.thaw())
}

// thaw thaws the guest's file systems and lets go of the agent.
func (w *watcher) thaw() error {
	if !w.frozen {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), rescuePatience)
	defer cancel()
	err := w.agent.run(ctx, agentPatience, "guest-fsfreeze-thaw", nil, nil)
	for err != nil && ctx.Err() == nil {
		// Perhaps its earlier answer came late: begin again on a clean line.
		w.agent.close()
		if w.agent, err = dialAgent(ctx, filepath.Join(w.machine.sockets(), agentSocket)); err == nil {
			err = w.agent.run(ctx, agentPatience, "guest-fsfreeze-thaw", nil, nil)
			continue
		}
		if _, offErr := w.machine.monitor(ctx, guardSocket); errors.Is(offErr, errOff) {
			return nil
		}
		pause(ctx, 100*time.Millisecond)
	}
	if w.agent != nil {
		w.agent.close()
	}
	w.frozen = err != nil
	return err
}

// rescue puts the machine right without the exporter: CPUs first, because a
// guest that stands cannot thaw. With clear, the exporter is gone and so its
// nodes have to go.
func (w *watcher) rescue(clear bool) {
	ctx, cancel := context.WithTimeout(context.Background(), rescuePatience)
	defer cancel()
	mon, err := w.machine.monitor(ctx, guardSocket)
	if errors.Is(err, errOff) {
		return
	}
	if err == nil {
		defer mon.close()
	}
	if err == nil && w.holding {
		mon.run(ctx, "cont", nil, nil)
	}
	// Also where QEMU does not answer: the guest may stand still for no other
	// reason than ours.
	w.thaw()
	w.holding = false
	if err == nil && clear {
		w.machine.finishMove(ctx, mon)
		w.machine.clearExport(ctx, mon, true)
	}
}
