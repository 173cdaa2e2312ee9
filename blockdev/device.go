// Package blockdev knows drives as hardware: which disks are plugged in, what is
// on them, how they are laid out, mounted, watched, looked after and let go.
//
// It promises that a disk which holds the running system, is mounted, or is held
// by anything else is never written to; that what looks empty was asked of more
// than one witness; and that a layout which was interrupted is told from one that
// was finished. It never opens a store and never holds a secret.
package blockdev

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNotDevice: the path is not a block device.
var ErrNotDevice = errors.New("not a block device")

// Device is a whole disk, as the kernel and the disk itself describe it. Texts of
// the disk are one line of printable characters, at most 64 of them; they prove
// nothing, because docks report their own.
type Device struct {
	// Name is the kernel's, such as sdb; Path is /dev/sdb.
	Name string `json:"name"`
	Path string `json:"path"`
	// Number is "major:minor".
	Number string `json:"number"`
	// Sequence is another one for each medium that was ever behind a name, since the
	// system started; empty where the kernel does not count (before Linux 5.15).
	Sequence string `json:"-"`
	Model    string `json:"model,omitempty"`
	Serial   string `json:"serial,omitempty"`
	// SizeBytes is 0 for a reader without a medium. SectorBytes is the smallest
	// that it can address.
	SizeBytes   int64 `json:"sizeBytes"`
	SectorBytes int64 `json:"sectorBytes"`
	// Transport is usb, ata, nvme, virtio, loop, or empty when not known.
	Transport string `json:"transport,omitempty"`
	// LinkMbit is the speed of the USB link in Mbit/s, 0 without one: 480 is USB 2.
	LinkMbit   int         `json:"linkMbit,omitempty"`
	Removable  bool        `json:"removable,omitempty"`
	Rotational bool        `json:"rotational,omitempty"`
	ReadOnly   bool        `json:"readOnly,omitempty"`
	Partitions []Partition `json:"partitions,omitempty"`
	// Uses say why the disk, or a part of it, is in use, such as "/dev/sdb1 is
	// mounted at /mnt". Empty: nothing holds it.
	Uses []Use `json:"uses,omitempty"`
}

// Partition is one part of a disk that the kernel knows.
type Partition struct {
	// Number counts from 1.
	Number     int    `json:"number"`
	Name       string `json:"name"`
	Path       string `json:"path"`
	StartBytes int64  `json:"startBytes"`
	SizeBytes  int64  `json:"sizeBytes"`
	device     string // "major:minor"
}

// Use is one reason why a disk must not be written to.
type Use struct {
	// Part is the path of the disk or the partition.
	Part string `json:"part"`
	// Kind is mounted, swap or held.
	Kind UseKind `json:"kind"`
	// By is where it is mounted, or what holds it.
	By string `json:"by,omitempty"`
}

// UseKind says how a disk is used.
type UseKind string

// The kinds of uses.
const (
	UsedMounted UseKind = "mounted"
	UsedSwap    UseKind = "swap"
	UsedHeld    UseKind = "held" // by LVM, RAID, encryption or another layer
)

// String says it in words.
func (u Use) String() string {
	switch u.Kind {
	case UsedMounted:
		return u.Part + " is mounted at " + u.By
	case UsedSwap:
		return u.Part + " is swap space"
	}
	return fmt.Sprintf("%s is held by %s", u.Part, u.By)
}

// systemFolders are where a running system has its parts: what is mounted at one,
// or anywhere below one that ends in a slash, is no drive.
var systemFolders = []string{"/", "/boot", "/boot/", "/efi", "/etc", "/etc/", "/home", "/nix", "/nix/", "/opt", "/opt/", "/root", "/snap/",
	"/srv", "/srv/", "/tmp", "/usr", "/usr/", "/var", "/var/"}

