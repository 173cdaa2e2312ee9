package vsphere

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"lifeboat"
	"lifeboat/hypervisor/vsphere/vmdk"
)

// modelStream plays the grains of a disk, with faults.
type modelStream struct {
	disk     []byte
	capacity int64
	grain    int64
	at       int64
	// failAt ends the stream before that offset with fault.
	failAt int64
	fault  error
	slow   time.Duration
}

func (m *modelStream) CapacityBytes() int64 { return m.capacity }

func (m *modelStream) Next() (int64, []byte, error) {
	time.Sleep(m.slow)
	for m.at < int64(len(m.disk)) {
		offset := m.at
		if m.failAt > 0 && offset >= m.failAt {
			return 0, nil, m.fault
		}
		data := m.disk[offset:min(offset+m.grain, int64(len(m.disk)))]
		m.at += m.grain
		if len(bytes.Trim(data, "\x00")) > 0 {
			return offset, data, nil
		}
	}
	if m.fault != nil {
		return 0, nil, m.fault
	}
	return 0, nil, io.EOF
}

// sparseDisk is a disk of which about a third is data.
func sparseDisk(size int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	disk := make([]byte, size)
	for at := 0; at < size; {
		n := r.IntN(300 << 10)
		if r.IntN(3) == 0 {
			for i := at; i < min(at+n, size); i++ {
				disk[i] = byte(r.IntN(255) + 1)
			}
		}
		at += n + 1
	}
	return disk
}

// forwardOver serves a disk from streams that the given function makes, one for
// each time that the stream is begun.
func forwardOver(t *testing.T, disk []byte, make func(n int) *modelStream) *forward {
	t.Helper()
	shortPauses(t)
	n := 0
	turn := (&turns{free: map[string]chan struct{}{}}).of("ds", 1)
	f := newForward(t.Context(), int64(len(disk)), turn, func(context.Context) (grains, func(), error) {
		n++
		return make(n), func() {}, nil
	})
	t.Cleanup(f.close)
	return f
}

// shortPauses lets a test not wait between tries.
func shortPauses(t *testing.T) {
	reopen, part := reopenPause, partPause
	reopenPause, partPause = 0, time.Millisecond
	t.Cleanup(func() { reopenPause, partPause = reopen, part })
}

func whole(disk []byte) *modelStream {
	return &modelStream{disk: disk, capacity: int64(len(disk)), grain: cellBytes}
}

// readLikeAStore asks for the extents of windows and lets several goroutines
// read what is in them, in pieces, roughly in order.
func readLikeAStore(ctx context.Context, d interface {
	extents(context.Context, lifeboat.Extent) ([]lifeboat.Extent, error)
	readAt(context.Context, []byte, int64) error
}, size, window, piece int64) ([]byte, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	got := make([]byte, size)
	tasks := make(chan lifeboat.Extent, 4)
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for e := range tasks {
				if err := d.readAt(ctx, got[e.Offset:e.End()], e.Offset); err != nil {
					cancel(err)
				}
			}
		})
	}
	for at := int64(0); at < size && ctx.Err() == nil; at += window {
		extents, err := d.extents(ctx, lifeboat.Extent{Offset: at, Length: min(window, size-at)})
		if err != nil {
			cancel(err)
			break
		}
		for _, e := range extents {
			for from := e.Offset; from < e.End(); from += piece {
				tasks <- lifeboat.Extent{Offset: from, Length: min(piece, e.End()-from)}
			}
		}
	}
	close(tasks)
	readers.Wait()
	return got, context.Cause(ctx)
}

func TestAStreamAnswersAsTheDiskWould(t *testing.T) {
	for seed := range uint64(6) {
		for _, grain := range []int64{4 << 10, 64 << 10, 256 << 10} {
			disk := sparseDisk(9<<20+512*int(seed), seed)
			f := forwardOver(t, disk, func(int) *modelStream {
				m := whole(disk)
				m.grain = grain
				return m
			})
			got, err := readLikeAStore(t.Context(), f, int64(len(disk)), 3<<20, 700<<10)
			if err != nil || !bytes.Equal(got, disk) || f.opens != 1 {
				t.Fatalf("seed %d, grains of %d: %v after %d streams, the bytes are right: %v", seed, grain, err, f.opens, bytes.Equal(got, disk))
			}
		}
	}
}

func TestAStreamThatDropsIsBegunAgain(t *testing.T) {
	disk := sparseDisk(12<<20, 3)
	f := forwardOver(t, disk, func(n int) *modelStream {
		m := whole(disk)
		if n < mostOpens {
			m.failAt, m.fault = int64(n)*4<<20, io.ErrUnexpectedEOF
		}
		return m
	})
	got, err := readLikeAStore(t.Context(), f, int64(len(disk)), 2<<20, 256<<10)
	if err != nil || !bytes.Equal(got, disk) || f.opens != mostOpens {
		t.Fatalf("%v after %d streams", err, f.opens)
	}
}

