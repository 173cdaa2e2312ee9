//go:build libvirt_dlopen && cgo

package libvirt

import (
	"context"
	"errors"
	"fmt"
	"path"

	lv "libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"lifeboat"
	"lifeboat/hypervisor"
)

// pool is the storage pool in which disks are made: a folder of the host.
type pool struct {
	h          *Host
	name, path string
	// free is how much it has left, in bytes.
	free uint64
}

// folderPools are the types of pools whose volumes are files in a folder.
// Overlays are files.
var folderPools = map[string]bool{"dir": true, "fs": true, "netfs": true}

// pool finds the pool of that name.
func (h *Host) pool(ctx context.Context, name string) (*pool, error) {
	p, err := onHost(ctx, h, "look at storage pool "+name, func(c *lv.Connect) (*pool, error) {
		found, err := c.LookupStoragePoolByName(name)
		if err != nil {
			return nil, err
		}
		defer found.Free()
		info, err := found.GetInfo()
		if err != nil {
			return nil, err
		}
		if info.State != lv.STORAGE_POOL_RUNNING {
			return nil, lv.Error{Code: lv.ERR_NO_STORAGE_POOL, Message: "it is not started"}
		}
		text, err := found.GetXMLDesc(0)
		if err != nil {
			return nil, err
		}
		var doc libvirtxml.StoragePool
		if err := doc.Unmarshal(text); err != nil {
			return nil, err
		}
		if !folderPools[doc.Type] || doc.Target == nil || doc.Target.Path == "" {
			return nil, lv.Error{Code: lv.ERR_NO_STORAGE_POOL, Message: "it is of type " + doc.Type + ", which keeps no files"}
		}
		return &pool{h: h, name: name, path: doc.Target.Path, free: info.Available}, nil
	})
	if isCode(err, lv.ERR_NO_STORAGE_POOL) {
		return nil, &lifeboat.Problem{
			What: fmt.Sprintf("host %s has no storage pool %q that runs and is a folder", h.o.Name, name),
			Safe: "nothing was changed",
			Next: fmt.Sprintf("make it on that host (virsh pool-define-as %s dir --target /var/lib/libvirt/images; virsh pool-start %s), or name another in the site file", name, name),
			Err:  err,
		}
	}
	return p, err
}

// file is the path of a volume.
func (p *pool) file(volume string) string { return path.Join(p.path, volume) }

// make makes a volume, empty and of exactly that size up to the next KiB, for the
// eyes of root alone until QEMU gets it.
func (p *pool) make(ctx context.Context, volume, format string, sizeBytes int64) error {
	doc := libvirtxml.StorageVolume{
		Name:       volume,
		Allocation: &libvirtxml.StorageVolumeSize{Unit: "bytes", Value: 0},
		Capacity:   &libvirtxml.StorageVolumeSize{Unit: "bytes", Value: uint64(sizeBytes)},
		Target: &libvirtxml.StorageVolumeTarget{
			Format:      &libvirtxml.StorageVolumeTargetFormat{Type: format},
			Permissions: &libvirtxml.StorageVolumeTargetPermissions{Mode: "0600"},
		},
	}
	if format == "qcow2" {
		doc.Target.Compat = "1.1" // the older form has no place for change tracking
	}
	text, err := doc.Marshal()
	if err != nil {
		return err
	}
	return p.do(ctx, "make "+volume, func(_ *lv.Connect, pool *lv.StoragePool) error {
		v, err := pool.StorageVolCreateXML(text, 0)
		if err != nil {
			return err
		}
		return v.Free()
	})
}

// do runs f on the pool.
func (p *pool) do(ctx context.Context, op string, f func(*lv.Connect, *lv.StoragePool) error) error {
	return p.h.do(ctx, op+" in storage pool "+p.name, func(c *lv.Connect) error {
		pool, err := c.LookupStoragePoolByName(p.name)
		if err != nil {
			return err
		}
		defer pool.Free()
		return f(c, pool)
	})
}

// uploadPiece is how much goes to the host at once.
const uploadPiece = 1 << 20

// upload writes a disk into a raw volume: what may hold anything but zeros, and
// nothing else, so that the rest stays a hole.
func (p *pool) upload(ctx context.Context, volume string, r hypervisor.DiskReader) error {
	runs, err := r.Extents(ctx, lifeboat.Extent{Length: r.SizeBytes()})
	if err != nil {
		return err
	}
	for _, run := range runs {
		err := p.do(ctx, "copy to "+volume, func(c *lv.Connect, pool *lv.StoragePool) error {
			return uploadRun(ctx, c, pool, volume, r, run)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func uploadRun(ctx context.Context, c *lv.Connect, pool *lv.StoragePool, volume string, r hypervisor.DiskReader, run lifeboat.Extent) error {
	v, err := pool.LookupStorageVolByName(volume)
	if err != nil {
		return err
	}
	defer v.Free()
	stream, err := c.NewStream(0)
	if err != nil {
		return err
	}
	defer stream.Free()
	if err := v.Upload(stream, uint64(run.Offset), uint64(run.Length), 0); err != nil {
		return err
	}
	piece := make([]byte, min(uploadPiece, run.Length))
	for at := run.Offset; at < run.End(); at += int64(len(piece)) {
		piece = piece[:min(int64(len(piece)), run.End()-at)]
		if err := r.ReadAt(ctx, piece, at); err != nil {
			return errors.Join(err, stream.Abort())
		}
		for rest := piece; len(rest) > 0; {
			n, err := stream.Send(rest)
			if err != nil {
				return errors.Join(err, stream.Abort())
			}
			rest = rest[n:]
		}
	}
	return stream.Finish()
}

// remove deletes volumes. One that is not there is as good as deleted; the pool
// is looked through first, because QEMU and libvirt make files that it does not
// know of.
func (p *pool) remove(ctx context.Context, volumes []string) error {
	if len(volumes) == 0 {
		return nil
	}
	return p.do(ctx, "delete disks", func(_ *lv.Connect, pool *lv.StoragePool) error {
		if err := pool.Refresh(0); err != nil {
			return err
		}
		for _, name := range volumes {
			v, err := pool.LookupStorageVolByName(name)
			if isCode(err, lv.ERR_NO_STORAGE_VOL) {
				continue
			}
			if err != nil {
				return err
			}
			err = v.Delete(0)
			_ = v.Free()
			if err != nil && !isCode(err, lv.ERR_NO_STORAGE_VOL) {
				return err
			}
		}
		return nil
	})
}

// bytesReader is a small file as a disk that can be read.
type bytesReader []byte

func (b bytesReader) SizeBytes() int64 { return int64(len(b)) }

func (b bytesReader) Extents(_ context.Context, within lifeboat.Extent) ([]lifeboat.Extent, error) {
	return []lifeboat.Extent{within}, nil
}

func (b bytesReader) ReadAt(_ context.Context, p []byte, offset int64) error {
	copy(p, b[offset:])
	return nil
}
