package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/hypervisor"
)

// What machines write goes to overlays on storage of their host, and that may
// become full while they run. Whoever serves their disks watches it: before the
// last of it is taken the machines stand still, and they go on when there is room
// again. An overlay that meets the end all the same stops its guest as well, which
// sees no error either; see hypervisor/qemu/DESIGN.md.

const (
	// roomEvery is how often the room of a folder is looked at, roomSeldom that of a
	// host that has to be asked.
	roomEvery  = 250 * time.Millisecond
	roomSeldom = 5 * time.Second
	// mostReserve is left free at the most; a small file system keeps a twentieth.
	mostReserve = 1 << 30
)

// reserveOf is what has to stay free of a file system.
func reserveOf(total int64) int64 { return min(mostReserve, total/20) }

// shortOfRoom says whether machines have to stand. Those that stand need more than
// those that run, or they would take turns with the end of the room.
func shortOfRoom(free, reserve int64, standing bool) bool {
	if standing {
		return free < reserve+reserve/2
	}
	return free < reserve
}

// watchRoom watches the room of every host of the run.
func (s *diskServer) watchRoom(ctx context.Context) {
	next := map[string]time.Time{}
	tick := time.NewTicker(roomEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		b := s.known()
		for _, file := range b.hosts() {
			if file.Kind == kindVSphere || time.Now().Before(next[file.Name]) {
				continue
			}
			if file.Kind != kindQEMU {
				next[file.Name] = time.Now().Add(roomSeldom)
			}
			s.lookAtRoom(ctx, b, file)
		}
	}
}

// roomOf is what is free for overlays on a host, and what has to stay so.
func (s *diskServer) roomOf(ctx context.Context, b *bootedRun, file hostFile) (free, reserve int64, err error) {
	if file.Kind == kindQEMU {
		var fs unix.Statfs_t
		if err := unix.Statfs(file.Dir, &fs); err != nil {
			return 0, 0, err
		}
		return int64(fs.Bavail) * fs.Bsize, reserveOf(int64(fs.Blocks) * fs.Bsize), nil
	}
	h, err := s.a.openHostOf(b, file)
	if err != nil {
		return 0, 0, err
	}
	sizer, ok := h.(hypervisor.Sizer)
	if !ok {
		return 0, 0, hypervisor.ErrUnsupported
	}
	size, err := sizer.Size(ctx)
	if err == nil && size.FreeDiskBytes == 0 {
		err = hypervisor.ErrUnsupported
	}
	return size.FreeDiskBytes, mostReserve / 4, err
}

// lookAtRoom lets the machines of a host stand or go on, as its room asks.
func (s *diskServer) lookAtRoom(ctx context.Context, b *bootedRun, file hostFile) {
	free, reserve, err := s.roomOf(ctx, b, file)
	if err != nil || ctx.Err() != nil {
		return // nothing is known, so nothing is done
	}
	s.mu.Lock()
	standing := s.serving.Short[file.Name]
	s.mu.Unlock()
	if !shortOfRoom(free, reserve, standing) {
		if standing {
			s.setShort(file.Name, false, fmt.Sprintf("host %s has room again (%s); its machines go on", file.Name, humanBytes(free)))
		}
		s.letStandingGoOn(ctx, b, file)
		return
	}
	if !standing {
		s.setShort(file.Name, true, fmt.Sprintf("host %s has only %s left for what its machines write: they stand still, without harm, until there is %s", file.Name, humanBytes(free), humanBytes(reserve+reserve/2)))
	}
	s.eachPauser(ctx, b, file, func(ctx context.Context, host hypervisor.Pauser, name string) error {
		stood, err := host.Pause(ctx, name)
		if stood {
			s.setStanding(name, true)
		}
		return err
	})
}

// letStandingGoOn lets the machines of a host go on that stand for want of room.
func (s *diskServer) letStandingGoOn(ctx context.Context, b *bootedRun, file hostFile) {
	s.mu.Lock()
	none := len(s.serving.Standing) == 0
	s.mu.Unlock()
	if none {
		return
	}
	s.eachPauser(ctx, b, file, func(ctx context.Context, host hypervisor.Pauser, name string) error {
		s.mu.Lock()
		ours := slices.Contains(s.serving.Standing, name)
		s.mu.Unlock()
		if !ours {
			return nil
		}
		err := host.Continue(ctx, name)
		if err == nil {
			s.setStanding(name, false)
		}
		return err
	})
	// Those that met the end of the room before they were made to stand.
	s.mu.Lock()
	s.refused = time.Now()
	s.mu.Unlock()
}

// eachPauser does something with each machine of a host. One that does not answer
// does not keep the others waiting, and is tried again.
func (s *diskServer) eachPauser(ctx context.Context, b *bootedRun, file hostFile, do func(context.Context, hypervisor.Pauser, string) error) {
	h, err := s.a.openHostOf(b, file)
	if err != nil {
		return
	}
	host, ok := h.(hypervisor.Pauser)
	if !ok {
		return
	}
	for _, m := range b.Machines {
		if m.HostID == "" || b.hostOf(m).Name != file.Name {
			continue
		}
		limited, cancel := context.WithTimeout(ctx, retryLimit)
		// What fails is looked at again in a moment.
		_ = do(limited, host, m.Name)
		cancel()
	}
}

// setShort notes that a host is short of room, or is not any more.
func (s *diskServer) setShort(host string, short bool, text string) {
	s.mu.Lock()
	if s.serving.Short == nil {
		s.serving.Short = map[string]bool{}
	}
	if short {
		s.serving.Short[host] = true
	} else {
		delete(s.serving.Short, host)
	}
	s.serving.Room = text
	s.mu.Unlock()
	s.log.log(event{Event: "room", Text: text})
}

// setStanding notes that a machine was made to stand, or goes on.
func (s *diskServer) setStanding(machine string, stands bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serving.Standing = slices.DeleteFunc(slices.Clone(s.serving.Standing), func(name string) bool { return name == machine })
	if stands {
		s.serving.Standing = append(s.serving.Standing, machine)
	}
}
