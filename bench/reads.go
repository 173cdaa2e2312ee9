package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/nbd"
)

// reader reads a disk somewhere: over NBD, or through a mounted file.
type reader func(p []byte, offset int64) error

// latencies are how long single reads took, in milliseconds.
type latencies struct {
	MeanMS float64 `json:"mean_ms"`
	P50MS  float64 `json:"p50_ms"`
	P99MS  float64 `json:"p99_ms"`
}

// readOneByOne reads blocks one after the other and compares each with the
// source, outside the time that is measured.
func (s *session) readOneByOne(read reader, n int) (latencies, error) {
	var l latencies
	source, err := os.Open(s.day(1, "web"))
	if err != nil {
		return l, err
	}
	defer source.Close()
	var took []float64
	got, want := make([]byte, randomBlock), make([]byte, randomBlock)
	for _, at := range s.offsets[:n] {
		began := time.Now()
		if err := read(got, at); err != nil {
			return l, fmt.Errorf("read at %d: %w", at, err)
		}
		ms := time.Since(began).Seconds() * 1000
		took = append(took, ms)
		l.MeanMS += ms / float64(n)
		if _, err := source.ReadAt(want, at); err != nil {
			return l, err
		}
		if !bytes.Equal(got, want) {
			return l, fmt.Errorf("the block at %d is not what was stored", at)
		}
	}
	slices.Sort(took)
	l.P50MS, l.P99MS = took[n/2], took[n*99/100]
	return l, nil
}

// A frame is decoded anew for nearly every read: the cache of decoded frames
// holds a few of them.
const coldCache = "1048576"

// readServed measures reads of web from a store, through NBD.
func readServed(ctx context.Context, s *session, self, store, point string) error {
	serve := func(cache string, use func(*served) error) error {
		return s.withServer(ctx, "web", use, self, "serve-disks", "-store", store, "-point", point, "-cache", cache)
	}
	err := serve(coldCache, func(d *served) error {
		l, err := s.readOneByOne(d.read, randomReads)
		if err == nil {
			s.reads(workRandom, readFigures{latencies: l, AnonMiB: d.anon()})
		}
		return err
	})
	if err != nil {
		return err
	}
	err = serve(coldCache, func(d *served) error {
		blocks := make([]extent, randomReads)
		for i, at := range s.offsets {
			blocks[i] = extent{Offset: at, Length: randomBlock}
		}
		rate, err := throughput(d.read, blocks, 8)
		if err == nil {
			s.reads(workFlight, readFigures{GBPerS: rate, AnonMiB: d.anon()})
		}
		return err
	})
	if err != nil {
		return err
	}
	return serve("0", func(d *served) error {
		data, err := dataOf(s.day(1, "web"))
		if err != nil {
			return err
		}
		rate, err := throughput(d.read, cut(data, 1<<20), 4)
		if err == nil {
			s.reads(workSequential, readFigures{GBPerS: rate, AnonMiB: d.anon()})
		}
		return err
	})
}

// reads keeps and prints figures of reading.
func (s *session) reads(work string, f readFigures) {
	s.report.addReads(work, s.tool, f)
	if f.GBPerS > 0 {
		s.say("%s: %s: %.2f GB/s", s.label, work, f.GBPerS)
		return
	}
	s.say("%s: %s: mean %.2f ms, half below %.2f, 99 of 100 below %.2f", s.label, work, f.MeanMS, f.P50MS, f.P99MS)
}

// cut divides extents into pieces of a size.
func cut(extents []extent, size int64) (pieces []extent) {
	for _, e := range extents {
		for at := e.Offset; at < e.End(); at += size {
			pieces = append(pieces, extent{Offset: at, Length: min(size, e.End()-at)})
		}
	}
	return pieces
}

// throughput reads pieces in order, several at a time, and returns the rate in
// GB/s.
func throughput(read reader, pieces []extent, flight int) (float64, error) {
	var next atomic.Int64
	var wait sync.WaitGroup
	errs := make([]error, flight)
	began := time.Now()
	for i := range flight {
		wait.Go(func() {
			buf := make([]byte, 1<<20)
			for {
				n := int(next.Add(1)) - 1
				if n >= len(pieces) {
					return
				}
				if errs[i] = read(buf[:pieces[n].Length], pieces[n].Offset); errs[i] != nil {
					return
				}
			}
		})
	}
	wait.Wait()
	return float64(total(pieces)) / 1e9 / time.Since(began).Seconds(), errors.Join(errs...)
}

