package format

import (
	"archive/zip"
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/zeebo/blake3"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the vectors anew")

// sample makes the things that vectors and fuzz targets start from. Everything
// in it is fixed: the vectors are files that stay readable for ever.
var sample = struct {
	drive  ShortID
	master [32]byte
	pack   Header
}{drive: ShortID{1, 2, 3}, master: [32]byte{4, 5, 6}}

func init() {
	sample.pack = Header{Kind: KindDataPack, Generation: 1, Drive: sample.drive, File: ID{7, 8, 9}}
}

func sampleEntries() []Entry {
	return []Entry{{0, 3, ID{1}}, {3, 32, ID{2}}, {100, 1, ID{3}}, {1000, 24, ID{4}}}
}

func sampleDirectory() Directory {
	return Directory{
		{64, 500, []DirectoryChunk{{ID{1}, 4096}, {ID{2}, 131072}}},
		{564, 100, []DirectoryChunk{{ID{3}, 17}}},
	}
}

func samplePoint() Point {
	return Point{Sequence: 9, ID: ShortID{1}, PreviousHead: ID{2}, JSON: []byte(`{"id":"x"}`),
		Disks: []PointDisk{{"disk0", 1 << 40, ID{5}}, {"disk1", 0, ID{}}}}
}

func sampleHead() Head {
	return Head{Sequence: 9, Previous: ID{3}, Points: []HeadPoint{{ShortID{1}, 4, ID{1}}, {ShortID{2}, 9, ID{2}}}}
}

func sampleChecks() Checks {
	return Checks{Sequence: 4, Begun: 1_800_000_100, Scope: ID{1}, Verified: 1_790_000_000,
		Speeds: []CheckSpeed{{1_790_000_000, 150 << 20}},
		Points: []CheckedPoint{{ShortID{1}, 1_790_000_000, 1_800_000_000}, {ShortID{2}, 0, 1_800_000_000}},
		Packs:  []CheckedPack{{ID{1}, 1_800_000_000}, {ID{2}, 1_800_000_001}}}
}

func sampleSuperblock() Superblock {
	return Superblock{Generation: 1, Drive: sample.drive, Site: ShortID{9}, ChunkKey: [32]byte{1}, CutKey: [32]byte{2},
		CreatedAt: 1_800_000_000_000_000_000, Label: "B2", SiteName: "Büro", Program: "1.0"}
}

func sampleEnclosure() Enclosure {
	text := []byte("door code 4711")
	return Enclosure{ID: ShortID{5}, Sequence: 3, WrittenAt: 1_800_000_000_000_000_000, Size: int64(len(text)), Hash: blake3.Sum256(text), Name: "Büro", Note: "the door", Inline: text}
}

func samplePart() EnclosurePart {
	return EnclosurePart{ID: ShortID{5}, Number: 1, Bytes: []byte("middle")}
}

func sampleParityHead() ParityHead {
	return ParityHead{Drive: sample.drive, Pack: sample.pack.File, Kind: KindDataPack, Parity: DefaultParity, Size: 3 << 20, Table: [32]byte{7}}
}

func sampleRun() (RunFooter, RunTail) {
	t := RunTail{Replaced: []ID{{1}}, Packs: []RunPack{{ID: ID{2}}, {ID: ID{3}, Tree: true}, {ID: ID{4}, Torn: true}}, First: []uint32{5}, Filter: make(Filter, filterBlock)}
	return RunFooter{Entries: 3, Packs: 3, Replaced: 1, FilterBlocks: 1}, t
}

// sealedPack is a whole pack with two frames.
func sealedPack(t testing.TB) []byte {
	k, err := NewPackKey(sample.pack, sample.master)
	if err != nil {
		t.Fatal(err)
	}
	b := sample.pack.Append(nil)
	var d Directory
	namer := NewNamer([32]byte{1})
	for i, payload := range [][]byte{bytes.Repeat([]byte("lifeboat"), 1000), []byte("short")} {
		f := k.Seal(PackFrame(nil, []uint32{uint32(len(payload))}, payload), uint32(i))
		d = append(d, DirectoryFrame{uint32(len(b)), uint32(len(f)), []DirectoryChunk{{namer.Chunk(payload), uint32(len(payload))}}})
		b = append(b, f...)
	}
	return append(b, k.SealDirectory(d, uint32(len(d)), int64(len(b)))...)
}

