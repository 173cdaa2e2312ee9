package vsphere

import (
	"bytes"
	"io"
	"testing"

	"github.com/vmware/govmomi/vim25/types"

	"lifeboat"
	"lifeboat/fixtures/vcenter"
	"lifeboat/imagestore"
)

// holds says whether a point has these bytes of the disk.
func holds(t *testing.T, store *imagestore.Store, p lifeboat.RestorePoint, want []byte) bool {
	t.Helper()
	d, err := store.Disk(t.Context(), p.ID, "scsi0-0")
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, d.SizeBytes())
	if _, err := d.ReadAt(got, 0); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return bytes.Equal(got, want)
}

// A change map that leaves something out and is whole in its form nobody can see
// through from outside: the store compares a sample, finds it, and reads all.
func TestAMapThatLeavesSomethingOutIsFoundByTheStore(t *testing.T) {
	lies := map[string]vcenter.AreasLie{
		"only the first page": vcenter.OnlyFirstPage(24 * mib),
		"forgetting":          vcenter.Forgetting(17 * mib),
	}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, vcenter.Options{AreasPerPage: 1})
			l.checkEvery = 1
			m := l.web01(t, nil)
			store := newStore(t)
			for night := range 4 {
				m.Write(t, 0, mib, bytes.Repeat([]byte{byte(night + 1)}, 4096))
				m.Write(t, 0, 17*mib, bytes.Repeat([]byte{byte(night + 101)}, 4096))
				if night == 2 {
					l.LieAboutAreas(lie)
				}
				p, err := l.export(t, store, "")
				if err != nil {
					t.Fatal(err)
				}
				if !holds(t, store, p, m.Bytes(t, 0)) {
					t.Errorf("night %d: the point is wrong", night)
				}
				d := p.Disks[0]
				if listed := d.FullRead == ""; listed != (night == 1) || d.ChangeListWrong != (night >= 2) {
					t.Errorf("night %d: read in parts %v, the list is found wrong %v (%s)", night, listed, d.ChangeListWrong, d.FullRead)
				}
			}
		})
	}
}

// A list that names a part of what was written: the store keeps what lies beside a
// change from the older point, compares it with the disk, and finds the list out
// also in a night without a sample.
func TestAMapThatNamesAPartOfAChangeIsFoundByItsFlanks(t *testing.T) {
	l := newLab(t, vcenter.Options{})
	m := l.web01(t, nil)
	store := newStore(t)
	if _, err := l.export(t, store, ""); err != nil {
		t.Fatal(err)
	}
	m.Write(t, 0, 8*mib, bytes.Repeat([]byte("changed"), 300_000))
	l.LieAboutAreas(func(_ types.QueryChangedDiskAreas, page *types.DiskChangeInfo) {
		const area = 64 << 10
		var some []types.DiskChangeExtent
		for _, a := range page.ChangedArea {
			for at := int64(0); at < a.Length; at += 2 * area {
				some = append(some, types.DiskChangeExtent{Start: a.Start + at, Length: area})
			}
		}
		page.ChangedArea = some
	})
	p, err := l.export(t, store, "")
	if err != nil {
		t.Fatal(err)
	}
	if d := p.Disks[0]; !holds(t, store, p, m.Bytes(t, 0)) || !d.ChangeListWrong {
		t.Errorf("the list is found wrong %v (%s)", d.ChangeListWrong, d.FullRead)
	}
}