func TestAStreamThatIsWrongGivesNoDisk(t *testing.T) {
	disk := sparseDisk(8<<20, 5)
	other := bytes.Clone(disk)
	copy(other[:cellBytes], bytes.Repeat([]byte{1}, cellBytes))
	clear(other[cellBytes : 5*cellBytes])
	tests := map[string]func(n int) *modelStream{
		"cut each time": func(int) *modelStream {
			m := whole(disk)
			m.failAt, m.fault = 6<<20, vmdk.ErrTruncated
			return m
		},
		"cut after its last grain": func(int) *modelStream {
			m := whole(disk)
			m.fault = vmdk.ErrTruncated
			return m
		},
		"out of order": func(int) *modelStream {
			m := whole(disk)
			m.failAt, m.fault = 1<<20, vmdk.ErrOrder
			return m
		},
		"of another size": func(int) *modelStream {
			m := whole(disk)
			m.capacity += 512
			return m
		},
		"of no size": func(int) *modelStream {
			m := whole(disk)
			m.capacity = -1
			return m
		},
		"longer than the disk": func(int) *modelStream {
			return &modelStream{disk: append(bytes.Clone(disk), 1, 2, 3), capacity: int64(len(disk)), grain: cellBytes}
		},
		"another one the second time": func(n int) *modelStream {
			if n > 1 {
				return whole(other)
			}
			m := whole(disk)
			m.failAt, m.fault = 4<<20, io.ErrUnexpectedEOF
			return m
		},
	}
	for name, make := range tests {
		t.Run(name, func(t *testing.T) {
			f := forwardOver(t, disk, make)
			got, err := readLikeAStore(t.Context(), f, int64(len(disk)), 2<<20, 512<<10)
			if err == nil {
				t.Fatalf("it is taken for the disk (the same bytes: %v)", bytes.Equal(got, disk))
			}
		})
	}
}

func TestWhatHasPassedIsReadFromTheStartAFewTimesOnly(t *testing.T) {
	disk := bytes.Repeat([]byte{7}, 4<<20)
	f := forwardOver(t, disk, func(int) *modelStream { return whole(disk) })
	// All of it, so that no later stream comes farther than the first.
	p := make([]byte, len(disk))
	var err error
	for n := range mostOpens {
		if err = f.readAt(t.Context(), p, 0); err != nil || p[0] != 7 {
			t.Fatalf("reading it for the time %d: %v", n+1, err)
		}
	}
	if err = f.readAt(t.Context(), p, 0); err == nil {
		t.Error("the stream is begun without end")
	}
}

func TestAStreamKeepsBoundedMemory(t *testing.T) {
	size := int64(keptBytes) + 64<<20
	grain := bytes.Repeat([]byte{3}, cellBytes)
	n := 0
	turn := (&turns{free: map[string]chan struct{}{}}).of("ds", 1)
	f := newForward(t.Context(), size, turn, func(context.Context) (grains, func(), error) {
		n++
		return &sameGrains{grain: grain, size: size}, func() {}, nil
	})
	defer f.close()
	// Only the end is wanted: the rest would have to be kept.
	p := make([]byte, cellBytes)
	if err := f.readAt(t.Context(), p, size-cellBytes); err != nil || p[0] != 3 {
		t.Fatal(err)
	}
	if f.kept() > keptBytes {
		t.Errorf("%d MiB are kept", f.kept()>>20)
	}
	if err := f.readAt(t.Context(), p, 0); err != nil || p[0] != 3 || n != 2 {
		t.Errorf("%v after %d streams", err, n)
	}
}

type sameGrains struct {
	grain    []byte
	at, size int64
}

func (s *sameGrains) CapacityBytes() int64 { return s.size }

func (s *sameGrains) Next() (int64, []byte, error) {
	if s.at >= s.size {
		return 0, nil, io.EOF
	}
	s.at += cellBytes
	return s.at - cellBytes, s.grain, nil
}

func TestAReadOfAStreamEndsWithItsContext(t *testing.T) {
	disk := bytes.Repeat([]byte{7}, 4<<20)
	f := forwardOver(t, disk, func(int) *modelStream {
		m := whole(disk)
		m.slow = 5 * time.Millisecond
		return m
	})
	ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, errors.New("no more"))
	defer cancel()
	if err := f.readAt(ctx, make([]byte, 4<<20), 0); err == nil || !strings.Contains(err.Error(), "no more") {
		t.Errorf("it ended with %v", err)
	}
	f.close()
	if err := f.readAt(t.Context(), make([]byte, 512), 3<<20); !errors.Is(err, errStreamClosed) {
		t.Errorf("after the end it gives %v", err)
	}
}

func TestADiskThatNobodyReadsKeepsNoOtherWaiting(t *testing.T) {
	all := turns{free: map[string]chan struct{}{}}
	disk := bytes.Repeat([]byte{7}, int(2*aheadBytes))
	open := func(context.Context) (grains, func(), error) { return whole(disk), func() {}, nil }
	first := newForward(t.Context(), int64(len(disk)), all.of("ds", 1), open)
	second := newForward(t.Context(), int64(len(disk)), all.of("ds", 1), open)
	defer first.close()
	defer second.close()
	ctx, cancel := context.WithTimeout(t.Context(), bootCeiling)
	defer cancel()
	for i := range 4 {
		for name, f := range map[string]*forward{"first": first, "second": second} {
			if err := f.readAt(ctx, make([]byte, 1<<20), int64(i)<<20); err != nil {
				t.Fatal(fmt.Errorf("%s: %w", name, err))
			}
		}
	}
}
