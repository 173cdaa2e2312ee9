package netlab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// The way out of a lab is this process. What a guest sends to an address that is not
// in the lab is taken in, inside the lab, as if this process had that address, and
// said again outside by a socket of this computer: whoever is outside sees this
// computer's address. Nothing of this computer's own network is changed, no route, no
// rule, no setting, and its firewall treats all of it as what a local program sends.
// TCP and UDP lead out; echoes do not.

// uplinkPort is where taken connections arrive, at the lab's loopback: no guest can
// address it.
const uplinkPort = 1

// openUplink opens the way out for the networks that have one.
func (s *server) openUplink(ctx context.Context) error {
	if err := s.takeForeign(); err != nil {
		return fmt.Errorf("take in what guests send outside: %w", err)
	}
	at := fmt.Sprintf("127.0.0.1:%d", uplinkPort)
	var tcp net.Listener
	var udp net.PacketConn
	err := s.lab.within(func() (err error) {
		lc := net.ListenConfig{Control: controlled(transparent)}
		lc.SetMultipathTCP(false) // its connections forget what the listener may do
		if tcp, err = lc.Listen(ctx, "tcp4", at); err != nil {
			return err
		}
		udp, err = listenPacket(at, func(fd int) error {
			return errors.Join(transparent(fd), unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_RECVORIGDSTADDR, 1))
		})
		return err
	})
	if tcp != nil {
		s.keep(tcp)
	}
	if err != nil {
		return err
	}
	s.keep(udp)
	s.work.Go(func() { s.accept(tcp, func(conn net.Conn) { s.outward(ctx, conn) }) })
	s.work.Go(func() { s.outwardPackets(ctx, udp.(*net.UDPConn)) })
	return nil
}

// transparent lets a socket have addresses that are not this computer's.
func transparent(fd int) error {
	return errors.Join(unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT, 1), unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
}

// outward leads a connection of a guest to where it wanted to go.
func (s *server) outward(ctx context.Context, conn net.Conn) {
	to := conn.LocalAddr().(*net.TCPAddr).AddrPort()
	if !s.lab.config.mayReach(to.Addr(), ownAddresses()) {
		refuse(conn)
		return
	}
	d := net.Dialer{Timeout: dialPatience}
	out, err := d.DialContext(ctx, "tcp4", to.String())
	if err != nil {
		refuse(conn)
		return
	}
	relay(ctx, conn, out)
}

// mayReach says whether a guest may reach an address outside: not this computer, on
// which it would come from within, nor anything on its link only, such as the page on
// which a cloud tells its machines their secrets.
func (c Config) mayReach(a netip.Addr, own []netip.Addr) bool {
	if !a.IsGlobalUnicast() || c.leads(a) {
		return false
	}
	for _, o := range own {
		if o == a {
			return false
		}
	}
	return true
}

// ownAddresses are those of this computer.
func ownAddresses() []netip.Addr {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var all []netip.Addr
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				all = append(all, ip.Unmap())
			}
		}
	}
	return all
}

// flow is what a guest's port and one outside say to each other over UDP.
type flow struct{ from, to netip.AddrPort }

// flowIdle is how long a flow lives without a packet, longer than keepalives are
// apart.
const flowIdle = 2 * time.Minute

// flows are those that are open.
type flows struct {
	mu   sync.Mutex
	open map[flow]net.Conn
}

// outwardPackets leads first packets of flows outside. The later ones go to the
// flow's own socket.
func (s *server) outwardPackets(ctx context.Context, udp *net.UDPConn) {
	fs := flows{open: map[flow]net.Conn{}}
	buffer, control := make([]byte, 64<<10), make([]byte, 256)
	for {
		n, c, _, from, err := udp.ReadMsgUDPAddrPort(buffer, control)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		to, ok := wantedOf(control[:c])
		if !ok || !s.lab.config.mayReach(to.Addr(), ownAddresses()) {
			continue
		}
		f := flow{netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), to}
		if out := s.flow(ctx, &fs, f); out != nil {
			out.Write(buffer[:n])
		}
	}
}

// wantedOf reads where a packet was meant to go.
func wantedOf(control []byte) (netip.AddrPort, bool) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return netip.AddrPort{}, false
	}
	for _, m := range messages {
		// A struct sockaddr_in: its family, the port and the address.
		if m.Header.Level == unix.SOL_IP && m.Header.Type == unix.IP_RECVORIGDSTADDR && len(m.Data) >= 8 {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte(m.Data[4:8])), binary.BigEndian.Uint16(m.Data[2:])), true
		}
	}
	return netip.AddrPort{}, false
}

// flow returns the outer end of a flow, which it opens if there is room; or nil.
func (s *server) flow(ctx context.Context, fs *flows, f flow) net.Conn {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if out, ok := fs.open[f]; ok {
		return out
	}
	var back net.Conn
	if err := s.lab.within(func() (err error) {
		d := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(f.to), Control: controlled(transparent)}
		back, err = d.Dial("udp4", f.from.String())
		return err
	}); err != nil {
		return nil
	}
	out, err := net.Dial("udp4", f.to.String())
	if err != nil {
		back.Close()
		return nil
	}
	if !s.bounded(s.relaying, func() {
		relayPackets(ctx, back, out)
		fs.mu.Lock()
		defer fs.mu.Unlock()
		delete(fs.open, f)
	}) {
		back.Close()
		out.Close()
		return nil
	}
	fs.open[f] = out
	return out
}

// relayPackets passes packets both ways until none came for a while.
func relayPackets(ctx context.Context, a, b net.Conn) {
	defer a.Close()
	defer b.Close()
	stop := context.AfterFunc(ctx, func() { a.Close(); b.Close() })
	defer stop()
	var last atomic.Int64
	last.Store(time.Now().UnixNano())
	done := make(chan struct{})
	go func() {
		defer close(done)
		passPackets(a, b, &last)
	}()
	passPackets(b, a, &last)
	<-done
}

func passPackets(to, from net.Conn, last *atomic.Int64) {
	buffer := make([]byte, 64<<10)
	for {
		from.SetReadDeadline(time.Unix(0, last.Load()).Add(flowIdle))
		n, err := from.Read(buffer)
		switch {
		case err == nil:
			last.Store(time.Now().UnixNano())
			to.Write(buffer[:n])
		case errors.Is(err, net.ErrClosed):
			return
		case time.Since(time.Unix(0, last.Load())) >= flowIdle:
			return
		case errors.Is(err, unix.ECONNREFUSED):
			// Nobody listens there now; somebody may later.
			time.Sleep(10 * time.Millisecond)
		}
	}
}
