package qemu

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"lifeboat"
	"lifeboat/hypervisor"
)

// jobPrefix begins the ids of the jobs that move a disk.
const jobPrefix = "lifeboat-move-"

// Settle moves the disks of a machine that was booted from a drive to local
// files while it runs. The definition names the new file before the guest can
// have written anything to it alone, so that a power cut at any moment leaves a
// machine whose disks are whole.
func (h *Host) Settle(ctx context.Context, name string, progress func(done, total int64)) error {
	m, err := h.find(name)
	if err != nil {
		return err
	}
	lock, err := m.lock(ctx)
	if err != nil {
		return err
	}
	defer lock.Close()
	mon, err := m.monitor(ctx, workSocket)
	if errors.Is(err, errOff) {
		return fmt.Errorf("move the disks of %s: %w", m.name(), hypervisor.ErrMachineGone)
	}
	if err != nil {
		return err
	}
	defer mon.close()
	guard, err := m.startGuard(lock, nil, "")
	if err != nil {
		return err
	}
	if err := m.settle(ctx, mon, progress); err != nil {
		// The guard undoes what was begun, as it would if we had died.
		mon.close()
		if errors.Is(err, errStands) {
			_ = guard.tell("hold")
		}
		guard.abandon()
		if isClosed(err) {
			err = fmt.Errorf("%w: %w", hypervisor.ErrMachineGone, err)
		}
		return fmt.Errorf("move the disks of %s: %w", m.name(), err)
	}
	guard.dismiss()
	return nil
}

func (m *machine) settle(ctx context.Context, mon *monitor, progress func(done, total int64)) error {
	if err := m.finishMove(ctx, mon); err != nil {
		return err
	}
	var disks []lifeboat.Disk
	var total, before int64
	for _, d := range m.def.Machine.Disks {
		if m.def.Disks[d.Key].Base != nil {
			disks = append(disks, d)
			total += d.SizeBytes
		}
	}
	for _, disk := range disks {
		report := func(part float64) {
			if progress != nil {
				progress(before+int64(part*float64(disk.SizeBytes)), total)
			}
		}
		if err := m.moveDisk(ctx, mon, disk, report); err != nil {
			return fmt.Errorf("disk %s: %w", disk.Key, err)
		}
		before += disk.SizeBytes
		report(0)
	}
	m.def.Settled = cmp.Or(m.def.Recovery, m.def.Settled)
	m.def.Recovery, m.def.Throwaway = "", false
	return saveDefinition(m.dir, &m.def)
}

// localFile is the file that a disk is moved to.
func localFile(key string) string { return key + ".local.qcow2" }

// moveDisk copies a disk to a local file and changes over to it.
func (m *machine) moveDisk(ctx context.Context, mon *monitor, disk lifeboat.Disk, report func(float64)) error {
	if err := m.beginMove(ctx, mon, disk); err != nil {
		return err
	}
	if err := waitJob(ctx, mon, jobPrefix+disk.Key, "ready", report); err != nil {
		return err
	}
	// From the change-over to the record nothing may be written, or it would be
	// lost with a power cut in between. Neither is it cancelled half-way.
	ctx = context.WithoutCancel(ctx)
	return m.still(ctx, mon, false, func() error {
		if err := changeOver(ctx, mon, disk, report); err != nil {
			return err
		}
		return m.finishMove(ctx, mon)
	})
}

// beginMove makes the local file and starts to copy. From the moment the copy is
// complete, every write of the guest goes to both.
func (m *machine) beginMove(ctx context.Context, mon *monitor, disk lifeboat.Disk) error {
	path := m.path(localFile(disk.Key))
	if err := m.host.makeImage(ctx, path, disk.SizeBytes); err != nil {
		return err
	}
	cache := options{"direct": canBypassCache(path), "no-flush": false}
	target := args{
		"driver": "qcow2", "node-name": nodeName(nodeLocal, disk.Key), "cache": cache,
		"discard": "unmap", "detect-zeroes": "unmap",
		"file": args{"driver": "file", "filename": path, "cache": cache, "discard": "unmap"},
	}
	if err := mon.run(ctx, "blockdev-add", target, nil); err != nil {
		return err
	}
	return mon.run(ctx, "blockdev-mirror", args{
		"job-id": jobPrefix + disk.Key, "device": nodeName(nodeDisk, disk.Key), "target": nodeName(nodeLocal, disk.Key),
		"sync": "full", "copy-mode": "write-blocking", "auto-dismiss": false,
	}, nil)
}

// changeOver makes the device use the local file. The guest's CPUs stand.
func changeOver(ctx context.Context, mon *monitor, disk lifeboat.Disk, report func(float64)) error {
	id := jobPrefix + disk.Key
	if err := mon.run(ctx, "job-complete", args{"id": id}, nil); err != nil {
		return err
	}
	return waitJob(ctx, mon, id, "concluded", report)
}

