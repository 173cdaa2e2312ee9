package nbd

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"lifeboat"
)

func dial(t testing.TB, socket, export string, o DialOptions) *Client {
	t.Helper()
	c, err := Dial(t.Context(), "unix", socket, export, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestManyReadersAtOnceSeeTheDiskAsItIs(t *testing.T) {
	d := newDisk(t, 9<<20+77, 5)
	socket, _ := serve(t, map[string]Export{"Büro 1": d}, ServerOptions{})
	for _, connections := range []int{1, 4} {
		c := dial(t, socket, "Büro 1", DialOptions{MetaContexts: []string{"base:"}, Connections: connections})
		if c.SizeBytes() != d.SizeBytes() || !c.ReadOnly() || len(c.links) != connections {
			t.Fatalf("size %d, flags %#x, %d connections", c.SizeBytes(), c.Flags(), len(c.links))
		}
		var readers sync.WaitGroup
		for seed := range uint64(8) {
			readers.Go(func() {
				rnd := rand.New(rand.NewPCG(seed, 9))
				for range 20 {
					offset := rnd.Int64N(d.SizeBytes())
					p := bytes.Repeat([]byte{0xee}, 1+rnd.IntN(int(min(3<<19, d.SizeBytes()-offset))))
					if err := c.ReadAt(t.Context(), p, offset); err != nil {
						t.Error(err)
					} else if !bytes.Equal(p, d.data[offset:][:len(p)]) {
						t.Errorf("%d bytes at %d differ", len(p), offset)
					}
				}
			})
		}
		readers.Wait()
		data, err := c.DataExtents(t.Context(), lifeboat.Extent{Offset: 5, Length: d.SizeBytes() - 9})
		want, _ := d.Extents(t.Context(), lifeboat.Extent{Offset: 5, Length: d.SizeBytes() - 9})
		if err != nil || !slices.Equal(data, merged(want)) {
			t.Errorf("data extents differ (%v)", err)
		}
	}
}

func merged(list []lifeboat.Extent) []lifeboat.Extent {
	var statuses []Status
	for _, e := range list {
		statuses = append(statuses, Status{Extent: e})
	}
	return selectExtents(statuses, func(uint32) bool { return true })
}

func TestHolesAreAnsweredWithoutReading(t *testing.T) {
	d := &memoryDisk{data: make([]byte, 8<<20), granule: 4096}
	socket, _ := serve(t, map[string]Export{"a": d}, ServerOptions{})
	c := dial(t, socket, "a", DialOptions{})
	p := bytes.Repeat([]byte{1}, 8<<20)
	if err := c.ReadAt(t.Context(), p, 0); err != nil || !bytes.Equal(p, d.data) {
		t.Errorf("read: %v", err)
	}
	if n := d.reads.Load(); n != 0 {
		t.Errorf("the disk was read %d times", n)
	}
}

// errnoDisk fails every read with an error number of its own.
type errnoDisk struct{ *memoryDisk }

func (errnoDisk) ReadAt(context.Context, []byte, int64) error {
	return fmt.Errorf("the drive is away: %w", ENOSPC)
}

func TestAnExportSaysWhichErrorItsReaderSees(t *testing.T) {
	d := newDisk(t, 1<<20, 6)
	d.data[0] = 1
	socket, _ := serve(t, map[string]Export{"a": errnoDisk{d}}, ServerOptions{})
	c := dial(t, socket, "a", DialOptions{})
	if err := c.ReadAt(t.Context(), make([]byte, 4096), 0); !errors.Is(err, ENOSPC) {
		t.Errorf("reading: %v", err)
	}
}

func TestUnreadableBytesAreAnErrorAndNeverZeros(t *testing.T) {
	d := newDisk(t, 4<<20, 6)
	for i := range d.data {
		d.data[i] |= 1
	}
	d.rotten = lifeboat.Extent{Offset: 1 << 20, Length: 10}
	var told errorLog
	socket, _ := serve(t, map[string]Export{"a": d}, ServerOptions{OnError: told.add})
	c := dial(t, socket, "a", DialOptions{})
	for _, e := range []lifeboat.Extent{{Offset: 1 << 20, Length: 1}, {Offset: 1<<20 + 9, Length: 4096}, {Offset: 0, Length: 4 << 20}} {
		if err := c.ReadAt(t.Context(), make([]byte, e.Length), e.Offset); !errors.Is(err, EIO) {
			t.Errorf("reading %+v: %v", e, err)
		}
	}
	if errs := told.all(); len(errs) != 3 || !errors.Is(errs[0], errRotten) {
		t.Errorf("the owner was told: %v", errs)
	}
	p := make([]byte, 1<<20)
	if err := c.ReadAt(t.Context(), p, 0); err != nil || !bytes.Equal(p, d.data[:1<<20]) {
		t.Errorf("what is before the damage can no longer be read: %v", err)
	}
}

func TestADiskThatIsServedCannotBeWritten(t *testing.T) {
	d := newDisk(t, 1<<20, 7)
	socket, _ := serve(t, map[string]Export{"a": d}, ServerOptions{})
	c := dial(t, socket, "a", DialOptions{})
	if err := c.WriteAt(t.Context(), []byte("x"), 0); !errors.Is(err, EPERM) {
		t.Errorf("the client writes: %v", err)
	}
	// A client that does not look at the flags is refused by the server, and
	// the connection goes on.
	for _, r := range []request{{kind: cmdWrite, length: 5}, {kind: cmdTrim, length: 5}, {kind: cmdWriteZeroes, length: 5}} {
		if err := c.links[0].do(t.Context(), &call{request: r, data: []byte("12345")}); !errors.Is(err, EPERM) {
			t.Errorf("command %d: %v", r.kind, err)
		}
	}
	if err := c.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	if err := c.links[0].do(t.Context(), &call{request: request{kind: cmdCache, length: 1 << 20}}); err != nil {
		t.Error(err)
	}
}

func TestReadsOutsideOfTheDiskAreRefused(t *testing.T) {
	d := newDisk(t, 10000, 8)
	socket, _ := serve(t, map[string]Export{"a": d}, ServerOptions{})
	c := dial(t, socket, "a", DialOptions{MetaContexts: []string{ContextAllocation}})
	for _, e := range []lifeboat.Extent{{Offset: -1, Length: 1}, {Offset: 9999, Length: 2}, {Offset: 1 << 62, Length: 1}} {
		if err := c.ReadAt(t.Context(), make([]byte, e.Length), e.Offset); !errors.Is(err, EINVAL) {
			t.Errorf("%+v: %v", e, err)
		}
		for _, kind := range []uint16{cmdRead, cmdBlockStatus, cmdCache} {
			r := request{kind: kind, offset: uint64(e.Offset), length: uint32(e.Length)}
			if err := c.links[0].do(t.Context(), &call{request: r, data: make([]byte, e.Length)}); !errors.Is(err, EINVAL) {
				t.Errorf("the server took command %d at %+v: %v", kind, e, err)
			}
		}
	}
	if err := c.ReadAt(t.Context(), nil, 10000); err != nil {
		t.Errorf("reading nothing: %v", err)
	}
}

func TestACancelledReadReturnsAtOnceAndTheOthersGoOn(t *testing.T) {
	d := newDisk(t, 1<<20, 9)
	d.data[0] = 1
	d.gate = make(chan struct{})
	socket, _ := serve(t, map[string]Export{"a": d}, ServerOptions{})
	c := dial(t, socket, "a", DialOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- c.ReadAt(ctx, make([]byte, 4096), 0) }()
	for d.reads.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the cancelled read: %v", err)
	}
	close(d.gate)
	p := make([]byte, 1<<20)
	if err := c.ReadAt(t.Context(), p, 0); err != nil || !bytes.Equal(p, d.data) {
		t.Errorf("the next read: %v", err)
	}
}

func TestAServerThatEndsInTheMiddleOfAReadIsNoticed(t *testing.T) {
	d := newDisk(t, 1<<20, 10)
	d.data[0] = 1
	d.gate = make(chan struct{})
	var told errorLog
	socket, stop := serve(t, map[string]Export{"a": d}, ServerOptions{OnError: told.add})
	c := dial(t, socket, "a", DialOptions{})
	ended := make(chan error)
	go func() { ended <- c.ReadAt(t.Context(), make([]byte, 4096), 0) }()
	for d.reads.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	stop()
	if err := <-ended; !errors.Is(err, ErrGone) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the read under way: %v", err)
	}
	if err := c.ReadAt(t.Context(), make([]byte, 4096), 0); !errors.Is(err, ErrGone) {
		t.Errorf("the next read: %v", err)
	}
	if errs := told.all(); len(errs) != 0 {
		t.Errorf("our own end was told as damage: %v", errs)
	}
}

