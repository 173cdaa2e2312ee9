package blockdev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/diskfs/go-diskfs/partition/gpt"
	"golang.org/x/sys/unix"

	"lifeboat"
)

// The names of the two partitions, by which a layout of ours is known.
const (
	startPartition = "LIFEBOAT-START"
	drivePartition = "LIFEBOAT-DRIVE"
)

const (
	mib = 1 << 20
	// startShare is kept for START-HERE.txt and a boot system one day.
	startShare = 1 << 30
	// leastStart is the smallest FAT32 that every system takes for one, on sectors
	// of 512 bytes; largerStart is that on sectors of 4096.
	leastStart, largerStart = 40 * mib, 288 * mib
	// leastDevice leaves a store as much room as START-HERE takes.
	leastDevice = 96 * mib
)

// Parts are the two partitions of a layout, in bytes.
type Parts struct {
	StartAt, StartBytes int64
	DriveAt, DriveBytes int64
}

// PlanParts divides a disk: 1 GiB of FAT, or a sixteenth of a disk that is
// smaller than 16 GiB, but never less than 40 MiB (288 MiB where sectors have
// 4096 bytes); the rest is ext4. All borders are at whole MiB, and the last MiB
// is left to the second copy of the table.
func PlanParts(sizeBytes, sectorBytes int64) (Parts, error) {
	start := min(int64(startShare), sizeBytes/16)
	least := int64(leastStart)
	if sectorBytes > kernelSector {
		least = largerStart
	}
	start = max(start, least) / mib * mib
	p := Parts{StartAt: mib, StartBytes: start, DriveAt: mib + start}
	p.DriveBytes = (sizeBytes-mib)/mib*mib - p.DriveAt
	if sizeBytes < leastDevice || p.DriveBytes < leastDevice/2 {
		return Parts{}, &lifeboat.Problem{
			What: fmt.Sprintf("the disk has %d MiB, which is too small for a drive", sizeBytes/mib),
			Safe: nothingChanged, Next: "use a larger disk",
		}
	}
	return p, nil
}

const nothingChanged = "nothing was changed on it"

// CheckWritable refuses a disk that must not be written to: that of the running
// system, one that is mounted, swap or held by another layer, one that is
// read-only. The kernel's own word is asked for as well, by opening it alone.
func CheckWritable(d Device) error {
	p := &lifeboat.Problem{Safe: nothingChanged, Next: "name another disk; lifeboat drive list --devices shows them", Err: lifeboat.ErrWrongDrive}
	switch {
	case d.System():
		p.What = fmt.Sprintf("%s holds the running system: %s", d.Path, d.Uses[0])
	case len(d.Uses) > 0:
		p.What = fmt.Sprintf("%s is in use: %s", d.Path, d.Uses[0])
		if points := d.Mounted(); len(points) > 0 {
			p.Next = "if it is the right disk, look at what is on it, unmount it and run the command again: umount " + points[0]
		}
	case d.ReadOnly:
		p.What = d.Path + " is write-protected"
		p.Next = "look for a switch on it, or use another disk"
	case d.SizeBytes == 0:
		p.What = d.Path + " has no medium in it"
	default:
		f, err := openAlone(d.Path)
		if err == nil {
			return f.Close()
		}
		p.What, p.Err = fmt.Sprintf("%s cannot be opened alone: %v", d.Path, err), errors.Join(lifeboat.ErrWrongDrive, err)
		if errors.Is(err, unix.EACCES) {
			p.Next = "run it as root"
		}
	}
	return p
}

// openSame opens a disk alone, and refuses another one that has taken its place
// since it was looked at. While it is open, its number is given to no other.
func openSame(d Device) (*os.File, error) {
	f, err := openAlone(d.Path)
	if err != nil {
		return nil, err
	}
	if err := isSame(f, d); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// isSame compares an open disk with what was seen of it.
func isSame(f *os.File, d Device) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	now, err := here.byNumber(numberOf(uint64(st.Rdev)))
	if err != nil {
		return err
	}
	if !now.Same(d) {
		return &lifeboat.Problem{
			What: fmt.Sprintf("%s is not the disk any more that was looked at", d.Path),
			Safe: "nothing was changed on the one that is there now",
			Next: "look which disk is plugged in, and run the command again", Err: lifeboat.ErrWrongDrive,
		}
	}
	return nil
}

// openAlone opens a disk for writing; the kernel refuses one that is mounted, or
// that another layer has, even where no table says so.
func openAlone(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|unix.O_EXCL|unix.O_CLOEXEC, 0)
}

