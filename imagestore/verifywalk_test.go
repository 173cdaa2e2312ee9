package imagestore

import (
	"bytes"
	"slices"
	"testing"

	"lifeboat/imagestore/format"
)

// Looking many ids up at once finds what looking up each alone finds.
func TestLookingUpManyIDsFindsWhatOneLookUpFinds(t *testing.T) {
	drive := newDrive(t)
	s := openStore(t, drive.Dir(), Write)
	for i, size := range []int{24 << 20, 4 << 20, 512 << 10} {
		mustCapture(t, s, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: randomDisk(uint64(71+i), size)}}))
	}
	var refs []reference
	var want []fact
	judge := func(p format.Place, id format.ID) fact {
		if id[5]%3 == 0 { // as if it were bad
			return broken
		}
		return fact(2 + p.Pack)
	}
	add := func(id format.ID) {
		f := broken
		s.index.searchRuns(id, func(p format.Place) bool { f = judge(p, id); return f != broken })
		refs = append(refs, reference{treeKey(id[:16]), uint32(len(refs))})
		want = append(want, f)
	}
	runs := *s.index.runs.Load()
	if len(runs) < 2 {
		t.Fatalf("%d runs are too few for a test", len(runs))
	}
	for _, r := range runs {
		var buf [format.RunPageSize]byte
		for n := range r.footer.Pages() {
			page, err := r.readPage(n, buf[:])
			if err != nil {
				t.Fatal(err)
			}
			for i := range r.footer.PageEntries(n) {
				id := page.Entry(i).ID
				add(id)
				id[15] ^= 1
				add(id)
			}
		}
	}
	slices.SortFunc(refs, func(a, b reference) int { return bytes.Compare(a.id[:], b.id[:]) })
	settled := 0
	err := s.index.lookUpAll(t.Context(), refs, judge, func(r reference, f fact) {
		settled++
		if f != want[r.owner] {
			t.Errorf("id %x: %d, alone %d", r.id, f, want[r.owner])
		}
	})
	if err != nil || settled != len(want) {
		t.Errorf("%d of %d were settled: %v", settled, len(want), err)
	}
}
