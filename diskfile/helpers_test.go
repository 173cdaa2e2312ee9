package diskfile

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"lifeboat"
)

// need skips a test whose program is not installed.
func need(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed; to run this test: apt-get install qemu-utils", p)
		}
	}
}

// run runs a program that has to work.
func run(t testing.TB, program string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", program, args, err, out)
	}
}

// noise is what data is cut from; no byte of it is zero.
var noise = func() []byte {
	b := make([]byte, 512<<10)
	rand.NewChaCha8([32]byte{}).Read(b)
	for i := range b {
		b[i] |= 1
	}
	return b
}()

// content makes the bytes of a disk with long runs of zeros.
func content(size int, seed uint64) []byte {
	rnd := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, size)
	for at := 0; at < size; {
		n := min(1+rnd.IntN(300<<10), size-at)
		if rnd.IntN(2) == 0 {
			copy(b[at:at+n], noise[rnd.IntN(256):])
		}
		at += n
	}
	return b
}

// writeSparse writes a raw image whose zero blocks are holes.
func writeSparse(t testing.TB, path string, b []byte) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(int64(len(b))); err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(b); at += 4096 {
		piece := b[at:min(at+4096, len(b))]
		if !bytes.Equal(piece, make([]byte, len(piece))) {
			if _, err := f.WriteAt(piece, int64(at)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// checkSame compares a disk with what it should hold, read whole and read by
// its extents.
func checkSame(t *testing.T, f *File, want []byte) {
	t.Helper()
	if f.SizeBytes() != int64(len(want)) {
		t.Fatalf("%d bytes, want %d", f.SizeBytes(), len(want))
	}
	got := bytes.Repeat([]byte{0xee}, len(want))
	if err := f.ReadAt(t.Context(), got, 0); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("the bytes differ")
	}
	byExtents := make([]byte, len(want))
	data, err := f.Extents(t.Context(), lifeboat.Extent{Length: f.SizeBytes()})
	if err != nil {
		t.Fatal(err)
	}
	sum := int64(0)
	for _, e := range data {
		if err := f.ReadAt(t.Context(), byExtents[e.Offset:e.End()], e.Offset); err != nil {
			t.Fatal(err)
		}
		sum += e.Length
	}
	if !bytes.Equal(byExtents, want) {
		t.Error("something that is not zero is outside of all extents")
	}
	if sum == f.SizeBytes() {
		t.Logf("%s: everything is called data", f.Format())
	}
}

// hold lets QEMU's own code hold an image for writing until the test ends.
func hold(t *testing.T, path, format string) {
	t.Helper()
	dir := shortDir(t)
	socket := filepath.Join(dir, "s")
	cmd := exec.Command("qemu-nbd", "--persistent", "--socket", socket, "--format", format, path)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	// It listens before it opens the image, and greets after it.
	waitFor(t, "qemu-nbd serves", func() bool {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			return false
		}
		defer conn.Close()
		_, err = io.ReadFull(conn, make([]byte, 8))
		return err == nil
	})
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

// shortDir makes a folder whose name is short enough for a socket's path.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "df")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// problem checks that an error is a problem of a kind, all lines filled in.
func problem(t *testing.T, err, kind error) {
	t.Helper()
	var p *lifeboat.Problem
	if !errors.As(err, &p) || !errors.Is(err, kind) {
		t.Errorf("%v is not the problem %q", err, kind)
	} else if p.What == "" || p.Safe == "" || p.Next == "" {
		t.Errorf("the problem does not say all: %+v", p)
	}
}
