//go:build libvirt_dlopen && cgo

package libvirt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"lifeboat"
	"lifeboat/hypervisor"
)

// tunnel makes a Unix socket of the host one of this computer, and returns that
// and what ends it. Here it is the socket itself. Through SSH it is a child that
// carries it, as the same user with the same key as libvirt's client; it ends
// with this process.
func (h *Host) tunnel(ctx context.Context, socket string) (local string, end func(), err error) {
	switch h.transport() {
	case "unix":
		return socket, func() {}, nil
	case "ssh":
	default:
		return "", nil, &lifeboat.Problem{
			What: fmt.Sprintf("host %s is reached by %s, which carries libvirt's calls and no disks", h.o.Name, h.transport()),
			Safe: "nothing was done",
			Next: "give the host as qemu+ssh://" + h.sshTarget() + h.uri.Path + ", or export on that host itself",
			Err:  hypervisor.ErrUnsupported,
		}
	}
	// Not in a folder of the operator's: the path of a socket is short.
	dir, err := os.MkdirTemp("", "lb-ssh-")
	if err != nil {
		return "", nil, fmt.Errorf("make a folder for a socket: %w", err)
	}
	local = filepath.Join(dir, "s")
	child, err := h.sshChild(local, socket)
	if err != nil {
		os.RemoveAll(dir)
		return "", nil, err
	}
	end = func() {
		child.end()
		os.RemoveAll(dir)
	}
	if err := child.ready(ctx, local); err != nil {
		end()
		if ctx.Err() != nil {
			return "", nil, context.Cause(ctx)
		}
		return "", nil, h.refusedBySSH(err.Error(), fmt.Errorf("carry a socket through SSH: %s", hypervisor.GuestWords(err.Error())))
	}
	return local, end, nil
}

// sshChild starts the child. On the host it runs cat, which reads what never
// comes: when this process ends, however it does, so does cat, and with it all.
func (h *Host) sshChild(local, remote string) (*child, error) {
	if strings.Contains(remote, ":") {
		return nil, fmt.Errorf("SSH cannot carry a socket with a colon in its path: %s", hypervisor.GuestWords(remote))
	}
	query := h.uri.Query()
	program := query.Get("command")
	if program == "" {
		program = "ssh"
	}
	words := []string{"-T", "-e", "none", "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes", "-o", "ControlPath=none", "-o", "ConnectTimeout=15",
		"-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3", "-o", "StreamLocalBindMask=0177", "-L", local + ":" + remote}
	if key := query.Get("keyfile"); key != "" {
		words = append(words, "-i", key)
	}
	if query.Get("no_verify") == "1" {
		words = append(words, "-o", "StrictHostKeyChecking=no")
	}
	if port := h.uri.Port(); port != "" {
		words = append(words, "-p", port)
	}
	if name := h.uri.User.Username(); name != "" {
		words = append(words, "-l", name)
	}
	cmd := exec.Command(program, append(words, "--", h.uri.Hostname(), "cat")...)
	c := &child{cmd: cmd, done: make(chan struct{})}
	cmd.Stderr = &c.said
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	c.stdin = stdin
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	go func() {
		_ = cmd.Wait() // how it ended is in what it said
		close(c.done)
	}()
	return c, nil
}

// child is an SSH client that carries a socket.
type child struct {
	cmd   *exec.Cmd
	stdin io.Closer
	said  bytes.Buffer // to be read when done is closed
	done  chan struct{}
}

// ready waits until the socket is there, or the child has given up.
func (c *child) ready(ctx context.Context, local string) error {
	for {
		if _, err := os.Lstat(local); err == nil {
			return nil
		}
		select {
		case <-c.done:
			if said := strings.TrimSpace(c.said.String()); said != "" {
				return errors.New(said)
			}
			return errors.New("it ended without a word")
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// childGrace is how long a child may take to end by itself.
const childGrace = 2 * time.Second

func (c *child) end() {
	c.stdin.Close()
	select {
	case <-c.done:
	case <-time.After(childGrace):
		_ = c.cmd.Process.Kill()
		<-c.done
	}
}
