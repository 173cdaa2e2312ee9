package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"lifeboat"
	"lifeboat/diskfile"
	"lifeboat/hypervisor"
	"lifeboat/rotation"
)

// fileMachineID is the id of a machine that is nothing but disk files: the same
// name on the same site is the same machine.
func fileMachineID(site, name string) string {
	sum := sha256.Sum256([]byte("file machine\x00" + site + "\x00" + name))
	return hex.EncodeToString(sum[:16])
}

// fileMachineMAC is the address of such a machine's card: of the range that QEMU
// uses for its own, and always the same for the same machine.
func fileMachineMAC(id string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "mac\x00%s\x00%d", id, 0))
	return fmt.Sprintf("52:54:00:%02x:%02x:%02x", sum[0], sum[1], sum[2])
}

// fileStill is a machine of disk files or block devices that nobody writes.
type fileStill struct {
	machine lifeboat.Machine
	taken   time.Time
	files   map[string]*diskfile.File
}

var _ hypervisor.Still = (*fileStill)(nil)

func openFileStill(ctx context.Context, id, name string, paths []string, o diskfile.Options) (*fileStill, error) {
	s := &fileStill{taken: time.Now().UTC(), files: map[string]*diskfile.File{}, machine: lifeboat.Machine{
		Version: lifeboat.MachineVersion, ID: id, Name: name, CPUs: 1, MemoryBytes: 1 << 30,
		Firmware: lifeboat.Firmware{Kind: lifeboat.FirmwareBIOS}, Chipset: lifeboat.ChipsetQ35,
		NICs: []lifeboat.NIC{{Model: "virtio", MAC: fileMachineMAC(id)}},
	}}
	for i, path := range paths {
		f, err := diskfile.Open(ctx, path, o)
		if err != nil {
			s.Release(ctx)
			return nil, err
		}
		key := fmt.Sprintf("disk%d", i)
		s.files[key] = f
		s.machine.Disks = append(s.machine.Disks, lifeboat.Disk{Key: key, SizeBytes: f.SizeBytes(), Bus: lifeboat.BusVirtio, BootIndex: i + 1})
	}
	if len(paths) > 0 {
		kind, err := firmwareOf(ctx, s.files["disk0"])
		if err != nil {
			s.Release(ctx)
			return nil, err
		}
		s.machine.Firmware.Kind = kind
	}
	s.machine.Native = &lifeboat.NativeDescription{Format: "lifeboat-files/1", Text: strings.Join(paths, "\n")}
	return s, nil
}

// fileSizes says how much the disk files of a machine hold.
func fileSizes(ctx context.Context, id, name string, paths []string, o diskfile.Options) (disks []rotation.ShelfDisk, err error) {
	s, err := openFileStill(ctx, id, name, paths, o)
	if err != nil {
		return nil, err
	}
	defer s.Release(ctx)
	for _, d := range s.machine.Disks {
		runs, err := s.files[d.Key].Extents(ctx, lifeboat.Extent{Length: d.SizeBytes})
		if err != nil {
			return nil, err
		}
		disk := rotation.ShelfDisk{Key: d.Key}
		for _, r := range runs {
			disk.DataBytes += r.Length
		}
		disks = append(disks, disk)
	}
	return disks, nil
}

func (s *fileStill) Machine() lifeboat.Machine { return s.machine }
func (s *fileStill) TakenAt() time.Time        { return s.taken }
func (s *fileStill) Consistency() (lifeboat.Consistency, string) {
	return lifeboat.ConsistentOff, ""
}
func (s *fileStill) FrozenFor() time.Duration        { return 0 }
func (s *fileStill) PausedFor() time.Duration        { return 0 }
func (s *fileStill) Committed(context.Context) error { return nil }

func (s *fileStill) Disk(key string) (hypervisor.StillDisk, error) {
	f, ok := s.files[key]
	if !ok {
		return nil, fmt.Errorf("no disk %q", key)
	}
	return fileDisk{f}, nil
}

func (s *fileStill) Release(context.Context) error {
	for key, f := range s.files {
		f.Close()
		delete(s.files, key)
	}
	return nil
}

// fileDisk is a disk file; it has no change tracking.
type fileDisk struct{ *diskfile.File }

func (fileDisk) Token() string { return "" }

// efiSystem is the type of the partition that UEFI boots from (UEFI
// specification 2.10, table 5.7), as it lies in a partition table.
var efiSystem = []byte{0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b}

// firmwareOf guesses how a disk boots: with code in its first sector by BIOS;
// without, but with an EFI system partition, by UEFI.
func firmwareOf(ctx context.Context, disk *diskfile.File) (lifeboat.FirmwareKind, error) {
	const bootCode, table = 440, 34 * 512
	if disk.SizeBytes() < table {
		return lifeboat.FirmwareBIOS, nil
	}
	head := make([]byte, table)
	if err := disk.ReadAt(ctx, head, 0); err != nil {
		return "", fmt.Errorf("read the start of the disk: %w", err)
	}
	isZero := bytes.Count(head[:bootCode], []byte{0}) == bootCode
	if isZero && bytes.HasPrefix(head[512:], []byte("EFI PART")) && bytes.Contains(head[1024:], efiSystem) {
		return lifeboat.FirmwareUEFI, nil
	}
	return lifeboat.FirmwareBIOS, nil
}
