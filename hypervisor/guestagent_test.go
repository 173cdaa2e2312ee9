package hypervisor

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"lifeboat"
)

// agentOf is an agent that knows these answers and files, and nothing else.
func agentOf(answers, files map[string]string) AgentCommand {
	open := map[int64]string{}
	return func(_ context.Context, command string, arguments map[string]any) (json.RawMessage, error) {
		switch command {
		case "guest-file-open":
			text, ok := files[arguments["path"].(string)]
			if !ok {
				return nil, errors.New("no such file")
			}
			handle := int64(1000 + len(open))
			open[handle] = text
			return json.Marshal(handle)
		case "guest-file-read":
			text := open[arguments["handle"].(int64)]
			return json.Marshal(map[string]any{"buf-b64": base64.StdEncoding.EncodeToString([]byte(text)), "eof": true})
		case "guest-file-close":
			delete(open, arguments["handle"].(int64))
			return json.RawMessage("{}"), nil
		}
		if answer, ok := answers[command]; ok {
			return json.RawMessage(answer), nil
		}
		return nil, errors.New("the command was not found")
	}
}

const twoCards = `[{"name":"lo","ip-addresses":[{"ip-address":"127.0.0.1","prefix":8}]},
 {"name":"ens3","hardware-address":"52:54:00:AA:00:01"},
 {"name":"ens4","hardware-address":"52:54:00:aa:00:02","ip-addresses":[{"ip-address":"192.168.9.2","prefix":24}]},
 {"name":"br0","hardware-address":"52:54:00:aa:00:01","ip-addresses":[{"ip-address":"10.0.0.5","prefix":24},{"ip-address":"fe80::1","prefix":64}]}]`

const procTable = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n" +
	"br0\t00000000\t0900000A\t0003\t0\t0\t200\t00000000\t0\t0\t0\n" +
	"br0\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n" +
	"br0\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"

func twoNICs() *lifeboat.Machine {
	return &lifeboat.Machine{NICs: []lifeboat.NIC{{MAC: "52:54:00:aa:00:01"}, {MAC: "52:54:00:aa:00:02"}, {MAC: "52:54:00:aa:00:03", Gateway: "10.9.9.9"}}}
}

func TestTheGuestsOwnNamesAddressesAndGatewaysAreTaken(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	answers := map[string]string{"guest-network-get-interfaces": twoCards,
		"guest-get-host-name": `{"host-name":"web01.example"}`, "guest-get-osinfo": `{"id":"debian"}`}
	files := map[string]string{"/proc/net/route": procTable,
		"/etc/resolv.conf":                 "# by hand\nnameserver 127.0.0.53\noptions edns0\n",
		"/run/systemd/resolve/resolv.conf": "nameserver 10.0.0.3\nnameserver fd00::53\nnameserver 10.0.0.3\nnameserver \x1b[2J\n"}
	want := &lifeboat.Machine{HostName: "web01.example", GuestFamily: "linux", NICs: []lifeboat.NIC{
		{MAC: "52:54:00:aa:00:01", Interface: "ens3", Addresses: []string{"10.0.0.5/24", "fe80::1/64"}, SeenAt: now,
			Gateway: "10.0.0.1", DNS: []string{"10.0.0.3", "fd00::53"}},
		{MAC: "52:54:00:aa:00:02", Interface: "ens4", Addresses: []string{"192.168.9.2/24"}, SeenAt: now},
		{MAC: "52:54:00:aa:00:03", Gateway: "10.9.9.9"},
	}}
	m := twoNICs()
	AskGuest(t.Context(), agentOf(answers, files), m, now)
	if !reflect.DeepEqual(m, want) {
		t.Errorf("from files:\n got  %+v\n want %+v", m, want)
	}

	// An agent of QEMU 9.1 tells the routes itself.
	answers["guest-network-get-route"] = `[{"iface":"br0","destination":"10.0.0.0","mask":"255.255.255.0","gateway":"0.0.0.0","metric":0,"version":4},
		{"iface":"br0","destination":"0.0.0.0","mask":"0.0.0.0","gateway":"10.0.0.1","metric":100,"version":4},
		{"iface":"br0","destination":"0000:0000:0000:0000:0000:0000:0000:0000","desprefixlen":"00","nexthop":"fe80::ff","metric":1,"version":6}]`
	delete(files, "/proc/net/route")
	m = twoNICs()
	AskGuest(t.Context(), agentOf(answers, files), m, now)
	if !reflect.DeepEqual(m, want) {
		t.Errorf("from the agent:\n got  %+v\n want %+v", m, want)
	}
}

