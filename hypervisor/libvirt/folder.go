//go:build libvirt_dlopen && cgo

package libvirt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	lv "libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"lifeboat"
)

// folder is where an export has its socket and its scratch files, on the host of
// the machine: next to the disks in the pool, or in Options.ScratchDir. Only
// QEMU's own user may enter it. It is there while an export is.
type folder struct {
	h *Host
	// parent is the folder that it is made in, and path its own.
	parent, path string
	// pool is the storage pool that parent belongs to; empty on this computer,
	// where files are simply files.
	pool string
}

// socketPathMost is what the kernel allows for the path of a socket.
const socketPathMost = 107

// exportFolder says where a domain's export has its files. It makes nothing.
func (d *domain) exportFolder(ctx context.Context) (folder, error) {
	f := folder{h: d.h, parent: d.h.o.ScratchDir}
	var err error
	if d.h.local() && f.parent != "" {
		// The operator named it.
	} else if f.parent, f.pool, err = d.h.scratchPool(ctx); err != nil {
		return folder{}, err
	}
	if d.h.local() {
		f.pool = ""
	}
	f.path = path.Join(f.parent, folderName(d.uuid, computerName()))
	if len(path.Join(f.path, socketName)) > socketPathMost {
		return folder{}, &lifeboat.Problem{
			What: fmt.Sprintf("host %s: the path %s is too long for a socket", d.h.o.Name, f.path),
			Safe: "nothing was done",
			Next: "name a folder with a shorter path as the host's scratch",
		}
	}
	return f, nil
}

// scratchFolder is the folder for scratch files that the operator named, on this
// computer; "" for one in the pool, beside the disks, and on another computer,
// whose file systems are not seen from here.
func (h *Host) scratchFolder() string {
	if !h.local() {
		return ""
	}
	return h.o.ScratchDir
}

// scratchPool is the pool that scratch files are put into, and its folder. On
// another computer the folder that the operator named has to be one of a pool,
// because libvirt makes files there for us in pools alone.
func (h *Host) scratchPool(ctx context.Context) (parent, pool string, err error) {
	type place struct{ parent, pool string }
	found, err := onHost(ctx, h, "find the storage pool for scratch files", func(c *lv.Connect) (place, error) {
		var p *lv.StoragePool
		var err error
		if h.o.ScratchDir != "" {
			p, err = c.LookupStoragePoolByTargetPath(h.o.ScratchDir)
		} else {
			p, err = c.LookupStoragePoolByName(h.o.Pool)
		}
		if err != nil {
			return place{}, err
		}
		defer p.Free()
		text, err := p.GetXMLDesc(0)
		if err != nil {
			return place{}, err
		}
		var doc libvirtxml.StoragePool
		if err := doc.Unmarshal(text); err != nil {
			return place{}, err
		}
		if doc.Target == nil || !strings.HasPrefix(doc.Target.Path, "/") || strings.HasPrefix(doc.Target.Path, "/dev") {
			return place{}, fmt.Errorf("the pool %q is no folder of files", doc.Name)
		}
		return place{doc.Target.Path, doc.Name}, nil
	})
	if err != nil && ctx.Err() == nil {
		what := fmt.Sprintf("host %s has no storage pool %q", h.o.Name, h.o.Pool)
		next := fmt.Sprintf("make one (virsh pool-create-as %s dir --target FOLDER), or name another as the host's pool", h.o.Pool)
		if h.o.ScratchDir != "" {
			what = fmt.Sprintf("host %s: the scratch folder %s belongs to no storage pool", h.o.Name, h.o.ScratchDir)
			next = "make a pool of it there: virsh pool-create-as lifeboat-scratch dir --target " + h.o.ScratchDir
		}
		err = &lifeboat.Problem{What: what, Safe: "nothing was done", Next: next, Err: err}
	}
	return found.parent, found.pool, err
}

// owner is a user and a group of the host, by number.
type owner struct{ uid, gid int }

// qemuOwner is who QEMU runs as, from a domain that runs ("+64055:+64055", or by
// names); ok is false where libvirt does not change users.
func qemuOwner(live *libvirtxml.Domain, local bool) (owner, bool) {
	for _, label := range live.SecLabel {
		if label.Model != "dac" {
			continue
		}
		name, group, _ := strings.Cut(label.Label, ":")
		uid, okUser := numberOf(name, local, func(n string) (string, error) {
			u, err := user.Lookup(n)
			if err != nil {
				return "", err
			}
			return u.Uid, nil
		})
		gid, okGroup := numberOf(group, local, func(n string) (string, error) {
			g, err := user.LookupGroup(n)
			if err != nil {
				return "", err
			}
			return g.Gid, nil
		})
		return owner{uid, gid}, okUser && okGroup
	}
	return owner{}, false
}

// numberOf reads "+64055" or, on this computer, a name.
func numberOf(text string, local bool, lookup func(string) (string, error)) (int, bool) {
	if digits, ok := strings.CutPrefix(text, "+"); ok {
		text = digits
	} else if local {
		if found, err := lookup(text); err == nil {
			text = found
		}
	}
	n, err := strconv.ParseUint(text, 10, 31)
	return int(n), err == nil
}

// make makes the folder, empty, for QEMU's user alone.
func (f folder) make(ctx context.Context, o owner, owned bool) error {
	if err := f.remove(ctx); err != nil {
		return err
	}
	if f.pool != "" {
		return f.makeInPool(ctx, o, owned)
	}
	// Not MkdirAll: what the guest overwrites goes to no folder that somebody
	// else put there.
	if err := os.Mkdir(f.path, 0o700); err != nil {
		return fmt.Errorf("make the scratch folder: %w", err)
	}
	if owned && o.uid != os.Geteuid() {
		if err := os.Lchown(f.path, o.uid, o.gid); err != nil {
			return errors.Join(fmt.Errorf("give the scratch folder to QEMU's user: %w (exports from this computer need root)", err), os.Remove(f.path))
		}
	}
	return nil
}

// remove removes the folder with what a dead export left in it.
func (f folder) remove(ctx context.Context) error {
	if f.pool != "" {
		return f.removeFromPool(ctx)
	}
	if err := os.RemoveAll(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the scratch files: %w", err)
	}
	return nil
}

// free returns the free and the whole space of the file system.
func (f folder) free(ctx context.Context) (free, total int64, err error) {
	if f.pool != "" {
		return f.freeInPool(ctx)
	}
	var s unix.Statfs_t
	if err := unix.Statfs(filepath.Clean(f.parent), &s); err != nil {
		return 0, 0, fmt.Errorf("see how much space is left in %s: %w", f.parent, err)
	}
	return int64(s.Bavail) * s.Bsize, int64(s.Blocks) * s.Bsize, nil
}

// reserve is how much of the file system is left alone.
func (f folder) reserve(total int64) int64 {
	if f.h.o.ScratchReserveBytes > 0 {
		return f.h.o.ScratchReserveBytes
	}
	return min(1<<30, total/20)
}
