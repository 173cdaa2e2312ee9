//go:build libvirt_dlopen && cgo

package libvirt

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	lv "libvirt.org/go/libvirt"

	"lifeboat/fixtures/hostsuite"
	"lifeboat/fixtures/libvirtd"
	"lifeboat/hypervisor"
)

func TestHost(t *testing.T) {
	// Before the daemon, which does not see what is mounted later.
	const small = 2 << 20
	scratch := smallFileSystem(t, small)
	daemon := libvirtd.Start(t)
	hostsuite.Run(t, func(t *testing.T, n hostsuite.Needs) hostsuite.Subject {
		h := openHost(t, daemon, func(o *Options) {
			if n.SmallScratch > 0 {
				o.ScratchDir, o.ScratchReserveBytes = scratch, small/2
			}
		})
		return hostsuite.Subject{
			Host: h, Guest: standIn{h, openFolder(t, daemon.Dir)}, OddName: "zeta..x; rm",
			Cable:      &hypervisor.Network{Kind: hypervisor.NetworkSegment, Name: "suite"},
			Image:      func(t *testing.T, machine, disk string) string { return imageOf(t, h, machine, disk) },
			Crash:      func(t *testing.T, machine string) { crash(t, h, machine) },
			DieHolding: func(t *testing.T, machine string, o hypervisor.FreezeOptions) { dieAt(t, h, machine, "held", o) },
			Leftovers:  func(t *testing.T, machine string) []string { return leftovers(t, h, machine) },
		}
	})
}

// openHost returns a host with a storage pool of the test's own. Its machines end
// with the test.
func openHost(t testing.TB, daemon *libvirtd.Daemon, change ...func(*Options)) *Host {
	t.Helper()
	dir, err := os.MkdirTemp(daemon.Dir, "pool-")
	must(t, err)
	must(t, os.Chmod(dir, 0o711))
	pool := filepath.Base(dir)
	daemon.Virsh(t, "pool-create-as", pool, "dir", "--target", dir)
	o := Options{Name: "test", URI: daemon.URI, Pool: pool, ScratchReserveBytes: 1, Notes: &memoryNotes{},
		KVM:  func(context.Context) (bool, string) { return false, "this is a test" },
		Note: func(machine, text string) { t.Logf("note: %s: %s", machine, text) }}
	for _, f := range change {
		f(&o)
	}
	h, err := Open(o)
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		list, err := h.domains(ctx)
		must(t, err)
		for _, d := range list {
			id, _, err := d.identity(ctx)
			if must(t, err); id == hypervisor.DerivedID(Kind, d.uuid) {
				continue // the test defined it behind our back, and removes it
			}
			if err := h.PowerOff(ctx, d.uuid, 0); err != nil {
				t.Errorf("switch %s off: %v", d.name, err)
			}
			if err := h.Remove(ctx, d.uuid); err != nil {
				t.Errorf("remove %s: %v", d.name, err)
			}
		}
		h.Close()
	})
	return h
}

// openFolder is a folder in which QEMU's user may make sockets.
func openFolder(t *testing.T, dir string) string {
	t.Helper()
	dir, err := os.MkdirTemp(dir, "open-")
	must(t, err)
	must(t, os.Chmod(dir, 0o777))
	return dir
}

// memoryNotes keep what a host notes, for the length of a test.
type memoryNotes struct {
	mu   sync.Mutex
	kept map[string][]byte
}

func (n *memoryNotes) Note(_ context.Context, hostID, name string) ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.kept[hostID+"/"+name], nil
}

func (n *memoryNotes) SetNote(_ context.Context, hostID, name string, data []byte) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.kept == nil {
		n.kept = map[string][]byte{}
	}
	n.kept[hostID+"/"+name] = data
	return nil
}

