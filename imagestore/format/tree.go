package format

import "github.com/zeebo/blake3"

// Entry is one chunk of a leaf.
type Entry struct {
	// Start is the first block inside the region, Blocks how many there are.
	Start, Blocks int
	ID            ID
}

// End is the block after the chunk.
func (e Entry) End() int { return e.Start + e.Blocks }

// MaxObjectSize is the length of the longest leaf or node.
const MaxObjectSize = 4 + RegionBlocks*36

// AppendLeaf writes the leaf of a region that is not empty behind b.
func AppendLeaf(b []byte, entries []Entry) []byte {
	b = append(b, 'L', 0)
	b = le.AppendUint16(b, uint16(len(entries)))
	for _, e := range entries {
		b = le.AppendUint16(b, uint16(e.Start))
		b = append(b, byte(e.Blocks), 0)
	}
	for _, e := range entries {
		b = append(b, e.ID[:]...)
	}
	return b
}

// DecodeLeaf appends the entries of the leaf that fills b to dst.
func DecodeLeaf(dst []Entry, b []byte) ([]Entry, error) {
	if len(b) < 4 || b[0] != 'L' || b[1] != 0 {
		return nil, corrupt("no leaf")
	}
	n := int(le.Uint16(b[2:]))
	if n < 1 || n > RegionBlocks || len(b) != 4+36*n {
		return nil, corrupt("a leaf of %d entries in %d bytes", n, len(b))
	}
	end := 0
	for i := range n {
		head := b[4+4*i:]
		e := Entry{Start: int(le.Uint16(head)), Blocks: int(head[2])}
		if e.Start < end || e.Blocks < 1 || e.Blocks > MaxChunkBlocks || e.End() > RegionBlocks || head[3] != 0 {
			return nil, corrupt("a leaf whose chunks overlap")
		}
		end = e.End()
		copy(e.ID[:], b[4+4*n+32*i:])
		if e.ID.IsZero() {
			return nil, corrupt("a leaf with an empty id")
		}
		dst = append(dst, e)
	}
	return dst, nil
}

// AppendNode writes a node behind b. Ids of zeros at the end are left out; a
// node without any other id must not be written.
func AppendNode(b []byte, level int, ids []ID) []byte {
	n := nodeLength(ids)
	b = append(b, 'N', byte(level))
	b = le.AppendUint16(b, uint16(n))
	for _, id := range ids[:n] {
		b = append(b, id[:]...)
	}
	return b
}

func nodeLength(ids []ID) int {
	n := len(ids)
	for n > 0 && ids[n-1].IsZero() {
		n--
	}
	return n
}

// Node is a decoded node; it shares memory with the bytes it was made of.
type Node struct{ ids []byte }

// DecodeNode reads the node of the given level that fills b.
func DecodeNode(b []byte, level int) (Node, error) {
	if len(b) < 4 || b[0] != 'N' || int(b[1]) != level || level < 1 || level > MaxLevel {
		return Node{}, corrupt("no node of level %d", level)
	}
	n := int(le.Uint16(b[2:]))
	if n < 1 || n > Fanout || len(b) != 4+32*n {
		return Node{}, corrupt("a node of %d ids in %d bytes", n, len(b))
	}
	if ID(b[len(b)-32:]).IsZero() {
		return Node{}, corrupt("a node that ends in emptiness")
	}
	return Node{b[4:]}, nil
}

// Child is the id of a child; beyond the last one it is empty.
func (n Node) Child(i int) ID {
	if i < 0 || 32*i >= len(n.ids) {
		return ID{}
	}
	return ID(n.ids[32*i:])
}

// Regions is how many regions a disk of that size has.
func Regions(sizeBytes int64) int64 { return (sizeBytes + RegionSize - 1) / RegionSize }

// RootLevel is the level of the root of a disk of that size; 0 is a leaf.
func RootLevel(sizeBytes int64) int {
	level, span := 0, int64(1)
	for regions := Regions(sizeBytes); span < regions; level++ {
		span *= Fanout
	}
	return level
}

// Namer computes ids. It serves one goroutine at a time.
type Namer struct {
	chunk, tree *blake3.Hasher
}

// NewNamer makes a namer for the chunk key of a site.
func NewNamer(chunkKey [32]byte) *Namer {
	treeKey := DeriveKey(chunkKey, nil, "tree")
	return &Namer{keyed(chunkKey), keyed(treeKey)}
}

func keyed(key [32]byte) *blake3.Hasher {
	h, err := blake3.NewKeyed(key[:])
	if err != nil {
		panic(err) // only for a key of another length
	}
	return h
}

// Chunk names the bytes of a chunk.
func (n *Namer) Chunk(b []byte) ID { return sum(n.chunk, b) }

// Tree names the bytes of a leaf or node.
func (n *Namer) Tree(b []byte) ID { return sum(n.tree, b) }

func sum(h *blake3.Hasher, b []byte) (id ID) {
	h.Reset()
	h.Write(b)
	h.Sum(id[:0])
	return id
}
