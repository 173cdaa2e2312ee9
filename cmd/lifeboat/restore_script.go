package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"lifeboat"
	"lifeboat/hypervisor"
)

// startScript is the file that starts a restored machine with plain QEMU.
const startScript = "start.sh"

// tpmStateFile is what the machine's TPM kept. It opens disks, so it is for the
// eyes of whoever restored it alone.
const tpmStateFile = "tpm-state.tar"

// originalPrefix begins the names of what only the machine's own hypervisor
// understands, as VMware's firmware variables: original-nvram.
const originalPrefix = "original-"

// originalDescription is the machine in the words of the host it came from.
const originalDescription = originalPrefix + "description.txt"

// writeDescriptions puts beside the restored disks everything that is known of
// their machine, and the way to start it without Lifeboat.
func writeDescriptions(plan *restorePlan) error {
	m := plan.Point.Machine
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	files := map[string][]byte{"machine.json": append(data, '\n'), startScript: []byte(startText(plan))}
	if m.Native != nil {
		for name, data := range m.Native.Files {
			// The names came from a host and must not lead out of the folder.
			if base := originalPrefix + name; filepath.Base(base) == base && plainText(base) == base && oneLine(base) == base {
				files[base] = data
			}
		}
		files[originalDescription] = []byte(m.Native.Text)
	}
	if len(m.Firmware.NVRAM) > 0 {
		files["nvram.fd"] = m.Firmware.NVRAM
	}
	if m.TPM != nil && len(m.TPM.State) > 0 {
		files[tpmStateFile] = m.TPM.State
	}
	for name, data := range files {
		mode := os.FileMode(0o644)
		switch name {
		case startScript:
			mode = 0o755
		case tpmStateFile:
			mode = 0o600
		default:
			if strings.HasPrefix(name, originalPrefix) && name != originalDescription {
				mode = 0o600 // nobody but that hypervisor knows what is in it
			}
		}
		if err := writeFile(filepath.Join(plan.Folder, name), data, mode); err != nil {
			return err
		}
	}
	return nil
}

// startText is a shell script that needs nothing but QEMU. The network card is
// there but unplugged: whoever starts the machine decides where it leads.
func startText(plan *restorePlan) string {
	m := plan.Point.Machine
	var out strings.Builder
	fmt.Fprintf(&out, "#!/bin/sh\n# Starts %s as it was at %s.\n", oneLine(m.Name), plan.Point.TakenAt.UTC().Format("2006-01-02 15:04:05 UTC"))
	out.WriteString("# It needs QEMU and nothing else. Its network cards are unplugged: to plug the\n" +
		"# first one into the host's address translation, run it with NET=user. The guest\n" +
		"# then reaches everything that this computer reaches.\n" +
		"# If it ends at once or hangs although /dev/kvm is there, KVM does not work on\n" +
		"# this computer: run it with ACCEL=tcg. That is several times slower.\n" +
		"cd \"$(dirname \"$0\")\" || exit 1\n" +
		"accel=tcg; [ -w /dev/kvm ] && accel=kvm:tcg\n" +
		"qemu=\"qemu-system-x86_64\"\n" +
		"command -v \"$qemu\" >/dev/null || qemu=/usr/libexec/qemu-kvm # RHEL, Alma, Rocky\n" +
		"set -- -name " + shellWord(m.Name) + " -machine " + machineType(m) + ",accel=\"${ACCEL:-$accel}\" -cpu max")
	fmt.Fprintf(&out, " -m %d -smp %s", max(m.MemoryBytes>>20, 1), processorsText(m))
	if m.ClockLocal {
		out.WriteString(" -rtc base=localtime")
	}
	if m.UUID != "" {
		out.WriteString(" -uuid " + strings.Map(plainRune, m.UUID))
	}
	if words := smbiosText(m.SMBIOS); words != "" {
		out.WriteString(" -smbios " + shellWord("type=1"+words))
	}
	if m.GenerationID {
		out.WriteString(" -device vmgenid,guid=auto")
	}
	out.WriteString(" \"$@\"\n")
	out.WriteString(firmwareText(m) + tpmText(m))
	for i, f := range plan.Files {
		d, _ := m.Disk(f.Disk)
		fmt.Fprintf(&out, "set -- \"$@\" -drive if=none,id=disk%d,file=%s,format=%s,cache=writeback\n", i, shellWord(filepath.Base(f.Path)), plan.Format)
		fmt.Fprintf(&out, "set -- \"$@\" %s\n", diskDevice(d, i))
	}
	for i, n := range m.NICs {
		net := fmt.Sprintf("set -- \"$@\" -netdev hubport,id=net%d,hubid=%d -device %s,netdev=net%d%s\n", i, i, nicModel(n.Model), i, macText(n.MAC))
		if i == 0 {
			fmt.Fprintf(&out, "if [ \"$NET\" = user ]; then\n  %selse\n  %sfi\n",
				fmt.Sprintf("set -- \"$@\" -netdev user,id=net0 -device %s,netdev=net0%s\n", nicModel(n.Model), macText(n.MAC)), net)
			continue
		}
		out.WriteString(net)
	}
	out.WriteString("exec \"$qemu\" -nodefaults -device VGA -serial mon:stdio \"$@\"\n")
	return out.String()
}

