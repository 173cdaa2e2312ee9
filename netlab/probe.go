package netlab

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Occupant is somebody who has an address or a MAC already.
type Occupant struct {
	// Address is invalid if only the MAC was seen.
	Address netip.Addr
	MAC     net.HardwareAddr
	// Same is said of the MAC: it is the one that was looked for.
	SameMAC bool
}

func (o Occupant) String() string {
	switch {
	case !o.Address.IsValid():
		return fmt.Sprintf("somebody there has the MAC %s", o.MAC)
	case o.SameMAC:
		return fmt.Sprintf("%s answers there, and has the same MAC %s", o.Address, o.MAC)
	}
	return fmt.Sprintf("%s answers there, with the MAC %s", o.Address, o.MAC)
}

// How an address is probed, after RFC 5227: as many probes, so far apart, and how
// long an answer to the last may take.
const (
	probes     = 3
	probeEvery = time.Second
	probeAfter = 2 * time.Second
)

// Probe asks on a bridge of this computer whether anybody has an address or a MAC
// that a machine is about to bring there. It takes about 4 seconds when nobody does,
// and returns the first who answers; nil means nobody. Either may be left out. What
// it sends tells nobody a wrong address: probes come from 0.0.0.0.
//
// A machine that is off, or behind a switch that drops broadcasts, is not seen.
func Probe(ctx context.Context, bridge string, address netip.Addr, mac net.HardwareAddr) (*Occupant, error) {
	if address.IsValid() && !address.Is4() {
		return nil, fmt.Errorf("%s is not an IPv4 address", address)
	}
	link, err := netlink.LinkByName(bridge)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", ErrNoBridge, bridge)
	}
	wire, err := openWire(link.Attrs().Index)
	if err != nil {
		return nil, allowed("listen on bridge "+bridge, err)
	}
	defer wire.Close()
	own := link.Attrs().HardwareAddr
	stop := context.AfterFunc(ctx, func() { wire.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for i := range probes {
		if address.IsValid() {
			if _, err := wire.Write(arpProbe(own, address)); err != nil {
				return nil, fmt.Errorf("probe %s on bridge %s: %w", address, bridge, err)
			}
		}
		wait := probeEvery
		if i == probes-1 {
			wait = probeAfter
		}
		wire.SetReadDeadline(time.Now().Add(wait))
		found, err := awaitOccupant(wire, own, address, mac)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if found != nil || err != nil {
			return found, err
		}
	}
	return nil, nil
}

// openWire listens to every frame on an interface.
func openWire(index int) (*os.File, error) {
	everything := int(networkOrder(unix.ETH_P_ALL))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: uint16(everything), Ifindex: index})
	if err == nil {
		// Frames that are for others are seen as well.
		err = unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP,
			&unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_PROMISC})
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "frames"), nil
}

func networkOrder(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}

// awaitOccupant reads frames until one of an occupant, or the deadline.
func awaitOccupant(wire *os.File, own net.HardwareAddr, address netip.Addr, mac net.HardwareAddr) (*Occupant, error) {
	frame := make([]byte, 64<<10)
	for {
		n, err := wire.Read(frame)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("listen for frames: %w", err)
		}
		if o := occupantIn(frame[:n], own, address, mac); o != nil {
			return o, nil
		}
	}
}

// The parts of an Ethernet frame with an ARP packet for IPv4 (RFC 826).
const (
	ethernetLength = 14
	arpLength      = ethernetLength + 28
	arpSenderMAC   = ethernetLength + 8
	arpSenderIP    = ethernetLength + 14
	arpTargetIP    = ethernetLength + 24
)

var arpForIPv4 = []byte{0, 1, 8, 0, 6, 4}

// occupantIn says whether a frame is of somebody who has the address or the MAC.
func occupantIn(frame []byte, own net.HardwareAddr, address netip.Addr, mac net.HardwareAddr) *Occupant {
	if len(frame) < ethernetLength {
		return nil
	}
	from := net.HardwareAddr(bytes.Clone(frame[6:12]))
	if bytes.Equal(from, own) {
		return nil
	}
	sameMAC := len(mac) == 6 && bytes.Equal(from, mac)
	if isARP(frame) {
		sender := net.HardwareAddr(bytes.Clone(frame[arpSenderMAC : arpSenderMAC+6]))
		ip := netip.AddrFrom4([4]byte(frame[arpSenderIP : arpSenderIP+4]))
		sameMAC = sameMAC || len(mac) == 6 && bytes.Equal(sender, mac)
		if address.IsValid() && ip == address && !bytes.Equal(sender, own) {
			return &Occupant{Address: ip, MAC: sender, SameMAC: sameMAC}
		}
	}
	if sameMAC {
		return &Occupant{MAC: mac, SameMAC: true}
	}
	return nil
}

func isARP(frame []byte) bool {
	return len(frame) >= arpLength && binary.BigEndian.Uint16(frame[12:]) == unix.ETH_P_ARP &&
		bytes.Equal(frame[ethernetLength:ethernetLength+6], arpForIPv4)
}

// arpProbe asks everybody who has an address, in nobody's name.
func arpProbe(own net.HardwareAddr, address netip.Addr) []byte {
	frame := make([]byte, 60) // the least that Ethernet carries
	copy(frame, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	copy(frame[6:], own)
	binary.BigEndian.PutUint16(frame[12:], unix.ETH_P_ARP)
	copy(frame[ethernetLength:], arpForIPv4)
	binary.BigEndian.PutUint16(frame[ethernetLength+6:], 1) // a question
	copy(frame[arpSenderMAC:], own)
	target := address.As4()
	copy(frame[arpTargetIP:], target[:])
	return frame
}
