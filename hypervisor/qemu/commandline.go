package qemu

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"

	"lifeboat"
	"lifeboat/hypervisor"
)

// reconnectSeconds is how long a guest waits for a disk server that is gone
// before it sees an error: longer than any recovery.
const reconnectSeconds = 30 * 24 * 3600

// mostNICs is how many network cards get a PCI slot of their own.
const mostNICs = 12

// firstNICSlot is the PCI slot of the first network card. The slots are fixed,
// because guests name their interfaces after them.
const firstNICSlot = 0x10

// mostPorts is how many root ports a board gets for cards that sat behind one,
// and firstPortSlot where they are, above all cards.
const (
	mostPorts     = 16
	firstPortSlot = firstNICSlot + mostNICs
)

// nicDevices are the cards that guests have drivers for.
var nicDevices = map[string]string{
	"": "virtio-net-pci", "virtio": "virtio-net-pci", "e1000": "e1000", "e1000e": "e1000e",
	"rtl8139": "rtl8139", "vmxnet3": "vmxnet3",
}

// start is everything that a command line depends on beside the definition.
type start struct {
	accelerator Accelerator
	firmware    *firmwareFile
	sockets     string // the folder of the machine's sockets
	direct      func(path string) bool
	tapScript   string      // connects a tap to its bridge, or empty: use QEMU's helper
	cables      map[int]int // by card: the descriptors of the cables into a lab
	plainCPU    bool        // the machine's processor model is unknown here
	held        bool        // its processors wait until cables are pulled
}

// commandLine returns QEMU's arguments. It is a pure function of the definition
// and s.
func (m *machine) commandLine(s start) []string {
	d := &m.def.Machine
	var c cmdline
	c.add("-name", "guest="+comma(d.Name))
	m.addIdentity(&c)
	c.add("-machine", m.board(s))
	c.add("-accel", accelerator(s.accelerator))
	c.add("-cpu", m.processor(s))
	c.add("-smp", arrangement(d))
	c.add("-m", fmt.Sprintf("%dM", d.MemoryBytes>>20))
	c.add("-rtc", "base="+map[bool]string{false: "utc", true: "localtime"}[d.ClockLocal])
	c.add("-no-user-config", "-nodefaults", "-daemonize")
	if s.held {
		c.add("-S")
	}
	// Relative to the folder that QEMU starts in: it takes a percent sign in
	// this name for a template.
	c.add("-D", qemuLogFile)
	c.add("-vga", "std", "-display", "none")
	c.add("-vnc", "unix:"+comma(filepath.Join(s.sockets, vncSocket)))
	m.addMonitors(&c, s)
	m.addFirmware(&c, s)
	plan := planSlots(d)
	addRootPorts(&c, plan)
	m.addNICs(&c, s, plan)
	m.addDisks(&c, s, plan)
	m.addAgent(&c, s)
	m.addTPM(&c, s)
	c.device(options{"driver": "virtio-rng-pci", "id": "rng"})
	return c.words
}

// board is the main board, with the flash chips of UEFI.
func (m *machine) board(s start) string {
	board := "q35"
	if chipset(&m.def.Machine) == lifeboat.ChipsetI440FX {
		board = "pc"
	}
	if s.firmware == nil {
		return board
	}
	if s.firmware.NeedsSMM {
		board += ",smm=on"
	}
	return board + ",pflash0=fw-code,pflash1=fw-vars"
}

// chipset is the family of the main board. A guest that used IDE, and of which
// no more is known, gets the board that has it.
func chipset(m *lifeboat.Machine) lifeboat.Chipset {
	if m.Chipset != "" {
		return m.Chipset
	}
	for _, d := range m.Disks {
		if d.Bus == lifeboat.BusIDE {
			return lifeboat.ChipsetI440FX
		}
	}
	return lifeboat.ChipsetQ35
}

func accelerator(a Accelerator) string {
	if a == AcceleratorKVM {
		return "kvm"
	}
	// TCG would take up to 1 GiB for translated code, for every machine.
	return "tcg,tb-size=128"
}