// readPack opens everything in a pack.
func readPack(b []byte) error {
	h, err := DecodeHeader(b)
	if err != nil {
		return err
	}
	if h != sample.pack {
		return ErrForeign
	}
	k, err := NewPackKey(h, sample.master)
	if err != nil {
		return err
	}
	if len(b) < HeaderSize+PackFooterSize {
		return ErrCorrupt
	}
	footer, err := DecodePackFooter(b[len(b)-PackFooterSize:], h.File, int64(len(b)))
	if err != nil {
		return err
	}
	d, err := k.OpenDirectory(bytes.Clone(b[footer.Offset:footer.Offset+footer.Size]), footer)
	if err != nil {
		return err
	}
	for _, f := range d {
		if uint64(f.Offset)+uint64(f.Size) > uint64(len(b)) {
			return ErrCorrupt
		}
		if _, _, _, err := k.OpenFrame(nil, nil, bytes.Clone(b[f.Offset:f.Offset+f.Size])); err != nil {
			return err
		}
	}
	return nil
}

// decoder is a decoder together with its encoder.
type decoder struct {
	name   string
	sample []byte
	// again decodes and encodes again.
	again func([]byte) ([]byte, error)
}

func allDecoders() []decoder {
	return []decoder{
		{"header", sample.pack.Append(nil), func(b []byte) ([]byte, error) {
			h, err := DecodeHeader(b)
			if err != nil {
				return nil, err
			}
			return append(h.Append(nil), b[HeaderSize:]...), nil
		}},
		{"superblock", sampleSuperblock().Append(nil), func(b []byte) ([]byte, error) { return again(DecodeSuperblock(b)) }},
		{"point", samplePoint().Append(nil), func(b []byte) ([]byte, error) { return again(DecodePoint(b)) }},
		{"head", sampleHead().Append(nil), func(b []byte) ([]byte, error) { return again(DecodeHead(b)) }},
		{"mark", Mark{{ID{1}, 64, ID{}}}.Append(nil), func(b []byte) ([]byte, error) { return again(DecodeMark(b)) }},
		{"checks", sampleChecks().Append(nil), func(b []byte) ([]byte, error) { return again(DecodeChecks(b)) }},
		{"enclosure", sampleEnclosure().Append(nil), func(b []byte) ([]byte, error) { return again(DecodeEnclosure(b)) }},
		{"part", samplePart().Append(nil), func(b []byte) ([]byte, error) { return again(DecodeEnclosurePart(b)) }},
		{"bundle", sampleBundle(), bundleAgain},
		{"directory", sampleDirectory().Append(nil), func(b []byte) ([]byte, error) { return again(DecodeDirectory(b)) }},
		{"leaf", AppendLeaf(nil, sampleEntries()), func(b []byte) ([]byte, error) {
			e, err := DecodeLeaf(nil, b)
			if err != nil {
				return nil, err
			}
			return AppendLeaf(nil, e), nil
		}},
		{"node", AppendNode(nil, 1, []ID{{}, {1}, {}, {2}, {}}), func(b []byte) ([]byte, error) {
			n, err := DecodeNode(b, 1)
			if err != nil {
				return nil, err
			}
			var ids []ID
			for i := range Fanout {
				ids = append(ids, n.Child(i))
			}
			return AppendNode(nil, 1, ids), nil
		}},
		{"keyring", sampleKeyring().Append(nil, sample.drive), keyringAgain},
		{"keyring-past", sampleKeyring().DropBefore(3, sample.drive).Append(nil, sample.drive), keyringAgain},
		{"slot", sampleSlot(), func(b []byte) ([]byte, error) { return again(DecodeSlot(b)) }},
		{"frame-header", sampleFrameHeader(), func(b []byte) ([]byte, error) {
			h, err := DecodeFrameHeader(b, sample.pack.File)
			if err != nil {
				return nil, err
			}
			out := bytes.Clone(b)
			h.put(out, sample.pack.File)
			return out, nil
		}},
		{"pack-footer", PackFooter{64, 136, 1}.Append(nil, sample.pack.File), func(b []byte) ([]byte, error) {
			f, err := DecodePackFooter(b, sample.pack.File, 232)
			if err != nil {
				return nil, err
			}
			return f.Append(nil, sample.pack.File), nil
		}},
		{"parity-head", sampleParityHead().Append(nil), func(b []byte) ([]byte, error) { return again(DecodeParityHead(b)) }},
		{"run-footer", sampleRunFooter(), func(b []byte) ([]byte, error) {
			f, _ := sampleRun()
			return again(DecodeRunFooter(b, f.FileSize()))
		}},
		{"run-tail", sampleRunTail(), func(b []byte) ([]byte, error) {
			f, _ := sampleRun()
			cut := max(0, len(b)-int(f.FilterSize()))
			return again(DecodeRunTail(b[:cut], b[cut:], f))
		}},
	}
}

