package blockdev

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/fat32"
	"github.com/diskfs/go-diskfs/partition/gpt"
)

// unfinishedMark stands at the very beginning of a disk while it is laid out, in
// the room that a partition table leaves to old boot loaders. The id of the file
// system that is made follows it, and a line end.
const unfinishedMark = "Lifeboat: making a drive of this disk was interrupted. Run the same command again.\n"

// idLength is that of a UUID as text.
const idLength = 36

const markLength = len(unfinishedMark) + idLength + 1

// newID makes the id of a file system: a random UUID of version 4.
func newID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails, says crypto/rand
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return idText(b[:])
}

func idText(b []byte) string {
	h := hex.EncodeToString(b)
	return fmt.Sprintf("%s-%s-%s-%s-%s", h[:8], h[8:12], h[12:16], h[16:20], h[20:])
}

// marked returns the id that a mark names.
func marked(head []byte) (id string, ok bool) {
	if len(head) < markLength || !bytes.HasPrefix(head, []byte(unfinishedMark)) {
		return "", false
	}
	return string(head[len(unfinishedMark) : markLength-1]), true
}

// unfinished says that [LayOut] was here and [Finish] was not, and that nothing
// was put there since by anybody else.
func unfinished(f *os.File, d Device, head []byte) bool {
	id, ok := marked(head)
	if !ok {
		return false
	}
	// Other programs leave the first 446 bytes as they are when they write a table
	// of their own, and the table as it is when they make a file system.
	if zero(head[kernelSector:]) && len(d.Partitions) == 0 {
		return true
	}
	parts, err := PlanParts(d.SizeBytes, d.SectorBytes)
	if err != nil {
		return false
	}
	table := ourTable(f, d)
	if len(table) != 2 || int64(table[1].Start)*d.SectorBytes != parts.DriveAt {
		return false
	}
	// The table is written when the file system is whole: it is there, under its id.
	block := make([]byte, 1024)
	if _, err := f.ReadAt(block, parts.DriveAt+1024); err != nil {
		return false
	}
	const magic, uuid = 56, 104 // where the superblock of ext4 has them
	return bytes.Equal(block[magic:magic+2], []byte{0x53, 0xef}) && idText(block[uuid:uuid+16]) == id
}

// ourTable returns the entries of the table that [LayOut] writes, or none if the
// disk has another.
func ourTable(f *os.File, d Device) []*gpt.Partition {
	table, err := gpt.Read(file.New(f, true), int(d.SectorBytes), int(d.SectorBytes))
	if err != nil {
		return nil
	}
	var used []*gpt.Partition
	for _, p := range table.Partitions {
		if p.Type != gpt.Unused {
			used = append(used, p)
		}
	}
	if len(used) != 2 || used[0].Name != startPartition || used[1].Name != drivePartition {
		return nil
	}
	return used
}

// Ours says that a disk was laid out and finished, whatever became of its larger
// part since: it has our table, or the small file system with START-HERE.txt where
// we put it.
func Ours(d Device) (bool, error) {
	f, err := os.Open(d.Path)
	if err != nil {
		return false, fmt.Errorf("look at %s: %w", d.Path, err)
	}
	defer f.Close()
	head, _, err := ends(f, d.SizeBytes)
	if err != nil {
		return false, fmt.Errorf("read the ends of %s: %w", d.Path, err)
	}
	if _, making := marked(head); making {
		return false, nil
	}
	return len(ourTable(f, d)) > 0 || hasStartHere(f, d), nil
}

func hasStartHere(f *os.File, d Device) bool {
	parts, err := PlanParts(d.SizeBytes, d.SectorBytes)
	if err != nil {
		return false
	}
	// The library takes what it is given for FAT32: ask for its name first.
	const name, length = 82, 8
	boot := make([]byte, kernelSector)
	if _, err := f.ReadAt(boot, parts.StartAt); err != nil || string(boot[name:name+length]) != "FAT32   " || boot[510] != 0x55 || boot[511] != 0xaa {
		return false
	}
	fs, err := fat32.Read(file.New(f, true), parts.StartBytes, parts.StartAt, d.SectorBytes)
	if err != nil {
		return false
	}
	in, err := fs.OpenFile(startHere, os.O_RDONLY)
	if err != nil {
		return false
	}
	in.Close()
	return true
}
