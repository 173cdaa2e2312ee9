package vsphere

import (
	"context"
	"fmt"
	"time"

	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"lifeboat"
	"lifeboat/hypervisor"
)

// roomEvery is how often the room on the datastores is looked at while a
// snapshot grows on them. On one that is full vSphere stops every machine that
// wants to write.
var roomEvery = 15 * time.Second

// room is what is free on a datastore, and how much of it a snapshot leaves
// alone.
type room struct {
	name                     string
	freeBytes, reservedBytes int64
}

// snapshotReserve is what a snapshot leaves free on a datastore: a twentieth, at
// least datastoreReserve and at most mostReserve. Merging needs room as well.
func snapshotReserve(capacity int64) int64 {
	return min(max(datastoreReserve, capacity/20), mostReserve)
}

// mostReserve keeps exports possible on datastores of many TiB that people fill
// to the last percent.
const mostReserve = 64 << 30

// lowSoon says whether the reserve is reached, or would be within two more looks
// at the pace of the one before, when before was free. The first look has none:
// before is 0.
func (r room) lowSoon(before int64) bool {
	return r.freeBytes-2*max(0, before-r.freeBytes) < r.reservedBytes
}

// askRoom returns the room on the datastores that the machine's disks are on. A
// test replaces it.
var askRoom = func(ctx context.Context, s *still) ([]room, error) {
	var stores []mo.Datastore
	if len(s.f.vm.Datastore) == 0 {
		return nil, nil
	}
	for _, ref := range s.f.vm.Datastore {
		// A vCenter looks at its datastores now and then only. Without the right to
		// make it look we see what it last saw.
		_, _ = methods.RefreshDatastore(ctx, s.c, &types.RefreshDatastore{This: ref})
	}
	if err := property.DefaultCollector(s.c).Retrieve(ctx, s.f.vm.Datastore, []string{"summary"}, &stores); err != nil {
		return nil, err
	}
	used := map[string]bool{}
	for _, d := range s.f.vdisks() {
		used[datastoreOf(d.device)] = true
	}
	var list []room
	for _, d := range stores {
		if used[d.Summary.Name] && d.Summary.Capacity > 0 {
			list = append(list, room{d.Summary.Name, d.Summary.FreeSpace, snapshotReserve(d.Summary.Capacity)})
		}
	}
	return list, nil
}

// needRoom refuses a machine whose datastore is nearly full.
func (s *still) needRoom(ctx context.Context) error {
	list, err := askRoom(ctx, s)
	if err != nil {
		return s.h.explain("look for room for the snapshot of "+words(s.f.name()), "nothing was done", err)
	}
	for _, r := range list {
		if r.lowSoon(0) {
			return s.noRoom(r, nil)
		}
	}
	return nil
}

// noRoom words a datastore that has no room for a snapshot.
func (s *still) noRoom(r room, err error) error {
	name := words(s.f.name())
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s: datastore %s has only %s free, and a snapshot that grows has to leave %s", name, words(r.name), size(r.freeBytes), size(r.reservedBytes)),
		Safe: name + " goes on running, without a snapshot; no point was made",
		Next: "make room on datastore " + words(r.name) + ", then export again",
		Err:  err,
	}
}

// watchRoom breaks the still before what the machine writes meanwhile fills a
// datastore. It ends with the still.
func (s *still) watchRoom() {
	before := map[string]int64{} // what was free, by the datastores' names
	for sleep(s.ctx, roomEvery) == nil {
		list, err := askRoom(s.ctx, s)
		if err != nil {
			continue
		}
		for _, r := range list {
			if r.lowSoon(before[r.name]) {
				// Release waits for us.
				go s.breakNow(s.noRoom(r, hypervisor.ErrStillBroken))
				return
			}
			before[r.name] = r.freeBytes
		}
	}
}

// breakNow lets the machine go because going on would harm it. Reads fail from
// now on.
func (s *still) breakNow(why error) {
	s.broken.CompareAndSwap(nil, &why)
	s.mu.Lock()
	defer s.mu.Unlock()
	// What fails here the caller's Release says.
	s.letGoOnce(context.Background())
}
