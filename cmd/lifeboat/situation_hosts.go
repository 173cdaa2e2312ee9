package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"lifeboat/hypervisor"
	"lifeboat/runbook"
)

// hosts looks at the hosts that a runbook lets in, side by side. A runbook that
// says nothing of hosts means this computer: nobody starts machines on a host of
// production without having said so.
func (g *gathering) hosts(ctx context.Context, site *siteFile, book *runbook.Book) {
	var files []hostFile
	for _, h := range g.a.hostFiles(site) {
		named := slices.ContainsFunc(book.Hosts, func(r runbook.HostRule) bool { return r.Name == h.Name || r.Name == "*" })
		if named || len(book.Hosts) == 0 && h.Name == localHost {
			files = append(files, h)
		}
	}
	g.s.Hosts = make([]runbook.KnownHost, len(files))
	var work sync.WaitGroup
	for i, file := range files {
		work.Go(func() {
			known, err := answer(ctx, checkPatience, func(ctx context.Context) (runbook.KnownHost, error) { return g.host(ctx, file) })
			if err != nil {
				known.Why = unreachable(err).Detail
			}
			known.Name, known.Kind, known.Reached, known.Remote = file.Name, file.Kind, err == nil, file.remote()
			g.s.Hosts[i] = known
		})
	}
	work.Wait()
}

// host says what a host has.
func (g *gathering) host(ctx context.Context, file hostFile) (known runbook.KnownHost, err error) {
	if file.Kind == kindQEMU {
		if err := needQEMU(); err != nil {
			return known, err
		}
	}
	h, err := g.a.openHost(file)
	if err != nil {
		return known, err
	}
	listed, err := h.List(ctx)
	if err != nil && listed == nil {
		return known, err
	}
	for _, l := range listed {
		known.Running = append(known.Running, l.Machine.Name)
	}
	can := h.Abilities()
	known.Segments, known.BootNBD = can.Segments, can.BootNBD
	_, known.Links = h.(hypervisor.Linker)
	if sizer, ok := h.(hypervisor.Sizer); ok {
		size, err := sizer.Size(ctx)
		if err != nil {
			return known, err
		}
		known.TotalMemoryBytes, known.FreeMemoryBytes, known.CPUs = size.TotalMemoryBytes, size.FreeMemoryBytes, size.CPUs
		known.FreeDiskBytes, known.KVM, known.Networks = size.FreeDiskBytes, size.KVM, size.Networks
		if !size.Clock.IsZero() {
			known.ClockAhead = g.a.momentOf(size.Clock).Sub(g.a.now())
		}
	}
	return known, nil
}

// remote says that a host is another computer.
func (h hostFile) remote() bool {
	u, err := url.Parse(h.URI)
	return h.Kind == kindVSphere || h.Kind == kindLibvirt && err == nil && u.Host != ""
}

// inOtherBooks are the machines that the other runbooks of the state folder bring
// back. One that cannot be read names none.
func (a *app) inOtherBooks(ctx context.Context, name string) (machines []string) {
	names, err := a.ownRunbooks()
	if err != nil {
		a.warn("%v; which machines they bring back is not known", err)
	}
	for _, other := range names {
		if other == name {
			continue
		}
		book, err := a.findRunbook(ctx, other, nil)
		if err != nil {
			a.warn("which machines the runbook %s brings back is not known: %s", other, problemOf(err).What)
			continue
		}
		for _, m := range book.Machines {
			machines = append(machines, m.Name)
		}
	}
	return machines
}

// portTables are the kernel's lists of sockets, with the state that one has there
// that waits for others.
var portTables = []struct {
	file, waits string
	udp         bool
}{{"/proc/net/tcp", "0A", false}, {"/proc/net/tcp6", "0A", false}, {"/proc/net/udp", "07", true}, {"/proc/net/udp6", "07", true}}

// listenedPorts are the ports of this computer that somebody listens on.
func listenedPorts() (ports []runbook.TakenPort) {
	for _, table := range portTables {
		for _, fields := range procTable(table.file) {
			if len(fields) < 4 || fields[3] != table.waits {
				continue
			}
			ip, number, _ := strings.Cut(fields[1], ":")
			if port, err := strconv.ParseUint(number, 16, 16); err == nil {
				ports = append(ports, runbook.TakenPort{UDP: table.udp, Port: int(port), Address: procAddress(ip)})
			}
		}
	}
	return ports
}

// procAddress reads an address as those tables have it: words of 32 bits, each in
// the byte order of this computer. One that cannot be read is not valid.
func procAddress(text string) netip.Addr {
	b, err := hex.DecodeString(text)
	if err != nil || len(b)%4 != 0 {
		return netip.Addr{}
	}
	for i := 0; i < len(b); i += 4 {
		binary.NativeEndian.PutUint32(b[i:], binary.BigEndian.Uint32(b[i:]))
	}
	address, _ := netip.AddrFromSlice(b)
	return address
}

// uplinks is how many network cards of this computer have a way out: a default
// route of IPv4, or where there is none of those at all, of IPv6.
func uplinks() int {
	cards := map[string]bool{}
	for _, fields := range procTable("/proc/net/route") {
		if len(fields) > 7 && fields[1] == "00000000" && fields[7] == "00000000" {
			cards[fields[0]] = true
		}
	}
	if len(cards) > 0 {
		return len(cards)
	}
	for _, fields := range procTable("/proc/net/ipv6_route") {
		if len(fields) > 9 && strings.Trim(fields[0], "0") == "" && fields[1] == "00" && fields[9] != "lo" {
			cards[fields[9]] = true
		}
	}
	return len(cards)
}

// procTable reads a table of the kernel: the words of each line.
func procTable(file string) (lines [][]string) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	for in := bufio.NewScanner(bytes.NewReader(text)); in.Scan(); {
		lines = append(lines, strings.Fields(in.Text()))
	}
	return lines
}
