package imagestore

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"path"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/zeebo/blake3"

	"lifeboat/fixtures/baddrive"
	"lifeboat/imagestore/format"
	"lifeboat/internal/durable"
)

// field is a number in a file that no seal protects, or that is read before the
// seal is looked at.
type field struct {
	name     string
	at, size int
}

// resum makes the checksum right that somebody without any key can make right.
type resum func(file []byte)

var headerFields = []field{{"version", 8, 2}, {"kind", 10, 2}, {"generation", 12, 4}}

// hostileFields returns the fields of a file, by the kind in its header.
func hostileFields(file []byte) (fields []field, sum resum) {
	fields = slices.Clone(headerFields)
	sum = func(b []byte) {
		s := blake3.Sum256(b[:len(b)-32])
		copy(b[len(b)-32:], s[:])
	}
	crcAt := func(b []byte, from, to int) {
		binary.LittleEndian.PutUint32(b[to:], crc32.Checksum(b[from:to], crc32.MakeTable(crc32.Castagnoli)))
	}
	end := len(file)
	switch h, _ := format.DecodeHeader(file); h.Kind {
	case format.KindSlot:
		fields = append(fields, field{"length of the age file", 64, 4}, field{"length of the note", 68, 4}, field{"type", 72, 1})
	case format.KindDataPack, format.KindTreePack:
		directory := int(binary.LittleEndian.Uint32(file[end-24:]))
		for name, at := range map[string]int{"first frame": format.HeaderSize, "directory": directory} {
			fields = append(fields, field{name + ": ordinal", at + 4, 4}, field{name + ": type", at + 8, 1}, field{name + ": codec", at + 9, 1},
				field{name + ": chunks", at + 10, 2}, field{name + ": payload", at + 12, 4}, field{name + ": sealed", at + 16, 4})
		}
		fields = append(fields, field{"footer: offset", end - 24, 4}, field{"footer: size", end - 20, 4}, field{"footer: frames", end - 16, 4})
		sum = func(b []byte) {
			crcAt(b, format.HeaderSize, format.HeaderSize+28)
			crcAt(b, directory, directory+28)
			crcAt(b, end-32, end-4)
		}
	case format.KindParity:
		fields = append(fields, field{"pack's kind", 64, 2}, field{"columns", 66, 2}, field{"parity cells", 68, 2}, field{"pack's length", 72, 8})
		sum = func(b []byte) { crcAt(b, 0, 124); copy(b[end-128:], b[:128]) }
	case format.KindRun:
		fields = append(fields, field{"footer: entries", end - 56, 8}, field{"footer: packs", end - 48, 4}, field{"footer: replaced", end - 44, 4}, field{"footer: filter", end - 40, 8})
		sum = func(b []byte) { crcAt(b, end-64, end-4) }
	default:
		fields = append(fields, field{"sealed", 64, 4}, field{"body", 68, 4}, field{"codec", 72, 1})
	}
	return fields, sum
}

// put writes a number into a field.
func (f field) put(b []byte, value uint64) {
	var wide [8]byte
	binary.LittleEndian.PutUint64(wide[:], value)
	copy(b[f.at:f.at+f.size], wide[:])
}

// extremes are the values that break sums, shifts and allocations.
var extremes = []uint64{0, 1, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1<<40 - 1, 1<<63 - 1, 1<<64 - 1}

// values are the extremes that differ in a field of that size.
func (f field) values() (values []uint64) {
	for _, v := range extremes {
		if f.size < 8 {
			v &= 1<<(8*f.size) - 1
		}
		if !slices.Contains(values, v) {
			values = append(values, v)
		}
	}
	return values
}

