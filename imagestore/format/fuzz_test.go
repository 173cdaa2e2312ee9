package format

import (
	"bytes"
	"testing"
)

// Each decoder has a target of its own. None panics, none takes more memory than
// its input and the limits allow, and what one accepts it encodes to the same
// bytes.

func FuzzHeader(f *testing.F)      { fuzzDecoder(f, "header") }
func FuzzSuperblock(f *testing.F)  { fuzzDecoder(f, "superblock") }
func FuzzPoint(f *testing.F)       { fuzzDecoder(f, "point") }
func FuzzHead(f *testing.F)        { fuzzDecoder(f, "head") }
func FuzzMark(f *testing.F)        { fuzzDecoder(f, "mark") }
func FuzzChecks(f *testing.F)      { fuzzDecoder(f, "checks") }
func FuzzEnclosure(f *testing.F)   { fuzzDecoder(f, "enclosure") }
func FuzzDirectory(f *testing.F)   { fuzzDecoder(f, "directory") }
func FuzzLeaf(f *testing.F)        { fuzzDecoder(f, "leaf") }
func FuzzNode(f *testing.F)        { fuzzDecoder(f, "node") }
func FuzzKeyring(f *testing.F)     { fuzzDecoder(f, "keyring") }
func FuzzSlot(f *testing.F)        { fuzzDecoder(f, "slot") }
func FuzzFrameHeader(f *testing.F) { fuzzDecoder(f, "frame-header") }
func FuzzPackFooter(f *testing.F)  { fuzzDecoder(f, "pack-footer") }
func FuzzRunFooter(f *testing.F)   { fuzzDecoder(f, "run-footer") }
func FuzzParityHead(f *testing.F)  { fuzzDecoder(f, "parity-head") }
func FuzzRunTail(f *testing.F)     { fuzzDecoder(f, "run-tail") }

func fuzzDecoder(f *testing.F, name string) {
	for _, d := range allDecoders() {
		if d.name != name {
			continue
		}
		f.Add(d.sample)
		f.Fuzz(func(t *testing.T, b []byte) {
			out, err := d.again(bytes.Clone(b))
			if err == nil && !bytes.Equal(out, b) {
				t.Fatal("it accepts bytes that it would not write")
			}
		})
		return
	}
	f.Fatalf("there is no decoder %s", name)
}

// FuzzRunPage makes up the plain bytes of an index page: what passes the check
// is written the same again.
func FuzzRunPage(f *testing.F) {
	k, err := NewRunKey(Header{Kind: KindRun, Generation: 1, Drive: sample.drive, File: ID{1}}, sample.master)
	if err != nil {
		f.Fatal(err)
	}
	page, err := k.OpenPage(k.AppendPage(nil, 3, []RunEntry{{ID{1}, NewPlace(0, 64, 500, 0, 4096)}, {ID{2}, NewPlace(1, 64, 500, 4096, 17)}}), 3)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(2, []byte(page))
	f.Fuzz(func(t *testing.T, n int, b []byte) {
		plain := make([]byte, runPagePlain)
		copy(plain, b)
		n = min(max(n, 0), RunPageEntries)
		page := RunPage(plain)
		if page.Check(n, ID{}, 2) != nil {
			return
		}
		entries := make([]RunEntry, n)
		for i := range entries {
			entries[i] = page.Entry(i)
			if p, ok := page.Find(entries[i].ID, n); !ok || p != entries[i].Place {
				t.Fatal("an entry is not found")
			}
		}
		again, err := k.OpenPage(k.AppendPage(nil, 3, entries), 3)
		if err != nil || !bytes.Equal(again, page) {
			t.Fatalf("it accepts a page that it would not write: %v", err)
		}
	})
}

// FuzzSmallFile makes up everything before the checksum, which is made right.
func FuzzSmallFile(f *testing.F) {
	h := Header{Kind: KindPoint, Generation: 1, Drive: sample.drive, File: ID{1}}
	b, err := SealSmall(h, sample.master, samplePoint().Append(nil))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b[:len(b)-checksumSize])
	f.Fuzz(func(t *testing.T, b []byte) {
		_, body, err := OpenSmall(appendChecksum(bytes.Clone(b)), sample.drive, KindPoint, Masters{{1, sample.master}})
		if err == nil && len(body) > maxSmallPlain {
			t.Fatalf("a body of %d bytes", len(body))
		}
	})
}

// FuzzFrame makes up what is inside a frame, and seals it.
func FuzzFrame(f *testing.F) {
	packed, _ := Compress(nil, bytes.Repeat([]byte("lifeboat"), 1000))
	f.Add(byte(CodecZstd), uint16(1), uint32(8000), append(le.AppendUint32(nil, 8000), packed...))
	f.Add(byte(CodecNone), uint16(2), uint32(3), append(le.AppendUint32(le.AppendUint32(nil, 1), 2), "abc"...))
	f.Fuzz(func(t *testing.T, codec byte, chunks uint16, payload uint32, plain []byte) {
		k, err := NewPackKey(sample.pack, sample.master)
		if err != nil {
			t.Fatal(err)
		}
		buf := append(make([]byte, FrameHeaderSize), plain...)
		frame := Frame{buf, FrameHeader{Type: FrameChunks, Codec: Codec(codec), Chunks: int(chunks), Payload: int(payload), Sealed: len(plain) + tagSize}}
		got, lengths, _, err := k.OpenFrame(nil, nil, k.Seal(frame, 7))
		if err != nil {
			return
		}
		total := 0
		for _, n := range lengths {
			total += int(n)
		}
		if total != len(got) || len(got) > MaxPayload || len(lengths) != int(chunks) {
			t.Fatalf("%d chunks of %d bytes in a payload of %d", len(lengths), total, len(got))
		}
	})
}

// FuzzPack makes up a whole pack.
func FuzzPack(f *testing.F) {
	f.Add(sealedPack(f))
	f.Fuzz(func(t *testing.T, b []byte) { readPack(b) })
}
