package format

import "unicode/utf8"

// reader takes fields off the front of some bytes and remembers that they ran
// out.
type reader struct {
	b   []byte
	err error
}

func (r *reader) left() int { return len(r.b) }

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.err = corrupt("it ends too early")
		r.b = nil
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) u8() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if b := r.take(2); b != nil {
		return le.Uint16(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return le.Uint32(b)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.take(8); b != nil {
		return le.Uint64(b)
	}
	return 0
}

func (r *reader) bytes(dst []byte) { copy(dst, r.take(len(dst))) }

func (r *reader) text() string {
	b := r.take(int(r.u16()))
	if !utf8.Valid(b) {
		r.err = corrupt("text that is not UTF-8")
	}
	return string(b)
}

// count reads a count of the given width in bytes, of things that take at least
// size bytes each: one that cannot be true is refused before it is used.
func (r *reader) count(width, size int) int {
	var n uint64
	if width == 2 {
		n = uint64(r.u16())
	} else {
		n = uint64(r.u32())
	}
	if n*uint64(size) > uint64(len(r.b)) {
		r.err = corrupt("a count of %d with %d bytes left", n, len(r.b))
		return 0
	}
	return int(n)
}

// end is the error so far, or that there is more than there should be.
func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		return corrupt("%d bytes too many", len(r.b))
	}
	return r.err
}

func appendText(b []byte, s string) []byte {
	s = cutText(s)
	b = le.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

// cutText makes a text fit into two bytes of length without breaking a letter.
func cutText(s string) string {
	const limit = 1<<16 - 1
	if len(s) <= limit {
		return s
	}
	end := limit
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}
