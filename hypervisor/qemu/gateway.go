package qemu

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"lifeboat"
	"lifeboat/hypervisor"
)

// maxFrame is more than any network card of a guest sends: 64 KiB of payload,
// and what stands around it.
const maxFrame = 68 << 10

// segmentBuffer holds a burst of frames while we are not scheduled.
const segmentBuffer = 1 << 20

// gateway is the open way into a segment.
//
// The user network of QEMU makes the connections, in a QEMU without a machine.
// It cannot be put on a segment by itself: it takes every frame for its own,
// whatever its address, and so resets what guests say to each other, and on a
// multicast group even what it says itself. So the gateway stands between, and
// passes on only what is meant for it.
type gateway struct {
	qemu  *exec.Cmd
	cable net.Conn     // to QEMU: each frame behind its length
	hear  *net.UDPConn // from the segment
	speak *net.UDPConn // to the segment, from an address of our own
	group *net.UDPAddr
	mac   [6]byte

	mu sync.Mutex
	// answers says of each guest's port that a forward leads to whether it took
	// the last connection. It never grows: a guest may send whatever it likes.
	answers map[netip.AddrPort]bool

	ended   chan struct{}
	working sync.WaitGroup
}

// OpenGateway opens the gateway of a segment. Its forwards accept connections
// when it returns.
func (h *Host) OpenGateway(ctx context.Context, s hypervisor.Segment) (hypervisor.Gateway, error) {
	user, err := segmentUser(s)
	if err != nil {
		return nil, fmt.Errorf("open segment %q: %w", s.Name, err)
	}
	binary, err := h.program()
	if err != nil {
		return nil, err
	}
	g := &gateway{group: segmentGroup(s.Name), mac: userNetworkMAC(s.HostAddress), answers: guestPorts(s), ended: make(chan struct{})}
	if err := g.join(); err != nil {
		g.Close()
		return nil, fmt.Errorf("join segment %q: %w", s.Name, err)
	}
	if err := g.start(ctx, binary, user); err != nil {
		g.Close()
		return nil, cannotOpen(s.Name, err)
	}
	g.working.Go(g.inward)
	g.working.Go(g.outward)
	return g, nil
}

// noUserNetwork is how QEMU says that it was built without its user network, as
// that of Red Hat's distributions is.
const noUserNetwork = "network backend 'user' is not compiled into"

// cannotOpen is the problem of a gateway that QEMU refused.
func cannotOpen(segment string, err error) error {
	p := &lifeboat.Problem{
		What: fmt.Sprintf("segment %q: its gateway does not start", segment),
		Safe: "no machine was changed",
		Next: "choose host ports that are free",
		Err:  err,
	}
	if strings.Contains(err.Error(), noUserNetwork) {
		p.What = fmt.Sprintf("segment %q: the QEMU of this host has no user network, so nothing leads into a segment", segment)
		p.Next = "use a host with Debian or Ubuntu, or plug the machines into a bridge: --network bridge:NAME"
	}
	return p
}

// userNetworkMAC is the Ethernet address that QEMU's user network has on its
// own end: 52:55 and its IPv4 address (libslirp, special_ethaddr).
func userNetworkMAC(host string) (mac [6]byte) {
	mac[0], mac[1] = 0x52, 0x55
	if a, err := netip.ParseAddr(host); err == nil && a.Is4() {
		four := a.As4()
		copy(mac[2:], four[:])
	}
	return mac
}

// join opens both directions of the segment, on the loopback only.
func (g *gateway) join() error {
	loopback, err := net.InterfaceByName("lo")
	if err != nil {
		return err
	}
	if g.hear, err = net.ListenMulticastUDP("udp4", loopback, g.group); err != nil {
		return err
	}
	if err := g.hear.SetReadBuffer(segmentBuffer); err != nil {
		return err
	}
	if g.speak, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		return err
	}
	raw, err := g.speak.SyscallConn()
	if err != nil {
		return err
	}
	cerr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInet4Addr(int(fd), unix.IPPROTO_IP, unix.IP_MULTICAST_IF, [4]byte{127, 0, 0, 1})
	})
	return errors.Join(cerr, err)
}

// start runs the user network with a cable to us, and returns when its forwards
// are open: QEMU answers its monitor only after it has set up everything.
func (g *gateway) start(ctx context.Context, binary, user string) error {
	cable, theirs, err := socketPair("cable")
	if err != nil {
		return err
	}
	g.cable = cable
	defer theirs.Close()
	monitor, theirMonitor, err := socketPair("monitor")
	if err != nil {
		return err
	}
	defer monitor.Close()
	defer theirMonitor.Close()
	said, err := os.CreateTemp("", "lifeboat-gateway-*.txt")
	if err != nil {
		return err
	}
	defer os.Remove(said.Name())
	defer said.Close()
	g.qemu = exec.Command(binary, "-machine", "none", "-accel", "tcg,tb-size=16", "-display", "none", "-nodefaults", "-no-user-config",
		"-netdev", user, "-netdev", "hubport,id=inside,hubid=1,netdev=user",
		"-netdev", "socket,id=cable,fd=3", "-netdev", "hubport,id=outside,hubid=1,netdev=cable",
		"-chardev", "socket,id=command,fd=4", "-mon", "mode=control,chardev=command")
	g.qemu.ExtraFiles = []*os.File{theirs, theirMonitor}
	g.qemu.Stdout, g.qemu.Stderr = said, said
	g.qemu.Env = append(os.Environ(), "LC_ALL=C")
	// A session of its own keeps it from the terminal's Ctrl-C.
	g.qemu.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if err := g.launch(); err != nil {
		return err
	}
	theirMonitor.Close()
	stop := context.AfterFunc(ctx, func() { monitor.Close() })
	defer stop()
	// The greeting; QEMU that could not open a port ends instead.
	if _, err := io.ReadFull(monitor, make([]byte, 1)); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		words, _ := os.ReadFile(said.Name())
		return fmt.Errorf("qemu: %s", words)
	}
	return nil
}

