// Package netlab lets this program into private Ethernet networks of this
// computer, and keeps the computer itself out of them.
//
// A network is a bridge. Guests on it keep the addresses that they have in
// production, so the host must neither get an address there nor a route to it:
// it could take one network for the other. [Seal] shuts the host out of a
// bridge. [Join] opens a way in all the same: a network namespace of this process
// with one cable into the bridge and an address of its own, from which
// connections are made. Nothing is routed between the two sides.
//
// The namespace has no name and no file. It ends with the process, however that
// ends, and its cable with it: there is nothing to find and to remove later.
package netlab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// ErrNoBridge: there is no bridge of that name.
var ErrNoBridge = errors.New("no such bridge")

// ErrNotAllowed: the user of this process may not change networks. It takes
// CAP_NET_ADMIN and CAP_SYS_ADMIN, which root has.
var ErrNotAllowed = errors.New("changing networks needs root")

// Inside is a way into a network. Its methods may be called from several
// goroutines.
type Inside struct {
	ns     netns.NsHandle
	bridge int    // the index of the bridge
	cable  string // the end of the cable that is plugged into it

	mu     sync.Mutex
	closed bool
}

// insideName is what the cable is called inside.
const insideName = "eth0"

// Join opens a way into the network of a bridge. Inside, this process has the
// address addr in the network cidr ("10.77.0.254" in "10.77.0.0/24", IPv4), and
// sees nothing but that network. Nobody else may have the address.
func Join(bridge, cidr, addr string) (*Inside, error) {
	prefix, err := netip.ParsePrefix(cidr)
	if err != nil || !prefix.Addr().Is4() {
		return nil, fmt.Errorf("%q is not a network such as 10.0.7.0/24", cidr)
	}
	own, err := netip.ParseAddr(addr)
	if err != nil || !prefix.Contains(own) {
		return nil, fmt.Errorf("%q is not an address in %s", addr, cidr)
	}
	link, err := bridgeNamed(bridge)
	if err != nil {
		return nil, err
	}
	ns, err := newNamespace()
	in := &Inside{ns: ns, bridge: link.Attrs().Index}
	if err != nil {
		return nil, errors.Join(allowed("make a network namespace", err), in.Close())
	}
	if err := in.plug(link, netip.PrefixFrom(own, prefix.Bits())); err != nil {
		return nil, errors.Join(allowed("join bridge "+bridge, err), in.Close())
	}
	return in, nil
}

func bridgeNamed(name string) (netlink.Link, error) {
	link, err := netlink.LinkByName(name)
	var none netlink.LinkNotFoundError
	if errors.As(err, &none) {
		return nil, fmt.Errorf("%w: %s", ErrNoBridge, name)
	}
	if err != nil {
		return nil, fmt.Errorf("look for bridge %s: %w", name, err)
	}
	if link.Type() != "bridge" {
		return nil, fmt.Errorf("%w: %s is a %s", ErrNoBridge, name, link.Type())
	}
	return link, nil
}

// allowed adds [ErrNotAllowed] to an error of the system that means it.
func allowed(what string, err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("%s: %w (%w)", what, ErrNotAllowed, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// newNamespace makes a network namespace that only its handle keeps.
func newNamespace() (netns.NsHandle, error) {
	ns := netns.None()
	err := onThread(func() (err error) {
		if ns, err = netns.New(); err != nil {
			return err
		}
		return quiet()
	})
	return ns, err
}

// onThread runs f on a thread that may enter another namespace and is never used
// for anything else: its goroutine ends without unlocking it, and so it ends. It
// is not the main thread, which cannot end: /proc/self shows the network of that
// one.
func onThread(f func() error) error {
	answer := make(chan error)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			answer <- f()
			return
		}
		err := onThread(f) // while this one is locked, that is another thread
		runtime.UnlockOSThread()
		answer <- err
	}()
	return <-answer
}

// quiet makes a fresh namespace say nothing by itself and pass nothing on. What
// it has was copied from the host.
func quiet() error {
	for path, value := range map[string]string{
		"/proc/sys/net/ipv6/conf/all/disable_ipv6":     "1",
		"/proc/sys/net/ipv6/conf/default/disable_ipv6": "1",
		"/proc/sys/net/ipv4/ip_forward":                "0",
		"/proc/sys/net/ipv4/conf/all/send_redirects":   "0",
	} {
		if err := set(path, value); err != nil {
			return err
		}
	}
	return nil
}

