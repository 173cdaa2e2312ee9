package vmdk_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"

	"lifeboat/hypervisor/vsphere/vmdk"
)

var update = flag.Bool("update", false, "write the vectors anew")

const vectors = "../../../fixtures/vectors"

// The parts of the good vector, in sectors: the head, three grains of which the
// first two are in the first table's span, and the end.
const (
	vectorFirst  = 128
	vectorSecond = 129
)

// vectorDisk is the disk of the good vector: a first and a last grain with a few
// bytes each, and between them one of zeros. The last is not whole.
func vectorDisk() []byte {
	disk := make([]byte, 3*vmdk.GrainBytes-512)
	copy(disk, "the first grain")
	copy(disk[len(disk)-16:], "the end of it all")
	return disk
}

// badVectors are the good one with one fault each.
var badVectors = []struct {
	name string
	harm func(b []byte) []byte
	want error
}{
	{"torn-tail", func(b []byte) []byte { return b[:len(b)-512] }, vmdk.ErrTruncated},
	{"without-a-footer", func(b []byte) []byte {
		return append(b[:len(b)-3*512], make([]byte, 512)...)
	}, vmdk.ErrTruncated},
	{"flipped-bit-in-grain", func(b []byte) []byte { b[vectorFirst*512+20] ^= 4; return b }, vmdk.ErrFormat},
	{"grain-twice", func(b []byte) []byte {
		first := bytes.Clone(b[vectorFirst*512 : vectorSecond*512])
		return append(b[:vectorSecond*512:vectorSecond*512], append(first, b[vectorSecond*512:]...)...)
	}, vmdk.ErrOrder},
	{"grains-out-of-order", func(b []byte) []byte {
		first := bytes.Clone(b[vectorFirst*512 : vectorSecond*512])
		copy(b[vectorFirst*512:], b[vectorSecond*512:(vectorSecond+1)*512])
		copy(b[vectorSecond*512:], first)
		return b
	}, vmdk.ErrOrder},
	{"grain-missing", func(b []byte) []byte {
		return append(b[:vectorSecond*512:vectorSecond*512], b[(vectorSecond+1)*512:]...)
	}, vmdk.ErrFormat},
	{"grain-beyond-the-end", func(b []byte) []byte {
		binary.LittleEndian.PutUint64(b[vectorSecond*512:], 3*128)
		return b
	}, vmdk.ErrFormat},
	{"grain-too-long", func(b []byte) []byte {
		binary.LittleEndian.PutUint32(b[vectorFirst*512+8:], 1<<31)
		return b
	}, vmdk.ErrFormat},
	{"changed-newlines", func(b []byte) []byte { b[75] = '\n'; return b }, vmdk.ErrFormat},
}

func TestVectors(t *testing.T) {
	good := filepath.Join(vectors, "vmdk.vmdk")
	if *update {
		write(t, good, encode(t, vectorDisk(), vmdk.Options{}))
	}
	whole, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decode(bytes.NewReader(whole))
	if err != nil || !bytes.Equal(got, vectorDisk()) {
		t.Fatalf("the good vector: %v", err)
	}
	for _, v := range badVectors {
		t.Run(v.name, func(t *testing.T) {
			name := filepath.Join(vectors, "vmdk-"+v.name+".vmdk")
			if *update {
				write(t, name, v.harm(bytes.Clone(whole)))
			}
			bad, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := decode(bytes.NewReader(bad)); !errors.Is(err, v.want) {
				t.Errorf("%v, and not %v", err, v.want)
			}
		})
	}
}

func write(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// FuzzReader: whatever the stream, no panic, grains ascend inside the disk, and a
// disk that is taken comes back from our own stream of it.
func FuzzReader(f *testing.F) {
	for _, name := range must(filepath.Glob(filepath.Join(vectors, "vmdk*.vmdk"))) {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		d, err := vmdk.NewReader(bytes.NewReader(stream))
		if err != nil {
			return
		}
		var again bytes.Buffer
		var w *vmdk.Writer
		if c := d.CapacityBytes(); c > 0 && c < 1<<30 {
			if w, err = vmdk.NewWriter(&again, c, vmdk.Options{Workers: 1}); err != nil {
				t.Fatal(err)
			}
			defer w.Close()
		}
		var disk [][]byte
		end := int64(0)
		for {
			at, data, err := d.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				return
			}
			if at < end || d.CapacityBytes() >= 0 && at+int64(len(data)) > d.CapacityBytes() {
				t.Fatalf("a grain at %d, after one up to %d, of a disk of %d", at, end, d.CapacityBytes())
			}
			end = at + int64(len(data))
			for n := 0; w != nil && n < len(data); n += vmdk.GrainBytes {
				if err := w.WriteGrain(at+int64(n), data[n:min(n+vmdk.GrainBytes, len(data))]); err != nil {
					t.Fatal(err)
				}
				disk = append(disk, bytes.Clone(data[n:min(n+vmdk.GrainBytes, len(data))]))
			}
		}
		if w == nil {
			return
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		second, err := decodeGrains(&again)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(second, bytes.Join(nonZero(disk), nil)) {
			t.Fatal("another disk came back")
		}
	})
}

// decodeGrains returns the bytes of a stream's grains without the holes.
func decodeGrains(r io.Reader) ([]byte, error) {
	d, err := vmdk.NewReader(r)
	var all []byte
	for err == nil {
		var data []byte
		if _, data, err = d.Next(); err == nil {
			all = append(all, data...)
		}
	}
	if err != io.EOF {
		return nil, err
	}
	return all, nil
}

func nonZero(grains [][]byte) [][]byte {
	var out [][]byte
	for _, g := range grains {
		if len(bytes.Trim(g, "\x00")) > 0 {
			out = append(out, g)
		}
	}
	return out
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
