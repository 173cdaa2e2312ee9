package vsphere

import (
	"bytes"
	"errors"
	"testing"

	"lifeboat"
	"lifeboat/fixtures/vcenter"
	"lifeboat/hypervisor"
)

// parts returns the parts of extents that lie in a range.
func parts(extents []lifeboat.Extent, within lifeboat.Extent) []lifeboat.Extent {
	var list []lifeboat.Extent
	for _, e := range extents {
		from, to := max(e.Offset, within.Offset), min(e.End(), within.End())
		if from < to {
			list = append(list, lifeboat.Extent{Offset: from, Length: to - from})
		}
	}
	return list
}

// A full read by ranges takes no word of the server's for what is empty, whether
// an operator wanted ranges or the stream was found wrong.
func TestAFullReadBelievesNoListOfAreas(t *testing.T) {
	t.Run("forced", func(t *testing.T) {
		l := newLab(t, vcenter.Options{})
		m := l.web01(t, nil)
		m.Write(t, 0, 9*mib, bytes.Repeat([]byte{7}, 4096))
		l.LieAboutAreas(vcenter.Forgetting(9 * mib))
		still := l.freeze(t, hypervisor.FreezeOptions{DriveID: "a", Method: MethodRanges})
		mustRead(t, still, "scsi0-0", m.Bytes(t, 0))
	})
	t.Run("after a wrong stream", func(t *testing.T) {
		l := newLab(t, vcenter.Options{})
		m := l.web01(t, nil)
		store := newStore(t)
		l.LieAboutStreams(vcenter.OutOfOrder)
		if _, err := l.export(t, store, ""); !errors.Is(err, hypervisor.ErrReadAgain) {
			t.Fatalf("a stream out of order gives %v", err)
		}
		m.Write(t, 0, 9*mib, []byte{7, 7, 7})
		l.LieAboutAreas(vcenter.Forgetting(9 * mib))
		p, err := l.export(t, store, "")
		if err != nil {
			t.Fatal(err)
		}
		inStore(t, store, p, "scsi0-0", m.Bytes(t, 0))
	})
}

// The bytes of a disk are where the server says, and not where they usually are.
func TestADiskOfWhichAFileWithTheUsualNameIsStale(t *testing.T) {
	l := newLab(t, vcenter.Options{})
	m := l.web01(t, nil)
	since := l.since(t)
	m.MoveExtent(t, 0)
	m.Write(t, 0, 5*mib, bytes.Repeat([]byte{7}, 4096))
	for _, hidden := range []bool{false, true} {
		if hidden {
			m.HideExtents()
		}
		still := l.freeze(t, hypervisor.FreezeOptions{DriveID: "a", Since: since})
		d, _ := still.Disk("scsi0-0")
		if _, listed, why := d.Changed(t.Context()); listed == hidden {
			t.Errorf("hidden %v: in parts %v (%s)", hidden, listed, why)
		}
		mustRead(t, still, "scsi0-0", m.Bytes(t, 0))
		release(t, still)
	}
	_, err := l.host.Freeze(t.Context(), "web01", hypervisor.FreezeOptions{DriveID: "a", Method: MethodRanges})
	if !errors.Is(err, hypervisor.ErrUnsupported) {
		t.Errorf("forced, it gives %v", err)
	}
	untouched(t, m)
}
