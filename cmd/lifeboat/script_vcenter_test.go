package main

import (
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"lifeboat/fixtures/vcenter"
)

// vcenters are the simulated servers of the scripts, by the scripts' folders.
type vcenters struct {
	t  *testing.T
	mu sync.Mutex
	by map[string]*vcenter.Server
}

// scriptTB is the test of all scripts, which fails the one that is running.
type scriptTB struct {
	testing.TB
	ts *testscript.TestScript
}

func (t scriptTB) Fatal(args ...any)                 { t.ts.Fatalf("%v", args) }
func (t scriptTB) Fatalf(format string, args ...any) { t.ts.Fatalf(format, args...) }

// script is the command of scripts:
//
//	vcenter start [MACHINE=IMAGE]...  a server that ends with the tests, with machines
//	                                  that have the bytes of raw images. It sets URL,
//	                                  VCUSER and THUMBPRINT, and writes vc.pw.
//	vcenter write MACHINE OFFSET TEXT writes into a machine's disk as its guest does
//	vcenter save MACHINE FILE         writes what the guest sees of its disk to a file
//	vcenter full                      no datastore has room
//	vcenter quiet                     nobody is signed in, and no machine has a snapshot
func (v *vcenters) script(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: vcenter start|write|save|full|quiet")
	}
	if args[0] == "start" {
		v.start(ts, args[1:])
		return
	}
	v.mu.Lock()
	s := v.by[ts.MkAbs(".")]
	v.mu.Unlock()
	if s == nil {
		ts.Fatalf("no vcenter was started")
	}
	machine := func() *vcenter.Machine {
		m, ok := s.Machine(args[1])
		if !ok {
			ts.Fatalf("the server has no machine %s", args[1])
		}
		return m
	}
	t := scriptTB{v.t, ts}
	switch args[0] {
	case "write":
		machine().Write(t, 0, scriptSize(ts, args[2]), []byte(args[3]))
	case "save":
		ts.Check(os.WriteFile(ts.MkAbs(args[2]), machine().Bytes(t, 0), 0o600))
	case "full":
		s.FillDatastore("LocalDS_0")
	case "quiet":
		if n := s.Sessions(); n != 0 {
			ts.Fatalf("%d sessions are left", n)
		}
		for _, name := range args[1:] {
			if m, ok := s.Machine(name); ok && m.Snapshots()+m.Deltas() != 0 {
				ts.Fatalf("%s has %d snapshots and %d deltas", name, m.Snapshots(), m.Deltas())
			}
		}
	}
}

func (v *vcenters) start(ts *testscript.TestScript, machines []string) {
	t := scriptTB{v.t, ts}
	s := vcenter.Start(t, vcenter.Options{})
	long, _ := s.Thumbprints()
	ts.Setenv("URL", s.URL)
	ts.Setenv("VCUSER", s.User)
	ts.Setenv("THUMBPRINT", long)
	ts.Check(os.WriteFile(ts.MkAbs("vc.pw"), []byte(s.Password+"\n"), 0o600))
	for _, spec := range machines {
		name, image, _ := strings.Cut(spec, "=")
		s.AddMachine(t, vcenter.MachineSpec{Name: name, Tracking: true, Running: true,
			Disks: []vcenter.DiskSpec{{Image: ts.MkAbs(image)}}, NICs: []vcenter.NICSpec{{MAC: "00:50:56:00:00:01"}}})
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.by == nil {
		v.by = map[string]*vcenter.Server{}
	}
	v.by[ts.MkAbs(".")] = s
}
