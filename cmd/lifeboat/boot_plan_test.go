package main

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"lifeboat"
	"lifeboat/hypervisor"
)

func point(id, name string, sequence uint64, addresses ...string) lifeboat.RestorePoint {
	m := lifeboat.Machine{ID: "id-of-" + name, Name: name}
	if addresses != nil {
		m.NICs = []lifeboat.NIC{{MAC: "52:54:00:00:00:01", Addresses: addresses}}
	}
	return lifeboat.RestorePoint{ID: id, Sequence: sequence, Machine: m, TakenAt: time.Unix(int64(sequence), 0)}
}

func newPlanner() planner {
	next := 40000
	return planner{run: "0123456789abcdef", network: "segment", segments: true, taken: func(string) bool { return false },
		freePort: func() (int, error) { next++; return next, nil }}
}

func TestAPointIsPickedByNameByIDOrByItsBeginning(t *testing.T) {
	points := []lifeboat.RestorePoint{point("aaaaaaaa1111", "db", 1), point("aaaaaaaa2222", "db", 2), point("bbbbbbbb1111", "wëb server", 3)}
	for _, c := range []struct{ name, want string }{
		{"db", "aaaaaaaa2222"},
		{"id-of-db", "aaaaaaaa2222"},
		{"aaaaaaaa1", "aaaaaaaa1111"},
		{"wëb server", "bbbbbbbb1111"},
	} {
		p, err := pickPoint(points, newestPoints(points), c.name, "A")
		if err != nil || p.ID != c.want {
			t.Errorf("%q: got %s, %v; want %s", c.name, p.ID, err, c.want)
		}
	}
	for _, bad := range []string{"", "aaaa", "aaaaaaaa", "mail"} {
		if p, err := pickPoint(points, newestPoints(points), bad, "A"); err == nil {
			t.Errorf("%q was taken for %s", bad, p.ID)
		}
	}
}

func TestAllMeansTheNewestPointOfEachMachine(t *testing.T) {
	// The sequence decides, not the clock: point 2 was taken "before" point 1.
	early := point("b", "db", 2)
	early.TakenAt = time.Unix(0, 0)
	picked, err := pickPoints([]lifeboat.RestorePoint{point("a", "db", 1), early, point("c", "alpha", 3)}, nil, true, "A")
	if err != nil || len(picked) != 2 || picked[0].ID != "c" || picked[1].ID != "b" {
		t.Fatalf("got %v, %v", picked, err)
	}
	if _, err := pickPoints(nil, nil, true, "A"); err == nil {
		t.Error("an empty drive was booted from")
	}
}

func TestChecksAndForwardsShareOneWayIn(t *testing.T) {
	pl := newPlanner()
	pl.forwards = []string{"8080:web:80"}
	pl.checks = []string{"web=http:80/health", "db=tcp:5432"}
	plan, err := pl.plan([]lifeboat.RestorePoint{point("a", "db", 1, "10.1.0.10/24"), point("b", "web", 2, "fe80::1/64", "10.1.0.11/24")})
	if err != nil {
		t.Fatal(err)
	}
	web, db := plan.Machines[1], plan.Machines[0]
	if len(web.Forwards) != 1 || web.Forwards[0] != (bootForward{8080, "10.1.0.11", 80}) {
		t.Errorf("web: %v", web.Forwards)
	}
	if c := web.Checks[0]; c.Dial != "127.0.0.1:8080" || c.Path != "/health" {
		t.Errorf("web's check: %+v", c)
	}
	if c := db.Checks[0]; c.Dial != "127.0.0.1:40001" || c.Guest != "10.1.0.10:5432" {
		t.Errorf("checks: %v %v", web.Checks, db.Checks)
	}
	if s := plan.segment(); s == nil || s.CIDR != "10.1.0.0/24" || s.HostAddress != "10.1.0.254" || len(s.Forwards) != 2 {
		t.Errorf("segment: %+v", s)
	}
	if n := web.Networks[0]; n.Kind != hypervisor.NetworkSegment || n.Name != db.Networks[0].Name {
		t.Errorf("the machines are on different networks: %v %v", web.Networks, db.Networks)
	}
}

func TestTheGatewayTakesNoMachinesAddress(t *testing.T) {
	used := []netip.Addr{netip.MustParseAddr("10.1.0.254"), netip.MustParseAddr("10.1.0.253")}
	if got := freeAddress(netip.MustParsePrefix("10.1.0.0/24"), used); got.String() != "10.1.0.252" {
		t.Errorf("got %s", got)
	}
	if got := freeAddress(netip.MustParsePrefix("10.0.0.0/8"), nil); !netip.MustParsePrefix("10.0.0.0/8").Contains(got) {
		t.Errorf("got %s", got)
	}
}

