package vsphere

import "math/bits"

// cellSet is a set of cell numbers. It costs a bit for each cell in the parts of
// a disk that hold any: 4 KiB for 2 GiB.
type cellSet map[int64]*[cellsPerPage / 64]uint64

const cellsPerPage = 1 << 15

func (s cellSet) add(i int64) {
	page := s[i/cellsPerPage]
	if page == nil {
		page = new([cellsPerPage / 64]uint64)
		s[i/cellsPerPage] = page
	}
	page[i%cellsPerPage/64] |= 1 << (i % 64)
}

func (s cellSet) has(i int64) bool {
	page := s[i/cellsPerPage]
	return page != nil && page[i%cellsPerPage/64]>>(i%64)&1 == 1
}

// each calls yield with the cells from one on that begin before an offset,
// ascending.
func (s cellSet) each(from, before int64, yield func(i int64)) {
	for i := from; i*cellBytes < before; {
		page := s[i/cellsPerPage]
		if page == nil {
			i = (i/cellsPerPage + 1) * cellsPerPage
			continue
		}
		word := page[i%cellsPerPage/64] >> (i % 64)
		if word == 0 {
			i = (i/64 + 1) * 64
			continue
		}
		i += int64(bits.TrailingZeros64(word))
		if i*cellBytes < before {
			yield(i)
		}
		i++
	}
}

// countBelow counts the cells that begin before an offset.
func (s cellSet) countBelow(before int64) (n int64) {
	s.each(0, before, func(int64) { n++ })
	return n
}