// job is what QEMU tells of something that takes long.
type job struct {
	ID     string `json:"id"`
	Status string `json:"status"`
	Done   int64  `json:"current-progress"`
	Total  int64  `json:"total-progress"`
	Error  string `json:"error"`
}

func moveJobs(ctx context.Context, mon *monitor) ([]job, error) {
	var all, ours []job
	if err := mon.run(ctx, "query-jobs", nil, &all); err != nil {
		return nil, err
	}
	for _, j := range all {
		if strings.HasPrefix(j.ID, jobPrefix) {
			ours = append(ours, j)
		}
	}
	return ours, nil
}

// waitJob waits until a job has the given status. A job that ends in another way
// is an error.
func waitJob(ctx context.Context, mon *monitor, id, status string, report func(float64)) error {
	for {
		jobs, err := moveJobs(ctx, mon)
		if err != nil {
			return err
		}
		found := false
		for _, j := range jobs {
			if j.ID != id {
				continue
			}
			found = true
			if j.Error != "" {
				return errors.New(j.Error)
			}
			if j.Total > 0 {
				report(float64(j.Done) / float64(j.Total))
			}
			if j.Status == status {
				return nil
			}
			if j.Status == "concluded" {
				return errors.New("the copying ended before both disks were alike")
			}
		}
		if !found {
			return errors.New("the copying is gone")
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// finishMove brings a move to its end, whoever began it and however far it came:
// a disk that was changed over is recorded, what was not is given up. It does
// nothing where nothing was moved.
func (m *machine) finishMove(ctx context.Context, mon *monitor) error {
	ended, err := endMoveJobs(ctx, mon)
	if err != nil {
		return err
	}
	nodes, err := blockNodes(ctx, mon)
	if err != nil {
		return err
	}
	for _, disk := range m.def.Machine.Disks {
		local := nodeName(nodeLocal, disk.Key)
		_, there := nodes[local]
		file := m.def.Disks[disk.Key]
		if !there || file.Base == nil {
			continue
		}
		ended = true
		now, err := driveOf(ctx, mon, disk)
		if err != nil {
			return err
		}
		if now == local {
			err = m.recordMove(ctx, mon, nodes, disk.Key)
		} else {
			err = m.dropMove(ctx, mon, disk.Key)
		}
		if err != nil {
			return err
		}
	}
	if !ended {
		return nil
	}
	return resume(ctx, mon)
}

// resume lets a guest go on that a dead mover left standing.
func resume(ctx context.Context, mon *monitor) error {
	power, err := powerState(ctx, mon)
	if err != nil || power != hypervisor.PowerPaused {
		return err
	}
	return mon.run(ctx, "cont", nil, nil)
}

// recordMove makes the local file the disk's own, durably, and takes away what it
// was before.
func (m *machine) recordMove(ctx context.Context, mon *monitor, nodes map[string]blockNode, key string) error {
	old := m.def.Disks[key]
	m.def.Disks[key] = diskFile{File: localFile(key), Format: "qcow2", Made: true}
	if err := saveDefinition(m.dir, &m.def); err != nil {
		m.def.Disks[key] = old
		return err
	}
	for _, prefix := range []string{nodeDisk, nodeBase, nodeServer, nodeFile} {
		name := nodeName(prefix, key)
		if _, ok := nodes[name]; !ok {
			continue
		}
		if err := mon.run(ctx, "blockdev-del", args{"node-name": name}, nil); err != nil && !refused(err) {
			return err
		}
	}
	if old.Made {
		return removeFile(m.path(old.File))
	}
	return nil
}

func (m *machine) dropMove(ctx context.Context, mon *monitor, key string) error {
	if err := mon.run(ctx, "blockdev-del", args{"node-name": nodeName(nodeLocal, key)}, nil); err != nil {
		return err
	}
	return removeFile(m.path(localFile(key)))
}

// endMoveJobs cancels what is still copying and forgets what has ended. It says
// whether there was anything.
func endMoveJobs(ctx context.Context, mon *monitor) (any bool, err error) {
	cancelled := false
	for {
		jobs, err := moveJobs(ctx, mon)
		if err != nil || len(jobs) == 0 {
			return any, err
		}
		any = true
		for _, j := range jobs {
			switch {
			case j.Status == "concluded":
				err = mon.run(ctx, "job-dismiss", args{"id": j.ID}, nil)
			case !cancelled:
				err = mon.run(ctx, "job-cancel", args{"id": j.ID}, nil)
			}
			if err != nil && !refused(err) {
				return any, err
			}
		}
		cancelled = true
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return any, err
		}
	}
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
