package imagestore

import (
	"bytes"
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"lifeboat/fixtures/baddrive"
)

func TestReadersInOrderAreReadAheadOfAndOthersAreNot(t *testing.T) {
	const size = 100<<20 + 5000
	var a aheads
	r := rand.New(rand.NewPCG(3, 3))
	for range 10_000 {
		if want := a.after(r.Int64N(size>>12)<<12, 4096, size); want.Length > aheadBytes {
			t.Fatalf("a random read asks for %d bytes", want.Length)
		}
	}
	a = aheads{}
	// As many readers as are told apart, taking turns, each in another part.
	var done [aheadStreams]int64
	const part = size / aheadStreams
	for at := int64(0); at < part; at += 4096 {
		for n := range done {
			start := int64(n) * part
			want := a.after(start+at, 4096, size)
			if want.Length == 0 {
				continue
			}
			if want.Offset < start+at+4096 || want.Offset < done[n] || want.Length > aheadBytes || want.End() > size {
				t.Fatalf("reader %d at %d asks for %v, and had asked up to %d", n, at, want, done[n])
			}
			if done[n] != 0 && want.Offset > done[n] {
				t.Fatalf("reader %d leaves out what is between %d and %d", n, done[n], want.Offset)
			}
			done[n] = want.End()
		}
	}
	for n, end := range done {
		if end < min(size, int64(n+1)*part) {
			t.Errorf("reader %d was served up to %d only", n, end)
		}
	}
}

func TestWhatIsReadAheadIsFoundDecodedAndRight(t *testing.T) {
	dir := baddrive.New(1, baddrive.Options{}).Dir()
	createStore(t, dir)
	s := openStore(t, dir, Write)
	data := make([]byte, 12<<20)
	fillBlocks(rand.New(rand.NewPCG(8, 8)), data)
	p := mustCapture(t, s, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: data}}))
	s.Close()
	s = openStore(t, dir, Read)
	d, err := s.Disk(context.Background(), p.ID, "disk0")
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64<<10)
	if _, err := d.ReadAt(buf, 0); err != nil {
		t.Fatal(err)
	}
	held := func() int {
		s.frames.mu.Lock()
		defer s.frames.mu.Unlock()
		return len(s.frames.frames)
	}
	before := held()
	if _, err := d.ReadAt(buf, 64<<10); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); held() <= before+1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing was read ahead")
		}
	}
	got := make([]byte, len(data))
	for at := 0; at < len(got); at += 20 << 10 {
		if _, err := d.ReadAt(got[at:min(at+20<<10, len(got))], int64(at)); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got, data) {
		t.Fatal("other bytes came back")
	}
}
