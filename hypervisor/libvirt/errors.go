//go:build libvirt_dlopen && cgo

package libvirt

import (
	"errors"
	"fmt"
	"strings"

	lv "libvirt.org/go/libvirt"

	"lifeboat"
	"lifeboat/hypervisor"
)

// isCode says that err is one of those of libvirt.
func isCode(err error, codes ...lv.ErrorNumber) bool {
	for _, code := range codes {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}

// message is what libvirt said, in one line: it may quote a guest or a server.
func message(err error) string {
	var said lv.Error
	if errors.As(err, &said) {
		return hypervisor.GuestWords(strings.TrimSpace(said.Message))
	}
	return hypervisor.GuestWords(err.Error())
}

// said is an error of libvirt in readable form. Its code is still there for
// [isCode].
type said struct{ err error }

func (s *said) Error() string { return message(s.err) }
func (s *said) Unwrap() error { return s.err }

// explain turns an error of libvirt into one of the contract, with what was being
// done. The code stays: [isCode] finds it.
func (h *Host) explain(call *callError) error {
	err := fmt.Errorf("%s: %w", call.op, &said{call.err})
	switch {
	case call.lost:
		return h.lost(err)
	case isCode(call.err, lv.ERR_NO_DOMAIN):
		return fmt.Errorf("%w: %w", hypervisor.ErrMachineGone, err)
	case isCode(call.err, lv.ERR_NO_SUPPORT, lv.ERR_OPERATION_UNSUPPORTED, lv.ERR_ARGUMENT_UNSUPPORTED):
		return fmt.Errorf("%w: %w", hypervisor.ErrUnsupported, err)
	case isCode(call.err, lv.ERR_OPERATION_DENIED, lv.ERR_ACCESS_DENIED, lv.ERR_AUTH_FAILED, lv.ERR_AUTH_UNAVAILABLE):
		return h.denied(err)
	case isCode(call.err, lv.ERR_OPERATION_TIMEOUT):
		// libvirt waits 30 s for its own lock on a domain, for example while the
		// machine is being migrated.
		return fmt.Errorf("%w: %w", hypervisor.ErrMachineBusy, err)
	}
	return err
}

// lost is a connection that broke in the middle of a call.
func (h *Host) lost(err error) error {
	return &lifeboat.Problem{
		What: "host " + h.o.Name + " went away",
		Safe: "its machines go on without libvirtd",
		Next: "see that libvirtd runs there (systemctl status libvirtd), then run: lifeboat host check " + h.o.Name,
		Err:  err,
	}
}

// denied is a user who may not do what was asked.
func (h *Host) denied(err error) error {
	return &lifeboat.Problem{
		What: "host " + h.o.Name + ": libvirt refuses this user",
		Safe: "nothing was changed",
		Next: "put the user into the group libvirt on that host (usermod -aG libvirt NAME, then log in again), or use root",
		Err:  err,
	}
}

// unreachable is a host that no connection could be made to.
func (h *Host) unreachable(err error) error {
	if !isLibvirt(err) {
		return err // the context ended, or the host was closed
	}
	text := err.Error()
	p := &lifeboat.Problem{
		What: "host " + h.o.Name + " cannot be reached",
		Safe: "nothing was done there",
		Err:  &said{err},
	}
	switch {
	case strings.Contains(text, "Failed to open libvirt.so"):
		p.What = "host " + h.o.Name + " needs libvirt's client library, which is not on this computer"
		p.Next = "install it: apt-get install libvirt0, or dnf install libvirt-libs"
	case h.transport() == "ssh":
		return h.refusedBySSH(text, &said{err})
	case isCode(err, lv.ERR_AUTH_FAILED, lv.ERR_AUTH_CANCELLED, lv.ERR_AUTH_UNAVAILABLE, lv.ERR_ACCESS_DENIED, lv.ERR_OPERATION_DENIED),
		h.local() && strings.Contains(text, "Permission denied"):
		return h.denied(&said{err})
	case h.transport() == "tls":
		p.Next = "see that libvirtd listens with TLS there and that both sides' certificates are valid (virt-pki-validate)"
	case h.local():
		p.Next = "see that libvirtd runs: systemctl status libvirtd"
	default:
		p.Next = "see that the host is up and that this works: " + h.virsh("version")
	}
	return p
}

// refusedBySSH is a host that SSH did not lead to. All that is known is what the
// SSH client printed.
func (h *Host) refusedBySSH(text string, err error) *lifeboat.Problem {
	p := &lifeboat.Problem{
		What: "host " + h.o.Name + " cannot be reached",
		Safe: "nothing was done there",
		Next: "see that the host is up and that this works: " + h.virsh("version"),
		Err:  err,
	}
	switch {
	case strings.Contains(text, "HOST IDENTIFICATION HAS CHANGED"), strings.Contains(text, "Host key verification failed"):
		p.What = "host " + h.o.Name + " did not prove who it is: its SSH key is not the one that is known"
		p.Next = "ask somebody who knows whether that key was changed, then connect once by hand: ssh " + h.sshTarget()
		p.Err = errUnknownKey
	case strings.Contains(text, "Permission denied"):
		p.What = "host " + h.o.Name + " does not take the SSH key of this user"
		p.Next = "give the host the key: ssh-copy-id " + h.sshTarget()
	}
	return p
}

// errUnknownKey stands for the banner that SSH prints.
var errUnknownKey = errors.New("host key verification failed")

// virsh is a command that an operator may type to see for himself.
func (h *Host) virsh(words string) string {
	return "virsh -c '" + strings.ReplaceAll(h.uri.String(), "'", "%27") + "' " + words
}

// isLibvirt says that err came from libvirt's client library.
func isLibvirt(err error) bool {
	var said lv.Error
	return errors.As(err, &said) || errors.Is(err, errLost)
}

// sshTarget is user@host, for a command that an operator types.
func (h *Host) sshTarget() string {
	target := h.uri.Hostname()
	if name := h.uri.User.Username(); name != "" {
		target = name + "@" + target
	}
	if port := h.uri.Port(); port != "" {
		target = "-p " + port + " " + target
	}
	return target
}
