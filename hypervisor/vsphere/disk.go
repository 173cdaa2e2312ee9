package vsphere

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"lifeboat"
	"lifeboat/hypervisor"
)

// stillDisk is one disk of a still. It is read in one way from its first byte to
// its last.
type stillDisk struct {
	s     *still
	d     vdisk
	mark  mark
	turn  *turn
	store datastore

	// changed is the list of changes where ok, else why says why there is none.
	changed []lifeboat.Extent
	ok      bool
	why     string

	// One of these is set.
	ranges  *ranges
	forward *forward
}

func newStillDisk(s *still, d vdisk, stores map[string]datastore) *stillDisk {
	sd := &stillDisk{s: s, d: d, mark: mark{change: changeIDOf(d.device), disk: diskUUID(d.device), size: d.SizeBytes}}
	sd.store = stores[datastoreOf(d.device)]
	sd.turn = everyTurn.of(sd.store.id, s.h.o.StreamsPerDatastore)
	return sd
}

// changeIDOf is the disk's change id, or "" where changes are not tracked.
func changeIDOf(d *types.VirtualDisk) string {
	switch b := d.Backing.(type) {
	case *types.VirtualDiskFlatVer2BackingInfo:
		return b.ChangeId
	case *types.VirtualDiskSeSparseBackingInfo:
		return b.ChangeId
	case *types.VirtualDiskSparseVer2BackingInfo:
		return b.ChangeId
	case *types.VirtualDiskRawDiskMappingVer1BackingInfo:
		return b.ChangeId
	}
	return ""
}

// datastoreOf is the name of the datastore that a disk's file lies on.
func datastoreOf(d *types.VirtualDisk) string {
	var p object.DatastorePath
	if file, ok := d.Backing.(types.BaseVirtualDeviceFileBackingInfo); ok {
		p.FromString(file.GetVirtualDeviceFileBackingInfo().FileName)
	}
	return p.Datastore
}

// flatFile is the file that holds a disk's bytes one after the other, or why
// there is none. Beneath our snapshot that is the case if the disk had no other.
func (sd *stillDisk) flatFile() (path, why string) {
	b, ok := sd.d.device.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	switch {
	case !ok:
		return "", "its disk is not a flat file"
	case b.Parent != nil:
		return "", "the machine has other snapshots"
	case isTrue(b.Split):
		return "", "its disk is split into several files"
	}
	switch sd.store.kind {
	case "vsan", "vsanD", "VVOL":
		return "", fmt.Sprintf("its datastore (%s) has no flat files", sd.store.kind)
	}
	if path = sd.s.f.extentOf(sd.d.device.Key, b.FileName); path == "" {
		return "", "the server does not name the one file that holds its disk's bytes"
	}
	return path, ""
}

// extentOf is the file with the bytes of a disk, by the disk's key and the name of
// its descriptor; empty if the server names none, or several. A name is never
// guessed: beside a descriptor that was repaired by hand there may be a file of
// the usual name, and of the right size, that is long out of use.
func (f *found) extentOf(key int32, descriptor string) string {
	layout := f.vm.LayoutEx
	if layout == nil {
		return ""
	}
	files := map[int32]types.VirtualMachineFileLayoutExFileInfo{}
	for _, file := range layout.File {
		files[file.Key] = file
	}
	var extents []string
	for _, disk := range layout.Disk {
		for _, unit := range disk.Chain {
			if disk.Key != key || !slices.ContainsFunc(unit.FileKey, func(k int32) bool { return files[k].Name == descriptor }) {
				continue
			}
			for _, k := range unit.FileKey {
				if files[k].Type == string(types.VirtualMachineFileLayoutExFileTypeDiskExtent) {
					extents = append(extents, files[k].Name)
				}
			}
		}
	}
	if len(extents) != 1 {
		return ""
	}
	return extents[0]
}

// areas asks for a change map of the disk.
func (sd *stillDisk) areas(ctx context.Context, since string) ([]lifeboat.Extent, error) {
	s := sd.s
	return wholeMap(ctx, sd.mark.size, func(ctx context.Context, start int64) (types.DiskChangeInfo, error) {
		res, err := methods.QueryChangedDiskAreas(ctx, s.c, &types.QueryChangedDiskAreas{
			This: s.f.ref, Snapshot: &s.snapshot, DeviceKey: sd.d.device.Key, StartOffset: start, ChangeId: since,
		})
		if err != nil {
			return types.DiskChangeInfo{}, err
		}
		return res.Returnval, nil
	})
}