// served is a disk of a server that was started for it.
type served struct {
	client *nbd.Client
	pid    int
}

func (d *served) read(p []byte, offset int64) error {
	return d.client.ReadAt(context.Background(), p, offset)
}

// anon is the server's anonymous memory now.
func (d *served) anon() float64 { return anonMiB(d.pid) }

// serverStarts is how long a server may take until it answers.
const serverStarts = 20 * time.Second

// withServer starts a program with "-socket PATH" behind its arguments, uses one
// of its disks, and ends it.
func (s *session) withServer(ctx context.Context, disk string, use func(*served) error, program string, args ...string) error {
	socket := filepath.Join(s.dir, "nbd.sock")
	os.Remove(socket)
	cmd := exec.CommandContext(ctx, program, append(args, "-socket", socket)...)
	return s.withProcess(ctx, cmd, func() error {
		var client *nbd.Client
		err := s.eventually(ctx, func() (err error) {
			client, err = nbd.Dial(ctx, "unix", socket, disk, nbd.DialOptions{Connections: 4})
			return err
		})
		if err != nil {
			return err
		}
		defer client.Close()
		return use(&served{client, cmd.Process.Pid})
	})
}

// withProcess does something while a process runs, and ends that process.
func (s *session) withProcess(ctx context.Context, cmd *exec.Cmd, do func() error) error {
	var problem strings.Builder
	cmd.Env, cmd.Stderr = s.env, &problem
	if err := cmd.Start(); err != nil {
		return err
	}
	err := do()
	cmd.Process.Signal(unix.SIGTERM)
	cmd.Wait()
	if err != nil && problem.Len() > 0 {
		return fmt.Errorf("%w\n%s", err, problem.String())
	}
	return err
}

// eventually tries until it works.
func (s *session) eventually(ctx context.Context, try func() error) error {
	limit := time.Now().Add(serverStarts)
	for {
		err := try()
		if err == nil || time.Now().After(limit) || ctx.Err() != nil {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// mountedReads is how often an image is read through a peer's mount: those that
// decode megabytes for a block would take minutes for more.
const mountedReads = 100

// readMounted measures reads of an image that a program shows below mnt.
func readMounted(ctx context.Context, s *session, image, program string, args ...string) error {
	mnt := filepath.Join(s.dir, "mnt")
	if err := os.MkdirAll(mnt, 0o755); err != nil {
		return err
	}
	defer unix.Unmount(mnt, unix.MNT_DETACH)
	return s.withProcess(ctx, exec.CommandContext(ctx, program, args...), func() error {
		var f *os.File
		err := s.eventually(ctx, func() (err error) {
			f, err = os.Open(image)
			return err
		})
		if err != nil {
			return err
		}
		defer f.Close()
		l, err := s.readOneByOne(func(p []byte, at int64) error {
			_, err := io.ReadFull(io.NewSectionReader(f, at, int64(len(p))), p)
			return err
		}, mountedReads)
		if err == nil {
			s.reads(workRandom, readFigures{latencies: l})
		}
		return err
	})
}

// readQemuNBD measures reads of a compressed image from QEMU's own server.
func readQemuNBD(ctx context.Context, s *session, image string) error {
	socket := filepath.Join(s.dir, "qemu.sock")
	cmd := exec.CommandContext(ctx, "qemu-nbd", "-r", "-f", "qcow2", "-x", "web", "-e", "4", "-t", "-k", socket, image)
	return s.withProcess(ctx, cmd, func() error {
		var client *nbd.Client
		err := s.eventually(ctx, func() (err error) {
			client, err = nbd.Dial(ctx, "unix", socket, "web", nbd.DialOptions{Connections: 4})
			return err
		})
		if err != nil {
			return err
		}
		defer client.Close()
		l, err := s.readOneByOne(func(p []byte, at int64) error { return client.ReadAt(ctx, p, at) }, randomReads)
		if err == nil {
			s.reads(workRandom, readFigures{latencies: l})
		}
		return err
	})
}
