package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"lifeboat"
	"lifeboat/hypervisor"
)

// PowerOn starts a machine; one that runs is left alone.
func (h *Host) PowerOn(ctx context.Context, name string) error {
	m, err := h.find(name)
	if err != nil {
		return err
	}
	power, err := m.power(ctx)
	if err == nil && power == hypervisor.PowerPaused {
		return m.finishStart(ctx)
	}
	if err != nil || power != hypervisor.PowerOff {
		return err
	}
	lock, err := m.lock(ctx)
	if errors.Is(err, hypervisor.ErrMachineBusy) {
		return &lifeboat.Problem{
			What: m.name() + ": it is being exported while it is off, or is being started",
			Safe: "nothing was changed",
			Next: "wait until the export ends, or stop it: lifeboat run list",
			Err:  err,
		}
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	// Somebody else may have started it while we waited.
	if power, err := m.power(ctx); err != nil || power != hypervisor.PowerOff {
		return err
	}
	return m.powerOn(ctx)
}

// powerOn starts a machine that is off and locked.
func (m *machine) powerOn(ctx context.Context) error {
	if err := m.removeScratch(); err != nil {
		return err
	}
	accel, note := m.chooseAccelerator(ctx)
	if err := m.launch(ctx, accel, note); err != nil {
		return err
	}
	if accel == AcceleratorKVM && m.hasFreshOverlay() && m.stuck(ctx, firstSign) {
		note = "nothing moved for 20 seconds under KVM, so it was started once more without it: it runs slower"
		if err := m.restartWithTCG(ctx, note); err != nil {
			return err
		}
	}
	if note != "" {
		m.host.o.Note(m.name(), note)
	}
	return nil
}

// chooseAccelerator returns what will run the guest, and a sentence if that is
// not what was hoped for.
func (m *machine) chooseAccelerator(ctx context.Context) (Accelerator, string) {
	accel := m.def.Accelerator
	if accel == AcceleratorAuto {
		accel = m.host.o.Accelerator
	}
	if accel != AcceleratorAuto {
		return accel, ""
	}
	if usable, why := m.host.probe(ctx); !usable {
		return AcceleratorTCG, "it runs without KVM and therefore slower: " + why
	}
	return AcceleratorKVM, ""
}

// launch starts QEMU in a session of its own and returns when its guest runs.
func (m *machine) launch(ctx context.Context, accel Accelerator, note string) error {
	binary, err := m.host.program()
	if err != nil {
		return err
	}
	firmware, err := m.prepareFirmware(ctx)
	if err != nil {
		return err
	}
	s := start{
		accelerator: accel, firmware: firmware, plainCPU: !m.knowsCPU(ctx, binary),
		sockets: m.host.socketDir("machine", m.folder), direct: canBypassCache,
	}
	if s.tapScript, err = m.prepareBridges(); err != nil {
		return err
	}
	links, err := m.loadLinks()
	if err != nil {
		return err
	}
	s.held = m.heldBack(links)
	if err := m.host.makeSocketDir(s.sockets); err != nil {
		return err
	}
	// Recorded before QEMU starts: whoever comes after us must find its sockets.
	r := running{Sockets: s.sockets, StartedAt: time.Now().UTC(), Accelerator: accel, Note: note}
	if err := m.saveRunning(r); err != nil {
		return fmt.Errorf("record the start of %s: %w", m.name(), err)
	}
	tpm, err := m.startTPM(ctx)
	if err != nil {
		return err
	}
	if tpm != nil {
		defer tpm.Close()
	}
	// The TPM is the first descriptor, as its option says; then come the cables.
	give := given{tpm}
	if s.cables, err = m.openCables(ctx, &give); err != nil {
		return err
	}
	defer give[1:].close()
	if err := runDetached(ctx, binary, m.dir, m.commandLine(s), give); err != nil {
		return m.cannotStart(err)
	}
	m.sayReplaced(s)
	return m.unplug(ctx, links)
}

// sayReplaced tells the operator what of the machine's processor this QEMU does
// not have.
func (m *machine) sayReplaced(s start) {
	if s.plainCPU {
		m.host.o.Note(m.name(), fmt.Sprintf("this QEMU does not know the processor %s, so the machine has another", m.def.Machine.CPUModel))
	}
	if _, left := hyperV(m.def.Machine.HyperV); len(left) > 0 {
		m.host.o.Note(m.name(), "left out of its Hyper-V flags: "+hypervisor.GuestWords(strings.Join(left, ", ")))
	}
}

// runDetached runs a QEMU that goes into the background by itself, in a session
// of its own, once everything it needs is open. It starts in dir and leaves it.
// The files that are given become its descriptors from 3 on.
func runDetached(ctx context.Context, binary, dir string, words []string, give given) error {
	// A file, not a pipe: the child that stays would keep a pipe open.
	said, err := os.CreateTemp("", "lifeboat-qemu-*.txt")
	if err != nil {
		return err
	}
	defer os.Remove(said.Name())
	defer said.Close()
	cmd := exec.CommandContext(ctx, binary, words...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Stdout, cmd.Stderr = said, said
	cmd.ExtraFiles = give
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(said.Name())
		return fmt.Errorf("%s (%w)", lastLine(string(text)), err)
	}
	return nil
}

// cannotStart is the problem of a machine that QEMU refused.
func (m *machine) cannotStart(err error) error {
	p := &lifeboat.Problem{
		What: m.name() + ": it does not start",
		Safe: "its disks were not changed",
		Next: "read what QEMU says; lifeboat host check shows what is missing",
		Err:  err,
	}
	if said, readErr := os.ReadFile(m.path(tpmLogFile)); m.def.Machine.TPM != nil && readErr == nil && len(said) > 0 {
		p.Next = "read what QEMU says, and swtpm, which stands for its TPM: " + hypervisor.GuestWords(lastLine(string(said)))
	}
	for key, file := range m.def.Disks {
		if file.Base == nil {
			continue
		}
		if _, dialErr := os.Stat(file.Base.Socket); dialErr != nil {
			p.What = fmt.Sprintf("%s: it does not start: the disk server of disk %s is not there", m.name(), key)
			p.Next = "boot it again from the drive: lifeboat boot " + m.name()
		}
	}
	return p
}

// PowerOff asks the guest to shut down, waits for grace, and then takes the
// power away. It returns when the process is gone and its disks are closed.
func (h *Host) PowerOff(ctx context.Context, name string, grace time.Duration) error {
	m, err := h.find(name)
	if err != nil {
		return err
	}
	if grace > 0 {
		off, err := m.shutDown(ctx, grace)
		if err != nil || off {
			return err
		}
	}
	return m.takePower(ctx)
}

// shutDown asks the guest and waits; it says whether the machine is off.
func (m *machine) shutDown(ctx context.Context, grace time.Duration) (off bool, err error) {
	mon, err := m.monitor(ctx, commandSocket)
	if errors.Is(err, errOff) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	p, err := mon.peer()
	if err != nil {
		mon.close()
		return false, err
	}
	// The button first: the agent of a guest may be there and deaf.
	buttonErr := mon.run(ctx, "system_powerdown", nil, nil)
	mon.close()
	if buttonErr != nil && !isClosed(buttonErr) {
		return false, fmt.Errorf("press the power button of %s: %w", m.name(), buttonErr)
	}
	limited, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	m.agentShutdown(limited)
	if err := p.wait(limited); err == nil {
		return true, nil
	}
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	return false, nil
}

// quitLimit is how long QEMU may take to write what it holds before it is
// killed. A disk that hangs must not keep a machine alive for ever.
const quitLimit = 15 * time.Second

// takePower ends the machine's process: it is asked to close its disks in order,
// and killed if it does not.
func (m *machine) takePower(ctx context.Context) error {
	mon, err := m.monitor(ctx, commandSocket)
	if errors.Is(err, errOff) {
		return nil
	}
	if err != nil {
		return err
	}
	defer mon.close()
	p, err := mon.peer()
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, quitLimit)
	defer cancel()
	err = mon.run(limited, "quit", nil, nil)
	if err != nil && !isClosed(err) && limited.Err() == nil {
		return fmt.Errorf("take the power from %s: %w", m.name(), err)
	}
	if p.wait(limited) == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := p.kill(); err != nil {
		return fmt.Errorf("take the power from %s: %w", m.name(), err)
	}
	return p.wait(ctx)
}

// prepareBridges writes the scripts that plug this machine into bridges and
// returns how their names begin, or nothing if QEMU's own helper has to do it.
func (m *machine) prepareBridges() (prefix string, err error) {
	if os.Geteuid() != 0 {
		return "", nil
	}
	prefix = filepath.Join(m.dir, "plug")
	for _, n := range m.def.Networks {
		if n.Kind != hypervisor.NetworkBridge {
			continue
		}
		script := "#!/bin/sh\nip link set dev \"$1\" master " + n.Name + " && exec ip link set dev \"$1\" up\n"
		if err := os.WriteFile(prefix+"-"+n.Name, []byte(script), 0o700); err != nil {
			return "", fmt.Errorf("plug %s into bridge %s: %w", m.name(), n.Name, err)
		}
	}
	return prefix, nil
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	last := strings.TrimSpace(lines[len(lines)-1])
	for _, program := range []string{plainProgram, filepath.Base(libexecProgram)} {
		last = strings.TrimPrefix(last, program+": ")
	}
	return last
}