func TestAWayToAMachineWithoutAnAddressSaysWhatToDo(t *testing.T) {
	pl := newPlanner()
	pl.forwards = []string{"mail:25"}
	_, err := pl.plan([]lifeboat.RestorePoint{point("a", "mail", 1, []string{}...)})
	var p *lifeboat.Problem
	if !errors.As(err, &p) || !strings.Contains(p.Next, "--address mail=") {
		t.Fatalf("got %v", err)
	}
	m := point("a", "mail", 1, "fe80::1/64")
	pl.addresses = []string{"mail=10.1.0.25/24"}
	if plan, err := pl.plan([]lifeboat.RestorePoint{m}); err != nil || plan.Machines[0].Forwards[0].Address != "10.1.0.25" {
		t.Fatalf("got %v, %v", plan, err)
	}
}

func TestAMachineThatIsThereAlreadyIsNotStartedTwice(t *testing.T) {
	pl := newPlanner()
	pl.taken = func(name string) bool { return name == "my db" }
	_, err := pl.plan([]lifeboat.RestorePoint{point("a", "my db", 1)})
	var p *lifeboat.Problem
	if !errors.As(err, &p) || !strings.Contains(p.Next, "lifeboat stop 'my db'") {
		t.Fatalf("got %v", err)
	}
}

func TestACheckGoesTheWayThatItsNetworkHas(t *testing.T) {
	for _, c := range []struct{ network, check, dial string }{
		{"bridge:br0", "web=tcp:80", "10.1.0.11:80"},
		{"user", "web=http:80/", "127.0.0.1:40001"},
		{"user", "web=tcp:80", ""},
		{"none", "web=http:80/", ""},
	} {
		pl := newPlanner()
		pl.network, pl.checks = c.network, []string{c.check}
		plan, err := pl.plan([]lifeboat.RestorePoint{point("b", "web", 2, "10.1.0.11/24")})
		switch {
		case c.dial == "" && err == nil:
			t.Errorf("%s on %s was taken", c.check, c.network)
		case c.dial != "" && (err != nil || plan.Machines[0].Checks[0].Dial != c.dial):
			t.Errorf("%s on %s: %v, %v", c.check, c.network, plan, err)
		}
	}
	pl := newPlanner()
	pl.network, pl.forwards = "bridge:br0", []string{"web:80"}
	if _, err := pl.plan([]lifeboat.RestorePoint{point("b", "web", 2, "10.1.0.11/24")}); err == nil {
		t.Error("a forward was taken on a bridge")
	}
}

func TestWaysAndChecksAreReadStrictly(t *testing.T) {
	for _, bad := range []string{"", "web", "web:", ":80", "web:0", "web:65536", "x:web:80", "1:2:3:4"} {
		if _, _, _, err := parseForward(bad); err == nil {
			t.Errorf("--forward %q was taken", bad)
		}
	}
	for _, bad := range []string{"", "web", "web=http", "web=udp:53", "=tcp:1", "web=tcp:x", "web=tcp:80/health"} {
		if c, err := parseCheck(bad); err == nil {
			t.Errorf("--check %q was taken as %v", bad, c)
		}
	}
	for _, network := range []string{"", "bridge", "vlan"} {
		pl := newPlanner()
		pl.network = network
		if _, err := pl.plan([]lifeboat.RestorePoint{point("a", "db", 1, "10.0.0.1/24")}); err == nil {
			t.Errorf("--network %q was taken", network)
		}
	}
}

// onNetworks is a point of a machine with a card on each of the source's networks.
func onNetworks(name string, networks ...string) lifeboat.RestorePoint {
	p := point("a", name, 1)
	for _, n := range networks {
		p.Machine.NICs = append(p.Machine.NICs, lifeboat.NIC{Network: n})
	}
	return p
}

func TestEachCardLeadsWhereItsNetworkIsMappedTo(t *testing.T) {
	m := onNetworks("web", "LAN", "a=b", "backup", "LAN")
	m.Machine.NICs[2].Addresses = []string{"10.9.0.5/24"}
	pl := newPlanner()
	pl.network, pl.maps = "segment", []string{"LAN=network:VM Network", "a=bridge:br0"}
	if _, err := pl.plan([]lifeboat.RestorePoint{m}); err == nil {
		t.Error("a network that no machine has was mapped")
	}
	pl.maps = []string{"LAN=network:VM Network", "backup=none"}
	plan, err := pl.plan([]lifeboat.RestorePoint{m})
	if err != nil {
		t.Fatal(err)
	}
	var got []hypervisor.Network
	got = append(got, plan.Machines[0].Networks...)
	named := hypervisor.Network{Kind: hypervisor.NetworkNamed, Name: "VM Network"}
	want := []hypervisor.Network{named, {Kind: hypervisor.NetworkSegment, Name: "boot-" + short(pl.run)}, {Kind: hypervisor.NetworkNone}, named}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if plan.Segment != nil {
		t.Errorf("a segment was planned for the address of a card that is not on it: %+v", plan.Segment)
	}
}