// System says that the running system, or what it serves, lies on the disk. People
// mount disks of their own below /home, and programs below /tmp and /var/tmp.
func (d Device) System() bool {
	return slices.ContainsFunc(d.Mounted(), func(at string) bool {
		if OurMount(at) || strings.HasPrefix(at, "/var/tmp/") {
			return false
		}
		if filepath.Dir(at) == "/home" {
			return true
		}
		return slices.ContainsFunc(systemFolders, func(folder string) bool {
			return at == folder || folder != "/" && strings.HasSuffix(folder, "/") && strings.HasPrefix(at, folder)
		})
	})
}

// Same says that two looks were at one disk, with one medium in it.
func (d Device) Same(other Device) bool {
	return d.Path == other.Path && d.Number == other.Number && d.Sequence == other.Sequence &&
		d.Model == other.Model && d.Serial == other.Serial && d.SizeBytes == other.SizeBytes && d.SectorBytes == other.SectorBytes
}

// Mounted are the places where parts of the disk are mounted.
func (d Device) Mounted() []string {
	var points []string
	for _, u := range d.Uses {
		if u.Kind == UsedMounted {
			points = append(points, u.By)
		}
	}
	return points
}

// kernel is where the running system tells of itself; tests make another one.
type kernel struct{ sys, proc, dev string }

var here = kernel{sys: "/sys", proc: "/proc", dev: "/dev"}

// notDisks begin the names of what the kernel lists among the disks and is none:
// memory, readers of optical disks and floppies.
var notDisks = []string{"ram", "zram", "sr", "fd"}

// List returns the disks that are plugged in and have a size, by name. Loop
// devices are listed as long as a file is behind them.
func List() ([]Device, error) { return here.list() }

func (k kernel) list() ([]Device, error) {
	entries, err := os.ReadDir(filepath.Join(k.sys, "block"))
	if err != nil {
		return nil, fmt.Errorf("list the disks: %w", err)
	}
	uses, err := k.uses()
	if err != nil {
		return nil, err
	}
	var all []Device
	for _, e := range entries {
		d := k.device(e.Name(), uses)
		if d.SizeBytes > 0 && !slices.ContainsFunc(notDisks, func(kind string) bool { return strings.HasPrefix(d.Name, kind) }) {
			all = append(all, d)
		}
	}
	return all, nil
}

// Of returns the whole disk that a device file names: itself, or the one that the
// partition is a part of. Links such as /dev/disk/by-id are followed.
func Of(path string) (Device, error) { return here.of(path) }

func (k kernel) of(path string) (Device, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return Device{}, &os.PathError{Op: "look at", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return Device{}, fmt.Errorf("%s: %w", path, ErrNotDevice)
	}
	return k.byNumber(numberOf(uint64(st.Rdev)))
}

// byNumber finds the whole disk of "major:minor".
func (k kernel) byNumber(number string) (Device, error) {
	folder, err := filepath.EvalSymlinks(filepath.Join(k.sys, "dev/block", number))
	if err != nil {
		return Device{}, fmt.Errorf("find the block device %s: %w", number, err)
	}
	if _, err := os.Stat(filepath.Join(folder, "partition")); err == nil {
		folder = filepath.Dir(folder)
	}
	uses, err := k.uses()
	if err != nil {
		return Device{}, err
	}
	return k.device(filepath.Base(folder), uses), nil
}

// OfMount returns the disk that lies under a mounted path, or [ErrNotDevice] for
// a network share, a file system in memory, or one of several disks.
func OfMount(path string) (Device, error) {
	m, err := MountOf(path)
	if err != nil {
		return Device{}, err
	}
	if d, err := here.byNumber(m.Number); err == nil {
		return d, nil
	}
	// btrfs tells of itself under a number of its own, and names its device.
	if strings.HasPrefix(m.Source, "/dev/") {
		return Of(m.Source)
	}
	return Device{}, fmt.Errorf("%s (%s): %w", path, m.Source, ErrNotDevice)
}

func numberOf(rdev uint64) string {
	return fmt.Sprintf("%d:%d", unix.Major(rdev), unix.Minor(rdev))
}
