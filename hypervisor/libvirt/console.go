//go:build libvirt_dlopen && cgo

package libvirt

import (
	"context"
	"errors"
	"fmt"
	"path"

	"libvirt.org/go/libvirtxml"

	"lifeboat/hypervisor"
)

// Console says where the machine's screen and serial line are. Files and sockets
// of another computer are not reached from here, and are left out.
func (h *Host) Console(ctx context.Context, machine string) (hypervisor.Console, error) {
	d, err := h.find(ctx, machine)
	if err != nil {
		return hypervisor.Console{}, err
	}
	s, err := onDomain(ctx, d, "read it", readDomain)
	if err != nil || !h.local() {
		return hypervisor.Console{}, err
	}
	if s.live != "" {
		return consoleOf(s.live)
	}
	console, err := consoleOf(s.config)
	return hypervisor.Console{SerialLog: console.SerialLog}, err
}

// consoleOf finds what of a domain's screen and serial lines is a file or a Unix
// socket. A screen on a TCP port is libvirt's to show (virt-viewer).
func consoleOf(text string) (hypervisor.Console, error) {
	doc, err := parseDomain(text)
	if err != nil {
		return hypervisor.Console{}, err
	}
	var c hypervisor.Console
	for _, g := range doc.Devices.Graphics {
		if g.VNC != nil && c.VNCSocket == "" {
			c.VNCSocket = vncSocket(g.VNC)
		}
	}
	for _, s := range doc.Devices.Serials {
		if c.SerialLog == "" {
			c.SerialLog = serialLog(s)
		}
		if c.SerialSocket == "" && s.Source != nil && s.Source.UNIX != nil && s.Source.UNIX.Mode == "bind" {
			c.SerialSocket = s.Source.UNIX.Path
		}
	}
	return c, nil
}

func vncSocket(g *libvirtxml.DomainGraphicVNC) string {
	if g.Socket != "" {
		return g.Socket
	}
	for _, l := range g.Listeners {
		if l.Socket != nil && l.Socket.Socket != "" {
			return l.Socket.Socket
		}
	}
	return ""
}

func serialLog(s libvirtxml.DomainSerial) string {
	if s.Log != nil {
		return s.Log.File
	}
	if s.Source != nil && s.Source.File != nil {
		return s.Source.File.Path
	}
	return ""
}

// serialTail is how much of the serial line is looked at.
const serialTail = 64 << 10

// NoRoot reads what a machine of Lifeboat's printed on its serial line. Of any
// other it knows nothing.
func (h *Host) NoRoot(ctx context.Context, machine string) (string, error) {
	d, err := h.find(ctx, machine)
	if err != nil {
		return "", err
	}
	s, err := onDomain(ctx, d, "read it", readDomain)
	if err != nil {
		return "", err
	}
	doc, err := parseDomain(s.config)
	if err != nil {
		return "", err
	}
	if _, own, err := oursIn(doc); err != nil || !own {
		return "", err
	}
	text, err := h.printed(ctx, s.config, serialTail)
	if errors.Is(err, hypervisor.ErrUnsupported) {
		return "", nil
	}
	return hypervisor.NoRootIn(text), err
}

// Printed returns the end of what a machine printed on its serial line, if
// libvirt keeps that in a file.
func (h *Host) Printed(ctx context.Context, machine string, last int64) ([]byte, error) {
	d, err := h.find(ctx, machine)
	if err != nil {
		return nil, err
	}
	s, err := onDomain(ctx, d, "read it", readDomain)
	if err != nil {
		return nil, err
	}
	return h.printed(ctx, s.config, last)
}

func (h *Host) printed(ctx context.Context, config string, last int64) ([]byte, error) {
	console, err := consoleOf(config)
	if err != nil {
		return nil, err
	}
	if console.SerialLog == "" {
		return nil, fmt.Errorf("%w: libvirt keeps no file of what it prints on its serial line", hypervisor.ErrUnsupported)
	}
	log := oneFile(console.SerialLog)
	log.tail = last
	found, err := h.readFiles(ctx, log)
	if errors.Is(err, errNoFile) {
		return nil, nil // nothing was printed yet
	}
	return found[path.Base(console.SerialLog)], err
}

var _ hypervisor.Printer = (*Host)(nil)
