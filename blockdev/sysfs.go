package blockdev

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// kernelSector is what sysfs counts in, whatever the disk's own sectors are.
const kernelSector = 512

// device reads what sysfs says of one disk.
func (k kernel) device(name string, uses map[string][]Use) Device {
	folder := filepath.Join(k.sys, "block", name)
	real, err := filepath.EvalSymlinks(folder)
	if err != nil {
		real = folder
	}
	d := Device{
		Name: name, Path: filepath.Join(k.dev, strings.ReplaceAll(name, "!", "/")), Number: attribute(folder, "dev"), Sequence: attribute(folder, "diskseq"),
		SizeBytes: number(folder, "size") * kernelSector, SectorBytes: max(number(folder, "queue/logical_block_size"), kernelSector),
		Removable: number(folder, "removable") == 1, Rotational: number(folder, "queue/rotational") == 1, ReadOnly: number(folder, "ro") == 1,
		Transport: transport(real, name), LinkMbit: linkSpeed(real),
	}
	d.Model, d.Serial = described(folder, real)
	d.Uses = append(d.Uses, usesOf(folder, d.Path, d.Number, uses)...)
	entries, _ := os.ReadDir(folder)
	for _, e := range entries {
		part := filepath.Join(folder, e.Name())
		n := number(part, "partition")
		if n == 0 {
			continue
		}
		p := Partition{Number: int(n), Name: e.Name(), Path: filepath.Join(k.dev, strings.ReplaceAll(e.Name(), "!", "/")),
			StartBytes: number(part, "start") * kernelSector, SizeBytes: number(part, "size") * kernelSector, device: attribute(part, "dev")}
		d.Partitions = append(d.Partitions, p)
		d.Uses = append(d.Uses, usesOf(part, p.Path, p.device, uses)...)
	}
	slices.SortFunc(d.Partitions, func(a, b Partition) int { return a.Number - b.Number })
	return d
}

// usesOf are the mounts and swaps of one disk or partition, and its holders.
func usesOf(folder, path, dev string, uses map[string][]Use) []Use {
	var all []Use
	for _, u := range uses[dev] {
		u.Part = path
		all = append(all, u)
	}
	holders, _ := os.ReadDir(filepath.Join(folder, "holders"))
	for _, h := range holders {
		by := h.Name()
		if name := attribute(filepath.Join(folder, "holders", by), "dm/name"); name != "" {
			by = name
		}
		all = append(all, Use{Part: path, Kind: UsedHeld, By: by})
	}
	return all
}

// described finds model and serial number where the kinds of disks keep them.
func described(folder, real string) (model, serial string) {
	vendor := attribute(folder, "device/vendor")
	model = attribute(folder, "device/model")
	// SCSI says the maker apart; ATA and virtio fill in a word or a number.
	if model != "" && vendor != "" && vendor != "ATA" && !strings.HasPrefix(vendor, "0x") && !strings.HasPrefix(model, vendor) {
		model = vendor + " " + model
	}
	if model == "" {
		model = attribute(folder, "loop/backing_file")
	}
	for _, file := range []string{"device/serial", "serial", "device/vpd_pg80"} {
		if serial = attribute(folder, file); serial != "" {
			return printable(model), serial
		}
	}
	return printable(model), attribute(usbFolder(real), "serial")
}

// transport is told from the path of the device below /sys/devices.
func transport(real, name string) string {
	switch {
	case strings.HasPrefix(name, "loop"):
		return "loop"
	case strings.HasPrefix(name, "nvme"):
		return "nvme"
	case usbFolder(real) != "":
		return "usb"
	case strings.Contains(real, "/virtio"):
		return "virtio"
	case strings.Contains(real, "/ata"):
		return "ata"
	}
	return ""
}

// usbFolder is the USB device that a disk hangs on, or empty.
func usbFolder(real string) string {
	for folder := real; len(folder) > 1; folder = filepath.Dir(folder) {
		if attribute(folder, "idVendor") != "" {
			return folder
		}
	}
	return ""
}

// linkSpeed is in Mbit/s: 12, 480, 5000, 10000, 20000.
func linkSpeed(real string) int {
	folder := usbFolder(real)
	if folder == "" {
		return 0
	}
	return int(number(folder, "speed"))
}

func number(folder, name string) int64 {
	n, err := strconv.ParseInt(attribute(folder, name), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// attribute reads one small file of sysfs; what is not there is empty.
func attribute(folder, name string) string {
	if folder == "" {
		return ""
	}
	data, err := os.ReadFile(filepath.Join(folder, name))
	if err != nil {
		return ""
	}
	return printable(string(data))
}

// longestText bounds what a disk says of itself.
const longestText = 64

// printable makes one line of what a disk says: its firmware is not to be trusted
// with a terminal.
func printable(s string) string {
	s = strings.ToValidUTF8(s, "")
	s = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
	letters := []rune(strings.Join(strings.Fields(s), " "))
	return string(letters[:min(len(letters), longestText)])
}
