//go:build libvirt_dlopen && cgo

package libvirt

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	lv "libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"lifeboat/hypervisor"
)

// localSuffix ends the names of the volumes that disks are moved to.
const localSuffix = ".local.qcow2"

// copyPoll is how often the copying is looked at.
const copyPoll = 50 * time.Millisecond

// Settle moves the disks of a machine that was booted from a drive to the storage
// pool while it runs. On error or cancel the machine goes on as before. If this
// process dies, the machine runs on; what it had begun is cleaned up by the next
// Settle.
func (h *Host) Settle(ctx context.Context, name string, progress func(done, total int64)) error {
	d, err := h.find(ctx, name)
	if err != nil {
		return err
	}
	if progress == nil {
		progress = func(int64, int64) {}
	}
	m := &move{d: d, progress: progress}
	if err := m.run(ctx); err != nil {
		return fmt.Errorf("move the disks of %s: %w", d.name, err)
	}
	return nil
}

// move is one run of Settle.
type move struct {
	d        *domain
	own      ours
	pool     *pool
	progress func(done, total int64)
	// before are the bytes of the disks that were moved, and total those of all.
	before, total int64
}

func (m *move) run(ctx context.Context) error {
	doc, err := m.look(ctx)
	if err != nil {
		return err
	}
	if m.pool, err = m.d.h.pool(ctx, m.own.Pool); err != nil {
		return err
	}
	if err := m.giveUpOlder(ctx, doc); err != nil {
		return err
	}
	servers := serversOf(doc)
	sizes := make([]int64, len(servers))
	for i, s := range servers {
		if sizes[i], err = m.size(ctx, s.disk.Target.Dev); err != nil {
			return err
		}
		m.total += sizes[i]
	}
	for i, s := range servers {
		if err := m.disk(ctx, s, sizes[i]); err != nil {
			return fmt.Errorf("disk %s: %w", keyOf(s.disk), err)
		}
		m.before += sizes[i]
		m.progress(m.before, m.total)
	}
	m.own.Recovery = ""
	if err := m.save(ctx); err != nil {
		return err
	}
	return m.confine(ctx)
}

// confine gives the machine back to the host's security models, from its next
// start on: it needs its own files and nothing else.
func (m *move) confine(ctx context.Context) error {
	s, err := onDomain(ctx, m.d, "look at it", readDomain)
	if err != nil {
		return err
	}
	doc, err := parseDomain(s.config)
	if err != nil {
		return err
	}
	labels := len(doc.SecLabel)
	doc.SecLabel = slices.DeleteFunc(doc.SecLabel, func(l libvirtxml.DomainSecLabel) bool { return l.Type == "none" })
	if len(doc.SecLabel) == labels {
		return nil
	}
	text, err := doc.Marshal()
	if err != nil {
		return err
	}
	return m.d.h.defineText(ctx, m.d.name, text)
}

// look reads the machine as it runs, and what Lifeboat wrote into it.
func (m *move) look(ctx context.Context) (*libvirtxml.Domain, error) {
	s, err := onDomain(ctx, m.d, "look at it", readDomain)
	if err != nil {
		return nil, err
	}
	if s.power == hypervisor.PowerOff {
		return nil, hypervisor.ErrMachineGone
	}
	doc, err := parseDomain(s.live)
	if err != nil {
		return nil, err
	}
	own, found, err := oursIn(doc)
	switch {
	case err != nil:
		return nil, err
	case !found:
		return nil, fmt.Errorf("it was not defined by Lifeboat: %w", hypervisor.ErrUnsupported)
	case slices.ContainsFunc(doc.Devices.Disks, func(d libvirtxml.DomainDisk) bool { return d.Driver != nil && d.Driver.Cache == "unsafe" }):
		return nil, fmt.Errorf("it was started for a drill and ignores its guest's flushes: %w", hypervisor.ErrUnsupported)
	}
	m.own = own
	return doc, nil
}

// size is how large a disk is, in bytes.
func (m *move) size(ctx context.Context, target string) (int64, error) {
	return onDomain(ctx, m.d, "measure disk "+target, func(dom *lv.Domain) (int64, error) {
		info, err := dom.GetBlockInfo(target, 0)
		if err != nil {
			return 0, err
		}
		return int64(info.Capacity), nil
	})
}

