package rotation

import (
	"fmt"
	"strings"
	"time"

	"lifeboat"
)

// SheetFacts are what a recovery sheet, or START-HERE.txt, is about.
type SheetFacts struct {
	Drive   lifeboat.Drive
	Contact string
	// CompanyName is printed only when it is given.
	CompanyName string
	// Programs are those that the drives carry; their hashes are printed on the
	// sheet, and never on a drive.
	Programs []Program
	// Filesystem is that of the drive, such as "ext4"; empty when not known.
	Filesystem string
	// Secret is printed on the sheet when it is given.
	Secret string
	// Slots are the names of the drive's key slots, where they are known.
	Slots []string
	// Version is the version of the program, PrintedAt the day of printing.
	Version   string
	PrintedAt time.Time
}

// mountPoint is where the sheet has the drive mounted, device the name that the
// reader replaces.
const (
	mountPoint = "/mnt/lifeboat"
	device     = "/dev/sdX1"
)

// step is one thing to do: why, and the lines to type.
type step struct {
	Title    string
	Why      []string
	Commands []string
	// Remarks are for when it does not go as it should.
	Remarks []string
}

// recoverySteps are the steps from a drive in the hand to running servers on a
// Linux machine that never saw Lifeboat. They are the same wherever they are
// printed, and a test types them.
func recoverySteps(f SheetFacts) []step {
	return []step{
		{
			Title:    "Become root and find the drive",
			Why:      []string{"Attach the drive, open a terminal and type:"},
			Commands: []string{"sudo -i", "lsblk -o NAME,SIZE,LABEL,FSTYPE,MOUNTPOINT"},
			Remarks: []string{
				"Find the line of the drive by its size. Below, type /dev/ and the name in that line in place of " + device + ".",
				"If the line shows a MOUNTPOINT, the system has mounted the drive by itself. Undo that first:",
				"  umount " + device,
			},
		},
		{
			Title:    "Mount it, for reading only",
			Commands: []string{"mkdir -p " + mountPoint, mountLine(f.Filesystem), "ls " + mountPoint},
			Remarks: []string{
				"This is the line for " + filesystemName(f.Filesystem) + ". If FSTYPE in step 1 says otherwise, replace what follows -o:",
				"  ext4   ro,noload",
				"  xfs    ro,norecovery",
				"  btrfs  ro,rescue=nologreplay",
				"  exfat, vfat, ntfs   ro",
				"For a folder on a server, type what the server's keeper tells you instead, with -o ro.",
				"The last line must show " + StartHere + ".",
			},
		},
		{
			Title: "Copy the program and check it",
			Why:   []string{"The program is copied away from the drive, and used only if it is the right one."},
			Commands: []string{"A=" + firstArch(f.Programs), `W=$(mktemp -d)`,
				"cp " + mountPoint + "/" + BinFolder + `/lifeboat-linux-$A "$W/lifeboat"`,
				`chmod 755 "$W/lifeboat"`, `sha256sum "$W/lifeboat"`},
			Remarks: []string{
				"A is amd64 for Intel and AMD machines, arm64 for ARM machines (uname -m says aarch64).",
				"If there is no such file, use the program that your organisation keeps elsewhere.",
				"Compare the long number with the one on the PRINTED recovery sheet, all 64 characters. A file on the drive proves nothing: who can change the program can change that file too. If they differ, do not run the program: use another drive, and call the contact.",
			},
		},
		{
			Title:    "Start the servers",
			Commands: []string{`cd "$W"`, "./lifeboat boot --all --drive " + mountPoint},
			Remarks: []string{
				"It asks for the secret of the drives: words that are kept apart from the drive. Then the servers start straight from the drive. Nothing on the drive is changed; do not pull it out while they run.",
				"To bring the whole company back in its order, with checks and its networks, type this instead; it asks before it does anything:",
				"  ./lifeboat recover --drive " + mountPoint,
				"  ./lifeboat ps          shows what runs",
				"  ./lifeboat stop NAME   stops a server",
				"  ./lifeboat --help      tells the rest",
				"If it says Permission denied, the folder forbids programs. Type W=/root, then everything from the third line of step 3 on.",
			},
		},
		{
			Title:    "Read the documents that the drive carries",
			Why:      []string{"The drive may hold more than servers: licence keys, passwords, phone numbers. They open with the same secret."},
			Commands: []string{"./lifeboat drive documents --drive " + mountPoint},
			Remarks: []string{
				"To write one to a file, add:",
				"  --get NAME --to FILE",
			},
		},
	}
}

// mountLine mounts without writing, not even a file system's own journal.
func mountLine(filesystem string) string {
	options := "ro"
	switch filesystem {
	case "", "ext2", "ext3", "ext4":
		options = "ro,noload"
	case "xfs":
		options = "ro,norecovery"
	case "btrfs":
		options = "ro,rescue=nologreplay"
	}
	return fmt.Sprintf("mount -o %s %s %s", options, device, mountPoint)
}

func filesystemName(filesystem string) string {
	if filesystem == "" {
		return "ext4"
	}
	return filesystem
}

func firstArch(programs []Program) string {
	for _, p := range programs {
		return archOf(p)
	}
	return "amd64"
}

// distribution is how one family of Linux installs QEMU.
type distribution struct {
	Name    string
	ids     []string // as in /etc/os-release
	Command string
}

var distributions = []distribution{
	{"Debian, Ubuntu, Mint", []string{"debian", "ubuntu", "linuxmint", "raspbian"}, "apt-get install -y qemu-system-x86 qemu-utils ovmf"},
	{"Fedora", []string{"fedora"}, "dnf install -y qemu-system-x86 qemu-img edk2-ovmf"},
	{"RHEL, Alma, Rocky", []string{"rhel", "almalinux", "rocky", "centos", "ol"}, "dnf install -y qemu-kvm qemu-img edk2-ovmf"},
	{"openSUSE, SLES", []string{"suse", "opensuse", "opensuse-leap", "opensuse-tumbleweed", "sles"}, "zypper install -y qemu-x86 qemu-tools qemu-ovmf-x86_64"},
	{"Arch", []string{"arch", "manjaro"}, "pacman -S --noconfirm qemu-base edk2-ovmf"},
	{"Alpine", []string{"alpine"}, "apk add qemu-system-x86_64 qemu-img ovmf"},
}

// InstallQEMU returns the one command that installs QEMU on the distribution
// that the text of /etc/os-release describes.
func InstallQEMU(osRelease string) (command string, known bool) {
	var ids []string
	for line := range strings.Lines(osRelease) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "ID":
			ids = append([]string{strings.Trim(value, `"'`)}, ids...)
		case "ID_LIKE":
			ids = append(ids, strings.Fields(strings.Trim(value, `"'`))...)
		}
	}
	for _, id := range ids {
		for _, d := range distributions {
			for _, known := range d.ids {
				if id == known {
					return d.Command, true
				}
			}
		}
	}
	return "", false
}