func processorsText(m lifeboat.Machine) string {
	if t := m.Topology; t != nil && t.Sockets > 0 && t.Cores > 0 && t.Threads > 0 && t.Sockets*t.Cores*t.Threads == m.CPUs {
		return fmt.Sprintf("%d,sockets=%d,cores=%d,threads=%d", m.CPUs, t.Sockets, t.Cores, t.Threads)
	}
	return fmt.Sprintf("%[1]d,sockets=%[1]d", max(m.CPUs, 1))
}

// smbiosText is what licences hang on.
func smbiosText(s lifeboat.SMBIOS) string {
	words := ""
	for _, w := range [][2]string{{"manufacturer", s.Manufacturer}, {"product", s.Product}, {"serial", s.Serial}} {
		if w[1] != "" {
			words += "," + w[0] + "=" + strings.ReplaceAll(hypervisor.Printable(w[1]), ",", ",,")
		}
	}
	return words
}

// tpmText starts the machine's TPM where there is a program for it; without, the
// machine starts all the same, and a disk that is sealed asks for its key.
func tpmText(m lifeboat.Machine) string {
	if m.TPM == nil {
		return ""
	}
	version, device := " --tpm2", "tpm-tis"
	if m.TPM.Version == "1.2" {
		version = ""
	} else if m.TPM.Model == "crb" {
		device = "tpm-crb"
	}
	return "if command -v swtpm >/dev/null; then\n" +
		"  [ -d tpm ] || { mkdir -m 700 tpm && { [ ! -f " + tpmStateFile + " ] || tar -C tpm -xf " + tpmStateFile + "; }; }\n" +
		"  swtpm socket" + version + " --tpmstate dir=tpm,mode=0600 --ctrl type=unixio,path=tpm/socket,mode=0600 --terminate --daemon || exit 1\n" +
		"  set -- \"$@\" -chardev socket,id=tpm,path=tpm/socket -tpmdev emulator,id=tpm0,chardev=tpm -device " + device + ",tpmdev=tpm0\n" +
		"else\n  echo \"without swtpm the machine has no TPM: a disk that is sealed to it needs its recovery key\" >&2\nfi\n"
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func machineType(m lifeboat.Machine) string {
	if m.Chipset == lifeboat.ChipsetI440FX {
		return "pc"
	}
	return "q35"
}

func firmwareText(m lifeboat.Machine) string {
	if m.Firmware.Kind != lifeboat.FirmwareUEFI {
		return ""
	}
	vars := "cp -n \"${code%CODE*}VARS${code#*CODE}\" nvram.fd 2>/dev/null"
	if len(m.Firmware.NVRAM) > 0 {
		vars = ": # nvram.fd holds the machine's own variables"
	}
	return "for code in /usr/share/OVMF/OVMF_CODE_4M.fd /usr/share/OVMF/OVMF_CODE.fd /usr/share/edk2/ovmf/OVMF_CODE.fd /usr/share/edk2/x64/OVMF_CODE.4m.fd; do\n" +
		"  [ -f \"$code\" ] && break\ndone\n" + vars + "\n" +
		"set -- \"$@\" -drive if=pflash,format=raw,readonly=on,file=\"$code\" -drive if=pflash,format=raw,file=nvram.fd\n"
}

func diskDevice(d lifeboat.Disk, i int) string {
	serial := ""
	if d.Serial != "" {
		serial = ",serial=" + strings.Map(plainRune, d.Serial)
	}
	switch d.Bus {
	case lifeboat.BusVirtioSCSI:
		return fmt.Sprintf("-device virtio-scsi-pci,id=scsi%d -device scsi-hd,bus=scsi%d.0,drive=disk%d,bootindex=%d%s", i, i, i, i+1, serial)
	case lifeboat.BusPVSCSI:
		return fmt.Sprintf("-device pvscsi,id=scsi%d -device scsi-hd,bus=scsi%d.0,drive=disk%d,bootindex=%d%s", i, i, i, i+1, serial)
	case lifeboat.BusLSISAS, lifeboat.BusLSI:
		// QEMU has the SAS controller only.
		return fmt.Sprintf("-device mptsas1068,id=scsi%d -device scsi-hd,bus=scsi%d.0,drive=disk%d,bootindex=%d%s", i, i, i, i+1, serial)
	case lifeboat.BusSATA:
		return fmt.Sprintf("-device ich9-ahci,id=ahci%d -device ide-hd,bus=ahci%d.0,drive=disk%d,bootindex=%d%s", i, i, i, i+1, serial)
	case lifeboat.BusIDE:
		return fmt.Sprintf("-device ide-hd,drive=disk%d,bootindex=%d%s", i, i+1, serial)
	case lifeboat.BusNVMe:
		if d.Serial == "" {
			serial = fmt.Sprintf(",serial=disk%d", i)
		}
		return fmt.Sprintf("-device nvme,drive=disk%d,bootindex=%d%s", i, i+1, serial)
	default:
		return fmt.Sprintf("-device virtio-blk-pci,drive=disk%d,bootindex=%d%s", i, i+1, serial)
	}
}

// plainRune drops what a shell or QEMU would read as more than a letter.
func plainRune(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_:.", r) {
		return r
	}
	return -1
}

func nicModel(model string) string {
	switch model {
	case "e1000", "e1000e", "rtl8139", "vmxnet3":
		return model
	}
	return "virtio-net-pci"
}

func macText(mac string) string {
	if mac == "" {
		return ""
	}
	return ",mac=" + strings.Map(plainRune, mac)
}
