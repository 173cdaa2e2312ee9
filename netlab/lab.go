package netlab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Lab is a place for guests that keep production's addresses: a network namespace
// with one bridge per network, in which nothing of this computer is. Guests are
// plugged in by cables that [Lab.Tap] makes. Its methods may be called from several
// goroutines.
//
// The namespace has no name and no file. It lives as long as the process that
// opened it, or a guest with a cable in it: a process that opens the same lab again
// finds it by those cables.
type Lab struct {
	config Config
	ns     netns.NsHandle

	mu     sync.Mutex
	closed bool
}

// Open makes a lab, or enters the one of this name that guests are still plugged
// into. Nothing answers in it before [Lab.Serve].
func Open(c Config) (*Lab, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	ns, err := find(c)
	if err != nil {
		return nil, allowed("look for lab "+c.Name, err)
	}
	if !ns.IsOpen() {
		if ns, err = newNamespace(); err != nil {
			return nil, allowed("make a network namespace", err)
		}
	}
	l := &Lab{config: c, ns: ns}
	if err := l.build(); err != nil {
		return nil, errors.Join(allowed("make lab "+c.Name, err), l.Close())
	}
	return l, nil
}

// Config is what the lab was opened with.
func (l *Lab) Config() Config { return l.config }

// Close lets go of the lab. It ends with its last guest.
func (l *Lab) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	return l.ns.Close()
}

// namespace is a descriptor of the lab's namespace, to be given away.
func (l *Lab) namespace() (*os.File, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, net.ErrClosed
	}
	number, err := unix.FcntlInt(uintptr(l.ns), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(number), "the lab's network"), nil
}

// within runs f on a thread that is inside the lab. Sockets that it makes belong
// there for good.
func (l *Lab) within(f func() error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return net.ErrClosed
	}
	return onThread(func() error {
		if err := netns.Set(l.ns); err != nil {
			return err
		}
		return f()
	})
}

// build makes bridges and addresses, those that are missing: a lab that was entered
// again has them.
func (l *Lab) build() error {
	return l.within(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(lo); err != nil {
			return err
		}
		for _, n := range l.config.Networks {
			if err := l.buildNetwork(n); err != nil {
				return fmt.Errorf("network %q: %w", n.Name, err)
			}
		}
		for _, a := range l.config.servers() {
			if err := addAddress(lo, netip.PrefixFrom(a, 32)); err != nil {
				return fmt.Errorf("stand for the DNS server %s: %w", a, err)
			}
		}
		for path, value := range map[string]string{
			"/proc/sys/net/ipv4/conf/all/rp_filter": "0",
			// Rules are for what is routed. Met on the bridge already, where Docker
			// lets this computer's bridges meet them, packets lose the socket that
			// takes them out.
			"/proc/sys/net/bridge/bridge-nf-call-iptables": "0",
		} {
			if err := set(path, value); err != nil {
				return err
			}
		}
		// Between its own networks only: there is no other route.
		return set("/proc/sys/net/ipv4/ip_forward", "1")
	})
}

func (l *Lab) buildNetwork(n Network) error {
	name, err := l.config.bridge(n.Name)
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	// Without snooping a group reaches every guest, as on a simple switch.
	snooping := false
	err = netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping})
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	// The settings of a fresh namespace may be copied from this computer, which may
	// have been told to be strict: a guest whose gateway is another guest comes here
	// by a way that no route leads back.
	for file, value := range map[string]string{"rp_filter": "0", "send_redirects": "0", "arp_ignore": "0", "accept_local": "0", "forwarding": "1"} {
		if err := set("/proc/sys/net/ipv4/conf/"+name+"/"+file, value); err != nil {
			return err
		}
	}
	if own, ok := l.config.own(n); ok {
		if err := addAddress(link, own); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(link)
}

// addAddress gives a link an address that it may have already.
func addAddress(link netlink.Link, p netip.Prefix) error {
	err := netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}})
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// tapFlags make a cable that carries Ethernet frames with the header that QEMU
// knows as vnet_hdr. It is not persistent: it vanishes with its last holder.
const tapFlags = unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR

// Tap makes a cable into a network of the lab. It is the caller's: whoever holds
// the file is plugged in, in whatever namespace they are.
func (l *Lab) Tap(network string) (*os.File, error) {
	bridge, err := l.config.bridge(network)
	if err != nil {
		return nil, err
	}
	var file *os.File
	err = l.within(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		// Not for the poller: QEMU wants it as it is.
		file = os.NewFile(uintptr(fd), "/dev/net/tun")
		request, err := unix.NewIfreq(l.config.tag() + "-%d")
		if err != nil {
			return err
		}
		request.SetUint16(tapFlags)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
			return err
		}
		return plugIn(request.Name(), bridge)
	})
	if err != nil {
		if file != nil {
			file.Close()
		}
		return nil, allowed("make a cable into network "+network, err)
	}
	return file, nil
}

// plugIn puts a cable into a bridge of the namespace that the thread is in.
func plugIn(cable, bridge string) error {
	tap, err := netlink.LinkByName(cable)
	if err != nil {
		return err
	}
	into, err := netlink.LinkByName(bridge)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetMaster(tap, into); err != nil {
		return err
	}
	return netlink.LinkSetUp(tap)
}

// Cables is how many cables there are: about how many cards of guests are plugged
// in.
func (l *Lab) Cables() (n int, err error) {
	err = l.within(func() error {
		links, err := netlink.LinkList()
		if err != nil {
			return err
		}
		for _, link := range links {
			if isCable(l.config, link.Attrs().Name) {
				n++
			}
		}
		return nil
	})
	return n, err
}

// Dial connects from inside to an address of a guest: "tcp" or "udp" with an IPv4
// address and a port. For tcp it returns when the guest has accepted.
func (l *Lab) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	kinds := map[string]int{"tcp": unix.SOCK_STREAM, "udp": unix.SOCK_DGRAM}
	kind, ok := kinds[network]
	if !ok {
		return nil, fmt.Errorf("dial %s: only tcp and udp lead into a lab", network)
	}
	return dial(ctx, network, address, func() (int, error) { return l.socket(unix.AF_INET, kind, 0) })
}

// socket makes a socket inside.
func (l *Lab) socket(domain, kind, protocol int) (fd int, err error) {
	fd = -1
	err = l.within(func() (err error) {
		fd, err = unix.Socket(domain, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
		return err
	})
	return fd, err
}

// leads says that an address is of a network of the lab.
func (c Config) leads(a netip.Addr) bool {
	return slices.ContainsFunc(c.Networks, func(n Network) bool { return n.CIDR.IsValid() && n.CIDR.Contains(a) })
}
