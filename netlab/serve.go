package netlab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
)

// Serve answers in the lab, and to its control socket in the folder dir, until its
// context ends: DHCP and DNS on each network whose numbers are known, the ways out
// and in where a network has them. It calls ready once everything answers. Ways in
// that cannot be opened do not stop it; the lab's status says which.
func (l *Lab) Serve(ctx context.Context, dir string, ready func()) error {
	s := &server{
		lab: l, zone: l.config.zone(), leases: map[string]netip.Addr{},
		forwarding: make(chan struct{}, mostForwarding), relaying: make(chan struct{}, mostRelays),
	}
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		s.close()
		s.work.Wait()
	}()
	if err := s.open(); err != nil {
		return allowed("answer in lab "+l.config.Name, err)
	}
	if err := s.openWays(ctx, dir); err != nil {
		return allowed("open the ways out of lab "+l.config.Name, err)
	}
	control, err := listenControl(dir)
	if err != nil {
		return err
	}
	s.keep(control)
	s.work.Go(func() { s.control(ctx, control) })
	ready()
	<-ctx.Done()
	return nil
}

// server is a lab that answers.
type server struct {
	lab  *Lab
	zone map[string][]netip.Addr
	work sync.WaitGroup

	// forwarding and relaying bound what guests can make this process do.
	forwarding, relaying chan struct{}

	mu        sync.Mutex
	opened    []interface{ Close() error }
	leases    map[string]netip.Addr
	strangers int
	unknown   []string
	shut      []string
}

// keep remembers what is closed at the end.
func (s *server) keep(c interface{ Close() error }) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened = append(s.opened, c)
}

func (s *server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range slices.Backward(s.opened) {
		c.Close()
	}
}

// open starts DHCP and DNS.
func (s *server) open() error {
	numbers := false
	for _, n := range s.lab.config.Networks {
		if _, ok := s.lab.config.own(n); !ok {
			continue
		}
		numbers = true
		bridge, err := s.lab.config.bridge(n.Name)
		if err != nil {
			return err
		}
		var conn net.PacketConn
		if err := s.lab.within(func() (err error) {
			conn, err = listenDHCP(bridge)
			return err
		}); err != nil {
			return fmt.Errorf("DHCP on network %q: %w", n.Name, err)
		}
		s.keep(conn)
		s.work.Go(func() { s.serveDHCP(n, conn) })
	}
	if !numbers {
		return nil
	}
	return s.openDNS()
}

// openDNS listens at each address of the lab: an answer has to come from the one
// that was asked.
func (s *server) openDNS() error {
	addresses := s.lab.config.servers()
	for _, n := range s.lab.config.Networks {
		if own, ok := s.lab.config.own(n); ok {
			addresses = append(addresses, own.Addr())
		}
	}
	for _, a := range addresses {
		if err := s.openDNSAt(a); err != nil {
			return err
		}
	}
	return nil
}

func (s *server) openDNSAt(a netip.Addr) error {
	at := netip.AddrPortFrom(a, 53).String()
	var udp net.PacketConn
	var tcp net.Listener
	err := s.lab.within(func() (err error) {
		if udp, err = listenPacket(at, nil); err != nil {
			return err
		}
		tcp, err = net.Listen("tcp4", at)
		return err
	})
	if udp != nil {
		s.keep(udp)
	}
	if err != nil {
		return fmt.Errorf("DNS at %s: %w", at, err)
	}
	s.keep(tcp)
	s.serveDNS(udp, tcp)
	return nil
}

// listenPacket opens a UDP port in the namespace of this thread.
func listenPacket(at string, with func(fd int) error) (net.PacketConn, error) {
	var lc net.ListenConfig
	if with != nil {
		lc.Control = controlled(with)
	}
	return lc.ListenPacket(context.Background(), "udp4", at)
}

// controlled sets options of a socket before it has an address.
func controlled(with func(fd int) error) func(_, _ string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		cerr := c.Control(func(fd uintptr) { err = with(int(fd)) })
		return errors.Join(cerr, err)
	}
}

// bounded does a piece of work beside, if there is room for it.
func (s *server) bounded(room chan struct{}, f func()) bool {
	select {
	case room <- struct{}{}:
	default:
		return false
	}
	s.work.Go(func() {
		defer func() { <-room }()
		f()
	})
	return true
}

func (s *server) noteLease(mac string, a netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leases[mac] = a // at most one for each known card
}

func (s *server) noteStranger() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.strangers++
}

// mostUnknown is how many names are remembered that nobody knew.
const mostUnknown = 100

// noteUnknown remembers a name that a guest asked for in vain: a person may want to
// write it into the runbook.
func (s *server) noteUnknown(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if name == "" || slices.Contains(s.unknown, name) {
		return
	}
	if len(s.unknown) >= mostUnknown {
		s.unknown = slices.Delete(s.unknown, 0, 1)
	}
	s.unknown = append(s.unknown, name)
}

// noteClosed says which way in or out is not open, and why.
func (s *server) noteClosed(what string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.shut) < mostUnknown {
		s.shut = append(s.shut, fmt.Sprintf("%s: %v", what, err))
	}
}

func (s *server) status() (*Status, error) {
	cables, err := s.lab.Cables()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st := &Status{Cables: cables, Leases: map[string]netip.Addr{}, Strangers: s.strangers, Unknown: slices.Clone(s.unknown), Closed: slices.Clone(s.shut)}
	for mac, a := range s.leases {
		st.Leases[mac] = a
	}
	return st, nil
}
