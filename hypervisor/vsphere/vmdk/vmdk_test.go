package vmdk_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"lifeboat/hypervisor/vsphere/vmdk"
)

// encode makes a stream of a disk.
func encode(t testing.TB, disk []byte, o vmdk.Options) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := encodeTo(&out, disk, o); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func encodeTo(out io.Writer, disk []byte, o vmdk.Options) error {
	w, err := vmdk.NewWriter(out, int64(len(disk)), o)
	if err != nil {
		return err
	}
	for at := 0; at < len(disk); at += vmdk.GrainBytes {
		if err := w.WriteGrain(int64(at), disk[at:min(at+vmdk.GrainBytes, len(disk))]); err != nil {
			w.Close()
			return err
		}
	}
	return w.Close()
}

// decode reads a stream to its end. The disk is nil if it may not be trusted.
func decode(r io.Reader) ([]byte, error) {
	d, err := vmdk.NewReader(r)
	if err != nil {
		return nil, err
	}
	var disk []byte
	for {
		at, data, err := d.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if want := at + int64(len(data)); int64(len(disk)) < want {
			disk = append(disk, make([]byte, want-int64(len(disk)))...)
		}
		copy(disk[at:], data)
	}
	if int64(len(disk)) > d.CapacityBytes() {
		return nil, fmt.Errorf("%d bytes of a disk of %d", len(disk), d.CapacityBytes())
	}
	return append(disk, make([]byte, d.CapacityBytes()-int64(len(disk)))...), nil
}

// sparseDisk has some grains of noise, some of text, some with a few bytes, and
// holes of every length.
func sparseDisk(seed uint64, size int) []byte {
	rng := rand.New(rand.NewPCG(seed, 4))
	disk := make([]byte, size)
	for at := 0; at < size; at += vmdk.GrainBytes {
		grain := disk[at:min(at+vmdk.GrainBytes, size)]
		switch rng.IntN(5) {
		case 0:
			for i := range grain {
				grain[i] = byte(rng.Uint32())
			}
		case 1:
			copy(grain, strings.Repeat("an ordinary line of text\n", len(grain)/25))
		case 2:
			grain[rng.IntN(len(grain))] = 1
		}
	}
	return disk
}

func TestADiskComesBackAsItWas(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 600).Draw(t, "KiB")*1024 - rapid.SampledFrom([]int{0, 0, 512}).Draw(t, "short")
		disk := sparseDisk(rapid.Uint64().Draw(t, "seed"), size)
		var out bytes.Buffer
		if err := encodeTo(&out, disk, vmdk.Options{Workers: rapid.IntRange(1, 4).Draw(t, "workers")}); err != nil {
			t.Fatal(err)
		}
		got, err := decode(&out)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, disk) {
			t.Fatal("the disk has changed on its way")
		}
	})
}