func TestAnAgentThatMayTellLittleLeavesTheRestAsItIs(t *testing.T) {
	m := twoNICs()
	AskGuest(t.Context(), agentOf(nil, nil), m, time.Now())
	if !reflect.DeepEqual(m, twoNICs()) {
		t.Errorf("without an agent: %+v", m)
	}
	AskGuest(t.Context(), agentOf(map[string]string{"guest-network-get-interfaces": twoCards}, nil), m, time.Now())
	if m.NICs[0].Interface != "ens3" || m.NICs[0].Gateway != "" || m.HostName != "" {
		t.Errorf("with interfaces alone: %+v", m)
	}
}

func TestTheGatewayOfIPv6IsTakenWhereThereIsNoOther(t *testing.T) {
	table := strings.Repeat("0", 32) + " 00 " + strings.Repeat("0", 32) + " 00 fe8000000000000000000000000000fe 00000400 1 0 00000003 ens4\n" +
		strings.Repeat("0", 32) + " 00 " + strings.Repeat("0", 32) + " 00 " + strings.Repeat("0", 32) + " ffffffff 1 0 00200200 lo\n"
	m := twoNICs()
	AskGuest(t.Context(), agentOf(map[string]string{"guest-network-get-interfaces": twoCards}, map[string]string{"/proc/net/ipv6_route": table}), m, time.Now())
	if m.NICs[1].Gateway != "fe80::fe" || m.NICs[0].Gateway != "" {
		t.Errorf("%+v", m.NICs)
	}
}

func TestFamiliesAndHostNames(t *testing.T) {
	for answer, want := range map[string]string{`{"id":"mswindows"}`: "windows", `{"id":"rocky"}`: "linux", `{"id":"freebsd"}`: "bsd", `{}`: "", `[`: ""} {
		if got := guestFamily([]byte(answer)); got != want {
			t.Errorf("%s: %q, not %q", answer, got, want)
		}
	}
	for name, good := range map[string]bool{"web01": true, "Büro-PC": true, "a b": false, "\x1b[2J": false, "": false, "-x": false, strings.Repeat("x", 300): false} {
		answer, _ := json.Marshal(map[string]string{"host-name": name})
		if got := guestHostName(answer) != ""; got != good {
			t.Errorf("%q is taken: %v", name, got)
		}
	}
}

func TestOnlyAddressesAndNamesAreTakenFromAnAgent(t *testing.T) {
	g := guestInterfaces([]byte(`[{"name":"Ethernet 2 – Büro","ip-addresses":[
		{"ip-address":"10.0.0.5","prefix":24},{"ip-address":"fe80::1","prefix":64},{"ip-address":"10.0.0.6","prefix":33},
		{"ip-address":"\u001b[2J","prefix":1},{"ip-address":"10.0.0.7/8","prefix":8},{"ip-address":"fe80::1%eth0","prefix":64},
		{"ip-address":"10.0.0.8","prefix":-1}]}]`))[0]
	if got, want := g.prefixes(), []string{"10.0.0.5/24", "fe80::1/64"}; !reflect.DeepEqual(got, want) {
		t.Errorf("the addresses are %q", got)
	}
	if g.name() != "Ethernet 2 – Büro" {
		t.Errorf("the name is %q", g.name())
	}
	for _, bad := range []string{"eth0\n", "\x1b[2J", "a\x00", strings.Repeat("x", 1<<20), "\xff"} {
		if g.Name = bad; g.name() != "" {
			t.Errorf("%.20q is taken for a name", bad)
		}
	}
	for range 1000 {
		g.Addresses = append(g.Addresses, g.Addresses[0])
	}
	if n := len(g.prefixes()); n != mostAddresses {
		t.Errorf("%d addresses are taken", n)
	}
}

// FuzzAskGuest: whatever an agent says, what is taken of it is bounded and can be
// shown.
func FuzzAskGuest(f *testing.F) {
	f.Add(twoCards, `{"host-name":"x"}`, `{"id":"debian"}`, "", procTable, "", "nameserver 10.0.0.3\n")
	f.Add(twoCards, `{}`, `{}`, `[{"iface":"br0","destination":"0.0.0.0","mask":"0.0.0.0","gateway":"10.0.0.1"}]`, "", "", "")
	f.Fuzz(func(t *testing.T, interfaces, host, system, routes, table, table6, conf string) {
		answers := map[string]string{"guest-network-get-interfaces": interfaces, "guest-get-host-name": host, "guest-get-osinfo": system}
		if routes != "" {
			answers["guest-network-get-route"] = routes
		}
		m := twoNICs()
		AskGuest(context.Background(), agentOf(answers, map[string]string{"/proc/net/route": table, "/proc/net/ipv6_route": table6, "/etc/resolv.conf": conf}), m, time.Now())
		text, size := m.HostName+m.GuestFamily, len(m.HostName)
		for _, n := range m.NICs {
			words := fmt.Sprint(n.Interface, n.Gateway, n.Addresses, n.DNS)
			text, size = text+words, size+len(words)
		}
		if Printable(text) != text || size > 8<<10 {
			t.Errorf("%d bytes are taken: %q", size, text)
		}
	})
}