// addMonitors gives the machine three sockets of the machine protocol, because
// each serves one at a time: short commands, an export or a move, and the guard
// that rescues the guest when the exporting process is gone.
func (m *machine) addMonitors(c *cmdline, s start) {
	for _, name := range []string{commandSocket, workSocket, guardSocket} {
		id := strings.TrimSuffix(name, ".sock")
		c.add("-chardev", fmt.Sprintf("socket,id=%s,path=%s,server=on,wait=off", id, comma(filepath.Join(s.sockets, name))))
		c.add("-mon", "mode=control,chardev="+id)
	}
	c.add("-chardev", fmt.Sprintf("socket,id=serial0,path=%s,server=on,wait=off,logfile=%s,logappend=on",
		comma(filepath.Join(s.sockets, serialSocket)), comma(m.path(serialLogFile))))
	c.add("-serial", "chardev:serial0")
}

func (m *machine) addFirmware(c *cmdline, s start) {
	f := s.firmware
	if f == nil {
		return
	}
	if f.NeedsSMM {
		c.add("-global", "driver=cfi.pflash01,property=secure,value=on")
	}
	c.blockdev(options{"driver": f.CodeFormat, "node-name": "fw-code", "read-only": true,
		"file": options{"driver": "file", "filename": f.Code}})
	c.blockdev(options{"driver": "raw", "node-name": "fw-vars",
		"file": options{"driver": "file", "filename": m.path(nvramFile)}})
}

func (m *machine) addNICs(c *cmdline, s start, plan slots) {
	for i, nic := range m.def.Machine.NICs {
		id := fmt.Sprintf("net%d", i)
		c.add("-netdev", m.netdev(i, id, s))
		device := options{
			"driver": nicDevices[nic.Model], "id": fmt.Sprintf("nic%d", i), "netdev": id, "mac": nic.MAC,
			"romfile": "", // no network boot: it would only cost time
		}
		plan.nics[i].place(device)
		c.device(device)
	}
}

// netdev is where the cable of a network card goes.
func (m *machine) netdev(i int, id string, s start) string {
	var n hypervisor.Network
	if i < len(m.def.Networks) {
		n = m.def.Networks[i]
	}
	switch n.Kind {
	case hypervisor.NetworkUser:
		word := "user,id=" + id
		for _, f := range n.Forwards {
			word += fmt.Sprintf(",hostfwd=tcp:127.0.0.1:%d-:%d", f.HostPort, f.GuestPort)
		}
		return word
	case hypervisor.NetworkSegment:
		return SegmentNetdev(n.Name, id)
	case hypervisor.NetworkBridge:
		if s.tapScript == "" {
			return fmt.Sprintf("bridge,id=%s,br=%s", id, n.Name)
		}
		return fmt.Sprintf("tap,id=%s,script=%s,downscript=no", id, comma(s.tapScript+"-"+n.Name))
	case hypervisor.NetworkLab:
		return fmt.Sprintf("tap,id=%s,fd=%d", id, s.cables[i])
	}
	// A hub with nothing else on it; PowerOn pulls the plug as well.
	return fmt.Sprintf("hubport,id=%s,hubid=%d", id, 100+i)
}

// addAgent gives the guest a line to its agent.
func (m *machine) addAgent(c *cmdline, s start) {
	if !m.def.Machine.Agent {
		return
	}
	c.add("-chardev", fmt.Sprintf("socket,id=agent,path=%s,server=on,wait=off", comma(filepath.Join(s.sockets, agentSocket))))
	c.device(options{"driver": "virtio-serial-pci", "id": "ports"})
	c.device(options{"driver": "virtserialport", "bus": "ports.0", "chardev": "agent", "name": "org.qemu.guest_agent.0"})
}

// cmdline collects words.
type cmdline struct{ words []string }

// options are the options of a device or node, given to QEMU as JSON so that no
// character in a path can mean anything else.
type options map[string]any

func (c *cmdline) add(words ...string) { c.words = append(c.words, words...) }
func (c *cmdline) device(o options)    { c.add("-device", o.json()) }
func (c *cmdline) blockdev(o options)  { c.add("-blockdev", o.json()) }
func comma(s string) string            { return strings.ReplaceAll(s, ",", ",,") }
func (o options) json() string {
	data, err := json.Marshal(o)
	if err != nil {
		panic("options are strings, numbers and truth values: " + err.Error())
	}
	return string(data)
}
