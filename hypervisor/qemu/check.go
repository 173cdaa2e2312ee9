package qemu

import (
	"context"
	"fmt"
	"os/exec"
	"strings"

	"lifeboat/hypervisor"
)

// Check says what works on this host, without changing anything.
func (h *Host) Check(ctx context.Context) []hypervisor.Finding {
	findings := []hypervisor.Finding{
		h.checkQEMU(ctx), h.checkTool(ctx, "qemu-img"), h.checkTool(ctx, "qemu-storage-daemon"),
	}
	if findings[0].OK {
		findings = append(findings, h.checkKVM(ctx))
	}
	findings = append(findings, checkFirmware(), checkMemory(), checkSpace("space for machines", h.o.Dir))
	if h.o.ScratchDir != "" {
		findings = append(findings, checkSpace("space for exports", h.o.ScratchDir))
	}
	return append(findings, h.checkDefinitions())
}

func (h *Host) checkQEMU(ctx context.Context) hypervisor.Finding {
	path, err := h.program()
	return checkProgram(ctx, h.programName(), path, err)
}

func (h *Host) checkTool(ctx context.Context, name string) hypervisor.Finding {
	path, err := h.tool(name)
	return checkProgram(ctx, name, path, err)
}

func checkProgram(ctx context.Context, name, path string, err error) hypervisor.Finding {
	f := hypervisor.Finding{What: name}
	if err != nil {
		f.Detail = "not installed; on Debian and Ubuntu: apt-get install qemu-system-x86 qemu-utils"
		return f
	}
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		f.Detail = "does not run: " + err.Error()
		return f
	}
	f.OK = true
	f.Detail, _, _ = strings.Cut(string(out), "\n")
	return f
}

func (h *Host) checkKVM(ctx context.Context) hypervisor.Finding {
	usable, why := h.probe(ctx)
	if usable {
		return hypervisor.Finding{What: "KVM", OK: true, Detail: "a small guest ran under it"}
	}
	return hypervisor.Finding{What: "KVM", Detail: why + "; machines run without it, several times slower"}
}

func checkFirmware() hypervisor.Finding {
	f := hypervisor.Finding{What: "UEFI firmware"}
	list := installedFirmware(firmwareDirs)
	if len(list) == 0 {
		f.Detail = "not installed; machines with UEFI need it: apt-get install ovmf"
		return f
	}
	f.OK, f.Detail = true, describeFirmware(list)
	return f
}

func checkMemory() hypervisor.Finding {
	f := hypervisor.Finding{What: "free memory"}
	_, free, err := memory()
	if err != nil {
		f.Detail = err.Error()
		return f
	}
	f.OK, f.Detail = free > 512<<20, fmt.Sprintf("%d MiB", free>>20)
	return f
}

func checkSpace(what, dir string) hypervisor.Finding {
	free, _, err := freeSpace(dir)
	if err != nil {
		return hypervisor.Finding{What: what, Detail: err.Error()}
	}
	return hypervisor.Finding{What: what, OK: free > 1<<30, Detail: fmt.Sprintf("%d MiB free in %s", free>>20, dir)}
}

func (h *Host) checkDefinitions() hypervisor.Finding {
	machines, err := h.machines()
	if err != nil {
		return hypervisor.Finding{What: "machines", Detail: err.Error()}
	}
	owner := map[string]string{}
	for _, m := range machines {
		if other, ok := owner[m.def.Machine.ID]; ok {
			return hypervisor.Finding{What: "machines", Detail: fmt.Sprintf(
				"%s and %s have the same id: remove the id from the copy's %s", other, m.name(), definitionFile)}
		}
		owner[m.def.Machine.ID] = m.name()
	}
	return hypervisor.Finding{What: "machines", OK: true, Detail: fmt.Sprintf("%d in %s", len(machines), h.o.Dir)}
}
