//go:build libvirt_dlopen && cgo

package libvirt

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"

	lv "libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"
)

// onPool changes something in the pool that the folder belongs to.
func (f folder) onPool(ctx context.Context, op string, change func(*lv.Connect, *lv.StoragePool) error) error {
	return f.h.do(ctx, op, func(c *lv.Connect) error {
		p, err := c.LookupStoragePoolByName(f.pool)
		if err != nil {
			return err
		}
		defer p.Free()
		return change(c, p)
	})
}

// makeInPool makes the folder on another computer, as a volume that is one.
func (f folder) makeInPool(ctx context.Context, o owner, owned bool) error {
	volume := libvirtxml.StorageVolume{
		Type: "dir", Name: path.Base(f.path), Capacity: &libvirtxml.StorageVolumeSize{Value: 0},
		Target: &libvirtxml.StorageVolumeTarget{
			Format:      &libvirtxml.StorageVolumeTargetFormat{Type: "dir"},
			Permissions: &libvirtxml.StorageVolumeTargetPermissions{Mode: "0700"},
		},
	}
	if owned {
		volume.Target.Permissions.Owner, volume.Target.Permissions.Group = strconv.Itoa(o.uid), strconv.Itoa(o.gid)
	}
	text, err := volume.Marshal()
	if err != nil {
		return err
	}
	return f.onPool(ctx, "make the scratch folder", func(_ *lv.Connect, p *lv.StoragePool) error {
		made, err := p.StorageVolCreateXML(text, 0)
		if err == nil {
			_ = made.Free()
		}
		return err
	})
}

// removeFromPool removes the folder on another computer. Files that a dead export
// left in it are reached through a pool that stands for the folder meanwhile.
func (f folder) removeFromPool(ctx context.Context) error {
	return f.onPool(ctx, "remove the scratch folder", func(c *lv.Connect, p *lv.StoragePool) error {
		if err := p.Refresh(0); err != nil {
			return err
		}
		volume, err := p.LookupStorageVolByName(path.Base(f.path))
		if isCode(err, lv.ERR_NO_STORAGE_VOL) {
			return nil
		}
		if err != nil {
			return err
		}
		defer volume.Free()
		if err := volume.Delete(0); err == nil {
			return nil
		}
		if err := f.emptyThroughPool(c); err != nil {
			return err
		}
		return volume.Delete(0)
	})
}

// emptyThroughPool deletes the files in the folder.
func (f folder) emptyThroughPool(c *lv.Connect) error {
	p, stop, err := poolOver(c, f.path)
	if err != nil {
		return err
	}
	defer stop()
	volumes, err := p.ListAllStorageVolumes(0)
	for i := range volumes {
		err = errors.Join(err, volumes[i].Delete(0), volumes[i].Free())
	}
	return err
}

// freeInPool asks another computer for its free space.
func (f folder) freeInPool(ctx context.Context) (free, total int64, err error) {
	info, err := onHost(ctx, f.h, "see how much space is left", func(c *lv.Connect) (*lv.StoragePoolInfo, error) {
		p, err := c.LookupStoragePoolByName(f.pool)
		if err != nil {
			return nil, err
		}
		defer p.Free()
		// What libvirt remembers is from the last refresh.
		if err := p.Refresh(0); err != nil {
			return nil, err
		}
		return p.GetInfo()
	})
	if err != nil {
		return 0, 0, err
	}
	if info.Available > 1<<62 || info.Capacity > 1<<62 {
		return 0, 0, fmt.Errorf("the pool %s cannot have %d bytes", f.pool, info.Capacity)
	}
	return int64(info.Available), int64(info.Capacity), nil
}
