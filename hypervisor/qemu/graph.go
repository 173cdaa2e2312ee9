package qemu

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"lifeboat"
	"lifeboat/hypervisor"
)

// exportPrefix begins the ids of the NBD exports that are ours.
const exportPrefix = "lifeboat-"

// blockNode is a node of QEMU's block graph.
type blockNode struct {
	Name    string   `json:"node-name"`
	Driver  string   `json:"drv"`
	Bitmaps []bitmap `json:"dirty-bitmaps"`
	Image   struct {
		VirtualSize int64 `json:"virtual-size"`
	} `json:"image"`
}

// blockNodes returns the named nodes of a running machine.
func blockNodes(ctx context.Context, mon *monitor) (map[string]blockNode, error) {
	var list []blockNode
	if err := mon.run(ctx, "query-named-block-nodes", args{"flat": true}, &list); err != nil {
		return nil, err
	}
	nodes := make(map[string]blockNode, len(list))
	for _, n := range list {
		nodes[n.Name] = n
	}
	return nodes, nil
}

// driveOf returns the node that a disk's device uses.
func driveOf(ctx context.Context, mon *monitor, disk lifeboat.Disk) (string, error) {
	var node string
	err := mon.run(ctx, "qom-get", args{"path": drivePath(disk), "property": "drive"}, &node)
	return node, err
}

// setDrive makes a disk's device use a node. QEMU aborts, and with it the
// guest, when it is told to use the node that it uses already.
func setDrive(ctx context.Context, mon *monitor, disk lifeboat.Disk, node string) error {
	now, err := driveOf(ctx, mon, disk)
	if err != nil || now == node {
		return err
	}
	return mon.run(ctx, "qom-set", args{"path": drivePath(disk), "property": "drive", "value": node}, nil)
}

// plainNode is the node that the guest of a disk sees when nobody exports it.
func plainNode(nodes map[string]blockNode, key string) (string, error) {
	for _, prefix := range []string{nodeLocal, nodeDisk} {
		if _, ok := nodes[nodeName(prefix, key)]; ok {
			return nodeName(prefix, key), nil
		}
	}
	return "", fmt.Errorf("qemu has no node for disk %s", key)
}

// clearExport takes from a running machine everything that an export put into
// it: exports, server, nodes and scratch files. It does nothing where there is
// nothing. With resume, a guest that the dead export left standing goes on. The
// scratch folder goes last, and not before the guest runs: it tells whoever
// comes next that an export was here.
func (m *machine) clearExport(ctx context.Context, mon *monitor, resume bool) error {
	nodes, err := blockNodes(ctx, mon)
	if err != nil {
		return err
	}
	if err := stopServing(ctx, mon); err != nil {
		return err
	}
	left := m.hasScratch()
	for _, disk := range m.def.Machine.Disks {
		for _, prefix := range []string{nodeStill, nodeCopy, nodeScratch} {
			_, ok := nodes[nodeName(prefix, disk.Key)]
			left = left || ok
		}
	}
	if left {
		err = m.still(ctx, mon, resume, func() error {
			for _, disk := range m.def.Machine.Disks {
				if err := clearDisk(ctx, mon, nodes, disk); err != nil {
					return fmt.Errorf("take disk %s out of its export: %w", disk.Key, err)
				}
			}
			return nil
		})
	}
	if errors.Is(err, errStands) {
		return err
	}
	return errors.Join(err, m.removeScratch())
}

// errStands says that we stopped the guest's CPUs and do not know whether they
// run again.
var errStands = errors.New("the guest may stand still: qemu did not answer when it was told to go on")

