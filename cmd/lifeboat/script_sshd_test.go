package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// scriptSSHD starts a real sshd on the loopback that ends with the script, and puts
// an `ssh` before all others that has the key for it. $SSH is its address.
func scriptSSHD(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: sshd")
	}
	dir := ts.MkAbs("sshd")
	ts.Check(os.MkdirAll(filepath.Join(dir, "bin"), 0o700))
	// sshd gives its unprivileged child an empty folder that has to be there.
	ts.Check(os.MkdirAll("/run/sshd", 0o755))
	for _, name := range []string{"host", "client"} {
		ts.Check(exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", filepath.Join(dir, name)).Run())
	}
	port, err := freePort()
	ts.Check(err)
	write := func(name, text string, mode os.FileMode) {
		ts.Check(os.WriteFile(filepath.Join(dir, name), []byte(text), mode))
	}
	write("config", fmt.Sprintf("ListenAddress 127.0.0.1\nPort %d\nHostKey %[2]s/host\nAuthorizedKeysFile %[2]s/client.pub\nPidFile none\n"+
		"StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n", port, dir), 0o600)
	key, err := os.ReadFile(filepath.Join(dir, "host.pub"))
	ts.Check(err)
	write("known", fmt.Sprintf("[127.0.0.1]:%d %s", port, key), 0o600)
	real, err := exec.LookPath("ssh")
	ts.Check(err)
	write("bin/ssh", fmt.Sprintf("#!/bin/sh\nexec %s -F none -i %s/client -o IdentitiesOnly=yes -o BatchMode=yes -o UserKnownHostsFile=%[2]s/known \"$@\"\n", real, dir), 0o700)
	cmd := exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", filepath.Join(dir, "config")) // it insists on its full path
	log, err := os.Create(filepath.Join(dir, "log"))
	ts.Check(err)
	cmd.Stderr = log
	ts.Check(cmd.Start())
	log.Close()
	ts.Defer(func() { cmd.Process.Kill(); cmd.Wait() })
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			c.Close()
			break
		}
		if time.Now().After(deadline) {
			ts.Fatalf("sshd does not answer: %v", err)
		}
	}
	ts.Setenv("PATH", filepath.Join(dir, "bin")+":"+ts.Getenv("PATH"))
	ts.Setenv("SSH", strings.TrimSpace(fmt.Sprintf("ssh://root@127.0.0.1:%d", port)))
}
