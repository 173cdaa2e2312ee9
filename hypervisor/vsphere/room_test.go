package vsphere

import (
	"testing"

	"lifeboat/fixtures/vcenter"
	"lifeboat/hypervisor"
)

func TestTheReserveGrowsWithTheDatastoreAndThePace(t *testing.T) {
	const gib, tib = int64(1) << 30, int64(1) << 40
	for capacity, want := range map[int64]int64{10 * gib: 2 * gib, 200 * gib: 10 * gib, 20 * tib: 64 * gib} {
		if got := snapshotReserve(capacity); got != want {
			t.Errorf("of %s %s are reserved, not %s", size(capacity), size(got), size(want))
		}
	}
	for _, c := range []struct {
		free, before int64
		low          bool
	}{
		{11 * gib, 0, false},
		{9 * gib, 0, true},
		{12 * gib, 12 * gib, false},
		{12 * gib, 12*gib + gib/2, false},
		{12 * gib, 14 * gib, true},  // two more looks, and 8 GiB are free
		{12 * gib, 10 * gib, false}, // room was made
		{60 * gib, 100 * gib, true}, // fast
		{60 * gib, 70 * gib, false},
	} {
		if r := (room{"ds", c.free, 10 * gib}); r.lowSoon(c.before) != c.low {
			t.Errorf("%s free after %s: low is %v", size(c.free), size(c.before), !c.low)
		}
	}
}

func TestTheServerIsMadeToLookBeforeItIsAskedForRoom(t *testing.T) {
	l := newLab(t, vcenter.Options{})
	l.web01(t, nil)
	release(t, l.freeze(t, hypervisor.FreezeOptions{DriveID: "a"}))
	if l.Calls("RefreshDatastore") == 0 {
		t.Error("a snapshot was begun on what the server last saw of its datastore")
	}
}
