package imagestore

import (
	"bytes"
	"errors"
	"flag"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"lifeboat/fixtures/baddrive"
	"lifeboat/imagestore/format"
	"lifeboat/internal/durable"
)

var updateVectors = flag.Bool("update", false, "write the vectors anew")

// parityOfBytes is the parity file of bytes that are no pack, opened.
func parityOfBytes(t testing.TB, data []byte) *parityFile {
	t.Helper()
	s := &Store{driveID: format.ShortID{1}}
	b, err := s.parityOf(format.RunPack{ID: format.ID{2}}, data)
	if err != nil {
		t.Fatal(err)
	}
	return reopenParity(t, b)
}

func reopenParity(t testing.TB, b []byte) *parityFile {
	t.Helper()
	p, err := openParity(&tolerantRead{data: bytes.Clone(b), lost: map[int]bool{}}, format.ShortID{1}, format.RunPack{ID: format.ID{2}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func randomBytes(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 3))
	b := make([]byte, n)
	for i := 0; i+8 <= n; i += 8 {
		v := r.Uint64()
		for j := range 8 {
			b[i+j] = byte(v >> (8 * j))
		}
	}
	return b
}

// Whatever length a pack has: as many cells in a row as there are parity cells
// come back, and one more does not.
func TestParityHealsWhatItPromisesAndNoMore(t *testing.T) {
	for _, size := range []int{9, 4096, 4097, 128 * 4096, 129 * 4096, 1 << 20, 3<<20 + 5, 9 << 20} {
		data := randomBytes(uint64(size), size)
		p := parityOfBytes(t, data)
		if p.fault != nil || !p.fits(data) {
			t.Fatalf("%d bytes: %v", size, p.fault)
		}
		stripes := p.head.Stripes()
		cells := min(format.DefaultParity*stripes, p.head.Cells())
		start := (p.head.Cells() - cells) / 2
		rotten := bytes.Clone(data)
		for i := start; i < start+cells; i++ {
			clear(packCellOf(rotten, i))
		}
		healed, n := p.heal(&tolerantRead{data: rotten})
		if !bytes.Equal(healed, data) || n == 0 {
			t.Errorf("%d bytes: %d cells in a row did not come back", size, cells)
		}
		if start+cells >= p.head.Cells() {
			continue
		}
		for i := start; i < start+cells+1; i++ {
			clear(packCellOf(rotten, i))
		}
		if healed, _ := p.heal(&tolerantRead{data: rotten}); bytes.Equal(healed, data) {
			t.Errorf("%d bytes: it healed more than it can", size)
		}
	}
}

// packCellOf is a cell of a pack in place.
func packCellOf(data []byte, i int) []byte {
	return data[i*format.CellSize : min(len(data), (i+1)*format.CellSize)]
}

// Parity is made as the bytes come, however they are cut.
func TestParityDoesNotDependOnHowBytesCome(t *testing.T) {
	data := randomBytes(3, 5<<20+77)
	s := &Store{driveID: format.ShortID{1}}
	want, err := s.parityOf(format.RunPack{ID: format.ID{2}}, data)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	m := s.newParity(format.RunPack{ID: format.ID{2}})
	for rest := data; len(rest) > 0; {
		n := min(len(rest), 1+r.IntN(20000))
		if err := m.write(rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	if got, err := m.end(); err != nil || !bytes.Equal(got, want) {
		t.Errorf("another file: %v", err)
	}
}

// Every flipped bit of a parity file is seen, and none keeps it from healing.
func TestParityFileSurvivesItsOwnRot(t *testing.T) {
	data := randomBytes(4, 300*4096)
	s := &Store{driveID: format.ShortID{1}}
	good, err := s.parityOf(format.RunPack{ID: format.ID{2}}, data)
	if err != nil {
		t.Fatal(err)
	}
	rotten := bytes.Clone(data)
	clear(rotten[5000:9000])
	r := rand.New(rand.NewPCG(5, 5))
	places := []int{0, 40, 127, 128, 200, len(good) - 1, len(good) - 128, len(good) - 129}
	for range 60 {
		places = append(places, r.IntN(len(good)))
	}
	for _, at := range places {
		b := bytes.Clone(good)
		b[at] ^= 1 << r.IntN(8)
		p := reopenParity(t, b)
		if p.fault == nil {
			t.Errorf("a flipped bit at %d was not seen", at)
		}
		if healed, _ := p.heal(&tolerantRead{data: rotten}); !bytes.Equal(healed, data) {
			t.Errorf("with a flipped bit at %d nothing is healed", at)
		}
	}
	for _, n := range []int{0, 100, 256, len(good) / 2, len(good) - 1} {
		p, err := openParity(&tolerantRead{data: bytes.Clone(good[:n])}, format.ShortID{1}, format.RunPack{ID: format.ID{2}})
		if err == nil && p.fault == nil {
			t.Errorf("%d of %d bytes are accepted", n, len(good))
		}
	}
}

// The parity of the pack among the vectors is a file that stays readable.
func TestParityVector(t *testing.T) {
	const vectors = "../fixtures/vectors"
	pack, err := os.ReadFile(filepath.Join(vectors, "pack.bin"))
	if err != nil {
		t.Fatal(err)
	}
	h, err := format.DecodeHeader(pack)
	if err != nil {
		t.Fatal(err)
	}
	s := &Store{driveID: h.Drive}
	want, err := s.parityOf(format.RunPack{ID: h.File}, pack)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{"parity.bin": want, "parity-flipped-bit-in-table.bin": bytes.Clone(want), "parity-torn-tail.bin": want[:len(want)-100],
		"parity-flipped-bit-in-cell.bin": bytes.Clone(want)}
	files["parity-flipped-bit-in-table.bin"][format.ParityHeadSize+1] ^= 1
	files["parity-flipped-bit-in-cell.bin"][len(want)/2] ^= 1
	for name, want := range files {
		if *updateVectors {
			if err := os.WriteFile(filepath.Join(vectors, name), want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		b, err := os.ReadFile(filepath.Join(vectors, name))
		if err != nil || !bytes.Equal(b, want) {
			t.Fatalf("%s: the program writes other bytes than it used to: %v", name, err)
		}
		p, err := openParity(&tolerantRead{data: b}, h.Drive, format.RunPack{ID: h.File})
		if err != nil || (p.fault == nil) != (name == "parity.bin") {
			t.Errorf("%s: %v, %v", name, err, p)
		}
	}
}

func FuzzParityFile(f *testing.F) {
	s := &Store{driveID: format.ShortID{1}}
	b, err := s.parityOf(format.RunPack{ID: format.ID{2}}, []byte("a short pack"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := openParity(&tolerantRead{data: bytes.Clone(b)}, format.ShortID{1}, format.RunPack{ID: format.ID{2}})
		if err != nil {
			return
		}
		if p.fault == nil && (len(b) > format.MaxParityFile || !bytes.Equal(p.head.Append(nil), b[:format.ParityHeadSize])) {
			t.Fatal("it accepts a file that it would not write")
		}
		p.heal(&tolerantRead{data: []byte("a shorX pack")})
	})
}

// parityState lists the packs and says which have parity that fits them.
func parityState(t *testing.T, s *Store) (packs, good int) {
	t.Helper()
	f, err := s.listFolders(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for p := range f.packs {
		r, err := readTolerant(s.dir, packName(p), format.MaxPackSize)
		if err != nil {
			t.Fatal(err)
		}
		par, err := s.readParity(p)
		if err == nil && par.fits(r.data) {
			good++
		} else if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", parityName(p), err)
		}
	}
	if len(f.temps) > 0 || len(f.healed) > 0 {
		t.Errorf("left behind: %v, %v", f.temps, f.healed)
	}
	return len(f.packs), good
}

func TestEveryPackGetsParityThatFitsIt(t *testing.T) {
	drive := newDrive(t)
	s := openStore(t, drive.Dir(), Write)
	mustCapture(t, s, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: randomDisk(1, 9<<20)}}))
	if packs, good := parityState(t, s); packs < 4 || good != packs {
		t.Errorf("%d of %d packs have parity", good, packs)
	}
}

// Packs without parity get it from the next writers, a few at a time, and parity
// without a pack goes.
func TestWriterMakesMissingParityAFewPacksAtATime(t *testing.T) {
	drive := newDrive(t)
	s := openStore(t, drive.Dir(), Write)
	mustCapture(t, s, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: randomDisk(1, 15<<20)}}))
	f, err := s.listFolders(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	for p := range f.parity {
		if err := drive.Dir().Remove(parityName(p)); err != nil {
			t.Fatal(err)
		}
	}
	orphan := format.RunPack{ID: format.ID{9}}
	if err := writeNew(drive.Dir(), parityName(orphan), []byte("parity of nothing")); err != nil {
		t.Fatal(err)
	}
	for opened := 1; ; opened++ {
		s := openStore(t, drive.Dir(), Write)
		packs, good := parityState(t, s)
		if want := min(packs, opened*parityAtOpening); good != want {
			t.Fatalf("after opening %d times, %d of %d packs have parity", opened, good, packs)
		}
		s.Close()
		if good == packs {
			break
		}
	}
	if _, err := drive.Dir().Stat(parityName(orphan)); err == nil {
		t.Error("parity of nothing is still there")
	}
}