// smallFileSystem returns the folder of a file system that is soon full. QEMU's
// user gets into it.
func smallFileSystem(t *testing.T, size int64) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lb-small-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := unix.Mount("lifeboat-test", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=755", size)); err != nil {
		t.Skipf("needs a small file system: run the tests as root (%v)", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// processOf is the QEMU of a machine.
func processOf(t *testing.T, uuid string) int {
	t.Helper()
	entries, err := filepath.Glob("/proc/[0-9]*/cmdline")
	must(t, err)
	for _, e := range entries {
		text, _ := os.ReadFile(e)
		if words := strings.Split(string(text), "\x00"); strings.Contains(words[0], "qemu-system") && strings.Contains(string(text), "-uuid\x00"+uuid+"\x00") {
			var pid int
			fmt.Sscanf(e, "/proc/%d/cmdline", &pid)
			return pid
		}
	}
	t.Fatalf("no QEMU has the UUID %s", uuid)
	return 0
}

// imageOf is the file of a disk.
func imageOf(t *testing.T, h *Host, machine, key string) string {
	t.Helper()
	d, err := h.find(t.Context(), machine)
	must(t, err)
	seen, err := d.look(t.Context())
	must(t, err)
	for _, source := range seen.disks {
		if source.key == key {
			return source.path
		}
	}
	t.Fatalf("%s has no disk %s", machine, key)
	return ""
}

// crash kills the process of a machine.
func crash(t *testing.T, h *Host, name string) {
	t.Helper()
	d, err := h.find(t.Context(), name)
	must(t, err)
	must(t, unix.Kill(processOf(t, d.uuid), syscall.SIGKILL))
	eventually(t, jobPatience, "libvirt sees that it is off", func() bool {
		on, err := d.active(t.Context())
		return err == nil && !on
	})
}

const dyingVariable = "LIFEBOAT_TEST_DYING_LIBVIRT_EXPORT"

// dyingOrder is what the process that is killed has to do.
type dyingOrder struct {
	URI, Pool, ScratchDir, Machine string
	At                             string // "frozen" or "held"
	Freeze                         hypervisor.FreezeOptions
}

// dieAt lets another process export a machine and kills it at the given moment.
func dieAt(t *testing.T, h *Host, machine, at string, o hypervisor.FreezeOptions) {
	t.Helper()
	order, err := json.Marshal(dyingOrder{URI: h.o.URI, Pool: h.o.Pool, ScratchDir: h.o.ScratchDir, Machine: machine, At: at, Freeze: o})
	must(t, err)
	cmd := exec.Command(os.Args[0], "-test.run=^TestAProcessThatIsKilledWhileItHoldsAMachine$")
	cmd.Env = append(os.Environ(), dyingVariable+"="+string(order))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	if line != "now\n" {
		t.Errorf("the process to be killed said %q (%v)", line, err)
	}
	must(t, cmd.Process.Kill())
	cmd.Wait()
}

// TestAProcessThatIsKilledWhileItHoldsAMachine is the other process, and nothing
// by itself.
func TestAProcessThatIsKilledWhileItHoldsAMachine(t *testing.T) {
	text := os.Getenv(dyingVariable)
	if text == "" {
		t.Skip("runs as a part of other tests")
	}
	var order dyingOrder
	must(t, json.Unmarshal([]byte(text), &order))
	h, err := Open(Options{Name: "dying", URI: order.URI, Pool: order.Pool, ScratchDir: order.ScratchDir})
	must(t, err)
	if order.At == "frozen" {
		d, err := h.find(t.Context(), order.Machine)
		must(t, err)
		lock, err := lockMachine(t.Context(), d.name, d.uuid)
		must(t, err)
		g, err := d.startGuard(lock, guardOrder{})
		must(t, err)
		must(t, g.tell("freeze"))
	} else {
		_, err = h.Freeze(t.Context(), order.Machine, order.Freeze)
		must(t, err)
	}
	fmt.Println("now")
	select {}
}

// leftovers names what an export has put into a machine or beside it: its job,
// its folder, more than one checkpoint of a drive. Of a machine that was removed,
// everything is too much.
func leftovers(t *testing.T, h *Host, name string) []string {
	t.Helper()
	ctx := t.Context()
	var left []string
	folder, _, err := h.scratchPool(ctx)
	if h.o.ScratchDir != "" {
		folder, err = h.o.ScratchDir, nil
	}
	must(t, err)
	entries, err := os.ReadDir(folder)
	must(t, err)
	d, err := h.find(ctx, name)
	for _, e := range entries {
		if err != nil || strings.HasPrefix(e.Name(), folderName(d.uuid, "")) {
			left = append(left, "file "+e.Name())
		}
	}
	if err != nil {
		return left
	}
	if socket, there, err := d.backupSocket(ctx); there || err != nil {
		left = append(left, fmt.Sprintf("job %s (%v)", socket, err))
	}
	points, err := d.checkpoints(ctx)
	must(t, err)
	drives := map[string]int{}
	for name := range points {
		drive, _, _ := splitCheckpointName(name)
		c, err := parseCheckpoint(points[name])
		must(t, err)
		for _, target := range c.Disks {
			if drives[drive+" "+target]++; drives[drive+" "+target] > 1 {
				left = append(left, "checkpoint "+name)
			}
		}
	}
	if on, err := d.active(ctx); err == nil && on {
		must(t, d.do(ctx, "look", func(dom *lv.Domain) error {
			var nodes []struct {
				Bitmaps []struct{ Name string } `json:"dirty-bitmaps"`
			}
			err := qmp(dom, "query-named-block-nodes", map[string]any{"flat": true}, &nodes)
			for _, n := range nodes {
				for _, b := range n.Bitmaps {
					if points[b.Name] == "" {
						left = append(left, "bitmap "+b.Name)
					}
				}
			}
			return err
		}))
	}
	return left
}
