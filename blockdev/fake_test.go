package blockdev

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeSystem is a sysfs and a procfs in a folder, of the files that tests say.
func fakeSystem(t *testing.T, files map[string]string, links map[string]string) kernel {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range links {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(root, target), path); err != nil {
			t.Fatal(err)
		}
	}
	return kernel{sys: filepath.Join(root, "sys"), proc: filepath.Join(root, "proc"), dev: "/dev"}
}

// fakeDisks are the disks of an ordinary server: one of the system with LVM on
// its second part, one in a USB dock, an NVMe, a reader without a card, and what
// is no disk at all.
func fakeDisks(t *testing.T) kernel {
	const (
		ata  = "sys/devices/pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0/block/sda"
		usb  = "sys/devices/pci0000:00/0000:00:14.0/usb2/2-3"
		dock = usb + "/2-3:1.0/host6/target6:0:0/6:0:0:0/block/sdb"
		nvme = "sys/devices/pci0000:00/0000:00:1d.0/nvme/nvme0/nvme0n1"
		card = "sys/devices/pci0000:00/0000:00:14.0/usb2/2-4/2-4:1.0/host7/target7:0:0/7:0:0:0/block/sdc"
	)
	return fakeSystem(t, map[string]string{
		ata + "/size": "1953525168\n", ata + "/dev": "8:0\n", ata + "/queue/rotational": "1\n", ata + "/queue/logical_block_size": "512\n",
		ata + "/device/vendor": "ATA     \n", ata + "/device/model": "WDC WD10EZEX-08W\n", ata + "/device/vpd_pg80": "\x00\x80\x00\x10     WD-WCC6Y1234567",
		ata + "/sda1/partition": "1\n", ata + "/sda1/start": "2048\n", ata + "/sda1/size": "1048576\n", ata + "/sda1/dev": "8:1\n",
		ata + "/sda2/partition": "2\n", ata + "/sda2/start": "1050624\n", ata + "/sda2/size": "1952472064\n", ata + "/sda2/dev": "8:2\n",
		ata + "/sda2/holders/dm-0/dm/name": "vg0-root\n",
		usb + "/idVendor":                  "152d\n", usb + "/serial": "DOCK0001\n", usb + "/speed": "480\n",
		dock + "/size": "7814037168\n", dock + "/dev": "8:16\n", dock + "/removable": "0\n", dock + "/ro": "1\n", dock + "/queue/logical_block_size": "4096\n",
		dock + "/device/vendor": "JMicron \n", dock + "/device/model": "Tech\x1b[31m  dock \n",
		nvme + "/size": "1000\n", nvme + "/dev": "259:0\n", nvme + "/device/model": "Fast One\n", nvme + "/device/serial": "S4EV\n",
		card + "/size": "0\n", card + "/dev": "8:32\n",
		"sys/devices/virtual/block/zram0/size": "8192\n", "sys/devices/virtual/block/sr0/size": "2097151\n",
		"proc/self/mountinfo": "22 1 8:1 / /boot rw,relatime shared:1 - ext4 /dev/sda1 rw\n23 1 259:0 / /mnt/my\\040disk ro - xfs /dev/nvme0n1 rw\n",
		"proc/swaps":          "Filename\tType\tSize\n",
	}, map[string]string{
		"sys/block/sda": ata, "sys/block/sdb": dock, "sys/block/sdc": card, "sys/block/nvme0n1": nvme,
		"sys/block/zram0": "sys/devices/virtual/block/zram0", "sys/block/sr0": "sys/devices/virtual/block/sr0",
		"sys/dev/block/8:2": ata + "/sda2",
	})
}

func TestDisksAreDescribedAsTheKernelDoes(t *testing.T) {
	k := fakeDisks(t)
	all, err := k.list()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range all {
		got = append(got, fmt.Sprintf("%s %s|%s|%s|%d|%d|%s|%d|removable %v rotational %v read-only %v|%v", d.Path, d.Number, d.Model, d.Serial, d.SizeBytes, d.SectorBytes,
			d.Transport, d.LinkMbit, d.Removable, d.Rotational, d.ReadOnly, d.Uses))
	}
	want := []string{
		"/dev/nvme0n1 259:0|Fast One|S4EV|512000|512|nvme|0|removable false rotational false read-only false|[/dev/nvme0n1 is mounted at /mnt/my disk]",
		"/dev/sda 8:0|WDC WD10EZEX-08W|WD-WCC6Y1234567|1000204886016|512|ata|0|removable false rotational true read-only false|[/dev/sda1 is mounted at /boot /dev/sda2 is held by vg0-root]",
		"/dev/sdb 8:16|JMicron Tech[31m dock|DOCK0001|4000787030016|4096|usb|480|removable false rotational false read-only true|[]",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	part, err := k.byNumber("8:2")
	if err != nil || part.Path != "/dev/sda" || len(part.Partitions) != 2 || !part.System() {
		t.Errorf("the disk of its second part: %+v, %v", part, err)
	}
	if p := part.Partitions[1]; p.Path != "/dev/sda2" || p.StartBytes != 1050624*512 || p.SizeBytes != 1952472064*512 {
		t.Errorf("its second part: %+v", p)
	}
}

// A disk that says of itself whatever it likes makes no line of its own.
func TestWhatADiskSaysOfItselfIsOneShortLine(t *testing.T) {
	for said, want := range map[string]string{
		"  SanDisk   Ultra \n":    "SanDisk Ultra",
		"a\nb\tc\x00d\x1b]0;x\a":  "a b cd]0;x",
		"\xff\xfeok":              "ok",
		"\u202eevil":              "evil",
		strings.Repeat("ä", 1000): strings.Repeat("ä", longestText),
		"":                        "",
	} {
		if got := printable(said); got != want {
			t.Errorf("%q: %q, want %q", said, got, want)
		}
	}
}

func TestPowerDownIsOnlyAskedOfWhatHasASwitch(t *testing.T) {
	k := fakeSystem(t, map[string]string{"sys/block/sdz/size": "1"}, nil)
	for _, d := range []Device{{Name: "loop9", Transport: "loop"}, {Name: "vda", Transport: "virtio"}, {Name: "sdz", Transport: "usb"}} {
		if done, note := k.powerDown(d); done || note == "" {
			t.Errorf("%s: %v, %q", d.Name, done, note)
		}
	}
}
