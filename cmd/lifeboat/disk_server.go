package main

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
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"lifeboat"
	"lifeboat/catalog"
	"lifeboat/nbd"
)

// The disks of booted machines, and the ways into their private network, are
// served by a process of their own. It and its
// guard outlive the command and the session that started them, and each starts
// the other again when it is gone; both hold the drive's secret in memory, and
// nowhere else. Should both die at once, the guests wait until
// `lifeboat boot --resume` starts them again.

// driveRetry is how often a vanished drive is looked for.
const driveRetry = time.Second

// servingEvery is how often the server of the disks says that it is there.
const servingEvery = time.Second

func (a *app) diskServerCommand() *cobra.Command {
	return a.serviceCommand("disk-server", func(ctx context.Context, dir string, keys secretKeys, guard process) error {
		b, err := readBooted(dir)
		if err != nil {
			return err
		}
		s := &diskServer{a: a, dir: dir, booted: b, keys: keys, log: a.openRunLog(dir)}
		return s.run(ctx, guard)
	})
}

// diskServer gives out the disks of one boot run.
type diskServer struct {
	a      *app
	dir    string
	booted *bootedRun
	keys   secretKeys
	log    *run

	mu      sync.Mutex
	drives  []*servedDrive
	reads   *readCounter
	serving diskServing
	// refused is when a machine was last told that its drive is away: it stops.
	refused time.Time
	// saying keeps two writers of disks.json apart.
	saying sync.Mutex
	// faulty is done once damage was met, which is recorded beside the serving.
	faulty sync.Once
}

func (s *diskServer) run(ctx context.Context, guard process) error {
	self, err := thisProcess()
	if err != nil {
		return err
	}
	lock, err := present(s.dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	// Whoever ends the run says so first, and then waits for that lock.
	if b, err := readBooted(s.dir); err != nil || b.Ended {
		return err
	}
	for _, d := range s.booted.drives() {
		s.drives = append(s.drives, &servedDrive{server: s, bootedDrive: d, gone: make(chan *openedDrive, 1)})
	}
	if before, err := readServing(s.dir); err == nil {
		s.serving.ReadBytes, s.serving.Damage = before.ReadBytes, before.Damage
		// A server that died while a drive was away left the machines standing.
		s.refused = time.Now()
		for _, d := range s.drives {
			d.waitingSince = before.WaitingSince
		}
	}
	s.serving.Process, s.serving.Guard = self, guard
	s.reads = &readCounter{}
	ctx, cancel := context.WithCancel(ctx)
	// Whatever ends the serving, an error too, ends the rest before it is waited
	// for: a process that hangs here would be taken for a server that serves.
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	work.Go(func() { s.watch(ctx, cancel) })
	for _, d := range s.drives {
		work.Go(func() { d.keep(ctx) })
	}
	work.Go(func() { s.keepGateway(ctx) })
	if s.booted.settled() {
		<-ctx.Done()
		return nil
	}
	return s.serve(ctx)
}

// serve gives out the disks until no machine needs them any more.
func (s *diskServer) serve(ctx context.Context) error {
	listener, err := listenUnix(s.booted.Socket)
	if err != nil {
		return err
	}
	// A drive may be away at this very moment: guests wait, and so do we.
	for _, d := range s.drives {
		if err := d.reopen(ctx, d.current()); err != nil {
			return nil
		}
	}
	needed, done := context.WithCancel(ctx)
	defer done()
	go s.untilSettled(needed, done)
	server := nbd.NewServer(s.exports(), nbd.ServerOptions{OnError: s.failed})
	err = server.Serve(needed, listener)
	for _, d := range s.drives {
		d.close()
	}
	if err == nil {
		// The ways in stay open until the machines are stopped.
		<-ctx.Done()
	}
	return err
}

// untilSettled ends the serving once every machine runs from local disk: then
// the drive can be taken away.
func (s *diskServer) untilSettled(ctx context.Context, done func()) {
	tick := time.NewTicker(servingEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if b, err := readBooted(s.dir); err == nil && b.settled() {
			done()
			return
		}
	}
}

// answersEvery is how often the gateway is asked who answers: a check learns of
// it that late at the most.
const answersEvery = 50 * time.Millisecond

// gatewayRetry is how long to wait before a gateway is opened again.
const gatewayRetry = time.Second

// keepGateway keeps the ways into the private network open.
func (s *diskServer) keepGateway(ctx context.Context) {
	if s.booted.Segment == nil {
		s.setGateway("")
		return
	}
	for ctx.Err() == nil {
		err := s.gateway(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("it ended")
		}
		s.setGateway("the ways into the private network are closed: " + err.Error())
		select {
		case <-ctx.Done():
		case <-time.After(gatewayRetry):
		}
	}
}

func (s *diskServer) gateway(ctx context.Context) error {
	h, err := s.a.openRunHost(s.booted)
	if err != nil {
		return err
	}
	g, err := h.OpenGateway(ctx, *s.booted.Segment)
	if err != nil {
		return err
	}
	defer g.Close()
	s.setGateway("")
	tick := time.NewTicker(answersEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-g.Ended():
			return nil
		case <-tick.C:
			s.setAnswers(g.Answers())
		}
	}
}

