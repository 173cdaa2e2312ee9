package qemu

import (
	"slices"
	"strconv"

	"lifeboat"
)

// The prefixes of the names of a disk's nodes and device. The guest sees the
// node d-KEY, or l-KEY from the moment its disk was moved to a local file until
// it is started again.
const (
	nodeDisk    = "d-"   // what the guest sees
	nodeFile    = "f-"   // the image file below it
	nodeBase    = "b-"   // what it is an overlay of
	nodeServer  = "n-"   // the connection to the disk server
	nodeLocal   = "l-"   // where its disk is moved to
	nodeCopy    = "c-"   // while exported: copies old bytes before they are overwritten
	nodeScratch = "s-"   // while exported: where they are kept
	nodeStill   = "a-"   // while exported: the disk as it was
	deviceDisk  = "dev-" // the device
)

// addDisks gives the machine its disks: nodes first, then controllers and disks
// that are cards of their own, then the disks behind the controllers. Cards with
// a slot of their own come first, or QEMU would give it to another.
func (m *machine) addDisks(c *cmdline, s start, plan slots) {
	d := &m.def.Machine
	for _, disk := range d.Disks {
		m.addNodes(c, disk.Key, s)
	}
	seats := planSeats(d)
	cards, behind := controllerDevices(seats), []options(nil)
	for _, seat := range seats {
		device := m.diskDevice(seat)
		if _, ok := controllers[seat.bus]; ok {
			behind = append(behind, device)
		} else {
			cards = append(cards, device)
		}
	}
	var free []options
	for _, device := range cards {
		slot, ok := plan.storage[device["id"].(string)]
		if !ok {
			free = append(free, device)
			continue
		}
		slot.place(device)
		c.device(device)
	}
	for _, device := range append(free, behind...) {
		c.device(device)
	}
}

// addNodes describes where the bytes of a disk are.
func (m *machine) addNodes(c *cmdline, key string, s start) {
	file := m.def.Disks[key]
	path := m.path(file.File)
	cache := m.cache(path, s)
	c.blockdev(options{"driver": "file", "node-name": nodeName(nodeFile, key), "filename": path,
		"cache": cache, "discard": "unmap"})
	node := options{"driver": file.Format, "node-name": nodeName(nodeDisk, key), "file": nodeName(nodeFile, key),
		"cache": cache, "discard": "unmap"}
	if file.Base != nil {
		c.blockdev(options{"driver": "nbd", "node-name": nodeName(nodeServer, key), "read-only": true,
			"server": options{"type": "unix", "path": file.Base.Socket}, "export": file.Base.Export,
			"reconnect-delay": reconnectSeconds})
		c.blockdev(options{"driver": "raw", "node-name": nodeName(nodeBase, key), "read-only": true,
			"file": nodeName(nodeServer, key)})
		node["backing"] = nodeName(nodeBase, key)
	}
	c.blockdev(node)
}

// cache says how writes reach the medium. Only a machine whose writes nobody
// will want may ignore the guest's flushes.
func (m *machine) cache(path string, s start) options {
	if m.def.Throwaway {
		return options{"no-flush": true}
	}
	return options{"direct": s.direct(path), "no-flush": false}
}

// diskDevice is what the guest sees of a disk.
func (m *machine) diskDevice(s seat) options {
	disk := s.disk
	o := options{
		"id": nodeName(deviceDisk, disk.Key), "drive": nodeName(nodeDisk, disk.Key),
		"bootindex": bootIndex(m.def.Machine.Disks, s.index),
	}
	if disk.Serial != "" {
		o["serial"] = disk.Serial
	}
	if disk.LogicalSectorBytes > 0 {
		o["logical_block_size"] = disk.LogicalSectorBytes
	}
	if disk.PhysicalSectorBytes > 0 {
		o["physical_block_size"] = disk.PhysicalSectorBytes
	}
	if wwn, err := strconv.ParseUint(disk.WWN, 16, 64); err == nil && s.bus != lifeboat.BusVirtio && s.bus != lifeboat.BusNVMe {
		o["wwn"] = wwn
	}
	if disk.Bus != lifeboat.BusNVMe {
		m.errorPolicy(o, disk.Key)
	}
	s.plug(o)
	return o
}

// errorPolicy says what a guest sees of an error below its disk. A recovered
// machine stops when its overlay has no room, and goes on when there is some. It
// stops as well when the server of its disks answers that there is no space,
// which is how that server says that its drive is away. A block that the drive
// cannot give is told to the guest at once: waiting would not bring it back. A
// disk server that is gone is no error at all: QEMU waits for it.
func (m *machine) errorPolicy(o options, key string) {
	o["rerror"], o["werror"] = "report", "report"
	if m.def.Disks[key].Base != nil || m.def.Recovery != "" {
		o["rerror"], o["werror"] = "enospc", "enospc"
	}
}

// bootIndex orders the disks that firmware tries. When no order is known the
// first disk is first.
func bootIndex(disks []lifeboat.Disk, i int) int {
	said := slices.ContainsFunc(disks, func(d lifeboat.Disk) bool { return d.BootIndex > 0 })
	if !said {
		return i + 1
	}
	if disks[i].BootIndex > 0 {
		return disks[i].BootIndex
	}
	// After all that have one, and no index twice.
	last := slices.MaxFunc(disks, func(a, b lifeboat.Disk) int { return a.BootIndex - b.BootIndex })
	return last.BootIndex + 1 + i
}

// drivePath is where QEMU keeps the property of a device that says which node
// it uses.
func drivePath(disk lifeboat.Disk) string {
	path := "/machine/peripheral/" + nodeName(deviceDisk, disk.Key)
	if disk.Bus == lifeboat.BusVirtio {
		path += "/virtio-backend"
	}
	return path
}
