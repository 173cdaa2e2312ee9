package main

import (
	"errors"
	"strings"
	"testing"

	"lifeboat"
	"lifeboat/hypervisor"
)

func TestACopyIsKeptFromTheNetworkOfItsOriginalThatRuns(t *testing.T) {
	running := hypervisor.Listed{Machine: lifeboat.Machine{ID: "id-of-web", Name: "web"}, HostID: "1", Power: hypervisor.PowerOn}
	off := running
	off.Power = hypervisor.PowerOff
	for _, c := range []struct {
		what    string
		network string
		there   hypervisor.Listed
		flags   bootFlags
		checks  []string
		address []string
		next    string // of the problem, or empty
	}{
		{"a private network", "segment", running, bootFlags{}, []string{"web=tcp:80"}, nil, ""},
		{"no cable", "none", running, bootFlags{}, nil, nil, ""},
		{"the original is off", "network:LAN", off, bootFlags{}, []string{"web=tcp:80"}, nil, ""},
		{"the original runs", "network:LAN", running, bootFlags{}, nil, nil, "--beside-original"},
		{"on a bridge", "bridge:br0", running, bootFlags{}, nil, nil, "--beside-original"},
		{"fresh MACs keep no address away", "network:LAN", running, bootFlags{newMACs: true}, nil, nil, "--beside-original"},
		{"both are wanted", "network:LAN", running, bootFlags{besideOriginal: true}, nil, nil, ""},
		{"the check would ask the original", "network:LAN", running, bootFlags{besideOriginal: true}, []string{"web=tcp:80"}, nil, "--address web="},
		{"and still would", "network:LAN", running, bootFlags{besideOriginal: true}, []string{"web=tcp:80"}, []string{"web=10.1.0.11/24"}, "--address web="},
		{"it asks the copy", "network:LAN", running, bootFlags{besideOriginal: true}, []string{"web=tcp:80"}, []string{"web=10.1.0.99/24"}, ""},
	} {
		a, file, _ := newListing(t, kindQEMU, listingHost{namedHost: namedHost{name: localHost}})
		delete(a.hosts, file)
		a.hosts[a.localHostFile()] = listingHost{namedHost: namedHost{name: localHost}, listed: []hypervisor.Listed{c.there}}
		pl := newPlanner()
		pl.network, pl.checks, pl.addresses = c.network, c.checks, c.address
		plan, err := pl.plan([]lifeboat.RestorePoint{point("b", "web", 2, "10.1.0.11/24")})
		if err != nil {
			t.Fatal(err)
		}
		err = a.besideOriginals(t.Context(), c.flags, plan)
		var p *lifeboat.Problem
		if (err != nil) != (c.next != "") || err != nil && (!errors.As(err, &p) || !strings.Contains(p.Next, c.next)) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

func TestAHostThatDoesNotAnswerKeepsNothingFromComingBack(t *testing.T) {
	a, file, said := newListing(t, kindQEMU, listingHost{namedHost: namedHost{name: localHost}})
	delete(a.hosts, file)
	a.hosts[a.localHostFile()] = listingHost{namedHost: namedHost{name: localHost}, err: errors.New("it burns")}
	pl := newPlanner()
	pl.network = "network:LAN"
	plan, err := pl.plan([]lifeboat.RestorePoint{point("b", "web", 2, "10.1.0.11/24")})
	if err == nil {
		err = a.besideOriginals(t.Context(), bootFlags{}, plan)
	}
	if err != nil || !strings.Contains(said.String(), "not known whether all originals are off") || !strings.Contains(said.String(), "it burns") {
		t.Errorf("%v, and it says %q", err, said)
	}
}
