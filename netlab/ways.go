package netlab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"
)

// mostRelays is how many connections go through a lab's ways in and out at once.
const mostRelays = 4096

// dialPatience bounds how long a connection through a way may take to come about.
const dialPatience = 30 * time.Second

// openWays opens the ways in and out that the networks have. All of them are sockets
// of this process on this computer's side: nothing of its network is changed.
func (s *server) openWays(ctx context.Context, dir string) error {
	if !s.lab.config.uplink() {
		return nil
	}
	if err := s.lab.clearRules(); err != nil {
		return err
	}
	if err := s.openUplink(ctx); err != nil {
		return err
	}
	for _, n := range s.lab.config.Networks {
		for _, f := range n.Forwards {
			l, err := net.Listen("tcp", f.Listen.String())
			if err != nil {
				s.noteClosed(fmt.Sprintf("the way from %s to %s", f.Listen, f.To), err)
				continue
			}
			s.keep(l)
			s.work.Go(func() { s.forward(ctx, l, f.To) })
		}
		if n.VPN == 0 {
			continue
		}
		if err := s.openVPN(ctx, dir, n.VPN); err != nil {
			s.noteClosed(fmt.Sprintf("the VPN at UDP port %d", n.VPN), err)
		}
	}
	return nil
}

// forward leads each connection to a guest.
func (s *server) forward(ctx context.Context, l net.Listener, to netip.AddrPort) {
	s.accept(l, func(conn net.Conn) {
		dialing, cancel := context.WithTimeout(ctx, dialPatience)
		defer cancel()
		guest, err := s.lab.Dial(dialing, "tcp", to.String())
		if err != nil {
			refuse(conn)
			return
		}
		relay(ctx, conn, guest)
	})
}

// accept gives each connection to f, as long as there is room.
func (s *server) accept(l net.Listener, f func(net.Conn)) {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // too many open files, and the like
			continue
		}
		if !s.bounded(s.relaying, func() { f(conn) }) {
			refuse(conn)
		}
	}
}

// refuse ends a connection so that the other side takes it for refused.
func refuse(conn net.Conn) {
	if t, ok := conn.(*net.TCPConn); ok {
		t.SetLinger(0)
	}
	conn.Close()
}

// relay copies between two connections until both directions have ended, or one is
// broken.
func relay(ctx context.Context, a, b net.Conn) {
	defer a.Close()
	defer b.Close()
	stop := context.AfterFunc(ctx, func() { a.Close(); b.Close() })
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		pass(a, b)
	}()
	pass(b, a)
	<-done
}

// pass copies one direction, and says to the other side that it has ended.
func pass(to, from net.Conn) {
	if _, err := io.Copy(to, from); err != nil {
		to.Close()
		from.Close()
		return
	}
	if t, ok := to.(interface{ CloseWrite() error }); ok {
		t.CloseWrite()
	}
}

// resolverPatience is how long this computer's resolver may take for one question.
const resolverPatience = 5 * time.Second

// resolver asks the resolver of this computer what a guest asked.
func (s *server) resolver(query []byte) ([]byte, error) {
	err := errors.New("this computer has no resolver in /etc/resolv.conf")
	for _, at := range resolvers("/etc/resolv.conf") {
		var reply []byte
		if reply, err = askResolver(at, query); err == nil {
			return reply, nil
		}
	}
	return nil, err
}

func askResolver(at netip.Addr, query []byte) ([]byte, error) {
	conn, err := net.Dial("udp", netip.AddrPortFrom(at, 53).String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(resolverPatience))
	if _, err := conn.Write(query); err != nil {
		return nil, err
	}
	buffer := make([]byte, longestDNS)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return nil, err
		}
		// The number of the question comes back with its answer.
		if n > 2 && len(query) > 2 && buffer[0] == query[0] && buffer[1] == query[1] {
			return buffer[:n], nil
		}
	}
}

// resolvers are the first DNS servers that a file of this form names.
func resolvers(path string) []netip.Addr {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	var all []netip.Addr
	for lines := bufio.NewScanner(io.LimitReader(f, 64<<10)); lines.Scan() && len(all) < 3; {
		words := strings.Fields(lines.Text())
		if len(words) < 2 || words[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(words[1]); err == nil {
			all = append(all, a)
		}
	}
	return all
}