// A drive that fills up while parity is written keeps the export.
func TestFullDriveCostsTheParityAndNotTheExport(t *testing.T) {
	n := newNight(t, false)
	whole := n.base.Clone(1)
	need := -storedBytes(t, whole)
	if err := n.export(whole.Dir()); err != nil {
		t.Fatal(err)
	}
	need += storedBytes(t, whole)
	failed, without := 0, 0
	for left := need - 150<<10; left < need; left += 10 << 10 {
		d := n.base.Clone(1)
		d.FillAfter(left)
		if n.export(roomy{d.Dir()}) != nil {
			failed++
			continue
		}
		d.FillAfter(1 << 30)
		r := openStore(t, d.ReadOnlyDir(), Read)
		packs, good := parityState(t, r)
		if good < packs {
			without++
		}
		n.checkPoints(t, r, nil)
		if report, err := r.Verify(t.Context(), VerifyOptions{}); err != nil {
			t.Errorf("%d bytes: %+v, %v", left, report, err)
		}
	}
	if failed == 0 || without == 0 {
		t.Errorf("%d exports failed, %d left a pack without parity: the drive was never full at the right moment", failed, without)
	}
}

func storedBytes(t *testing.T, d *baddrive.Drive) int64 {
	t.Helper()
	s := openStore(t, d.ReadOnlyDir(), Read)
	defer s.Close()
	u, err := s.Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return u.StoredBytes
}

// roomy is a drive that does not say beforehand that it is full.
type roomy struct{ durable.Dir }

func (roomy) Space() (free, total int64, err error) { return 1 << 40, 1 << 40, nil }

func BenchmarkParity(b *testing.B) {
	data := randomBytes(1, 64<<20)
	s := &Store{driveID: format.ShortID{1}}
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := s.parityOf(format.RunPack{ID: format.ID{2}}, data); err != nil {
			b.Fatal(err)
		}
	}
}