// TestNoNumberOnADriveDecidesHowMuchIsTaken sets every unsealed number of every
// kind of file to its extremes, with a checksum that fits and one that does not.
// Nothing panics or waits, little memory is taken, and what is restored is right.
func TestNoNumberOnADriveDecidesHowMuchIsTaken(t *testing.T) {
	drive := newDrive(t)
	data := randomDisk(4, 1<<20+100)
	s := openStore(t, drive.Dir(), Write)
	p := mustCapture(t, s, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: data}}))
	if _, err := s.Verify(t.Context(), VerifyOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := s.remember(format.Mark{{Pack: format.ID{1}, Offset: 64}}); err != nil {
		t.Fatal(err)
	}
	s.Close()
	h := hostile{point: p.ID, data: data}
	usual, outcome := h.use(t, drive.Clone(1))
	if outcome != nil {
		t.Fatal(outcome)
	}
	kinds, tried := map[format.Kind]bool{}, 0
	for _, name := range oneFileOfEachKind(t, drive.Dir(), kinds) {
		file, err := durable.ReadWhole(drive.Dir(), name, 64<<20)
		if err != nil {
			t.Fatal(err)
		}
		fields, sum := hostileFields(file)
		for _, f := range fields {
			for _, v := range f.values() {
				for _, fits := range []bool{true, false} {
					if !fits && v != f.values()[0] {
						continue // one wrong checksum is like another
					}
					b := bytes.Clone(file)
					f.put(b, v)
					if fits {
						sum(b)
					}
					tried++
					if bytes.Equal(b, file) || testing.Short() && tried%6 != 0 {
						continue
					}
					clone := drive.Clone(1)
					replaceFile(t, clone.Dir(), name, b)
					taken, _ := h.use(t, clone)
					if taken > usual+64<<20 {
						t.Errorf("%s, %s = %d, checksum %v: %d MiB were taken, %d usually", name, f.name, v, fits, taken>>20, usual>>20)
					}
				}
			}
		}
	}
	for _, k := range []format.Kind{format.KindSuperblock, format.KindSlot, format.KindPoint, format.KindHead, format.KindMark, format.KindChecks,
		format.KindDataPack, format.KindTreePack, format.KindParity, format.KindRun} {
		if !kinds[k] {
			t.Errorf("no file of kind %d was tried", k)
		}
	}
}

// oneFileOfEachKind walks a store.
func oneFileOfEachKind(t *testing.T, dir durable.Dir, seen map[format.Kind]bool) (names []string) {
	t.Helper()
	var walk func(folder string)
	walk = func(folder string) {
		entries, err := dir.List(folder)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			name := path.Join(folder, e.Name())
			if e.IsDir() {
				walk(name)
				continue
			}
			b, err := durable.ReadWhole(dir, name, 64<<20)
			if err != nil {
				t.Fatal(err)
			}
			if h, err := format.DecodeHeader(b); err == nil && !seen[h.Kind] {
				seen[h.Kind] = true
				names = append(names, name)
			}
		}
	}
	walk(".")
	return names
}

func replaceFile(t testing.TB, dir durable.Dir, name string, b []byte) {
	t.Helper()
	if err := dir.Remove(name); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFileAtomic(dir, name, b); err != nil {
		t.Fatal(err)
	}
}

// hostile is what is done with a drive that somebody has edited.
type hostile struct {
	point string
	data  []byte
}

// hostileTime is how long a small drive may take, on a machine that is busy.
const hostileTime = 3 * time.Minute

// use reads everything and then exports, and returns how much memory was taken.
// The error is the first that came; a wrong byte fails the test.
func (h hostile) use(t testing.TB, drive *baddrive.Drive) (taken uint64, first error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hostileTime)
	defer cancel()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	note := func(err error) {
		if first == nil {
			first = err
		}
	}
	for _, mode := range []Mode{Read, Write} {
		s, err := openWith(drive.Dir(), mode)
		note(err)
		if err != nil {
			continue
		}
		_, _, err = s.Points(ctx)
		note(err)
		_, err = s.Verify(ctx, VerifyOptions{})
		note(err)
		note(h.restore(t, ctx, s))
		if mode == Write {
			c := testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: h.data}})
			_, err = s.Capture(ctx, c)
			note(err)
		}
		note(s.Close())
	}
	if ctx.Err() != nil {
		t.Errorf("it took more than %v", hostileTime)
	}
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc, first
}

func (h hostile) restore(t testing.TB, ctx context.Context, s *Store) error {
	t.Helper()
	target := &memoryTarget{data: make([]byte, len(h.data))}
	err := s.Restore(ctx, h.point, "disk0", target, RestoreOptions{Workers: 2})
	if err == nil && !bytes.Equal(target.data, h.data) {
		t.Error("a restore gave wrong bytes and no error")
	}
	return err
}