// setAnswers records which ports of the machines take connections.
func (s *diskServer) setAnswers(ports []netip.AddrPort) {
	var words []string
	for _, p := range ports {
		words = append(words, p.String())
	}
	s.mu.Lock()
	changed := !slices.Equal(words, s.serving.Answers)
	s.serving.Answers = words
	s.mu.Unlock()
	if changed {
		s.say()
	}
}

// setGateway records why nothing leads in; "" when everything does.
func (s *diskServer) setGateway(why string) {
	s.mu.Lock()
	changed := s.serving.Gateway != why
	s.serving.Gateway, s.serving.GatewayTried = why, true
	s.mu.Unlock()
	if changed && why != "" {
		s.log.log(event{Event: "warning", Text: why})
	}
	s.say()
}

// listenUnix takes over a socket that a killed server left behind.
func listenUnix(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen for the machines: %w", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	// Its folder is the guard: a host may have to let the user of its QEMU in.
	return l, os.Chmod(path, 0o666)
}

// watch says every second what the server does, keeps its guard alive, and ends
// it when the run has ended.
func (s *diskServer) watch(ctx context.Context, end func()) {
	tick := time.NewTicker(servingEvery)
	defer tick.Stop()
	for {
		s.say()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if b, err := readBooted(s.dir); err == nil && b.Ended {
			end()
			return
		}
		s.keepGuard()
		s.letGoOn(ctx)
	}
}

func (s *diskServer) keepGuard() {
	s.mu.Lock()
	guard := s.serving.Guard
	self := s.serving.Process
	s.mu.Unlock()
	if guard.alive() {
		return
	}
	started, err := s.a.startService("guard", s.dir, s.keys, self)
	if err != nil {
		s.log.log(event{Event: "warning", Text: "the guard of the disks could not be started: " + err.Error()})
		return
	}
	s.mu.Lock()
	s.serving.Guard = started
	s.mu.Unlock()
}

func (s *diskServer) say() {
	s.mu.Lock()
	s.serving.Seen = time.Now().UTC()
	s.serving.ReadBytes += s.reads.take()
	s.serving.Ready, s.serving.WaitingSince = true, time.Time{}
	for _, d := range s.drives {
		s.serving.Ready = s.serving.Ready && d.store != nil
		if since := d.waitingSince; !since.IsZero() && (s.serving.WaitingSince.IsZero() || since.Before(s.serving.WaitingSince)) {
			s.serving.WaitingSince = since
		}
	}
	s.serving.Ready = s.serving.Ready || s.booted.settled()
	serving := s.serving
	s.mu.Unlock()
	s.saying.Lock()
	defer s.saying.Unlock()
	saveJSON(servingPath(s.dir), serving)
}

// exports makes one export for each disk of each machine.
func (s *diskServer) exports() map[string]nbd.Export {
	all := map[string]nbd.Export{}
	for _, m := range s.booted.Machines {
		for key, name := range m.Exports {
			drive, point := s.booted.source(m, key)
			all[name] = &servedDisk{from: s.drive(drive), point: point, key: key, size: m.SizeBytes[key], waits: slices.Contains(m.Waiting, key)}
		}
	}
	return all
}

// drive finds one of the drives by its id.
func (s *diskServer) drive(id string) *servedDrive {
	return s.drives[slices.IndexFunc(s.drives, func(d *servedDrive) bool { return d.Drive.ID == id })]
}

// failed is told of every read that a guest did not get.
func (s *diskServer) failed(export string, err error) {
	if errors.Is(err, context.Canceled) || errors.Is(err, lifeboat.ErrDriveGone) {
		return
	}
	text := err.Error()
	s.log.log(event{Event: "damage", Machine: export, Text: text})
	s.faulty.Do(func() {
		drive, fault := s.fault(export, text)
		go s.a.damaged(context.Background(), drive, fault)
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, known := range s.serving.Damage {
		if known == text {
			return
		}
	}
	// A guest may ask for thousands of damaged blocks; the first tell the story.
	if len(s.serving.Damage) < 100 {
		s.serving.Damage = append(s.serving.Damage, text)
	}
}

// fault says which machine met damage, and in which point of which drive.
func (s *diskServer) fault(export, text string) (lifeboat.Drive, catalog.Fault) {
	drive := s.booted.Drive
	f := catalog.Fault{RunID: s.booted.Run, What: "a booted machine met damage: " + text}
	for _, m := range s.booted.Machines {
		for key, name := range m.Exports {
			if name == export {
				id, point := s.booted.source(m, key)
				drive = s.drive(id).Drive
				f.PointID, f.What = point, fmt.Sprintf("%s, which was booted, met damage: %s", m.Name, text)
			}
		}
	}
	return drive, f
}

// openRunLog opens a run's log to add to it from another process.
func (a *app) openRunLog(dir string) *run {
	file, err := os.OpenFile(filepath.Join(dir, "log.jsonl"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil
	}
	return &run{ID: filepath.Base(dir), dir: dir, file: file, now: a.now}
}

// serviceKeys is what a service reads from its standard input.
type serviceKeys struct {
	Keys secretKeys `json:"keys"`
	Peer process    `json:"peer"`
}

func readServiceKeys(in io.Reader) (serviceKeys, error) {
	var k serviceKeys
	if err := json.NewDecoder(io.LimitReader(in, 1<<20)).Decode(&k); err != nil {
		return k, usagef("this command is started by lifeboat itself")
	}
	return k, nil
}
