package main

import (
	"fmt"
	"strconv"
	"strings"

	"lifeboat/hypervisor"
)

// parseForward reads [HOSTPORT:]MACHINE:PORT. A host port of 0 means any.
func parseForward(text string) (hostPort int, machine string, port int, err error) {
	parts := strings.Split(text, ":")
	bad := usagef("--forward takes [HOSTPORT:]MACHINE:PORT, not %q", text)
	if len(parts) == 3 {
		if hostPort, err = parsePort(parts[0]); err != nil {
			return 0, "", 0, bad
		}
		parts = parts[1:]
	}
	if len(parts) != 2 || parts[0] == "" {
		return 0, "", 0, bad
	}
	if port, err = parsePort(parts[1]); err != nil {
		return 0, "", 0, bad
	}
	return hostPort, parts[0], port, nil
}

func parsePort(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 65535 {
		return 0, fmt.Errorf("%q is not a port", text)
	}
	return n, nil
}

// parseCheck reads MACHINE=tcp:PORT or MACHINE=http:PORT[/PATH].
func parseCheck(text string) (bootCheck, error) {
	bad := usagef("--check takes MACHINE=tcp:PORT or MACHINE=http:PORT/PATH, not %q", text)
	machine, what, ok := strings.Cut(text, "=")
	kind, rest, ok2 := strings.Cut(what, ":")
	if !ok || !ok2 || machine == "" || (kind != "tcp" && kind != "http") {
		return bootCheck{}, bad
	}
	portText, path := rest, ""
	if i := strings.IndexByte(rest, '/'); i >= 0 && kind == "http" {
		portText, path = rest[:i], rest[i:]
	}
	port, err := parsePort(portText)
	if err != nil {
		return bootCheck{}, bad
	}
	if kind == "http" && path == "" {
		path = "/"
	}
	return bootCheck{Machine: machine, Kind: kind, Port: port, Path: path}, nil
}

// cableWords says where each network card leads, in the words of --network.
func cableWords(cards []hypervisor.Network) string {
	var words []string
	for _, n := range cards {
		word := string(n.Kind)
		if n.Kind == hypervisor.NetworkBridge || n.Kind == hypervisor.NetworkNamed {
			word += ":" + n.Name
		}
		words = append(words, word)
	}
	return strings.Join(words, ", ")
}

func forwardWords(forwards []bootForward) string {
	words := ""
	for i, f := range forwards {
		if i > 0 {
			words += ", "
		}
		words += fmt.Sprintf("127.0.0.1:%d to port %d", f.HostPort, f.GuestPort)
	}
	return words
}
