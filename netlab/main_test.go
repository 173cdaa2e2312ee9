package netlab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
)

// apartVariable is set in a process that is in a network namespace of its own.
const apartVariable = "LIFEBOAT_TEST_NAMESPACE"

// TestMain runs the tests of root in a network namespace of their own, which stands
// for this computer: two runs side by side, or another room's bridges, do not meet,
// and nothing is left.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		os.Exit(m.Run())
	}
	if os.Getenv(apartVariable) != "" {
		if err := furnish(); err != nil {
			fmt.Fprintln(os.Stderr, "the network namespace of the tests:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	runtime.LockOSThread() // whose end would be that of the child
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Env = append(os.Environ(), apartVariable+"=yes")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, "a network namespace for the tests:", err)
		os.Exit(1)
	}
	os.Exit(cmd.ProcessState.ExitCode())
}

// furnish gives the namespace what a computer has: a loopback, and an address.
func furnish() error {
	const card = "card0"
	if _, err := netlink.LinkByName(card); err == nil {
		return nil // a process of a test
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = card
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "wall0"}); err != nil {
		return err
	}
	for _, name := range []string{"lo", card, "wall0"} {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if name == card {
			if err := addAddress(link, netip.MustParsePrefix("192.0.2.10/24")); err != nil {
				return err
			}
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return err
		}
	}
	return nil
}
