package qemu

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat"
	"lifeboat/hypervisor"
)

const (
	tpmFolder  = "tpm" // what the module keeps, in the machine's folder
	tpmLogFile = "tpm.log"
	tpmProgram = "swtpm"
)

// needTPM looks for the program that a machine with a TPM needs.
func needTPM(m *lifeboat.Machine) (string, error) {
	path, err := exec.LookPath(tpmProgram)
	if err == nil {
		return path, nil
	}
	return "", &lifeboat.Problem{
		What: m.Name + ": it has a TPM, and this host has no swtpm to stand for one",
		Safe: "nothing was changed",
		Next: "install it: apt-get install swtpm  (dnf install swtpm). A disk that is sealed to the TPM (BitLocker, LUKS with systemd-cryptenroll) " +
			"opens without it only with its recovery key",
		Err: err,
	}
}

// restoreTPM puts the state that came with a machine into the folder that will
// become the machine's.
func restoreTPM(dir string, m *lifeboat.Machine) error {
	if m.TPM == nil {
		return nil
	}
	if _, err := needTPM(m); err != nil {
		return err
	}
	to := filepath.Join(dir, tpmFolder)
	if len(m.TPM.State) == 0 {
		return os.Mkdir(to, 0o700)
	}
	return hypervisor.UnpackTPM(m.TPM.State, to)
}

// readTPM returns what the machine's module keeps, or nil.
func (m *machine) readTPM() ([]byte, error) {
	if m.def.Machine.TPM == nil {
		return nil, nil
	}
	return hypervisor.PackTPM(m.path(tpmFolder))
}

// tpmDescriptor is the number under which QEMU is given its line to the TPM: the
// first after the standard ones.
const tpmDescriptor = 3

// addTPM gives the machine its module.
func (m *machine) addTPM(c *cmdline, _ start) {
	tpm := m.def.Machine.TPM
	if tpm == nil {
		return
	}
	c.add("-chardev", fmt.Sprintf("socket,id=tpm,fd=%d", tpmDescriptor))
	c.add("-tpmdev", "emulator,id=tpm0,chardev=tpm")
	driver := "tpm-tis"
	if tpm.Model == "crb" {
		driver = "tpm-crb"
	}
	c.device(options{"driver": driver, "id": "tpmdev0", "tpmdev": "tpm0"})
}

// startTPM starts the machine's module and returns the line to it for QEMU, or
// nil for a machine without one. The two ends are all that holds the module:
// when QEMU ends, or does not come to be, or we are killed now, it ends as well.
func (m *machine) startTPM(ctx context.Context) (*os.File, error) {
	tpm := m.def.Machine.TPM
	if tpm == nil {
		return nil, nil
	}
	program, err := needTPM(&m.def.Machine)
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(m.path(tpmFolder), 0o700); err != nil && !os.IsExist(err) {
		return nil, fmt.Errorf("make the folder of %s's TPM: %w", m.name(), err)
	}
	if err := m.waitForTPM(ctx); err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make the line to %s's TPM: %w", m.name(), err)
	}
	theirs, ours := os.NewFile(uintptr(pair[0]), "tpm"), os.NewFile(uintptr(pair[1]), "qemu")
	defer theirs.Close()
	log, err := os.OpenFile(m.path(tpmLogFile), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		ours.Close()
		return nil, fmt.Errorf("start the TPM of %s: %w", m.name(), err)
	}
	defer log.Close()
	words := []string{"socket", "--tpmstate", "dir=" + tpmFolder + ",mode=0600",
		"--ctrl", "type=unixio,clientfd=3", "--terminate"}
	if tpm.Version != "1.2" {
		words = append(words, "--tpm2")
	}
	// It outlives this command with its machine, so no context ends it.
	cmd := exec.Command(program, words...)
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = m.dir, log, log, []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		ours.Close()
		return nil, fmt.Errorf("start the TPM of %s: %w", m.name(), err)
	}
	go cmd.Wait() // collects it, should it end while we are here
	return ours, nil
}

// tpmPatience is how long the module of a machine that was just switched off may
// take to end.
const tpmPatience = 5 * time.Second

// waitForTPM waits until no module uses the machine's folder: the one of the run
// before ends by itself, a moment after QEMU.
func (m *machine) waitForTPM(ctx context.Context) error {
	f, err := os.Open(filepath.Join(m.path(tpmFolder), ".lock"))
	if err != nil {
		if os.IsNotExist(err) {
			return nil
		}
		return fmt.Errorf("look at the TPM of %s: %w", m.name(), err)
	}
	defer f.Close()
	for deadline := time.Now().Add(tpmPatience); ; {
		lock := unix.Flock_t{Type: unix.F_WRLCK}
		if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil {
			return fmt.Errorf("look at the TPM of %s: %w", m.name(), err)
		}
		if lock.Type == unix.F_UNLCK {
			return nil
		}
		if time.Now().After(deadline) {
			return &lifeboat.Problem{
				What: fmt.Sprintf("%s: its TPM is still in use by process %d", m.name(), lock.Pid),
				Safe: "nothing was changed",
				Next: "wait until that process has ended, or end it; then start the machine again",
				Err:  fs.ErrExist,
			}
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}
