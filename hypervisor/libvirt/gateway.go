//go:build libvirt_dlopen && cgo

package libvirt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"lifeboat"
	"lifeboat/hypervisor"
	"lifeboat/netlab"
)

const (
	// answerLimit is how long a guest may take to accept a connection.
	answerLimit = 10 * time.Second
	// plugEvery is how often the cable into the segment is looked at.
	plugEvery = time.Second
	// closeLimit bounds the tidying up after a gateway.
	closeLimit = 10 * time.Second
)

// gateway is the open way into a segment: listeners on the loopback of this
// computer, whose connections go on from inside the segment.
type gateway struct {
	h         *Host
	network   string
	inside    *netlab.Inside
	listeners []net.Listener

	mu sync.Mutex
	// answers says of each guest's port that a forward leads to whether it took
	// the last connection.
	answers map[netip.AddrPort]bool
	conns   map[net.Conn]bool
	closed  bool

	ending  sync.Once
	ended   chan struct{}
	stop    context.CancelFunc
	working sync.WaitGroup
}

// OpenGateway opens the gateway of a segment, and makes the segment where no
// machine has yet. Its forwards accept connections when it returns.
func (h *Host) OpenGateway(ctx context.Context, s hypervisor.Segment) (hypervisor.Gateway, error) {
	if !h.local() {
		return nil, h.noSegments()
	}
	forwards, err := checkForwards(s)
	if err != nil {
		return nil, fmt.Errorf("open segment %q: %w", s.Name, err)
	}
	work, stop := context.WithCancel(context.Background())
	g := &gateway{h: h, network: segmentName(s.Name), answers: map[netip.AddrPort]bool{}, conns: map[net.Conn]bool{},
		ended: make(chan struct{}), stop: stop}
	if err := g.open(ctx, work, s, forwards); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

// checkForwards are the guests' ports that the forwards lead to, in their order.
func checkForwards(s hypervisor.Segment) ([]netip.AddrPort, error) {
	prefix, err := netip.ParsePrefix(s.CIDR)
	if err != nil || !prefix.Addr().Is4() {
		return nil, fmt.Errorf("%q is not a network such as 10.0.7.0/24", s.CIDR)
	}
	var ports []netip.AddrPort
	for _, f := range s.Forwards {
		guest, err := netip.ParseAddr(f.Address)
		if err != nil || !prefix.Contains(guest) {
			return nil, fmt.Errorf("%q is not an address in %s", f.Address, s.CIDR)
		}
		if f.HostPort < 1 || f.HostPort > 65535 || f.GuestPort < 1 || f.GuestPort > 65535 {
			return nil, fmt.Errorf("forward %d to %s:%d is not possible", f.HostPort, f.Address, f.GuestPort)
		}
		ports = append(ports, netip.AddrPortFrom(guest, uint16(f.GuestPort)))
	}
	return ports, nil
}

func (g *gateway) open(ctx, work context.Context, s hypervisor.Segment, forwards []netip.AddrPort) error {
	if err := g.join(ctx, s); err != nil {
		return err
	}
	for i, to := range forwards {
		l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", s.Forwards[i].HostPort))
		if err != nil {
			return &lifeboat.Problem{
				What: fmt.Sprintf("segment %q: its gateway does not open", s.Name),
				Safe: "no machine was changed",
				Next: "choose host ports that are free",
				Err:  err,
			}
		}
		g.listeners = append(g.listeners, l)
		g.answers[to] = false
	}
	for i, l := range g.listeners {
		g.working.Go(func() { g.serve(work, l, forwards[i]) })
	}
	g.working.Go(func() { g.watch(work) })
	return nil
}

// join goes into the segment. Another process that cleans up may take a segment
// away on which nobody is yet: then it is made again.
func (g *gateway) join(ctx context.Context, s hypervisor.Segment) (err error) {
	for range 3 {
		if err = g.h.openSegment(ctx, g.network); err != nil {
			return err
		}
		g.inside, err = netlab.Join(bridgeOf(g.network), s.CIDR, s.HostAddress)
		if !errors.Is(err, netlab.ErrNoBridge) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("join segment %q: %w", s.Name, err)
	}
	return nil
}

// watch ends the gateway when its cable has been pulled, with the segment.
func (g *gateway) watch(ctx context.Context) {
	tick := time.NewTicker(plugEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !g.inside.Plugged() {
			g.end()
			return
		}
	}
}

func (g *gateway) end() { g.ending.Do(func() { close(g.ended) }) }

// serve takes the connections of one forward.
func (g *gateway) serve(ctx context.Context, l net.Listener, to netip.AddrPort) {
	for {
		conn, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of files, for example: the next may succeed.
			select {
			case <-ctx.Done():
				return
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		g.working.Go(func() { g.relay(ctx, conn.(*net.TCPConn), to) })
	}
}

// relay leads one connection to a guest. One that the guest does not take is
// reset, without a byte.
func (g *gateway) relay(ctx context.Context, from *net.TCPConn, to netip.AddrPort) {
	if !g.hold(from) {
		return
	}
	defer g.drop(from)
	limited, cancel := context.WithTimeout(ctx, answerLimit)
	conn, err := g.inside.Dial(limited, "tcp", to.String())
	cancel()
	g.mu.Lock()
	g.answers[to] = err == nil
	g.mu.Unlock()
	if err != nil {
		_ = from.SetLinger(0)
		return
	}
	if !g.hold(conn) {
		return
	}
	defer g.drop(conn)
	guest := conn.(*net.TCPConn)
	var both sync.WaitGroup
	both.Go(func() { pass(guest, from) })
	both.Go(func() { pass(from, guest) })
	both.Wait()
}

// pass copies one direction to its end. An error of one side ends both.
func pass(to, from *net.TCPConn) {
	if _, err := io.Copy(to, from); err != nil {
		_ = to.Close()
		_ = from.Close()
		return
	}
	_ = to.CloseWrite()
}

// hold remembers a connection so that Close can end it; after Close it ends it.
func (g *gateway) hold(c net.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		c.Close()
		return false
	}
	g.conns[c] = true
	return true
}

func (g *gateway) drop(c net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.conns, c)
	c.Close()
}

// Answers lists the guests' ports that a forward leads to and that took the last
// connection, ascending. A hostile guest on the segment can take the address of
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

// Ended is closed when the gateway no longer works: it has to be opened again.
func (g *gateway) Ended() <-chan struct{} { return g.ended }

// Close takes the gateway off the segment, and the segment away if nobody else is
// on it. It is safe to call twice.
func (g *gateway) Close() error {
	g.mu.Lock()
	again := g.closed
	g.closed = true
	for c := range g.conns {
		c.Close()
	}
	g.mu.Unlock()
	if again {
		return nil
	}
	g.stop()
	for _, l := range g.listeners {
		l.Close()
	}
	g.working.Wait()
	g.end()
	var err error
	if g.inside != nil {
		err = g.inside.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
	defer cancel()
	if ports, perr := netlab.Ports(bridgeOf(g.network)); perr == nil && len(ports) == 0 {
		err = errors.Join(err, g.h.closeSegment(ctx, g.network, ""))
	}
	return err
}