// still runs f while the guest's CPUs stand, for milliseconds. A guest that stood
// before goes on afterwards only if resume says so. It tries for a minute to let
// the guest go on; an error that wraps errStands says that it could not.
func (m *machine) still(ctx context.Context, mon *monitor, resume bool, f func() error) error {
	power, err := powerState(ctx, mon)
	if err != nil {
		return err
	}
	var lost error
	if power == hypervisor.PowerOn {
		lost = mon.run(ctx, "stop", nil, nil)
		if refused(lost) {
			return lost
		}
		// Also without an answer: QEMU may stop the guest later, when a disk that
		// hangs lets it.
		resume = true
	}
	if lost == nil {
		err = f()
	}
	if resume {
		err = errors.Join(err, m.goOn(ctx, mon, lost))
	}
	return err
}

// goOn lets a guest go on that we stopped, also after an ended context: a guest
// is never left standing. If QEMU did not answer, now or with the error in lost,
// it is asked on a fresh line. Closing the old one takes back what QEMU has not
// begun, so that no late "stop" follows our "cont". The old line is of no use
// then, and that is an error even if the guest runs.
func (m *machine) goOn(ctx context.Context, mon *monitor, lost error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rescuePatience)
	defer cancel()
	if lost == nil {
		lost = mon.run(ctx, "cont", nil, nil)
	}
	if lost == nil || refused(lost) {
		return lost
	}
	mon.close()
	for {
		switch err := m.cont(ctx, filepath.Base(mon.path)); {
		case err == nil, errors.Is(err, errOff):
			return lost
		case refused(err):
			return err
		}
		if pause(ctx, 20*time.Millisecond) != nil {
			return fmt.Errorf("%w: %w", errStands, lost)
		}
	}
}

// cont lets a guest go on, on a line of its own.
func (m *machine) cont(ctx context.Context, socket string) error {
	mon, err := m.monitor(ctx, socket)
	if err != nil {
		return err
	}
	defer mon.close()
	return mon.run(ctx, "cont", nil, nil)
}

// clearDisk puts a disk's device back on its own node and removes those of the
// export. The one that shows the old bytes goes first: QEMU refuses to change
// the device while it is there.
func clearDisk(ctx context.Context, mon *monitor, nodes map[string]blockNode, disk lifeboat.Disk) error {
	remove := func(prefix string) error {
		name := nodeName(prefix, disk.Key)
		if _, ok := nodes[name]; !ok {
			return nil
		}
		return mon.run(ctx, "blockdev-del", args{"node-name": name}, nil)
	}
	if err := remove(nodeStill); err != nil {
		return err
	}
	now, err := driveOf(ctx, mon, disk)
	if err != nil {
		return err
	}
	if now == nodeName(nodeCopy, disk.Key) {
		plain, err := plainNode(nodes, disk.Key)
		if err != nil {
			return err
		}
		if err := setDrive(ctx, mon, disk, plain); err != nil {
			return err
		}
	}
	return errors.Join(remove(nodeCopy), remove(nodeScratch))
}

// stopServing ends the NBD server of a machine and waits until nothing of ours
// is exported.
func stopServing(ctx context.Context, mon *monitor) error {
	asked := false
	for {
		var exports []struct {
			ID string `json:"id"`
		}
		if err := mon.run(ctx, "query-block-exports", nil, &exports); err != nil {
			return err
		}
		ours := 0
		for _, e := range exports {
			if !strings.HasPrefix(e.ID, exportPrefix) {
				continue
			}
			ours++
			if asked {
				continue
			}
			if err := mon.run(ctx, "block-export-del", args{"id": e.ID, "mode": "hard"}, nil); err != nil && !refused(err) {
				return err
			}
		}
		if ours == 0 {
			break
		}
		asked = true
		if err := pause(ctx, 2*time.Millisecond); err != nil {
			return err
		}
	}
	// Refused where no server runs, which is as good.
	if err := mon.run(ctx, "nbd-server-stop", nil, nil); err != nil && !refused(err) {
		return err
	}
	return nil
}

// refused says that QEMU understood a command and would not do it.
func refused(err error) bool {
	var e *commandError
	return errors.As(err, &e)
}
