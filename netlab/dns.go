package netlab

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// ErrNoName: the DNS server knows no address of that name.
var ErrNoName = errors.New("no such name")

// answerTTL is how long a guest may remember a name, in seconds: after a drill it is
// gone, and in a recovery a machine may move.
const answerTTL = 30

// zone are the names that a lab answers, in lower case and without the last dot.
func (c Config) zone() map[string][]netip.Addr {
	names := map[string][]netip.Addr{}
	add := func(name string, a netip.Addr) {
		name = strings.ToLower(strings.TrimSuffix(name, "."))
		if name != "" && a.Is4() && !slices.Contains(names[name], a) {
			names[name] = append(names[name], a)
		}
	}
	for _, card := range c.Cards {
		p, ok := c.addressOf(card)
		if !ok {
			continue
		}
		for _, name := range []string{card.Machine, card.HostName} {
			add(name, p.Addr())
			// A guest that calls itself web.firm.example is asked for as web, too.
			short, _, _ := strings.Cut(name, ".")
			add(short, p.Addr())
		}
	}
	for name, a := range c.Names {
		delete(names, strings.ToLower(strings.TrimSuffix(name, "."))) // what somebody wrote down counts
		add(name, a)
	}
	return names
}

// find looks for a name, and for its first word: a guest may put the domain of its
// own network behind it.
func lookupZone(zone map[string][]netip.Addr, name string) []netip.Addr {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	return zone[name]
}

// answerDNS answers a question from the zone. Known is false if the name is in no
// machine's and in nobody's list; the reply says so then. A nil reply means that it
// was no question.
func answerDNS(zone map[string][]netip.Addr, query []byte) (reply []byte, name string, known bool) {
	var p dnsmessage.Parser
	head, err := p.Start(query)
	if err != nil || head.Response {
		return nil, "", false
	}
	m := dnsmessage.Message{Header: dnsmessage.Header{
		ID: head.ID, Response: true, OpCode: head.OpCode, RecursionDesired: head.RecursionDesired, RecursionAvailable: true,
	}}
	q, err := p.Question()
	if err != nil || head.OpCode != 0 || q.Class != dnsmessage.ClassINET {
		m.RCode = dnsmessage.RCodeNotImplemented
		packed, _ := m.Pack()
		return packed, "", true
	}
	m.Questions = []dnsmessage.Question{q}
	name = strings.TrimSuffix(q.Name.String(), ".")
	if q.Type == dnsmessage.TypePTR {
		m.Answers = reverse(zone, q)
		known = len(m.Answers) > 0
	} else {
		addresses := lookupZone(zone, name)
		known = len(addresses) > 0
		for _, a := range addresses {
			if q.Type == dnsmessage.TypeA || q.Type == dnsmessage.TypeALL {
				m.Answers = append(m.Answers, dnsmessage.Resource{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET, TTL: answerTTL},
					Body:   &dnsmessage.AResource{A: a.As4()},
				})
			}
		}
	}
	m.Authoritative = known
	if !known {
		m.RCode = dnsmessage.RCodeNameError
	}
	reply, err = m.Pack()
	if err != nil {
		return nil, name, false
	}
	return reply, name, known
}

// reverse answers which name an address has: the first in the order of names, and
// of those the longest word for a machine is as good as any.
func reverse(zone map[string][]netip.Addr, q dnsmessage.Question) []dnsmessage.Resource {
	address, ok := reversed(q.Name.String())
	if !ok {
		return nil
	}
	var names []string
	for name, addresses := range zone {
		if slices.Contains(addresses, address) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	to, err := dnsmessage.NewName(names[0] + ".")
	if err != nil {
		return nil
	}
	return []dnsmessage.Resource{{
		Header: dnsmessage.ResourceHeader{Name: q.Name, Type: dnsmessage.TypePTR, Class: dnsmessage.ClassINET, TTL: answerTTL},
		Body:   &dnsmessage.PTRResource{PTR: to},
	}}
}

// reversed reads 4.3.2.1.in-addr.arpa.
func reversed(name string) (netip.Addr, bool) {
	digits, ok := strings.CutSuffix(strings.ToLower(strings.TrimSuffix(name, ".")), ".in-addr.arpa")
	if !ok {
		return netip.Addr{}, false
	}
	parts := strings.Split(digits, ".")
	slices.Reverse(parts)
	a, err := netip.ParseAddr(strings.Join(parts, "."))
	return a, err == nil && a.Is4()
}

// serveDNS answers on the lab's addresses, over UDP and TCP.
func (s *server) serveDNS(udp net.PacketConn, tcp net.Listener) {
	s.work.Go(func() { s.dnsPackets(udp) })
	s.work.Go(func() { s.dnsStreams(tcp) })
}

// longestDNS is what a question or an answer over UDP may have.
const longestDNS = 4096

// mostForwarding is how many questions may be on their way to the resolver of this
// computer at once; a guest that asks more gets no answer, and asks again.
const mostForwarding = 64

func (s *server) dnsPackets(conn net.PacketConn) {
	buffer := make([]byte, longestDNS)
	for {
		n, from, err := conn.ReadFrom(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		query := slices.Clone(buffer[:n])
		s.bounded(s.forwarding, func() {
			if reply := s.dns(query); reply != nil {
				conn.WriteTo(reply, from)
			}
		})
	}
}

// dnsPatience bounds one connection of a guest.
const dnsPatience = 30 * time.Second

func (s *server) dnsStreams(l net.Listener) {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if !s.bounded(s.forwarding, func() {
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(dnsPatience))
			var length [2]byte
			if _, err := io.ReadFull(conn, length[:]); err != nil {
				return
			}
			query := make([]byte, binary.BigEndian.Uint16(length[:]))
			if _, err := io.ReadFull(conn, query); err != nil {
				return
			}
			if reply := s.dns(query); reply != nil {
				conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...))
			}
		}) {
			conn.Close()
		}
	}
}

