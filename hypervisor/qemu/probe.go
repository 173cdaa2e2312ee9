package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// probeLimit is how long the boot image may take under KVM. It needs a tenth of
// that where KVM works.
const probeLimit = 2 * time.Second

// ProbeKVM says whether guests run under KVM here, and in a sentence why not.
// It is decided by running one: a boot image that goes through firmware into
// long mode, takes timer interrupts and ends, within two seconds. The answer is
// kept until the computer is started again.
func ProbeKVM(ctx context.Context) (usable bool, why string) {
	path, err := Program()
	return probeKVM(ctx, path, err, defaultRunDir())
}

// probe is ProbeKVM with the QEMU of this host.
func (h *Host) probe(ctx context.Context) (usable bool, why string) {
	path, err := h.program()
	return probeKVM(ctx, path, err, h.o.RunDir)
}

// probed is an answer, and the QEMU and the start of the computer that it is
// true for.
type probed struct {
	BootID string `json:"bootId"`
	Binary string `json:"binary"`
	Usable bool   `json:"usable"`
	Why    string `json:"why"`
}

var probing sync.Mutex // one guest at a time is enough

// probeKVM asks the QEMU at path, or says that it was not found.
func probeKVM(ctx context.Context, path string, notFound error, runDir string) (bool, string) {
	probing.Lock()
	defer probing.Unlock()
	if err := unix.Access("/dev/kvm", unix.R_OK|unix.W_OK); err != nil {
		return false, noDevice(err)
	}
	if notFound != nil {
		return false, "QEMU is not installed"
	}
	now := probed{BootID: bootID(), Binary: path}
	file := filepath.Join(runDir, "kvm.json")
	if known, ok := loadProbe(file); ok && known.BootID == now.BootID && known.Binary == path {
		return known.Usable, known.Why
	}
	took, err := runBootImage(ctx, path, AcceleratorKVM, probeLimit)
	switch {
	case ctx.Err() != nil:
		return false, "it was not tried: " + context.Cause(ctx).Error()
	case err != nil:
		now.Why = "a small guest does not run under KVM here: " + err.Error()
	default:
		now.Usable, now.Why = true, fmt.Sprintf("a small guest ran under KVM in %v", took.Round(time.Millisecond))
	}
	saveProbe(file, now)
	return now.Usable, now.Why
}

func noDevice(err error) string {
	if errors.Is(err, unix.ENOENT) {
		return "this computer has no /dev/kvm: virtualisation is off in its firmware, or it is itself a virtual machine"
	}
	return "/dev/kvm cannot be opened: become a member of the group kvm"
}

// loadProbe reads an answer that is ours: nobody else decides how machines run.
func loadProbe(file string) (probed, bool) {
	info, err := os.Lstat(file)
	if err != nil || !info.Mode().IsRegular() {
		return probed{}, false
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); !ok || int(owner.Uid) != os.Geteuid() {
		return probed{}, false
	}
	data, err := os.ReadFile(file)
	var p probed
	return p, err == nil && json.Unmarshal(data, &p) == nil && p.BootID != ""
}

// saveProbe keeps an answer. If that fails, the next one asks again.
func saveProbe(file string, p probed) {
	data, err := json.Marshal(p)
	if err != nil || os.MkdirAll(filepath.Dir(file), 0o700) != nil {
		return
	}
	_ = writeFile(filepath.Dir(file), filepath.Base(file), data)
}

// runBootImage runs the boot image and says how long it took, or why it did not
// come to its end.
func runBootImage(ctx context.Context, binary string, a Accelerator, limit time.Duration) (time.Duration, error) {
	image, err := os.CreateTemp("", "lifeboat-probe-*.img")
	if err != nil {
		return 0, err
	}
	defer os.Remove(image.Name())
	_, err = image.Write(bootImage())
	if err := errors.Join(err, image.Close()); err != nil {
		return 0, err
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	began := time.Now()
	cmd := exec.CommandContext(limited, binary,
		"-machine", "pc", "-accel", accelerator(a), "-m", "32", "-display", "none", "-nodefaults", "-no-user-config",
		"-no-reboot", "-device", fmt.Sprintf("isa-debug-exit,iobase=0x%x,iosize=4", bootPort),
		"-blockdev", options{"driver": "raw", "node-name": "disk", "read-only": false,
			"file": options{"driver": "file", "filename": image.Name()}}.json(),
		"-device", "ide-hd,drive=disk,bootindex=1")
	out, err := cmd.CombinedOutput()
	took := time.Since(began)
	var exit *exec.ExitError
	switch {
	case limited.Err() != nil:
		return took, fmt.Errorf("it did not come to its end within %v", limit)
	case errors.As(err, &exit) && exit.ExitCode() == bootExit:
		return took, nil
	case err == nil:
		return took, errors.New("it crashed")
	}
	return took, fmt.Errorf("%s (%w)", lastLine(string(out)), err)
}