func TestManyTablesAndHolesBetweenThem(t *testing.T) {
	t.Parallel()
	const size = 300 << 30
	var out bytes.Buffer
	w, err := vmdk.NewWriter(&out, size, vmdk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := map[int64]byte{0: 1, 32<<20 - vmdk.GrainBytes: 2, 32 << 20: 3, 40 << 30: 4, size - vmdk.GrainBytes: 5}
	for _, at := range []int64{0, 32<<20 - vmdk.GrainBytes, 32 << 20, 40 << 30, size - vmdk.GrainBytes} {
		if err := w.WriteGrain(at, []byte{want[at]}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	d, err := vmdk.NewReader(&out)
	if err != nil {
		t.Fatal(err)
	}
	for range want {
		at, data, err := d.Next()
		if err != nil || data[0] != want[at] || len(data) != vmdk.GrainBytes {
			t.Fatalf("grain at %d: %v, %v", at, data[:1], err)
		}
	}
	if _, _, err := d.Next(); err != io.EOF {
		t.Fatalf("the end is %v", err)
	}
}

// A stream that stops anywhere is never taken for a disk, however the network
// cuts it.
func TestACutStreamIsNeverADisk(t *testing.T) {
	t.Parallel()
	whole := encode(t, sparseDisk(7, 5*vmdk.GrainBytes+512), vmdk.Options{})
	cuts := map[int]bool{len(whole) - 1: true}
	for n := 0; n < len(whole); n += 512 {
		cuts[n] = true
	}
	for n := 1; n < len(whole); n += 4093 {
		cuts[n] = true
	}
	for n := range cuts {
		if _, err := decode(bytes.NewReader(whole[:n])); !errors.Is(err, vmdk.ErrTruncated) || errors.Is(err, io.EOF) {
			t.Fatalf("cut after %d of %d bytes: %v", n, len(whole), err)
		}
	}
	broken := errors.New("connection reset")
	_, err := decode(io.MultiReader(bytes.NewReader(whole[:len(whole)/2]), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) {
		t.Fatalf("a broken connection: %v", err)
	}
}

func TestAFlippedBitNeverChangesTheDisk(t *testing.T) {
	t.Parallel()
	disk := sparseDisk(9, 4*vmdk.GrainBytes)
	whole := encode(t, disk, vmdk.Options{})
	rng := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		at := rng.IntN(len(whole))
		bad := bytes.Clone(whole)
		bad[at] ^= 1 << rng.IntN(8)
		if got, err := decode(bytes.NewReader(bad)); err == nil && !bytes.Equal(got, disk) {
			t.Fatalf("bit of byte %d: another disk, and no error", at)
		}
	}
}

func TestTheWriterRefusesWhatIsNoDisk(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{-1, 0, vmdk.MaxCapacityBytes + 1} {
		if _, err := vmdk.NewWriter(io.Discard, size, vmdk.Options{}); err == nil {
			t.Errorf("a disk of %d bytes was taken", size)
		}
	}
	if _, err := vmdk.NewWriter(io.Discard, 512, vmdk.Options{AdapterType: "\"\nCID=0"}); err == nil {
		t.Error("an unknown controller was taken")
	}
	w, err := vmdk.NewWriter(io.Discard, 3*vmdk.GrainBytes, vmdk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.WriteGrain(vmdk.GrainBytes, []byte{1}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		at   int64
		size int
		want error
	}{
		"the same again":      {vmdk.GrainBytes, 1, vmdk.ErrOrder},
		"an earlier one":      {0, 1, vmdk.ErrOrder},
		"between two":         {2*vmdk.GrainBytes + 512, 1, nil},
		"longer than a grain": {2 * vmdk.GrainBytes, vmdk.GrainBytes + 1, nil},
		"beyond the end":      {3 * vmdk.GrainBytes, 1, nil},
	} {
		if err := w.WriteGrain(c.at, make([]byte, c.size)); err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.WriteGrain(2*vmdk.GrainBytes, []byte{1}); err == nil {
		t.Error("a closed stream took a grain")
	}
}

// failing takes some bytes and then none.
type failing struct{ left int }

var errFull = errors.New("no space left")

func (f *failing) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestAWriterThatFailsSaysSoAndStops(t *testing.T) {
	t.Parallel()
	disk := make([]byte, 6<<20)
	rng := rand.New(rand.NewPCG(3, 3))
	for i := range disk {
		disk[i] = byte(rng.Uint32())
	}
	for _, room := range []int{0, 1, 100 << 10, 1 << 20, 6 << 20} {
		if err := encodeTo(&failing{left: room}, disk, vmdk.Options{}); !errors.Is(err, errFull) {
			t.Errorf("room for %d bytes: %v", room, err)
		}
	}
}

// needQemuImg returns its path.
func needQemuImg(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("qemu-img")
	if err != nil {
		t.Skip("qemu-img is not installed (package qemu-utils): nobody else reads these streams here")
	}
	return program
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", filepath.Base(name), args, err, out)
	}
	return string(out)
}

// QEMU is the other reader and writer: what we write it reads as the same disk
// and finds nothing to complain about, and what it writes we read.
func TestQEMUReadsOursAndWeReadQEMUs(t *testing.T) {
	t.Parallel()
	qemuImg := needQemuImg(t)
	for _, size := range []int{512, vmdk.GrainBytes, 70 << 20, 33<<20 + 512} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			dir := t.TempDir()
			raw, ours, theirs := filepath.Join(dir, "d.raw"), filepath.Join(dir, "ours.vmdk"), filepath.Join(dir, "theirs.vmdk")
			disk := sparseDisk(uint64(size), size)
			if err := os.WriteFile(raw, disk, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(ours, encode(t, disk, vmdk.Options{}), 0o600); err != nil {
				t.Fatal(err)
			}
			if said := run(t, qemuImg, "compare", "-f", "raw", "-F", "vmdk", raw, ours); strings.Contains(said, "size mismatch") {
				t.Error(said)
			}
			run(t, qemuImg, "check", "-f", "vmdk", ours)

			run(t, qemuImg, "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", raw, theirs)
			f, err := os.Open(theirs)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			got, err := decode(f)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, disk) {
				t.Fatal("what QEMU wrote is another disk to us")
			}
		})
	}
}

// QEMU ends without a marker: the tables in front tell whether all came.
func TestQEMUsStreamCutAtAGrainIsNoDisk(t *testing.T) {
	t.Parallel()
	qemuImg := needQemuImg(t)
	dir := t.TempDir()
	raw, theirs := filepath.Join(dir, "d.raw"), filepath.Join(dir, "theirs.vmdk")
	if err := os.WriteFile(raw, sparseDisk(5, 512<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, qemuImg, "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", raw, theirs)
	whole, err := os.ReadFile(theirs)
	if err != nil {
		t.Fatal(err)
	}
	whole = bytes.TrimRight(whole, "\x00") // what fills the last sector is no grain
	for n := (len(whole) - 1) &^ 511; n > 0; n -= 3 * 512 {
		if _, err := decode(bytes.NewReader(whole[:n])); err == nil {
			t.Fatalf("cut after %d of %d bytes: a disk", n, len(whole))
		}
		// A zeroed sector looks like the marker of the end.
		if _, err := decode(bytes.NewReader(append(bytes.Clone(whole[:n]), make([]byte, 512)...))); err == nil {
			t.Fatalf("cut after %d of %d bytes and closed with zeros: a disk", n, len(whole))
		}
	}
}

func BenchmarkWriter(b *testing.B) {
	for _, workers := range []int{1, 2} {
		b.Run(fmt.Sprint("workers=", workers), func(b *testing.B) {
			disk := benchDisk()
			b.SetBytes(int64(len(disk)))
			for b.Loop() {
				if err := encodeTo(io.Discard, disk, vmdk.Options{Workers: workers}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkReader(b *testing.B) {
	disk := benchDisk()
	stream := encode(b, disk, vmdk.Options{})
	b.SetBytes(int64(len(disk)))
	for b.Loop() {
		d, err := vmdk.NewReader(bytes.NewReader(stream))
		for err == nil {
			_, _, err = d.Next()
		}
		if err != io.EOF {
			b.Fatal(err)
		}
	}
}

// benchDisk compresses about as a server's disk does: half noise, half words.
func benchDisk() []byte {
	rng := rand.New(rand.NewPCG(1, 1))
	disk := make([]byte, 64<<20)
	for at := 0; at < len(disk); at += 4096 {
		block := disk[at : at+4096]
		for i := range block {
			if at/4096%2 == 0 {
				block[i] = byte(rng.Uint32())
			} else {
				block[i] = "etaoin shrdlu\n"[rng.IntN(14)]
			}
		}
	}
	return disk
}
