package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
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
	"lifeboat/runbook"
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
	a    *app
	dir  string
	keys secretKeys
	log  *run
	// work is what runs beside the serving.
	work sync.WaitGroup

	mu sync.Mutex
	// booted is what was written down of the run when it was last read: a runbook's
	// machines are begun one by one.
	booted  *bootedRun
	drives  []*servedDrive
	disks   map[string]*servedDisk
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
	s.disks = map[string]*servedDisk{}
	if before, err := readServing(s.dir); err == nil {
		s.serving.ReadBytes, s.serving.Damage, s.serving.Drives = before.ReadBytes, before.Damage, before.Drives
		s.serving.Short, s.serving.Standing, s.serving.Room = before.Short, before.Standing, before.Room
		// A server that died while a drive was away left the machines standing.
		s.refused = time.Now()
	}
	s.serving.Process, s.serving.Guard = self, guard
	ctx, cancel := context.WithCancel(ctx)
	// Whatever ends the serving, an error too, ends the rest before it is waited
	// for: a process that hangs here would be taken for a server that serves.
	defer s.work.Wait()
	defer cancel()
	b := s.learn(ctx)
	s.work.Go(func() { s.watch(ctx, cancel) })
	s.work.Go(func() { s.keepGateway(ctx) })
	s.work.Go(func() { s.watchRoom(ctx) })
	s.work.Go(func() { s.readAheadOf(ctx) })
	if b.settled() {
		<-ctx.Done()
		return nil
	}
	return s.serve(ctx)
}

// known is what was last read of the run.
func (s *diskServer) known() *bootedRun {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.booted
}

// learn reads what is written down of the run, and begins to keep the drives that
// came into it since.
func (s *diskServer) learn(ctx context.Context) *bootedRun {
	b, err := readBooted(s.dir)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.booted = b
	}
	for _, of := range s.booted.drives() {
		if of.Drive.ID == "" || slices.ContainsFunc(s.drives, func(d *servedDrive) bool { return d.Drive.ID == of.Drive.ID }) {
			continue
		}
		d := newServedDrive(s, of)
		s.drives = append(s.drives, d)
		s.work.Go(func() { d.keep(ctx) })
	}
	return s.booted
}

// allDrives are the drives of the run, as far as they are known.
func (s *diskServer) allDrives() []*servedDrive {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.drives)
}

// serve gives out the disks until no machine needs them any more.
func (s *diskServer) serve(ctx context.Context) error {
	listener, err := listenUnix(s.booted.Socket)
	if err != nil {
		return err
	}
	needed, done := context.WithCancel(ctx)
	defer done()
	go s.untilSettled(needed, done)
	server := nbd.NewServer(s.exports(), nbd.ServerOptions{OnError: s.failed, Find: func(name string) nbd.Export { return s.find(ctx, name) }})
	err = server.Serve(needed, listener)
	for _, d := range s.allDrives() {
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
	if s.known().Segment == nil {
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
	b := s.known()
	h, err := s.a.openRunHost(b)
	if err != nil {
		return err
	}
	g, err := h.OpenGateway(ctx, *b.Segment)
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
		if s.learn(ctx).Ended {
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
	s.serving.Ready, s.serving.WaitingSince = true, time.Time{}
	s.serving.Drives = nil
	for _, d := range s.drives {
		state := d.state()
		s.serving.ReadBytes += state.ReadBytes - d.said
		d.said = state.ReadBytes
		s.serving.Drives = append(s.serving.Drives, state)
		s.serving.Ready = s.serving.Ready && d.store != nil
		if since := d.waitingSince; !since.IsZero() && (s.serving.WaitingSince.IsZero() || since.Before(s.serving.WaitingSince)) {
			s.serving.WaitingSince = since
		}
	}
	s.serving.Ready = s.serving.Ready || s.booted.settled()
	serving := s.serving
	serving.Short = maps.Clone(s.serving.Short)
	serving.Given = map[string]int64{}
	for name, d := range s.disks {
		serving.Given[name] = d.given.Load()
	}
	keepsReads := s.booted.Mode == runbook.Drill
	s.mu.Unlock()
	if keepsReads {
		s.sayReads()
	}
	s.saying.Lock()
	defer s.saying.Unlock()
	saveJSON(servingPath(s.dir), serving)
}

// exports are the disks of the machines that are known when the serving begins.
func (s *diskServer) exports() map[string]nbd.Export {
	all := map[string]nbd.Export{}
	for _, m := range s.known().Machines {
		for _, name := range m.Exports {
			all[name] = s.export(name)
		}
	}
	return all
}

// find finds a disk of a machine that was begun since the run was last read.
func (s *diskServer) find(ctx context.Context, name string) nbd.Export {
	if d := s.export(name); d != nil {
		return d
	}
	s.learn(ctx)
	if d := s.export(name); d != nil {
		return d
	}
	return nil
}

// export is the disk that an export stands for, or nil.
func (s *diskServer) export(name string) *servedDisk {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d, ok := s.disks[name]; ok {
		return d
	}
	for _, m := range s.booted.Machines {
		for key, export := range m.Exports {
			if export != name {
				continue
			}
			id, point := s.booted.source(m, key)
			i := slices.IndexFunc(s.drives, func(d *servedDrive) bool { return d.Drive.ID == id })
			if i < 0 {
				return nil
			}
			var blocks *readBlocks
			if s.booted.Mode == runbook.Drill {
				blocks = &readBlocks{}
			}
			s.disks[name] = &servedDisk{blocks: blocks, from: s.drives[i], point: point, key: key, size: m.SizeBytes[key], waits: slices.Contains(m.Waiting, key)}
			return s.disks[name]
		}
	}
	return nil
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
	b := s.known()
	drive := b.Drive
	f := catalog.Fault{RunID: b.Run, What: "a booted machine met damage: " + text}
	for _, m := range b.Machines {
		for _, name := range m.Exports {
			if name == export {
				f.PointID, f.What = s.export(name).point, fmt.Sprintf("%s, which was booted, met damage: %s", m.Name, text)
				drive = s.export(name).from.Drive
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
