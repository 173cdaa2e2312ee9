package imagestore

import (
	"context"
	"errors"
	"slices"
	"testing"

	"lifeboat"
)

func TestASetIsReadOnceAndInTheOrderOfTheDrive(t *testing.T) {
	drive := newDrive(t)
	s := openStore(t, drive.Dir(), Write)
	data := randomDisk(1, 9<<20)
	p := mustCapture(t, s, testMachine("m1", map[string]Source{"disk0": &memoryDisk{data: data}}))
	all := Wanted{PointID: p.ID, Disk: "disk0", Extents: []lifeboat.Extent{{Offset: 0, Length: 9 << 20}}}
	free := func(context.Context, int) error { return nil }
	whole, err := s.ReadSet(t.Context(), []Wanted{all, all}, free)
	if err != nil || whole == 0 || whole > 10<<20 {
		t.Fatalf("all of it twice: %d bytes, %v", whole, err)
	}
	little := Wanted{PointID: p.ID, Disk: "disk0", Extents: []lifeboat.Extent{{Offset: 5 << 20, Length: 4096}, {Offset: 8 << 30, Length: 4096}, {Offset: -5, Length: 3}}}
	if n, err := s.ReadSet(t.Context(), []Wanted{little}, free); err != nil || n > 1<<20 {
		t.Errorf("4 KiB of it: %d bytes, %v", n, err)
	}
	enough := errors.New("enough")
	if n, err := s.ReadSet(t.Context(), []Wanted{all}, func(context.Context, int) error { return enough }); !errors.Is(err, enough) || n > aheadRead {
		t.Errorf("it goes on after it was stopped: %d bytes, %v", n, err)
	}
	if _, err := s.ReadSet(t.Context(), []Wanted{{PointID: p.ID, Disk: "other"}}, free); err == nil {
		t.Error("a disk that is not there was read")
	}
	spans, err := s.spansOf(t.Context(), []Wanted{all})
	if err != nil || !slices.IsSortedFunc(spans, func(a, b packSpan) int {
		if a.pack != b.pack {
			return int(a.pack) - int(b.pack)
		}
		return int(a.from - b.from)
	}) {
		t.Errorf("the spans are %v, %v", spans, err)
	}
}

func TestSpansThatNearlyTouchAreOneRead(t *testing.T) {
	got := joinSpans([]packSpan{{1, 0, 10}, {1, 10, 20}, {1, 20 + aheadGap, 30 + aheadGap}, {1, 200 << 10, 201 << 10}, {2, 201 << 10, 202 << 10}})
	want := []packSpan{{1, 0, 30 + aheadGap}, {1, 200 << 10, 201 << 10}, {2, 201 << 10, 202 << 10}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
