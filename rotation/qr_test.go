package rotation_test

import (
	"testing"
)

// qrCode is a QR code to be read, by ISO/IEC 18004 and by nothing of the library
// that drew it. What was just drawn has no errors: they are not corrected.
type qrCode struct {
	size, version int
	black, fixed  [][]bool
}

// qrBlocks are, for level M and each version from 1 on, the numbers of blocks and
// of data bytes in each; a second pair follows where there are longer blocks.
var qrBlocks = [][]int{{1, 16}, {1, 28}, {1, 44}, {2, 32}, {2, 43}, {4, 27}, {4, 31}, {2, 38, 2, 39}, {3, 36, 2, 37}, {4, 43, 1, 44}, {1, 50, 4, 51}, {6, 36, 2, 37}}

// qrAlignment are the middles of the alignment patterns of each version.
var qrAlignment = [][]int{nil, {6, 18}, {6, 22}, {6, 26}, {6, 30}, {6, 34}, {6, 22, 38}, {6, 24, 42}, {6, 26, 46}, {6, 28, 50}, {6, 30, 54}, {6, 32, 58}}

func newQR(size int) *qrCode {
	c := &qrCode{size: size, version: (size - 17) / 4}
	for range size {
		c.black = append(c.black, make([]bool, size))
		c.fixed = append(c.fixed, make([]bool, size))
	}
	fix := func(x, y, w, h int) {
		for j := max(0, y); j < min(size, y+h); j++ {
			for i := max(0, x); i < min(size, x+w); i++ {
				c.fixed[j][i] = true
			}
		}
	}
	fix(0, 0, 9, 9)
	fix(size-8, 0, 8, 9)
	fix(0, size-8, 9, 8)
	fix(6, 0, 1, size)
	fix(0, 6, size, 1)
	at := qrAlignment[c.version-1]
	for i, x := range at {
		for j, y := range at {
			corner := i == 0 && j == 0 || i == 0 && j == len(at)-1 || j == 0 && i == len(at)-1
			if !corner {
				fix(x-2, y-2, 5, 5)
			}
		}
	}
	if c.version >= 7 {
		fix(size-11, 0, 3, 6)
		fix(0, size-11, 6, 3)
	}
	return c
}

func (c *qrCode) read(t *testing.T) string {
	t.Helper()
	format := 0
	for x := range 8 {
		if x == 6 {
			continue
		}
		format <<= 1
		if c.black[8][x] {
			format |= 1
		}
	}
	// The first five of the seven bits, unmasked: level, and mask.
	format = format>>2 ^ 0b10101
	if level := format >> 3; level != 0 {
		t.Fatalf("level %02b is not M", level)
	}
	blocks := c.blocks(c.bytes(format & 7))
	bit := 0
	take := func(n int) (v int) {
		for range n {
			v = v<<1 | int(blocks[bit/8]>>(7-bit%8)&1)
			bit++
		}
		return v
	}
	if mode := take(4); mode != 4 {
		t.Fatalf("mode %04b is not bytes", mode)
	}
	width := 8
	if c.version > 9 {
		width = 16
	}
	text := make([]byte, take(width))
	for i := range text {
		text[i] = byte(take(8))
	}
	return string(text)
}

// bytes reads the modules in their order, upwards and downwards in columns of
// two from the right.
func (c *qrCode) bytes(mask int) (all []byte) {
	var current byte
	n := 0
	up := true
	for right := c.size - 1; right > 0; right -= 2 {
		if right == 6 {
			right--
		}
		for i := range c.size {
			y := i
			if up {
				y = c.size - 1 - i
			}
			for x := right; x > right-2; x-- {
				if c.fixed[y][x] {
					continue
				}
				current <<= 1
				if c.black[y][x] != masked(mask, x, y) {
					current |= 1
				}
				if n++; n%8 == 0 {
					all = append(all, current)
				}
			}
		}
		up = !up
	}
	return all
}

func masked(mask, x, y int) bool {
	switch mask {
	case 0:
		return (x+y)%2 == 0
	case 1:
		return y%2 == 0
	case 2:
		return x%3 == 0
	case 3:
		return (x+y)%3 == 0
	case 4:
		return (y/2+x/3)%2 == 0
	case 5:
		return x*y%2+x*y%3 == 0
	case 6:
		return (x*y%2+x*y%3)%2 == 0
	}
	return ((x+y)%2+x*y%3)%2 == 0
}

// blocks puts the data of the blocks, which are interleaved, one behind the other.
func (c *qrCode) blocks(b []byte) (data []byte) {
	table := qrBlocks[c.version-1]
	var blocks [][]byte
	longest := 0
	var lengths []int
	for i := 0; i < len(table); i += 2 {
		for range table[i] {
			lengths = append(lengths, table[i+1])
			blocks = append(blocks, nil)
			longest = table[i+1]
		}
	}
	at := 0
	for i := range longest {
		for n := range blocks {
			if i < lengths[n] {
				blocks[n] = append(blocks[n], b[at])
				at++
			}
		}
	}
	for _, block := range blocks {
		data = append(data, block...)
	}
	return data
}