// dns answers a question: from the lab's own names, and in a lab with an uplink from
// the resolver of this computer.
func (s *server) dns(query []byte) []byte {
	reply, name, known := answerDNS(s.zone, query)
	if known || reply == nil {
		return reply
	}
	if s.lab.config.uplink() {
		if from, err := s.resolver(query); err == nil {
			return from
		}
		return servFail(query)
	}
	s.noteUnknown(name)
	return reply
}

// servFail says that nobody could answer now.
func servFail(query []byte) []byte {
	var p dnsmessage.Parser
	head, err := p.Start(query)
	if err != nil {
		return nil
	}
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: head.ID, Response: true, RecursionDesired: head.RecursionDesired, RCode: dnsmessage.RCodeServerFailure}}
	if q, err := p.Question(); err == nil {
		m.Questions = []dnsmessage.Question{q}
	}
	packed, _ := m.Pack()
	return packed
}

// Lookup asks a DNS server from inside for the IPv4 addresses of a name; an empty
// server is the lab's own. A name that is not there is [ErrNoName].
func (l *Lab) Lookup(ctx context.Context, server, name string) ([]netip.Addr, error) {
	if server == "" {
		if found := lookupZone(l.config.zone(), name); len(found) > 0 {
			return found, nil
		}
		return nil, fmt.Errorf("%w: %s", ErrNoName, name)
	}
	if a, err := netip.ParseAddr(server); err == nil {
		server = netip.AddrPortFrom(a, 53).String()
	}
	q, err := question(name)
	if err != nil {
		return nil, err
	}
	for {
		addresses, err := l.askDNS(ctx, server, q)
		if err == nil || errors.Is(err, ErrNoName) || ctx.Err() != nil {
			return addresses, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(pingEvery):
		}
	}
}

// question is a query for the IPv4 addresses of a name.
func question(name string) (dnsmessage.Message, error) {
	n, err := dnsmessage.NewName(strings.TrimSuffix(name, ".") + ".")
	if err != nil {
		return dnsmessage.Message{}, fmt.Errorf("%q is not a name: %w", name, err)
	}
	var id [2]byte
	rand.Read(id[:])
	return dnsmessage.Message{
		Header:    dnsmessage.Header{ID: binary.BigEndian.Uint16(id[:]), RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: n, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
	}, nil
}

// dnsTry is how long one question over UDP is waited for.
const dnsTry = 3 * time.Second

func (l *Lab) askDNS(ctx context.Context, server string, q dnsmessage.Message) ([]netip.Addr, error) {
	packed, err := q.Pack()
	if err != nil {
		return nil, err
	}
	conn, err := l.Dial(ctx, "udp", server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	conn.SetDeadline(time.Now().Add(dnsTry))
	if _, err := conn.Write(packed); err != nil {
		return nil, fmt.Errorf("ask %s: %w", server, err)
	}
	buffer := make([]byte, longestDNS)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return nil, fmt.Errorf("ask %s: %w", server, err)
		}
		var m dnsmessage.Message
		if err := m.Unpack(buffer[:n]); err != nil || m.ID != q.ID || !m.Response {
			continue
		}
		return addressesIn(m, server, q.Questions[0].Name.String())
	}
}

func addressesIn(m dnsmessage.Message, server, name string) ([]netip.Addr, error) {
	var found []netip.Addr
	for _, r := range m.Answers {
		if a, ok := r.Body.(*dnsmessage.AResource); ok {
			found = append(found, netip.AddrFrom4(a.A))
		}
	}
	switch {
	case len(found) > 0:
		return found, nil
	case m.RCode == dnsmessage.RCodeNameError || m.RCode == dnsmessage.RCodeSuccess:
		return nil, fmt.Errorf("%w: %s does not know %s", ErrNoName, server, name)
	}
	return nil, fmt.Errorf("%s answers %s", server, m.RCode)
}