// save writes what Lifeboat knows of the machine into it, as it runs and as it is
// defined.
func (m *move) save(ctx context.Context) error {
	return m.d.do(ctx, "keep its metadata", func(dom *lv.Domain) error {
		return dom.SetMetadata(lv.DOMAIN_METADATA_ELEMENT, m.own.text(), "lifeboat", metadataNamespace,
			lv.DOMAIN_AFFECT_LIVE|lv.DOMAIN_AFFECT_CONFIG)
	})
}

// giveUpOlder ends what a Settle that died had begun: a copying is stopped, and
// files go that no disk reads from.
func (m *move) giveUpOlder(ctx context.Context, doc *libvirtxml.Domain) error {
	used := map[string]bool{}
	for _, disk := range doc.Devices.Disks {
		if disk.Mirror != nil {
			if err := m.stop(ctx, disk.Target.Dev, 0); err != nil {
				return err
			}
		}
		if disk.Source != nil && disk.Source.File != nil {
			used[disk.Source.File.File] = true
		}
	}
	var idle []string
	for _, name := range m.own.Made {
		if strings.HasSuffix(name, localSuffix) && isVolumeOf(name, m.d.uuid) && !used[m.pool.file(name)] {
			idle = append(idle, name)
		}
	}
	// An overlay that a disk was moved away from, before that was written down.
	for _, disk := range doc.Devices.Disks {
		name := volumeName(m.d.name, m.d.uuid, keyOf(&disk)+".qcow2")
		if !used[m.pool.file(name)] && slices.Contains(m.own.Made, name) {
			idle = append(idle, name)
		}
	}
	return m.forget(ctx, idle)
}

// forget deletes files and what was written down of them.
func (m *move) forget(ctx context.Context, names []string) error {
	if len(names) == 0 {
		return nil
	}
	if err := m.pool.remove(ctx, names); err != nil {
		return err
	}
	m.own.Made = slices.DeleteFunc(m.own.Made, func(n string) bool { return slices.Contains(names, n) })
	return m.save(ctx)
}

// disk moves one disk.
func (m *move) disk(ctx context.Context, s server, size int64) error {
	volume := volumeName(m.d.name, m.d.uuid, keyOf(s.disk)+localSuffix)
	m.own.Made = append(m.own.Made, volume)
	if err := m.save(ctx); err != nil { // before the file exists
		return err
	}
	err := m.pool.make(ctx, volume, "qcow2", size)
	if err == nil {
		err = m.copy(ctx, s.disk.Target.Dev, volume, size)
	}
	if err != nil {
		return errors.Join(err, m.undo(context.WithoutCancel(ctx), s.disk.Target.Dev, volume))
	}
	// The disk has been changed over: what follows is tidying up.
	ctx = context.WithoutCancel(ctx)
	if nodes, err := m.d.blockNodes(ctx); err != nil {
		return err
	} else if nodes[serverNode(s.index)] {
		if err := m.d.monitor(ctx, "blockdev-del", map[string]any{"node-name": serverNode(s.index)}, nil); err != nil {
			return err
		}
	}
	overlay := path.Base(s.disk.Source.File.File)
	if !slices.Contains(m.own.Made, overlay) {
		return nil
	}
	return m.forget(ctx, []string{overlay})
}

// copy copies a disk and changes over to the copy. From the moment that both are
// alike every write of the guest goes to both.
func (m *move) copy(ctx context.Context, target, volume string, size int64) error {
	if err := m.begin(ctx, target, volume); err != nil {
		return err
	}
	if err := m.untilAlike(ctx, target, size); err != nil {
		return err
	}
	if err := m.stop(context.WithoutCancel(ctx), target, lv.DOMAIN_BLOCK_JOB_ABORT_PIVOT); err != nil {
		return err
	}
	return m.changedOver(context.WithoutCancel(ctx), target, m.pool.file(volume))
}

