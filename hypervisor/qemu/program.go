package qemu

import (
	"os/exec"
	"path/filepath"
	"runtime"
)

// plainProgram is QEMU for 64-bit PCs, as most distributions call it.
const plainProgram = "qemu-system-x86_64"

// libexecProgram is where Red Hat's distributions have it: under another name
// and not in the PATH. It is QEMU for the computer's own kind of processor.
var libexecProgram = "/usr/libexec/qemu-kvm"

// Program returns the path of the QEMU that machines run on: the one in the
// PATH, or else that of Red Hat's distributions. Where there is none, the error
// is a problem that says how to install one.
func Program() (path string, err error) {
	path, err = exec.LookPath(plainProgram)
	if err == nil {
		return path, nil
	}
	if runtime.GOARCH == "amd64" {
		if path, err := exec.LookPath(libexecProgram); err == nil {
			return path, nil
		}
	}
	return "", missingTool(plainProgram, err)
}

// program returns the path of the QEMU of this host.
func (h *Host) program() (string, error) {
	if h.o.Binary == "" {
		return Program()
	}
	return h.tool(h.o.Binary)
}

// programName is what the QEMU of this host is called.
func (h *Host) programName() string {
	if h.o.Binary == "" {
		return plainProgram
	}
	return filepath.Base(h.o.Binary)
}