func TestAMapIsReadStrictly(t *testing.T) {
	for _, bad := range []string{"", "LAN", "=none", "LAN=", "LAN=vlan", "LAN=network:", "LAN=none:x", "LAN=network:a", "WAN=none"} {
		pl := newPlanner()
		pl.maps = []string{"LAN=network:b", bad}
		if _, err := pl.plan([]lifeboat.RestorePoint{onNetworks("web", "LAN")}); err == nil {
			t.Errorf("--map %q was taken beside another of LAN", bad)
		}
	}
}

func TestAHostWithoutPrivateNetworksIsNotAskedForOne(t *testing.T) {
	pl := newPlanner()
	pl.segments = false
	if _, err := pl.plan([]lifeboat.RestorePoint{onNetworks("web", "LAN")}); err == nil || !strings.Contains(err.Error(), "no private networks") {
		t.Errorf("got %v", err)
	}
	pl.network = "none"
	if _, err := pl.plan([]lifeboat.RestorePoint{onNetworks("web", "LAN")}); err != nil {
		t.Error(err)
	}
}

func TestForwardsLeadThroughTheCardThatIsPluggedIn(t *testing.T) {
	m := onNetworks("web", "LAN", "DMZ")
	pl := newPlanner()
	pl.network, pl.maps, pl.forwards = "none", []string{"DMZ=user"}, []string{"8080:web:80"}
	plan, err := pl.plan([]lifeboat.RestorePoint{m})
	if err != nil {
		t.Fatal(err)
	}
	if n := plan.Machines[0].Networks; len(n[0].Forwards) != 0 || len(n[1].Forwards) != 1 || n[1].Forwards[0].HostPort != 8080 {
		t.Errorf("got %v", n)
	}
}

func TestAMachineThatIsRenamedGoesByItsNewName(t *testing.T) {
	pl := newPlanner()
	pl.taken = func(name string) bool { return name == "db" }
	pl.renames, pl.forwards = []string{"db=db-drill"}, []string{"db-drill:80"}
	plan, err := pl.plan([]lifeboat.RestorePoint{point("a", "db", 1, "10.1.0.10/24")})
	if err != nil || plan.Machines[0].Name != "db-drill" || len(plan.Machines[0].Forwards) != 1 {
		t.Fatalf("got %+v, %v", plan, err)
	}
	for _, bad := range []string{"", "db", "db=", "=x", "web=x", "db=a\nb", "db=db"} {
		pl.renames, pl.forwards = []string{bad}, nil
		if _, err := pl.plan([]lifeboat.RestorePoint{point("a", "db", 1)}); err == nil {
			t.Errorf("--rename %q was taken", bad)
		}
	}
	pl.renames = []string{"db=web"}
	if _, err := pl.plan([]lifeboat.RestorePoint{point("a", "db", 1), point("b", "web", 2)}); err == nil {
		t.Error("two machines got one name")
	}
}

func TestAPlanSaysWhereEachCardLeads(t *testing.T) {
	pl := newPlanner()
	pl.maps = []string{"LAN=network:VM Network"}
	p := point("a", "web", 1)
	p.Machine.NICs = []lifeboat.NIC{{Network: "LAN"}, {Network: "DMZ"}}
	plan, err := pl.plan([]lifeboat.RestorePoint{p})
	if err != nil {
		t.Fatal(err)
	}
	if got := cableWords(plan.Machines[0].Networks); got != "network:VM Network, segment" {
		t.Errorf("the cards lead to %q", got)
	}
}

func TestACheckOfARenamedMachineSaysWhichNameIsMeant(t *testing.T) {
	pl := newPlanner()
	pl.renames, pl.checks = []string{"web=web-try"}, []string{"web=tcp:80"}
	_, err := pl.plan([]lifeboat.RestorePoint{point("a", "web", 1, "10.1.0.10/24")})
	if err == nil || !strings.Contains(err.Error(), `"web" is called "web-try" here`) {
		t.Errorf("got %v", err)
	}
	pl.renames = nil
	pl.checks = []string{"wbe=tcp:80"}
	if _, err = pl.plan([]lifeboat.RestorePoint{point("a", "web", 1, "10.1.0.10/24")}); err == nil || !strings.Contains(err.Error(), "one of the machines to boot: web") {
		t.Errorf("got %v", err)
	}
}
