package main

import (
	"net"
	"net/netip"
	"testing"

	"lifeboat/runbook"
)

// What listens on this computer is seen with its protocol and its address.
func TestListenedPortsHaveProtocolAndAddress(t *testing.T) {
	tcp, err := net.Listen("tcp4", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp6", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	want := map[runbook.TakenPort]bool{
		{Port: tcp.Addr().(*net.TCPAddr).Port, Address: netip.MustParseAddr("127.0.0.2")}:     true,
		{UDP: true, Port: udp.LocalAddr().(*net.UDPAddr).Port, Address: netip.IPv6Loopback()}: true,
	}
	for _, p := range listenedPorts() {
		delete(want, p)
	}
	if len(want) > 0 {
		t.Errorf("not seen: %v", want)
	}
}
