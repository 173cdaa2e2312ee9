package vmdk

import (
	"fmt"
	"slices"
)

// tables remembers which grain tables passed by, and how many grains each names.
// They are not needed to read front to back; they say how much there should be.
type tables struct {
	list      []table // ascending by sector
	directory []uint32
	at        int64 // the directory's first sector, 0 before it came
}

type table struct {
	sector int64
	grains uint16
}

// grains is how many grains the tables name that the directory names.
func (t *tables) grains() int64 {
	var sum int64
	for _, at := range t.directory {
		if i, ok := t.find(at); ok {
			sum += int64(t.list[i].grains)
		}
	}
	return sum
}

func (t *tables) find(sector uint32) (int, bool) {
	return slices.BinarySearchFunc(t.list, int64(sector), func(e table, at int64) int { return int(e.sector - at) })
}

// check says whether the directory is where the footer says, and names tables
// that came.
func (t *tables) check(footer int64) error {
	if t.at == 0 || t.at != footer {
		return fmt.Errorf("%w: the footer's directory is not in the stream", ErrFormat)
	}
	for _, at := range t.directory {
		if _, ok := t.find(at); at != 0 && !ok {
			return fmt.Errorf("%w: the directory names a table at sector %d, where none came", ErrFormat, at)
		}
	}
	return nil
}

// add takes a table in. The limit is two for each that the disk can have: there
// may be a second set.
func (t *tables) add(e table, limit int64) error {
	if int64(len(t.list)) >= limit {
		return fmt.Errorf("%w: more tables than the disk can have", ErrFormat)
	}
	t.list = append(t.list, e)
	return nil
}

// isGrain says whether a table's entry points at a grain: 0 is none, and 1 is
// one of zeros without bytes.
func isGrain(entry uint32) bool { return entry > 1 }

// tableCount is how many tables a disk of that many sectors has.
func (h header) tableCount(capacity int64) int64 {
	span := int64(h.Grain) * entriesPerTable
	return (capacity + span - 1) / span
}

// maxTables bounds what a stream may hold, before its footer too.
func (d *Reader) maxTables() int64 {
	capacity := int64(MaxCapacityBytes / sectorBytes)
	if d.capacity >= 0 {
		capacity = d.capacity / sectorBytes
	}
	return d.head.tableCount(capacity)
}

func (d *Reader) table(m marker) error {
	if m.Value != tableSectors {
		return fmt.Errorf("%w: a grain table of %d sectors", ErrFormat, m.Value)
	}
	e := table{sector: d.at}
	if err := d.readEntries(entriesPerTable, func(entry uint32) {
		if isGrain(entry) {
			e.grains++
		}
	}); err != nil {
		return err
	}
	if !d.endIsMark {
		return nil // the front has the tables that count
	}
	return d.tables.add(e, 2*d.maxTables())
}

// directory reads a directory behind its marker. A second one replaces the
// first: the footer says which counts.
func (d *Reader) directory(m marker) error {
	most := d.maxTables()
	if m.Value == 0 || int64(m.Value) > sectors(most*4) {
		return fmt.Errorf("%w: a grain directory of %d sectors", ErrFormat, m.Value)
	}
	at := d.at
	entries := make([]uint32, 0, min(most, 1<<16))
	err := d.readEntries(int64(m.Value)*sectorBytes/4, func(entry uint32) { entries = append(entries, entry) })
	if err != nil || !d.endIsMark {
		return err
	}
	d.tables.directory, d.tables.at = entries, at
	return nil
}

// readFrontTables reads the directory and the tables of a stream that has them
// in its head: qemu-img and open-vmdk write such ones. The directory has to
// stand before its tables, or they cannot be told from other bytes in passing.
func (d *Reader) readFrontTables() error {
	h := d.head
	n := h.tableCount(d.capacity / sectorBytes)
	if h.DirectoryOffset < 1 || h.DirectoryOffset > h.Overhead {
		return fmt.Errorf("%w: its directory is neither in its head nor at its end", ErrFormat)
	}
	if err := d.skipTo(int64(h.DirectoryOffset)); err != nil {
		return err
	}
	d.tables.at = d.at
	var list []uint32
	if err := d.readEntries(n, func(entry uint32) { list = append(list, entry) }); err != nil {
		return err
	}
	d.tables.directory = list
	for _, at := range slices.Sorted(slices.Values(list)) {
		if at == 0 {
			continue
		}
		if int64(at)+tableSectors > int64(h.Overhead) {
			return fmt.Errorf("%w: a grain table at sector %d is not in its head", ErrFormat, at)
		}
		if err := d.skipTo(int64(at)); err != nil {
			return err
		}
		e := table{sector: d.at}
		if err := d.readEntries(entriesPerTable, func(entry uint32) {
			if isGrain(entry) {
				e.grains++
			}
		}); err != nil {
			return err
		}
		if err := d.tables.add(e, n); err != nil {
			return err
		}
	}
	return nil
}