// begin starts the copying.
func (m *move) begin(ctx context.Context, target, volume string) error {
	text, err := (&libvirtxml.DomainDisk{
		Driver:       &libvirtxml.DomainDiskDriver{Name: "qemu", Type: "qcow2", Discard: "unmap"},
		Source:       &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: m.pool.file(volume)}},
		BackingStore: &libvirtxml.DomainDiskBackingStore{},
	}).Marshal()
	if err != nil {
		return err
	}
	return m.d.do(ctx, "copy disk "+target, func(dom *lv.Domain) error {
		return dom.BlockCopy(target, text, &lv.DomainBlockCopyParameters{},
			lv.DOMAIN_BLOCK_COPY_REUSE_EXT|lv.DOMAIN_BLOCK_COPY_TRANSIENT_JOB|lv.DOMAIN_BLOCK_COPY_SYNCHRONOUS_WRITES)
	})
}

// untilAlike waits until the copy is the disk.
func (m *move) untilAlike(ctx context.Context, target string, size int64) error {
	for {
		info, err := onDomain(ctx, m.d, "look at the copying", func(dom *lv.Domain) (*lv.DomainBlockJobInfo, error) {
			return dom.GetBlockJobInfo(target, 0)
		})
		if err != nil {
			return err
		}
		if info.Type != lv.DOMAIN_BLOCK_JOB_TYPE_COPY {
			return errors.New("the copying ended before both were alike: a block could not be read or written")
		}
		if info.End > 0 {
			m.progress(m.before+int64(float64(size)*float64(info.Cur)/float64(info.End)), m.total)
		}
		if info.Cur == info.End && info.End > 0 {
			ready, err := m.ready(ctx, target)
			if err != nil || ready {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(copyPoll):
		}
	}
}

// ready says whether libvirt knows that both are alike.
func (m *move) ready(ctx context.Context, target string) (bool, error) {
	disk, err := m.liveDisk(ctx, target)
	return err == nil && disk.Mirror != nil && disk.Mirror.Ready == "yes", err
}

func (m *move) liveDisk(ctx context.Context, target string) (*libvirtxml.DomainDisk, error) {
	s, err := onDomain(ctx, m.d, "look at it", readDomain)
	if err != nil {
		return nil, err
	}
	if s.power == hypervisor.PowerOff {
		return nil, hypervisor.ErrMachineGone
	}
	return diskAt(s.live, target)
}

func diskAt(text, target string) (*libvirtxml.DomainDisk, error) {
	doc, err := parseDomain(text)
	if err != nil {
		return nil, err
	}
	for i := range doc.Devices.Disks {
		if targetName(&doc.Devices.Disks[i]) == target {
			return &doc.Devices.Disks[i], nil
		}
	}
	return nil, fmt.Errorf("disk %s is gone", target)
}

// stop ends a copying: with the pivot flag by changing over, else by giving up.
func (m *move) stop(ctx context.Context, target string, flags lv.DomainBlockJobAbortFlags) error {
	return m.d.do(ctx, "end the copying of disk "+target, func(dom *lv.Domain) error { return dom.BlockJobAbort(target, flags) })
}

// changedOver makes sure that the machine, as it runs and as it is defined, has
// the disk in the file and reads nothing else.
func (m *move) changedOver(ctx context.Context, target, file string) error {
	s, err := onDomain(ctx, m.d, "look at it", readDomain)
	if err != nil {
		return err
	}
	for what, text := range map[string]string{"it runs": s.live, "it is defined": s.config} {
		disk, err := diskAt(text, target)
		if err != nil {
			return err
		}
		own := disk.Source != nil && disk.Source.File != nil && disk.Source.File.File == file
		if !own || disk.BackingStore != nil && disk.BackingStore.Format != nil {
			return fmt.Errorf("after the change-over the machine, as %s, does not have its disk in %s", what, file)
		}
	}
	return nil
}

// undo gives a move up. A disk that was changed over all the same stays so.
func (m *move) undo(ctx context.Context, target, volume string) error {
	disk, err := m.liveDisk(ctx, target)
	if errors.Is(err, hypervisor.ErrMachineGone) {
		return nil // Remove takes the file along
	}
	if err != nil {
		return err
	}
	if disk.Source != nil && disk.Source.File != nil && disk.Source.File.File == m.pool.file(volume) {
		return nil
	}
	if disk.Mirror != nil {
		if err := m.stop(ctx, target, 0); err != nil {
			return err
		}
	}
	return m.forget(ctx, []string{volume})
}
