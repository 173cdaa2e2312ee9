//go:build libvirt_dlopen && cgo

package libvirt

import (
	"fmt"
	"net/url"
	"strings"
	"sync"

	"lifeboat"
	"lifeboat/hypervisor"
)

// Host is the machines of one libvirtd with QEMU.
type Host struct {
	o   Options
	uri *url.URL

	mu     sync.Mutex
	link   *link // nil before the first call and after a lost connection
	closed bool
	// opening is one token: one goroutine at a time makes a connection.
	opening chan struct{}
}

var _ hypervisor.Host = (*Host)(nil)

// Open returns the host of that URI. It connects when the first answer is
// needed, and again whenever the connection was lost, so a host that is away can
// still be opened and checked. A URI that cannot be right is refused here.
func Open(o Options) (*Host, error) {
	uri, err := parseURI(o.URI)
	if err != nil {
		return nil, &lifeboat.Problem{
			What: fmt.Sprintf("host %s: %v", o.Name, err),
			Safe: "nothing was done",
			Next: `give libvirt's own address of a host with QEMU, for example qemu:///system or qemu+ssh://root@kvm1/system`,
		}
	}
	if o.Pool == "" {
		o.Pool = "default"
	}
	if o.Note == nil {
		o.Note = func(string, string) {}
	}
	return &Host{o: o, uri: uri, opening: make(chan struct{}, 1)}, nil
}

// transports are the ways to a libvirtd that its client library knows; "" is a
// Unix socket without a host name and TLS with one.
var transports = map[string]bool{
	"": true, "unix": true, "ssh": true, "libssh": true, "libssh2": true, "tls": true, "tcp": true, "ext": true,
}

// parseURI reads the address of a libvirtd with QEMU.
func parseURI(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%q is no address of a libvirtd", hypervisor.GuestWords(text))
	}
	driver, transport, _ := strings.Cut(u.Scheme, "+")
	switch {
	case driver != "qemu":
		return nil, fmt.Errorf("%q does not name a libvirtd with QEMU", hypervisor.GuestWords(text))
	case !transports[transport]:
		return nil, fmt.Errorf("libvirt knows no way that is called %q", transport)
	case transport == "tcp":
		return nil, fmt.Errorf("%q has no encryption: whoever is on the way reads and rules the host", hypervisor.GuestWords(text))
	case u.Path != "/system" && u.Path != "/session":
		return nil, fmt.Errorf("%q does not end in /system or /session", hypervisor.GuestWords(text))
	case u.User != nil && hasPassword(u.User):
		return nil, fmt.Errorf("an address with a password in it would show it to everybody: use a key, or libvirt's auth.conf")
	}
	return u, nil
}

func hasPassword(user *url.Userinfo) bool {
	_, has := user.Password()
	return has
}

// transport is how the host is reached: "unix" for this computer, "ssh", "tls"
// and so on.
func (h *Host) transport() string {
	_, transport, _ := strings.Cut(h.uri.Scheme, "+")
	switch {
	case transport != "":
		return transport
	case h.uri.Host != "":
		return "tls"
	}
	return "unix"
}

// local says that the host's paths and sockets are this computer's.
func (h *Host) local() bool { return h.transport() == "unix" }

// Name is what the operator called the host.
func (h *Host) Name() string { return h.o.Name }

// note tells the operator something although nothing failed.
func (h *Host) note(machine, text string) { h.o.Note(machine, text) }

// Close ends the connection to the host. Machines go on. Calls that are still
// under way end first; nothing waits for them.
func (h *Host) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	h.retire()
	return nil
}