func sampleKeyring() Keyring {
	return Keyring{Masters: Masters{{1, [32]byte{1}}, {3, [32]byte{2}}}}
}

func keyringAgain(b []byte) ([]byte, error) {
	k, err := DecodeKeyring(b, sample.drive)
	if err != nil {
		return nil, err
	}
	return k.Append(nil, sample.drive), nil
}

func again[T interface{ Append([]byte) []byte }](v T, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return v.Append(nil), nil
}

func sampleSlot() []byte {
	s := Slot{Header: Header{Kind: KindSlot, Drive: sample.drive, File: ID{1}}, Type: SlotRecipient, Age: []byte("age")}
	if err := s.SealNote(SlotNote{"control machine", "age1", 5}, sample.master); err != nil {
		panic(err)
	}
	return s.Append(nil)
}

// sampleBundle is a small archive, sealed: docs/format.md, section 3.7.
func sampleBundle() []byte {
	var body bytes.Buffer
	w := zip.NewWriter(&body)
	for _, f := range [][2]string{{"record.json", `{"version":1}`}, {"evidence/web.txt", "web login:"}} {
		in, err := w.CreateHeader(&zip.FileHeader{Name: f[0], Method: zip.Store})
		if err == nil {
			_, err = in.Write([]byte(f[1]))
		}
		if err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	b, err := SealSmall(Header{Kind: KindBundle, Generation: 1, Drive: sample.drive, File: ID{7}}, sample.master, body.Bytes())
	if err != nil {
		panic(err)
	}
	return b
}

func bundleAgain(b []byte) ([]byte, error) {
	h, body, err := OpenSmall(b, sample.drive, KindBundle, Masters{{1, sample.master}})
	if err != nil {
		return nil, err
	}
	if _, err := zip.NewReader(bytes.NewReader(body), int64(len(body))); err != nil {
		return nil, err
	}
	return SealSmall(h, sample.master, body)
}

func sampleFrameHeader() []byte {
	b := make([]byte, FrameHeaderSize)
	FrameHeader{Ordinal: 3, Type: FrameChunks, Codec: CodecZstd, Chunks: 2, Payload: 5000, Sealed: 900}.put(b, sample.pack.File)
	return b
}

func sampleRunFooter() []byte {
	f, _ := sampleRun()
	return f.Append(nil)
}

func sampleRunTail() []byte {
	_, t := sampleRun()
	return t.Append(nil)
}

func TestDecodersAcceptWhatEncodersWriteAndNothingShorter(t *testing.T) {
	for _, d := range allDecoders() {
		out, err := d.again(bytes.Clone(d.sample))
		if err != nil || !bytes.Equal(out, d.sample) {
			t.Errorf("%s: %v", d.name, err)
		}
		for n := range d.sample {
			if d.name == "header" && n >= HeaderSize {
				continue
			}
			if _, err := d.again(bytes.Clone(d.sample[:n])); err == nil {
				t.Errorf("%s: %d of %d bytes are accepted", d.name, n, len(d.sample))
			}
		}
	}
}

const vectors = "../../fixtures/vectors"

// vectorFiles are the files of fixtures/vectors: good ones, and bad ones named
// for their fault.
func vectorFiles(t *testing.T) map[string][]byte {
	files := map[string][]byte{}
	for _, d := range allDecoders() {
		files[d.name+".bin"] = d.sample
	}
	change := func(name string, at int, value byte) []byte {
		b := bytes.Clone(files[name])
		b[at] = value
		return b
	}
	pack := sealedPack(t)
	files["pack.bin"] = pack
	files["pack-torn-tail.bin"] = pack[:len(pack)-10]
	files["pack-flipped-bit-in-frame.bin"] = change("pack.bin", HeaderSize+FrameHeaderSize+5, pack[HeaderSize+FrameHeaderSize+5]^1)
	files["pack-of-newer-version.bin"] = change("pack.bin", 8, 2)
	files["pack-of-another-drive.bin"] = change("pack.bin", 16, 99)
	bundle := files["bundle.bin"]
	files["bundle-torn.bin"] = bundle[:len(bundle)-10]
	files["bundle-flipped-bit.bin"] = change("bundle.bin", len(bundle)/2, bundle[len(bundle)/2]^1)
	files["bundle-of-another-drive.bin"] = change("bundle.bin", 16, 99)
	files["bundle-of-another-kind.bin"] = change("bundle.bin", 10, byte(KindPoint))
	files["leaf-overlapping-chunks.bin"] = change("leaf.bin", 8, 2)
	files["leaf-chunk-too-long.bin"] = change("leaf.bin", 6, 33)
	files["leaf-beyond-region.bin"] = change("leaf.bin", 18, 25)
	files["node-ends-in-emptiness.bin"] = AppendNode(nil, 1, []ID{{1}, {2}})[:4+64]
	clear(files["node-ends-in-emptiness.bin"][4+32:])
	files["head-points-not-ascending.bin"] = change("head.bin", 44+16, 10)
	files["checks-packs-not-ascending.bin"] = change("checks.bin", len(files["checks.bin"])-40, 1)
	files["checks-points-not-ascending.bin"] = change("checks.bin", 56+2+16+4+32, 1)
	files["checks-impossible-count.bin"] = change("checks.bin", len(files["checks.bin"])-2*40-1, 255)
	files["directory-gap-between-frames.bin"] = change("directory.bin", 4+10+2*36, 0x35)
	files["directory-impossible-count.bin"] = change("directory.bin", 3, 255)
	files["point-json-torn.bin"] = append(bytes.Clone(files["point.bin"][:len(files["point.bin"])-1]), ' ')
	files["slot-flipped-bit.bin"] = change("slot.bin", 81, 0)
	head := sampleParityHead()
	head.Size = MaxPackSize + 1
	files["parity-head-pack-too-long.bin"] = head.Append(nil)
	head = sampleParityHead()
	head.Parity = MaxParity + 1
	files["parity-head-too-many-cells.bin"] = head.Append(nil)
	files["parity-head-flipped-bit.bin"] = change("parity-head.bin", 80, 6)
	files["keyring-generations-not-ascending.bin"] = change("keyring.bin", 28+36, 1)
	files["keyring-drops-a-later-key.bin"] = change("keyring.bin", 28+36+3, 0x80)
	files["keyring-without-a-key.bin"] = change("keyring-past.bin", 28+36+3, 0x80)
	maps.Copy(files, badVectors(files))
	return files
}

func TestVectorsAreReadAsTheirNamesSay(t *testing.T) {
	for name, want := range vectorFiles(t) {
		path := filepath.Join(vectors, name)
		if *update {
			if err := os.WriteFile(path, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b, want) && !strings.HasPrefix(name, "pack") && !strings.HasPrefix(name, "slot") && !strings.HasPrefix(name, "bundle") {
			t.Errorf("%s: the program writes other bytes than it used to", name)
		}
		err = readVector(name, b)
		good := !strings.Contains(strings.TrimSuffix(name, ".bin"), "-") || slices.Contains([]string{"keyring-past.bin", "frame-header.bin", "pack-footer.bin", "run-footer.bin", "run-tail.bin", "parity-head.bin"}, name)
		if good != (err == nil) {
			t.Errorf("%s: %v", name, err)
		}
		if strings.Contains(name, "newer") && !errors.Is(err, ErrNewer) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func readVector(name string, b []byte) error {
	for _, d := range allDecoders() {
		if name == d.name+".bin" || strings.HasPrefix(name, d.name+"-") && !strings.HasPrefix(name, "pack") {
			_, err := d.again(bytes.Clone(b))
			return err
		}
	}
	return readPack(b)
}

func TestSmallFilesOpenForTheirDriveKindAndKeyOnly(t *testing.T) {
	h := Header{Kind: KindPoint, Generation: 1, Drive: sample.drive, File: ID{1}}
	body := bytes.Repeat([]byte("body"), 500)
	b, err := SealSmall(h, sample.master, body)
	if err != nil {
		t.Fatal(err)
	}
	keys := Masters{{1, sample.master}}
	if _, got, err := OpenSmall(b, sample.drive, KindPoint, keys); err != nil || !bytes.Equal(got, body) {
		t.Fatal(err)
	}
	if _, _, err := OpenSmall(b, ShortID{99}, KindPoint, keys); !errors.Is(err, ErrForeign) {
		t.Error(err)
	}
	if _, _, err := OpenSmall(b, sample.drive, KindHead, keys); !errors.Is(err, ErrForeign) {
		t.Error(err)
	}
	if _, _, err := OpenSmall(b, sample.drive, KindPoint, Masters{{1, [32]byte{}}}); !errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
	for i := range b {
		c := bytes.Clone(b)
		c[i] ^= 1
		if _, _, err := OpenSmall(c, sample.drive, KindPoint, keys); err == nil {
			t.Fatalf("a flipped bit in byte %d was not seen", i)
		}
	}
}

func TestTheLongestBodyThatDoesNotShrinkComesBack(t *testing.T) {
	h := Header{Kind: KindHead, Generation: 1, Drive: sample.drive, File: ID{1}}
	body := make([]byte, maxSmallPlain)
	rand.NewChaCha8([32]byte{}).Read(body)
	b, err := SealSmall(h, sample.master, body)
	if err != nil || len(b) > MaxSmallFile {
		t.Fatalf("%d bytes, and readers take %d: %v", len(b), MaxSmallFile, err)
	}
	if _, got, err := OpenSmall(b, sample.drive, KindHead, Masters{{1, sample.master}}); err != nil || !bytes.Equal(got, body) {
		t.Error(err)
	}
}

func TestADirectoryThatDoesNotReachItselfIsRefused(t *testing.T) {
	k, err := NewPackKey(sample.pack, sample.master)
	if err != nil {
		t.Fatal(err)
	}
	d := Directory{{Offset: HeaderSize, Size: 100, Chunks: []DirectoryChunk{{ID: ID{1}, Length: 10}}}}
	for _, gap := range []int64{0, 1} {
		b := k.SealDirectory(d, 1, HeaderSize+100+gap)
		footer, err := DecodePackFooter(b[len(b)-PackFooterSize:], sample.pack.File, HeaderSize+100+gap+int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.OpenDirectory(b[:footer.Size], footer); (err != nil) != (gap > 0) {
			t.Errorf("%d bytes between: %v", gap, err)
		}
	}
}

func TestHostileSizesAreRefusedBeforeMemoryIsTaken(t *testing.T) {
	bomb, _ := Compress(nil, make([]byte, 15<<20))
	if _, err := Decompress(nil, bomb, CodecZstd, 1000); !errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
	pack := ID{7}
	long := PackFooter{Offset: HeaderSize, Size: 3 << 30}
	if _, err := DecodePackFooter(long.Append(nil, pack), pack, int64(long.Offset)+int64(long.Size)+PackFooterSize); !errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
	p := samplePoint()
	p.Disks[1].Size = 1<<63 - 1
	if _, err := DecodePoint(p.Append(nil)); !errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
	many := bytes.Repeat(bomb, 20) // twenty frames, each as large as announced
	if _, err := Decompress(nil, many, CodecZstd, 15<<20); !errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
}

func TestCutsDependOnTheBytesAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 2))
		blocks := rapid.IntRange(1, 100).Draw(t, "blocks")
		b := make([]byte, blocks*BlockSize-rapid.IntRange(0, BlockSize-1).Draw(t, "short"))
		for i := range blocks {
			if r.IntN(4) > 0 {
				b[i*BlockSize] = byte(r.IntN(30))
			}
		}
		c := NewCutter([32]byte{1, 2, 3})
		end := 0
		for at := 0; at < blocks; {
			start, stop := c.Next(b, at)
			for i := end; i < start; i++ {
				if !c.IsZero(b, i) {
					t.Fatalf("block %d is in no chunk", i)
				}
			}
			if start == blocks {
				break
			}
			if stop <= start || stop-start > MaxChunkBlocks || stop > blocks {
				t.Fatalf("a chunk from %d to %d", start, stop)
			}
			for i := start; i < stop; i++ {
				if c.IsZero(b, i) {
					t.Fatalf("zero block %d is in a chunk", i)
				}
				if i < stop-1 && c.CutsAfter(b, i) {
					t.Fatalf("the chunk goes on behind block %d", i)
				}
				// Starting anew at any cut gives the same cuts.
				if s, e := c.Next(b[:], start); s != start || e != stop {
					t.Fatal("the cutter remembers something")
				}
			}
			at, end = stop, stop
		}
	})
}

