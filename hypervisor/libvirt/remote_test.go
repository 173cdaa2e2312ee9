//go:build libvirt_dlopen && cgo

package libvirt

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"lifeboat"
	"lifeboat/fixtures/libvirtd"
	"lifeboat/hypervisor"
)

// openURI is a host at an address.
func openURI(t *testing.T, uri string) *Host {
	t.Helper()
	h, err := Open(Options{Name: "kvm1", URI: uri})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// wantProblem fails unless err is a Problem whose lines hold the words.
func wantProblem(t *testing.T, err error, what, next string) {
	t.Helper()
	var p *lifeboat.Problem
	if !errors.As(err, &p) {
		t.Fatalf("%v is no Problem", err)
	}
	if !strings.Contains(p.Error(), what) || !strings.Contains(p.Next, next) || p.Safe == "" {
		t.Errorf("what: %s\nsafe: %s\nnext: %s\nwant %q, and next %q", p.Error(), p.Safe, p.Next, what, next)
	}
}

func TestAHostIsReachedBySSH(t *testing.T) {
	d := libvirtd.Start(t)
	ssh := d.SSH(t)
	defineSmall(t, d, "web01", "")
	h := openURI(t, ssh.URI)
	if list, err := h.List(t.Context()); err != nil || len(list) != 1 || list[0].Machine.Name != "web01" {
		t.Errorf("list through SSH: %+v, %v", list, err)
	}

	_, err := openURI(t, ssh.WrongKey).List(t.Context())
	wantProblem(t, err, "does not take the SSH key", "ssh-copy-id -p")
	_, err = openURI(t, ssh.WrongHost).List(t.Context())
	wantProblem(t, err, "did not prove who it is", "ssh -p")

	t.Run("ASocketIsCarried", func(t *testing.T) { carriesASocket(t, d, h) })
	t.Run("ASocketThatIsRefused", func(t *testing.T) {
		_, _, err := openURI(t, ssh.WrongKey).tunnel(t.Context(), d.Dir+"/echo")
		wantProblem(t, err, "does not take the SSH key", "ssh-copy-id -p")
	})
}

// carriesASocket talks through a tunnel, and sees it gone with everything.
func carriesASocket(t *testing.T, d *libvirtd.Daemon, h *Host) {
	l, err := net.Listen("unix", d.Dir+"/echo")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	local, end, err := h.tunnel(t.Context(), d.Dir+"/echo")
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	for range 2 {
		c, err := net.Dial("unix", local)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 5)
		if _, err := c.Write([]byte("Hello")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, got); err != nil || string(got) != "Hello" {
			t.Errorf("through the tunnel came %q, %v", got, err)
		}
		c.Close()
	}
	end()
	if _, err := os.Stat(local); !os.IsNotExist(err) {
		t.Errorf("the tunnel's socket is still there: %v", err)
	}
}

func TestAHostIsReachedByTLS(t *testing.T) {
	d := libvirtd.StartTLS(t)
	defineSmall(t, d.Daemon, "web01", "")
	h := openURI(t, d.TLSURI)
	if list, err := h.List(t.Context()); err != nil || len(list) != 1 || !strings.Contains(list[0].Refused, "qemu+ssh") {
		t.Errorf("list through TLS: %+v, %v", list, err)
	}
	_, err := h.Freeze(t.Context(), "web01", hypervisor.FreezeOptions{DriveID: "a"})
	wantProblem(t, err, "reached by tls", "qemu+ssh")
	if _, _, err := h.tunnel(t.Context(), "/x"); !errors.Is(err, hypervisor.ErrUnsupported) {
		t.Errorf("a tunnel through TLS: %v, want ErrUnsupported", err)
	}
	for name, uri := range map[string]string{"a stranger": d.Stranger, "an expired certificate": d.Expired} {
		_, err := openURI(t, uri).List(t.Context())
		if err == nil {
			t.Errorf("%s was let in", name)
			continue
		}
		wantProblem(t, err, "cannot be reached", "certificates")
	}
}

