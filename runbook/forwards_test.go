package runbook

import (
	"net/netip"
	"strings"
	"testing"
)

// A port is taken with its protocol and its address: what does not clash on this
// computer stops no recovery, and what does is found before.
func TestPortsClashByProtocolAndAddress(t *testing.T) {
	at := netip.MustParseAddr
	local, all := Forward{HostPort: 443, Machine: "web", Port: 443}, Forward{Address: "0.0.0.0", HostPort: 443, Machine: "web", Port: 443}
	one, two := Forward{Address: "10.0.0.1", HostPort: 443, Machine: "web", Port: 443}, Forward{Address: "10.0.0.2", HostPort: 443, Machine: "app", Port: 443}
	for _, c := range []struct {
		name     string
		forwards []Forward
		vpn      int
		taken    []TakenPort
		says     string
	}{
		{"two addresses", []Forward{one, two}, 0, nil, ""},
		{"one address twice", []Forward{one, one}, 0, nil, "which another network or forward has"},
		{"one address and all", []Forward{one, all}, 0, nil, "which another network or forward has"},
		{"a listener on another address", []Forward{one}, 0, []TakenPort{{Port: 443, Address: at("10.0.0.2")}}, ""},
		{"a listener on that address", []Forward{one}, 0, []TakenPort{{Port: 443, Address: at("::ffff:10.0.0.1")}}, "forwards port 443 of this computer, which another program has"},
		{"a listener on all", []Forward{one}, 0, []TakenPort{{Port: 443, Address: at("::")}}, "which another program has"},
		{"a forward without an address is on the loopback", []Forward{local, one}, 0, []TakenPort{{Port: 443, Address: at("10.0.0.2")}}, ""},
		{"a listener of UDP", []Forward{local}, 0, []TakenPort{{UDP: true, Port: 443}}, ""},
		{"the VPN's port", nil, 51820, []TakenPort{{UDP: true, Port: 51820, Address: at("10.0.0.2")}}, "its VPN the UDP port 51820 of this computer, which another program has"},
		{"the VPN's number in TCP", nil, 51820, []TakenPort{{Port: 51820}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, s := shopBook(), shopSituation(Recover)
			b.Networks[0].Forwards, b.Networks[0].VPN, s.PortsTaken = c.forwards, c.vpn, c.taken
			p := resolved(t, b, s)
			if c.says == "" {
				if len(p.Findings) > 0 {
					t.Errorf("findings: %v", p.Findings)
				}
				return
			}
			if f := finding(t, p, "port-taken"); f.Severity != Stops || f.Line != 5 || !strings.Contains(f.What, c.says) {
				t.Errorf("finding %+v", f)
			}
		})
	}
}

// What a host cannot do is found before a machine starts there.
func TestAPlanKnowsWhatItsHostsCannotDo(t *testing.T) {
	for _, c := range []struct {
		name   string
		mode   Mode
		change func(b *Book, h *KnownHost)
		want   string
	}{
		{"no isolated networks, in a drill", Drill, func(_ *Book, h *KnownHost) { h.Segments = false }, "stops:no-isolation:db stops:no-isolation:app stops:no-isolation:web"},
		{"no isolated networks, behind NAT", Recover, func(_ *Book, h *KnownHost) { h.Segments = false }, "stops:no-isolation:db stops:no-isolation:app stops:no-isolation:web"},
		{"no isolated networks, on a bridge", Recover, func(b *Book, h *KnownHost) {
			b.Networks[0].Recover, h.Segments = Cable{Kind: CableBridge, Name: "br0"}, false
		}, ""},
		{"nobody to plug in, on a bridge", Recover, func(b *Book, h *KnownHost) {
			b.Networks[0].Recover, h.Links = Cable{Kind: CableBridge, Name: "br0"}, false
		}, "stops:no-links:db stops:no-links:app stops:no-links:web"},
		{"nobody to plug in, in a drill", Drill, func(_ *Book, h *KnownHost) { h.Links = false }, ""},
		{"another computer", Drill, func(b *Book, h *KnownHost) {
			h.Remote = true
			b.Machines[0].Checks, b.Machines[2].Checks = []Check{{Kind: CheckAgent}}, []Check{{Kind: CheckPing}}
		}, "stops:check-needs-agent:web warns:check-needs-agent:app"},
		{"another computer, in a recovery", Recover, func(b *Book, h *KnownHost) { h.Remote, b.Machines[2].Checks = true, []Check{{Kind: CheckPing}} }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, s := shopBook(), shopSituation(c.mode)
			c.change(b, &s.Hosts[0])
			if got := strings.Join(codes(resolved(t, b, s)), " "); got != c.want {
				t.Errorf("findings %q, want %q", got, c.want)
			}
		})
	}
}