// set writes a setting of the network. A kernel without IPv6 has none of its
// settings.
func set(path, value string) error {
	err := os.WriteFile(path, []byte(value), 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// plug lays the cable: one end in the bridge, the other in the namespace from
// the moment it exists, so that it cannot stay behind without it.
func (in *Inside) plug(bridge netlink.Link, address netip.Prefix) error {
	attrs := netlink.NewLinkAttrs()
	// The number of this handle is nobody else's in this process.
	attrs.Name = fmt.Sprintf("lbg%d-%d", os.Getpid(), int(in.ns))
	attrs.MasterIndex = in.bridge
	attrs.MTU = bridge.Attrs().MTU
	cable := &netlink.Veth{LinkAttrs: attrs, PeerName: insideName, PeerNamespace: netlink.NsFd(in.ns), PeerMTU: uint32(attrs.MTU)}
	if err := netlink.LinkAdd(cable); err != nil {
		return err
	}
	in.cable = attrs.Name
	if err := set("/proc/sys/net/ipv6/conf/"+in.cable+"/disable_ipv6", "1"); err != nil {
		return err
	}
	inner, err := netlink.NewHandleAt(in.ns)
	if err != nil {
		return err
	}
	defer inner.Close()
	loopback, err := inner.LinkByName("lo")
	if err != nil {
		return err
	}
	eth, err := inner.LinkByName(insideName)
	if err != nil {
		return err
	}
	ip := &netlink.Addr{IPNet: &net.IPNet{IP: address.Addr().AsSlice(), Mask: net.CIDRMask(address.Bits(), 32)}}
	if err := inner.AddrAdd(eth, ip); err != nil {
		return err
	}
	outer, err := netlink.LinkByName(in.cable)
	if err != nil {
		return err
	}
	return errors.Join(inner.LinkSetUp(loopback), inner.LinkSetUp(eth), netlink.LinkSetUp(outer))
}

// Plugged says whether the cable is still in the bridge that it was plugged
// into. Somebody may have removed that bridge.
func (in *Inside) Plugged() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return false
	}
	link, err := netlink.LinkByName(in.cable)
	return err == nil && link.Attrs().MasterIndex == in.bridge
}

// Close takes the way in away. Connections through it break. It is safe to call
// twice.
func (in *Inside) Close() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return nil
	}
	in.closed = true
	// Open connections keep the namespace, so the cable is taken out by hand.
	var err error
	if in.cable != "" {
		if link, lerr := netlink.LinkByName(in.cable); lerr == nil {
			err = netlink.LinkDel(link)
		}
	}
	if !in.ns.IsOpen() {
		return err
	}
	return errors.Join(err, in.ns.Close())
}

// Dial connects from inside to an address on the network, "tcp" with an IPv4
// address and a port. It returns when the other side has accepted.
func (in *Inside) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if network != "tcp" {
		return nil, fmt.Errorf("dial %s: only tcp leads into a private network", network)
	}
	return dial(ctx, network, address, in.socket)
}

// dial connects a socket that is inside.
func dial(ctx context.Context, network, address string, socket func() (int, error)) (net.Conn, error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil || !to.Addr().Is4() {
		return nil, fmt.Errorf("%q is not an IPv4 address and a port", address)
	}
	fd, err := socket()
	if err != nil {
		return nil, allowed("open a socket inside", err)
	}
	// The file hands the socket to Go's poller, and closes it.
	file := os.NewFile(uintptr(fd), address)
	defer file.Close()
	if err := connect(ctx, file, to); err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: net.TCPAddrFromAddrPort(to), Err: err}
	}
	return net.FileConn(file)
}

// socket makes a socket that belongs to the namespace for good.
func (in *Inside) socket() (int, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return -1, net.ErrClosed
	}
	fd := -1
	err := onThread(func() (err error) {
		if err := netns.Set(in.ns); err != nil {
			return err
		}
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		return err
	})
	return fd, err
}

// connect waits until the other side has accepted.
func connect(ctx context.Context, file *os.File, to netip.AddrPort) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { file.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	begun := false
	var result error
	err = raw.Write(func(fd uintptr) bool {
		if !begun {
			begun = true
			result = unix.Connect(int(fd), &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
			return result != unix.EINPROGRESS
		}
		code, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		if err != nil {
			result = err
			return true
		}
		if result = nil; code != 0 {
			result = unix.Errno(code)
			return true
		}
		// Woken without an error and without a peer: not yet.
		_, err = unix.Getpeername(int(fd))
		return err == nil
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(err, result)
}