// Each cell of a stripe has a column of its own, however long the pack is.
func TestCellsOfAStripeHaveDifferentColumns(t *testing.T) {
	for cells := 1; cells <= ParityColumns*ParityColumns; cells += 1 + cells/7 {
		h := sampleParityHead()
		h.Size = int64(cells)*CellSize - 1
		stripes := h.Stripes()
		seen := map[[2]int]bool{}
		for i := range h.Cells() {
			place := [2]int{i % stripes, ParityColumn(i)}
			if seen[place] || place[1] >= ParityColumns {
				t.Fatalf("of %d cells, cell %d is at %v", cells, i, place)
			}
			seen[place] = true
		}
		if h.FileSize() > MaxParityFile || stripes > ParityColumns {
			t.Fatalf("%d cells: %d stripes, a file of %d bytes", cells, stripes, h.FileSize())
		}
	}
}

func TestFilterNeverForgetsAndIsSmall(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	id := func() (id ID) {
		for i := range id {
			id[i] = byte(r.Uint32())
		}
		return id
	}
	const n = 20000
	var f Filter
	m := NewFilterMaker(FilterBlocks(n), func(b []byte) error { f = append(f, b...); return nil })
	ids := make([]ID, n)
	for i := range ids {
		ids[i] = id()
	}
	slices.SortFunc(ids, func(a, b ID) int { return bytes.Compare(a[:], b[:]) })
	for _, id := range ids {
		if err := m.Add(id); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.End(); err != nil || uint64(len(f)) != FilterBlocks(n)*filterBlock {
		t.Fatalf("a filter of %d bytes: %v", len(f), err)
	}
	if len(f)*8 > 10*n {
		t.Errorf("%d bits for %d ids", len(f)*8, n)
	}
	for _, id := range ids {
		if !f.May(id) {
			t.Fatal("an id was forgotten")
		}
	}
	wrong := 0
	for range n {
		if f.May(id()) {
			wrong++
		}
	}
	if wrong > n/40 {
		t.Errorf("%d of %d absent ids look present", wrong, n)
	}
}

// The published test vector of keyed BLAKE3 for the input 0, 1, 2 shows that the
// library's reset keeps the key.
func TestNamerIsKeyedBLAKE3(t *testing.T) {
	n := NewNamer([32]byte([]byte("whats the Elvish word for friend")))
	for range 2 {
		const want = "39e67b76b5a007d4921969779fe666da67b5213b096084ab674742f0d5ec62b9"
		if got := n.Chunk([]byte{0, 1, 2}); hex.EncodeToString(got[:]) != want {
			t.Errorf("%s", got)
		}
	}
}

// A control machine remembers a fingerprint: it must not change when the key
// behind it is dropped, nor from one version to the next.
func TestFingerprintOutlivesItsKey(t *testing.T) {
	const want = "d5a4b90dbb8589ffed6fc4ae0e18557e"
	k := sampleKeyring()
	dropped := k.DropBefore(3, sample.drive)
	if len(dropped.Past) != 1 || len(dropped.Masters) != 1 {
		t.Fatalf("%+v", dropped)
	}
	derived := DeriveKey(k.Masters[0].Key, sample.drive[:], "fingerprint")
	for name, got := range map[string]string{
		"of the key": k.Masters[0].Fingerprint(sample.drive), "of its seed": dropped.Past[0].Fingerprint(),
		"as format.md says": hex.EncodeToString(derived[:16]),
	} {
		if got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}