// LayOut makes a disk ready to become a drive: everything on it is lost. Until
// [Finish] it is marked as unfinished, and LayOut can be called again after an
// error, a cancel or a power cut. label becomes the name of the file system, as
// far as it fits. It returns the disk with its two partitions: the first for
// [WriteStartHere], the second an empty ext4.
//
// The order is: mark, file system, table. So a disk with our table has a whole
// file system.
func LayOut(ctx context.Context, d Device, label string) (Device, error) {
	if err := CheckWritable(d); err != nil {
		return d, err
	}
	parts, err := PlanParts(d.SizeBytes, d.SectorBytes)
	if err != nil {
		return d, err
	}
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		return d, &lifeboat.Problem{What: "mkfs.ext4 is not installed", Safe: nothingChanged, Next: "install the package e2fsprogs and run the command again", Err: err}
	}
	// As long as it is held, no other disk takes its name or number.
	held, err := holdDisk(d)
	if err != nil {
		return d, err
	}
	defer held.Close()
	if err := dropNodes(d); err != nil {
		return d, err
	}
	id := newID()
	if err := clearEnds(d, id); err != nil {
		return d, layoutProblem(d, err)
	}
	if err := makeExt4(ctx, held, parts, label, id); err != nil {
		return d, layoutProblem(d, err)
	}
	if err := writeTable(d, parts); err != nil {
		return d, layoutProblem(d, err)
	}
	if err := makeNodes(ctx, d, parts); err != nil {
		return d, layoutProblem(d, err)
	}
	laid, err := Of(d.Path)
	if err == nil && len(laid.Partitions) != 2 {
		err = fmt.Errorf("the kernel sees %d partitions and not 2", len(laid.Partitions))
	}
	if err != nil {
		return d, layoutProblem(d, err)
	}
	return laid, nil
}

// holdDisk opens a disk for others to write to as well: mkfs.ext4 wants it alone.
func holdDisk(d Device) (*os.File, error) {
	f, err := os.OpenFile(d.Path, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := isSame(f, d); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func layoutProblem(d Device, err error) error {
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s could not be laid out: %v", d.Path, err),
		Safe: "it is not taken for a drive; what was on it before is gone",
		Next: "run the same command again; if it fails again, use another disk",
		Err:  err,
	}
}

// Finish takes the mark away: what is on the second partition is a drive.
func Finish(d Device) error {
	f, err := os.OpenFile(d.Path, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	first := make([]byte, d.SectorBytes)
	if _, err := f.ReadAt(first, 0); err != nil {
		return err
	}
	clear(first[:markLength])
	if _, err := f.WriteAt(first, 0); err != nil {
		return err
	}
	return f.Sync()
}

// clearEnds writes the mark, and zeros where tables and RAID members have their
// names.
func clearEnds(d Device, id string) error {
	f, err := openSame(d)
	if err != nil {
		return err
	}
	defer f.Close()
	head := make([]byte, edge)
	copy(head, unfinishedMark+id+"\n")
	if _, err := f.WriteAt(head, 0); err != nil {
		return err
	}
	if _, err := f.WriteAt(make([]byte, edge), d.SizeBytes-edge); err != nil {
		return err
	}
	return f.Sync()
}

// bytesPerInode suits a store, whose packs have tens of MiB: a file system of
// terabytes is made in seconds then, and loses no room to lists of small files.
const (
	bytesPerInode = 1 << 20
	leastInodes   = 16384
)

// makeExt4 makes the file system inside the disk, before any table leads there.
// Everything is written now: a disk that is unplugged early has no work left.
// The program is given the disk that is held, not a path that may lead elsewhere.
func makeExt4(ctx context.Context, disk *os.File, p Parts, label, id string) error {
	inodes := max(p.DriveBytes/bytesPerInode, leastInodes)
	mkfs := exec.CommandContext(ctx, "mkfs.ext4", "-q", "-F", "-m", "0", "-b", "4096", "-O", "has_journal,metadata_csum,64bit", "-N", fmt.Sprint(inodes), "-U", id,
		"-L", ext4Label(label), "-E", fmt.Sprintf("offset=%d,lazy_itable_init=0,lazy_journal_init=0,nodiscard", p.DriveAt),
		"/proc/self/fd/3", fmt.Sprintf("%dk", p.DriveBytes>>10))
	mkfs.ExtraFiles = []*os.File{disk}
	if out, err := mkfs.CombinedOutput(); err != nil {
		return fmt.Errorf("mkfs.ext4: %w: %s", err, printable(lastLine(out)))
	}
	return disk.Sync()
}

// ext4Label fits a name into the 16 bytes of the file system, by whole letters.
func ext4Label(label string) string {
	const room = 16
	for len(label) > room {
		letters := []rune(label)
		label = string(letters[:len(letters)-1])
	}
	return strings.TrimSpace(label)
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}

// writeTable writes the partition table: its second copy first, synced at each
// step, so that a cut leaves a disk without a table or with this one.
func writeTable(d Device, p Parts) error {
	f, err := openSame(d)
	if err != nil {
		return err
	}
	defer f.Close()
	sector := uint64(d.SectorBytes)
	entry := func(name string, kind gpt.Type, at, size int64, index int) *gpt.Partition {
		return &gpt.Partition{Index: index, Name: name, Type: kind, Start: uint64(at) / sector, Size: uint64(size)}
	}
	table := &gpt.Table{LogicalSectorSize: int(sector), PhysicalSectorSize: int(sector), ProtectiveMBR: true, Partitions: []*gpt.Partition{
		entry(startPartition, gpt.MicrosoftBasicData, p.StartAt, p.StartBytes, 1),
		entry(drivePartition, gpt.LinuxFilesystem, p.DriveAt, p.DriveBytes, 2),
	}}
	if err := table.Write(f, d.SizeBytes); err != nil {
		return fmt.Errorf("write the partition table: %w", err)
	}
	return f.Sync()
}
