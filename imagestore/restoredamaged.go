package imagestore

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"

	"lifeboat"
)

// DamagedRestore says that a disk was restored as far as it can be read: what is
// listed is lost, and zeros were left in its place. It wraps lifeboat.ErrDamaged.
type DamagedRestore struct {
	Hurt Hurt
}

func (d *DamagedRestore) Error() string {
	var bytes int64
	for _, e := range d.Hurt.Extents {
		bytes += e.Length
	}
	return fmt.Sprintf("disk %s of %s: %d bytes in %d places are lost, and zeros in what was restored", d.Hurt.Disk, d.Hurt.Machine, bytes, len(d.Hurt.Extents))
}

// Unwrap lets callers branch on lifeboat.ErrDamaged.
func (d *DamagedRestore) Unwrap() error { return lifeboat.ErrDamaged }

// losses collects what a restore could not read, if it may leave that out.
type losses struct {
	allowed bool
	mu      sync.Mutex
	extents []lifeboat.Extent
}

// note says whether an error is of a range that may be left out, and keeps it.
func (l *losses) note(err error, where lifeboat.Extent) bool {
	if !l.allowed || !errors.Is(err, lifeboat.ErrDamaged) || isGone(err) {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.extents = append(l.extents, where)
	return true
}

// err lists what was left out.
func (l *losses) err(pointID, machine, disk string) error {
	slices.SortFunc(l.extents, func(a, b lifeboat.Extent) int { return cmp.Compare(a.Offset, b.Offset) })
	h := Hurt{PointID: pointID, Machine: machine, Disk: disk}
	for _, e := range l.extents {
		h.Extents = appendExtent(h.Extents, e)
	}
	return &DamagedRestore{h}
}
