package qemu

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
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
	tapScript   string // connects a tap to its bridge, or empty: use QEMU's helper
}

// commandLine returns QEMU's arguments. It is a pure function of the definition
// and s.
func (m *machine) commandLine(s start) []string {
	d := &m.def.Machine
	var c cmdline
	c.add("-name", "guest="+comma(d.Name))
	c.add("-uuid", m.uuid())
	c.add("-machine", m.board(s))
	c.add("-accel", accelerator(s.accelerator))
	if model := cpuModel(d.CPUModel, s.accelerator); model != "" {
		c.add("-cpu", model)
	}
	c.add("-smp", strconv.Itoa(d.CPUs))
	c.add("-m", fmt.Sprintf("%dM", d.MemoryBytes>>20))
	c.add("-rtc", "base="+map[bool]string{false: "utc", true: "localtime"}[d.ClockLocal])
	c.add("-no-user-config", "-nodefaults", "-daemonize")
	// Relative to the folder that QEMU starts in: it takes a percent sign in
	// this name for a template.
	c.add("-D", qemuLogFile)
	c.add("-vga", "std", "-display", "none")
	c.add("-vnc", "unix:"+comma(filepath.Join(s.sockets, vncSocket)))
	m.addMonitors(&c, s)
	m.addFirmware(&c, s)
	m.addNICs(&c, s)
	m.addDisks(&c, s)
	m.addAgent(&c, s)
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

var hostModel = regexp.MustCompile(`^(host|max|host-passthrough|host-model|maximum)?$`)

// cpuModel is the model to show the guest. Without KVM "the host's" is slower
// than the oldest model that today's distributions start on.
func cpuModel(model string, a Accelerator) string {
	switch {
	case !hostModel.MatchString(model):
		return model
	case a == AcceleratorKVM:
		return "host"
	default:
		return "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt"
	}
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

func (m *machine) addNICs(c *cmdline, s start) {
	slots := nicSlots(&m.def.Machine)
	addRootPorts(c, slots)
	for i, nic := range m.def.Machine.NICs {
		id := fmt.Sprintf("net%d", i)
		c.add("-netdev", m.netdev(i, id, s))
		device := options{
			"driver": nicDevices[nic.Model], "id": fmt.Sprintf("nic%d", i), "netdev": id, "mac": nic.MAC,
			"addr": fmt.Sprintf("0x%x", slots[i].slot),
		}
		if bus := slots[i].bus; bus > 0 {
			device["bus"] = fmt.Sprintf("port%d", bus)
		}
		device["romfile"] = "" // no network boot: it would only cost time
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
	}
	// A hub with nothing else on it; PowerOn pulls the plug as well.
	return fmt.Sprintf("hubport,id=%s,hubid=%d", id, 100+i)
}

// pciSlot is where a guest sees a card: the number of the bus and the slot on it.
type pciSlot struct{ bus, slot int }

func (p pciSlot) String() string { return fmt.Sprintf("0000:%02x:%02x.0", p.bus, p.slot) }

// nicSlots are the PCI slots of the network cards: those that they had, where we
// can give them, and free ones for the others.
func nicSlots(m *lifeboat.Machine) []pciSlot {
	slots, taken := make([]pciSlot, len(m.NICs)), map[pciSlot]bool{}
	for i, nic := range m.NICs {
		slot, ok := rememberedSlot(nic.PCISlot, chipset(m))
		if ok && !taken[slot] {
			slots[i], taken[slot] = slot, true
		}
	}
	next := pciSlot{slot: firstNICSlot}
	for i := range slots {
		if slots[i] != (pciSlot{}) {
			continue
		}
		for taken[next] {
			next.slot++
		}
		slots[i], taken[next] = next, true
	}
	return slots
}

var pciAddress = regexp.MustCompile(`^0000:([0-9a-f]{2}):([01][0-9a-f])\.0$`)

// rememberedSlot is the slot that the guest saw, if we can give it: one on the
// first bus that the board does not need for itself, or the only one behind a
// root port of q35, which is how libvirt builds machines.
func rememberedSlot(address string, c lifeboat.Chipset) (pciSlot, bool) {
	found := pciAddress.FindStringSubmatch(address)
	if found == nil {
		return pciSlot{}, false
	}
	bus, _ := strconv.ParseInt(found[1], 16, 0)
	slot, _ := strconv.ParseInt(found[2], 16, 0)
	p := pciSlot{int(bus), int(slot)}
	if p.bus == 0 {
		return p, p.slot >= 3 && p.slot < firstNICSlot+mostNICs
	}
	return p, c == lifeboat.ChipsetQ35 && p.bus <= mostPorts && p.slot == 0
}

// addRootPorts gives the board as many root ports as the cards' bus numbers
// need: firmware counts the buses behind them in the order of their addresses.
func addRootPorts(c *cmdline, slots []pciSlot) {
	last := 0
	for _, s := range slots {
		last = max(last, s.bus)
	}
	for n := range last {
		c.device(options{"driver": "pcie-root-port", "id": fmt.Sprintf("port%d", n+1), "bus": "pcie.0", "chassis": n + 1,
			"addr": fmt.Sprintf("0x%x.%d", firstPortSlot+n/8, n%8), "multifunction": true})
	}
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