func TestDialSaysWhatIsMissing(t *testing.T) {
	socket, _ := serve(t, map[string]Export{"a": newDisk(t, 4096, 1)}, ServerOptions{})
	if _, err := Dial(t.Context(), "unix", socket, "b", DialOptions{}); !errors.Is(err, ErrNoExport) {
		t.Errorf("an export that does not exist: %v", err)
	}
	c := dial(t, socket, "a", DialOptions{MetaContexts: []string{"qemu:dirty-bitmap:", "x:y"}})
	if len(c.Contexts()) != 0 {
		t.Errorf("contexts out of nowhere: %v", c.Contexts())
	}
	if _, err := c.DirtyExtents(t.Context(), "b0", lifeboat.Extent{Length: 4096}); !errors.Is(err, ErrNoContext) {
		t.Errorf("a bitmap that does not exist: %v", err)
	}
	if data, err := c.DataExtents(t.Context(), lifeboat.Extent{Length: 4096}); err != nil || len(data) != 1 {
		t.Errorf("without contexts everything is data: %v, %v", data, err)
	}
	c.Close()
	if err := c.ReadAt(t.Context(), make([]byte, 1), 0); !errors.Is(err, ErrClosed) {
		t.Errorf("reading a closed client: %v", err)
	}
}

func TestAServerWithOneConnectionToGiveIsUsedWithOne(t *testing.T) {
	d := newDisk(t, 1<<20, 15)
	l, err := net.Listen("unix", filepath.Join(socketDir(t), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		// The others stay in the queue of the listener for ever.
		if conn, err := l.Accept(); err == nil {
			NewServer(map[string]Export{"a": d}, ServerOptions{}).servePeer(t.Context(), conn)
		}
	}()
	c := dial(t, l.Addr().String(), "a", DialOptions{Connections: 4})
	p := make([]byte, 1<<20)
	if err := c.ReadAt(t.Context(), p, 0); err != nil || !bytes.Equal(p, d.data) || len(c.links) != 1 {
		t.Errorf("%d connections, %v", len(c.links), err)
	}
}

func TestAPeerThatDoesNotChooseIsDropped(t *testing.T) {
	socket, _ := serve(t, map[string]Export{}, ServerOptions{HandshakeTimeout: 20 * time.Millisecond})
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.ReadAll(conn); err != nil {
		t.Errorf("the connection was not closed properly: %v", err)
	}
}

func TestDialEndsWithItsContextWhenTheServerSaysNothing(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(socketDir(t), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := Dial(ctx, "unix", l.Addr().String(), "a", DialOptions{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Dial: %v", err)
	}
}

func TestTheServerWorksOverTCPAndForClientsOfOldTimes(t *testing.T) {
	d := newDisk(t, 1<<20, 11)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- NewServer(map[string]Export{"": d}, ServerOptions{}).Serve(ctx, l) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()

	// EXPORT_NAME, no zeroes, no structured replies.
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	hello := make([]byte, 18)
	if _, err := io.ReadFull(conn, hello); err != nil {
		t.Fatal(err)
	}
	conn.Write(option{code: optExportName}.appendTo(be.AppendUint32(nil, 1)))
	if _, err := io.ReadFull(conn, make([]byte, 10+124)); err != nil {
		t.Fatal(err)
	}
	for _, length := range []uint32{1, 4096, 1 << 20} {
		conn.Write(request{kind: cmdRead, length: length, cookie: 7}.appendTo(nil))
		reply := make([]byte, simpleReplyBytes+int(length))
		if _, err := io.ReadFull(conn, reply); err != nil {
			t.Fatal(err)
		}
		r, err := parseSimpleReply(reply[:simpleReplyBytes])
		if err != nil || r != (simpleReply{cookie: 7}) || !bytes.Equal(reply[simpleReplyBytes:], d.data[:length]) {
			t.Errorf("read %d: %+v, %v", length, r, err)
		}
	}
}

func TestACancelledReadDoesNotWaitForAServerThatStoppedInTheMiddle(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	a := agreed{exportInfo: exportInfo{sizeBytes: 1 << 20}, structured: true, sizes: servedSizes}
	c := &Client{agreed: a, links: []*link{newLink(ours, bufio.NewReader(ours), a)}}
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		io.ReadFull(theirs, make([]byte, requestBytes))
		head := chunk{kind: chunkOffsetData, cookie: 1, length: 8 + 4096}.appendTo(nil)
		theirs.Write(append(head, make([]byte, 8+1000)...))
		theirs.Write([]byte{1}) // taken only when the client is in the middle
		cancel()
	}()
	p := make([]byte, 4096)
	if err := c.ReadAt(ctx, p, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("the cancelled read: %v", err)
	}
	if err := c.ReadAt(t.Context(), p, 0); err == nil || !errors.Is(err, context.Canceled) {
		t.Errorf("a connection that lost its place was used again: %v", err)
	}
}

func TestServersWithoutStructuredRepliesAreReadToo(t *testing.T) {
	d := newDisk(t, 3<<20, 13)
	d.rotten = lifeboat.Extent{Offset: 2 << 20, Length: 1 << 20}
	d.data[2<<20] = 1
	socket, _ := serve(t, map[string]Export{"a": d}, ServerOptions{})
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	h := &haggler{conn: conn, in: bufio.NewReader(conn), export: "a"}
	if err := errors.Join(h.greet(), h.open()); err != nil {
		t.Fatal(err)
	}
	c := &Client{agreed: h.agreed, links: []*link{newLink(conn, h.in, h.agreed)}}
	defer c.Close()
	p := make([]byte, 2<<20)
	if err := c.ReadAt(t.Context(), p, 0); err != nil || !bytes.Equal(p, d.data[:2<<20]) {
		t.Errorf("reading: %v", err)
	}
	if err := c.ReadAt(t.Context(), p[:5], 2<<20); !errors.Is(err, EIO) {
		t.Errorf("reading what cannot be read: %v", err)
	}
	if _, err := c.BlockStatus(t.Context(), ContextAllocation, lifeboat.Extent{Length: 1}); !errors.Is(err, ErrNoContext) {
		t.Errorf("asking about the status: %v", err)
	}
	if err := c.links[0].do(t.Context(), &call{request: request{kind: cmdBlockStatus, length: 1}}); !errors.Is(err, EINVAL) {
		t.Errorf("asking all the same: %v", err)
	}
}

func TestAReadThatMustNotBeCutComesInOnePieceOrNotAtAll(t *testing.T) {
	d := newDisk(t, 1<<20, 14)
	clear(d.data[100<<10 : 300<<10])
	socket, _ := serve(t, map[string]Export{"a": d}, ServerOptions{})
	c := dial(t, socket, "a", DialOptions{})
	for _, e := range []struct {
		offset, length int64
		want           error
	}{{0, pieceBytes, nil}, {100 << 10, 100 << 10, nil}, {0, pieceBytes + 1, EOVERFLOW}} {
		p := bytes.Repeat([]byte{0xee}, int(e.length))
		r := request{kind: cmdRead, flags: cmdFlagDF, offset: uint64(e.offset), length: uint32(e.length)}
		err := c.links[0].do(t.Context(), &call{request: r, data: p})
		if !errors.Is(err, e.want) || err == nil && !bytes.Equal(p, d.data[e.offset:][:e.length]) {
			t.Errorf("%d bytes at %d: %v", e.length, e.offset, err)
		}
	}
}

func BenchmarkSequential(b *testing.B) { benchmarkRead(b, 4<<20, 1, 1) }
func BenchmarkEightAtOnce(b *testing.B) {
	for _, connections := range []int{1, 4} {
		b.Run(fmt.Sprintf("connections=%d", connections), func(b *testing.B) { benchmarkRead(b, 64<<10, 8, connections) })
	}
}

// benchmarkRead reads a disk that costs nothing to read.
func benchmarkRead(b *testing.B, size int64, readers, connections int) {
	d := &solidDisk{size: 1 << 30}
	socket, _ := serve(b, map[string]Export{"a": d}, ServerOptions{})
	c := dial(b, socket, "a", DialOptions{Connections: connections})
	b.SetBytes(size)
	work := make(chan int64, readers)
	var done sync.WaitGroup
	for range readers {
		done.Go(func() {
			p := make([]byte, size)
			for offset := range work {
				if err := c.ReadAt(b.Context(), p, offset); err != nil {
					b.Error(err)
				}
			}
		})
	}
	at := int64(0)
	for b.Loop() {
		work <- at
		at = (at + size) % d.size
	}
	close(work)
	done.Wait()
}

// solidDisk is all data and reads in no time.
type solidDisk struct{ size int64 }

func (d *solidDisk) SizeBytes() int64 { return d.size }
func (d *solidDisk) ReadAt(context.Context, []byte, int64) error {
	return nil
}
func (d *solidDisk) Extents(_ context.Context, within lifeboat.Extent) ([]lifeboat.Extent, error) {
	return []lifeboat.Extent{within}, nil
}