func TestAHostThatIsNotThereIsAProblemWithWords(t *testing.T) {
	for _, c := range map[string]struct{ uri, what, next string }{
		"no daemon":     {"qemu+unix:///system?socket=/nowhere/libvirt-sock", "cannot be reached", "systemctl status libvirtd"},
		"nobody there":  {"qemu+tls://127.0.0.1:1/system", "cannot be reached", "TLS"},
		"SSH, no sshd":  {"qemu+ssh://root@127.0.0.1:1/system", "cannot be reached", "virsh -c"},
		"an empty host": {"qemu+ssh://nobody.invalid/system", "cannot be reached", "virsh -c"},
	} {
		_, err := openURI(t, c.uri).List(t.Context())
		wantProblem(t, err, c.what, c.next)
	}
	for _, uri := range []string{"", "web01", "xen:///system", "qemu:///", "qemu+tcp://h/system", "qemu+ssh://root:secret@h/system", "qemu+pigeon://h/system", "qemu:///system\x1b[2J", "%"} {
		h, err := Open(Options{Name: "kvm1", URI: uri})
		if err == nil {
			h.Close()
			t.Errorf("address %q was taken", uri)
			continue
		}
		wantProblem(t, err, "host kvm1", "qemu:///system")
		if strings.Contains(err.Error(), "secret") || strings.ContainsRune(err.Error(), 0x1b) {
			t.Errorf("the error shows what it should not: %q", err)
		}
	}
}

func TestAUserWithoutRightsIsToldWhatToDo(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to make a socket that this test may not enter")
	}
	h := openURI(t, "qemu+unix:///system?socket=/x")
	err := h.unreachable(errorOf(38, "Failed to connect socket to '/run/libvirt/libvirt-sock': Permission denied"))
	wantProblem(t, err, "refuses this user", "usermod -aG libvirt")
	err = h.explain(&callError{op: "start it", err: errorOf(29, "operation forbidden: read only access prevents virDomainCreate")})
	wantProblem(t, err, "refuses this user", "usermod -aG libvirt")
	err = h.unreachable(errorOf(45, "authentication unavailable: no polkit agent available to authenticate action 'org.libvirt.unix.manage'"))
	wantProblem(t, err, "refuses this user", "usermod -aG libvirt")
	err = h.unreachable(errorOf(1, "Failed to open libvirt.so.0: no such file"))
	wantProblem(t, err, "needs libvirt's client library", "apt-get install libvirt0")
}

func TestAHostGoesOnWhenLibvirtdWasRestarted(t *testing.T) {
	d := libvirtd.Start(t)
	h := openOn(t, d)
	defineSmall(t, d, "web01", "")
	if err := h.PowerOn(t.Context(), "web01"); err != nil {
		t.Fatal(err)
	}
	found, err := h.find(t.Context(), "web01")
	if err != nil {
		t.Fatal(err)
	}
	d.Kill(t)
	_, err = h.List(t.Context())
	wantProblem(t, err, "host kvm1", "libvirtd")
	d.Again(t)
	// What was found before is still good, and the machine never noticed.
	if power, err := found.power(t.Context()); err != nil || power != hypervisor.PowerOn {
		t.Errorf("after the restart: %v, %v", power, err)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if _, err := h.List(t.Context()); !errors.Is(err, errClosed) {
		t.Errorf("a list after Close: %v", err)
	}
}

// A daemon that takes a connection and says nothing must not hold anybody.
func TestACallEndsWithItsContext(t *testing.T) {
	socket := t.TempDir() + "/s"
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	h := openURI(t, "qemu+unix:///system?socket="+socket)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, err := h.List(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("list: %v, want the context's error", err)
	}
	if took := time.Since(begin); took > bootCeiling {
		t.Errorf("it took %v", took)
	}
}
