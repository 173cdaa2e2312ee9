package netlab

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"pgregory.net/rapid"
)

func TestAProbeNamesWhoHasTheAddress(t *testing.T) {
	bridge := newBridge(t)
	other := join(t, bridge, "10.77.0.20")
	found, err := Probe(patient(t), bridge, address("10.77.0.20"), nil)
	if err != nil || found == nil || found.Address != address("10.77.0.20") || len(found.MAC) != 6 || found.SameMAC {
		t.Fatalf("found %v (%v)", found, err)
	}
	// The MAC alone, of somebody who speaks of something else.
	mac := found.MAC
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for ctx.Err() == nil {
			c, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			other.Dial(c, "tcp", "10.77.0.99:1")
			cancel()
		}
	}()
	found, err = Probe(patient(t), bridge, address("10.77.0.30"), mac)
	if err != nil || found == nil || found.Address.IsValid() || !found.SameMAC {
		t.Fatalf("found %v (%v)", found, err)
	}
}

func TestAProbeOfAFreeAddressFindsNobody(t *testing.T) {
	bridge := newBridge(t)
	join(t, bridge, "10.77.0.20")
	mac, err := net.ParseMAC("52:54:00:00:00:0a")
	must(t, err)
	if found, err := Probe(patient(t), bridge, address("10.77.0.10"), mac); found != nil || err != nil {
		t.Errorf("found %v (%v)", found, err)
	}
	if _, err := Probe(patient(t), "no-such-bridge", address("10.77.0.10"), mac); !errors.Is(err, ErrNoBridge) {
		t.Errorf("a bridge that is not there: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Probe(ctx, bridge, address("10.77.0.10"), mac); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after its time: %v", err)
	}
}

// TestAProbeTellsNobodyAWrongAddress: a cache of production would believe it.
func TestAProbeTellsNobodyAWrongAddress(t *testing.T) {
	frame := arpProbe(net.HardwareAddr{2, 0, 0, 0, 0, 1}, address("10.77.0.10"))
	if !isARP(frame) || [4]byte(frame[arpSenderIP:arpSenderIP+4]) != [4]byte{} || [4]byte(frame[arpTargetIP:arpTargetIP+4]) != [4]byte{10, 77, 0, 10} {
		t.Errorf("the probe is % x", frame)
	}
}

func TestFramesOfAnyKindAreRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		frame := rapid.SliceOfN(rapid.Byte(), 0, 80).Draw(t, "frame")
		if len(frame) > 14 && rapid.Bool().Draw(t, "arp") {
			frame[12], frame[13] = 8, 6
		}
		occupantIn(frame, net.HardwareAddr{2, 0, 0, 0, 0, 1}, address("10.77.0.10"), net.HardwareAddr{2, 0, 0, 0, 0, 2})
	})
}

// FuzzGuestPackets: whatever a guest sends to DHCP and DNS is answered or not, and
// no answer gives an address to a card that nobody knows.
func FuzzGuestPackets(f *testing.F) {
	c := Config{
		Name:     "fuzz",
		Networks: []Network{{Name: "servers", CIDR: prefix("10.77.0.0/24"), Gateway: address("10.77.0.1")}},
		Cards:    []Card{{Machine: "db", MAC: "52:54:00:00:00:0a", Network: "servers", Addresses: []netip.Prefix{prefix("10.77.0.10/24")}}},
	}
	known, _ := net.ParseMAC("52:54:00:00:00:0a")
	q, err := dhcpv4.NewDiscovery(known)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(q.ToBytes())
	m, err := question("db")
	if err != nil {
		f.Fatal(err)
	}
	packed, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(packed)
	zone := c.zone()
	f.Fuzz(func(t *testing.T, packet []byte) {
		if reply, _ := answerDHCP(c, c.Networks[0], packet); reply != nil {
			if reply.ClientHWAddr.String() != known.String() {
				t.Errorf("%s was answered", reply.ClientHWAddr)
			}
			reply.ToBytes()
		}
		if reply, _, _ := answerDNS(zone, packet); len(reply) > longestDNS {
			t.Errorf("an answer of %d bytes", len(reply))
		}
		servFail(packet)
	})
}

func TestALabThatCannotBeIsRefusedWithItsReason(t *testing.T) {
	good := firm(t)
	must(t, good.Check())
	for want, spoil := range map[string]func(c *Config){
		`networks "servers" and "dmz" have the same addresses (10.77.0.0/24 and 10.77.0.0/16): make them one`: func(c *Config) {
			c.Networks[1].CIDR, c.Networks[1].Gateway = prefix("10.77.0.0/16"), netip.Addr{}
		},
		`network "dmz": its gateway 10.79.0.1 is not in 10.78.0.0/24`: func(c *Config) { c.Networks[1].Gateway = address("10.79.0.1") },
		`network "dmz": it is isolated, so nothing may lead in`:       func(c *Config) { c.Networks[1].VPN = 51820 },
		`card of "db": there is no network "gone"`:                    func(c *Config) { c.Cards[0].Network = "gone" },
		`network "servers": 127.0.0.1 cannot be a DNS server`:         func(c *Config) { c.Networks[0].DNS[0] = address("127.0.0.1") },
	} {
		c := firm(t)
		spoil(&c)
		if err := c.Check(); err == nil || err.Error() != want {
			t.Errorf("got %v, not %s", err, want)
		}
	}
}

// TestTheLabNeverTakesAnAddressOfAGuest, however full a network is.
func TestTheLabNeverTakesAnAddressOfAGuest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bits := rapid.IntRange(24, 30).Draw(t, "bits")
		n := Network{Name: "n", CIDR: netip.PrefixFrom(address("10.0.0.0"), bits)}
		c := Config{Name: "x"}
		for _, last := range rapid.SliceOfDistinct(rapid.IntRange(1, 1<<(32-bits)-2), func(i int) int { return i }).Draw(t, "taken") {
			a := netip.AddrFrom4([4]byte{10, 0, 0, byte(last)})
			c.Cards = append(c.Cards, Card{Network: "n", Addresses: []netip.Prefix{netip.PrefixFrom(a, bits)}})
		}
		n.Gateway = netip.AddrFrom4([4]byte{10, 0, 0, byte(rapid.IntRange(1, 1<<(32-bits)-2).Draw(t, "gateway"))})
		c.Networks = []Network{n}
		own, ok := c.own(n)
		if ok && (c.owned(own.Addr()) || !n.CIDR.Contains(own.Addr()) || own.Addr() == lastAddress(n.CIDR) || own.Addr() == n.CIDR.Addr()) {
			t.Fatalf("the lab is %s", own)
		}
	})
}