// launch starts QEMU so that it dies with us, however we die. The system takes
// the thread that started it for its parent, so that thread stays.
func (g *gateway) launch() error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := g.qemu.Start()
		started <- err
		if err == nil {
			g.qemu.Wait()
			close(g.ended)
		}
	}()
	return <-started
}

// socketPair is a connection between us and a child.
func socketPair(name string) (ours net.Conn, theirs *os.File, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make the %s: %w", name, err)
	}
	file := os.NewFile(uintptr(pair[0]), name)
	defer file.Close()
	theirs = os.NewFile(uintptr(pair[1]), name)
	if ours, err = net.FileConn(file); err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("make the %s: %w", name, err)
	}
	return ours, theirs, nil
}

// inward passes frames of the segment that the gateway is meant to see.
func (g *gateway) inward() {
	own := g.speak.LocalAddr().(*net.UDPAddr)
	frame := make([]byte, 4+maxFrame)
	for {
		n, from, err := g.hear.ReadFromUDP(frame[4:])
		if err != nil {
			return // closed
		}
		if from.Port == own.Port && from.IP.Equal(own.IP) || !g.isFor(frame[4:4+n]) {
			continue
		}
		g.observe(frame[4 : 4+n])
		binary.BigEndian.PutUint32(frame, uint32(n))
		if _, err := g.cable.Write(frame[:4+n]); err != nil {
			return
		}
	}
}

// isFor says whether a frame is for everyone or for the gateway.
func (g *gateway) isFor(frame []byte) bool {
	if len(frame) < 14 {
		return false
	}
	everyone := frame[0]&1 == 1
	return everyone || [6]byte(frame[:6]) == g.mac
}

// The flags of TCP that tell how a connection was answered (RFC 9293, 3.1).
const (
	tcpSYN = 0x02
	tcpRST = 0x04
	tcpACK = 0x10
)

// observe notes how a guest answers a connection. The user network accepts on
// the host's side before it has asked the guest, so that a connection to a
// forward says nothing: only what the guest sends does.
func (g *gateway) observe(frame []byte) {
	const ethernet, ipv4, protocolTCP = 14, 20, 6
	if len(frame) < ethernet+ipv4 || binary.BigEndian.Uint16(frame[12:]) != 0x0800 || frame[ethernet]>>4 != 4 {
		return
	}
	ip := frame[ethernet:]
	header := int(ip[0]&15) * 4
	if ip[9] != protocolTCP || header < ipv4 || len(ip) < header+14 {
		return
	}
	from := netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[12:16])), binary.BigEndian.Uint16(ip[header:]))
	flags := ip[header+13]
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ours := g.answers[from]; !ours {
		return
	}
	switch {
	case flags&(tcpSYN|tcpACK) == tcpSYN|tcpACK:
		g.answers[from] = true
	case flags&tcpRST != 0:
		g.answers[from] = false
	}
}

// Answers lists the guests' ports that a forward leads to and that took the last
// connection, sorted. A hostile guest on the segment can speak in the name of
// another: an answer is no proof of who gave it.
func (g *gateway) Answers() []netip.AddrPort {
	g.mu.Lock()
	defer g.mu.Unlock()
	var took []netip.AddrPort
	for port, yes := range g.answers {
		if yes {
			took = append(took, port)
		}
	}
	slices.SortFunc(took, netip.AddrPort.Compare)
	return took
}

// outward passes the gateway's frames to the segment.
func (g *gateway) outward() {
	frame := make([]byte, maxFrame)
	for {
		if _, err := io.ReadFull(g.cable, frame[:4]); err != nil {
			return // closed
		}
		n := binary.BigEndian.Uint32(frame)
		if n > maxFrame {
			return // no frame of QEMU's: the cable is out of step
		}
		if _, err := io.ReadFull(g.cable, frame[:n]); err != nil {
			return
		}
		// A segment may lose frames, as any network may.
		g.speak.WriteToUDP(frame[:n], g.group)
	}
}

// Ended is closed when the gateway no longer works: it has to be opened again.
func (g *gateway) Ended() <-chan struct{} { return g.ended }

// Close takes the gateway off the segment. It is safe to call twice.
func (g *gateway) Close() error {
	if g.cable != nil {
		g.cable.Close()
	}
	for _, c := range []*net.UDPConn{g.hear, g.speak} {
		if c != nil {
			c.Close()
		}
	}
	if g.qemu != nil && g.qemu.Process != nil {
		g.qemu.Process.Kill()
		<-g.ended
	}
	g.working.Wait()
	return nil
}