// SizeBytes is the exact size of the disk.
func (sd *stillDisk) SizeBytes() int64 { return sd.mark.size }

// Token names this moment for a later export to any drive.
func (sd *stillDisk) Token() string { return sd.mark.token() }

// Changed returns what changed since the drive's last point.
func (sd *stillDisk) Changed(context.Context) ([]lifeboat.Extent, bool, string) {
	return sd.changed, sd.ok, sd.why
}

// Extents returns the runs that may hold anything but zeros.
func (sd *stillDisk) Extents(ctx context.Context, within lifeboat.Extent) ([]lifeboat.Extent, error) {
	if sd.forward != nil {
		extents, err := sd.forward.extents(ctx, within)
		return extents, sd.explain(ctx, err)
	}
	// The server also has a list of what was ever written. It comes of the same
	// tracking as the list of changes, and here nothing would be compared with
	// it: what it left out would be zeros in the point. So all is read.
	return []lifeboat.Extent{within}, nil
}

// ReadAt fills p from the given offset, or fails.
func (sd *stillDisk) ReadAt(ctx context.Context, p []byte, offset int64) error {
	if offset < 0 || int64(len(p)) > sd.mark.size-offset {
		return fmt.Errorf("read %d bytes from %d of disk %s, which has %d", len(p), offset, sd.d.Key, sd.mark.size)
	}
	if sd.forward != nil {
		return sd.explain(ctx, sd.forward.readAt(ctx, p, offset))
	}
	return sd.explain(ctx, sd.ranges.readAt(ctx, p, offset))
}

// explain words why the disk cannot be read. A way of reading that turned out
// not to work is remembered; if another one is left the caller may try it.
func (sd *stillDisk) explain(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	s := sd.s
	if broken := s.broken.Load(); broken != nil {
		return *broken
	}
	err = fmt.Errorf("read disk %s of %s: %w", sd.d.Key, words(s.f.name()), err)
	var known *lifeboat.Problem
	switch {
	case isWrongWay(err):
	case sd.forward == nil, errors.As(err, &known), errors.Is(err, errStreamClosed), errors.Is(err, hypervisor.ErrMachineGone):
		return err
	default:
		return &lifeboat.Problem{
			What: fmt.Sprintf("%s: the stream of its disk %s broke off, and beginning it again did not bring it farther", words(s.f.name()), sd.d.Key),
			Safe: words(s.f.name()) + " goes on running; no point was made of what had been read",
			Next: "see whether the network to the server and its hosts holds, then export again",
			Err:  err,
		}
	}
	way, other := MethodNFC, MethodRanges
	if sd.ranges != nil {
		way, other = MethodRanges, MethodNFC
	}
	if s.options.Method != "" {
		return &lifeboat.Problem{
			What: fmt.Sprintf("%s: its disk %s cannot be read in the way %q", words(s.f.name()), sd.d.Key, way),
			Safe: words(s.f.name()) + " goes on running; no point was made of what had been read",
			Next: fmt.Sprintf("export it without --method, or with --method %s", other),
			Err:  err,
		}
	}
	s.avoid(way, err)
	if _, why := sd.flatFile(); way == MethodNFC && why != "" {
		return &lifeboat.Problem{
			What: fmt.Sprintf("%s: the stream that the server sends of disk %s cannot be used", words(s.f.name()), sd.d.Key),
			Safe: words(s.f.name()) + " goes on running; no point was made of what had been read",
			Next: fmt.Sprintf("its disk cannot be read otherwise, because %s; see the events of the host on the server, and export again", why),
			Err:  err,
		}
	}
	return fmt.Errorf("%w: %w", hypervisor.ErrReadAgain, err)
}

// close ends what is under way.
func (sd *stillDisk) close() {
	if sd.forward != nil {
		sd.forward.close()
	}
}

// isWrongWay says that reading failed because of how it was tried, and not
// because of the network or the machine.
func isWrongWay(err error) bool {
	return errors.Is(err, errWay) || isWrongStream(err)
}
