package netlab

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// pingEvery is how often an echo is sent until one comes back.
const pingEvery = time.Second

// Ping sends an ICMP echo from inside to a guest, again each second, and returns how
// long the first answer took.
func (l *Lab) Ping(ctx context.Context, address string) (time.Duration, error) {
	to, err := netip.ParseAddr(address)
	if err != nil || !to.Is4() {
		return 0, fmt.Errorf("%q is not an IPv4 address", address)
	}
	fd, err := l.socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)
	if err != nil {
		return 0, allowed("open a socket for echoes inside", err)
	}
	file := os.NewFile(uintptr(fd), "icmp")
	conn, err := net.FilePacketConn(file)
	file.Close()
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var random [2]byte
	rand.Read(random[:])
	id := int(binary.BigEndian.Uint16(random[:]))
	var sent []time.Time
	for {
		if err := echo(conn, to, id, len(sent)); err != nil && ctx.Err() == nil && !passing(err) {
			return 0, fmt.Errorf("ping %s: %w", to, err)
		}
		sent = append(sent, time.Now())
		conn.SetReadDeadline(time.Now().Add(pingEvery))
		sequence, ok := awaitEcho(conn, to, id, len(sent))
		if ok {
			return time.Since(sent[sequence]), nil
		}
		if ctx.Err() != nil {
			return 0, fmt.Errorf("ping %s: no answer to %d: %w", to, len(sent), context.Cause(ctx))
		}
	}
}

// passing says that an echo could not be sent, which may be otherwise in a second.
func passing(err error) bool {
	return errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.EHOSTDOWN) || errors.Is(err, unix.ENOBUFS)
}

func echo(conn net.PacketConn, to netip.Addr, id, sequence int) error {
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: id, Seq: sequence, Data: []byte("lifeboat asks whether you are there")}}
	packet, err := m.Marshal(nil)
	if err != nil {
		return err
	}
	_, err = conn.WriteTo(packet, &net.IPAddr{IP: to.AsSlice()})
	return err
}

// awaitEcho reads until an answer to one of our echoes, or the deadline.
func awaitEcho(conn net.PacketConn, from netip.Addr, id, sent int) (sequence int, ok bool) {
	buffer := make([]byte, 1500)
	for {
		n, who, err := conn.ReadFrom(buffer)
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
			return 0, false
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // an error of an earlier echo
			continue
		}
		if ip, ok := who.(*net.IPAddr); !ok || !ip.IP.Equal(from.AsSlice()) {
			continue
		}
		m, err := icmp.ParseMessage(ipv4.ICMPTypeEcho.Protocol(), buffer[:n])
		if err != nil || m.Type != ipv4.ICMPTypeEchoReply {
			continue
		}
		if e, ok := m.Body.(*icmp.Echo); ok && e.ID == id && e.Seq < sent {
			return e.Seq, true
		}
	}
}
