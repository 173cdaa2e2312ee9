package blockdev

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// Contents is what was found on a disk.
type Contents struct {
	// Found names it, such as "an ext4 file system named holiday". Empty: no
	// witness found anything.
	Found []string `json:"found,omitempty"`
	// Labels are the names that file systems on it have.
	Labels []string `json:"labels,omitempty"`
	// Unfinished: Lifeboat began to lay out this disk and did not get to its end.
	// What was there before is gone. If it has partitions by now, the second of
	// them may be a drive already, and has to be looked at.
	Unfinished bool `json:"unfinished,omitempty"`
	// LaidOut: Lifeboat laid it out, and finished: it is a drive, if nobody made
	// something else of its second partition.
	LaidOut bool `json:"laidOut,omitempty"`
}

// Empty says that the disk may be laid out without erasing anything.
func (c Contents) Empty() bool { return len(c.Found) == 0 || c.Unfinished }

const (
	// edge is how much of both ends of a disk is read: partition tables, RAID and
	// file systems write their names there.
	edge = 1 << 20
	// lookTimeout bounds one program that looks; a disk that sleeps takes ten
	// seconds to wake.
	lookTimeout = time.Minute
)

// Look says what is on a disk, without writing to it. It asks the kernel for
// partitions, reads both ends itself, and asks blkid where it is installed: one
// that finds nothing does not overrule another.
func Look(ctx context.Context, d Device) (Contents, error) {
	f, err := os.Open(d.Path)
	if err != nil {
		return Contents{}, fmt.Errorf("look at %s: %w", d.Path, err)
	}
	defer f.Close()
	head, tail, err := ends(f, d.SizeBytes)
	if err != nil {
		return Contents{}, fmt.Errorf("read the ends of %s: %w", d.Path, err)
	}
	if unfinished(f, d, head) {
		return Contents{Found: []string{"a layout that was interrupted"}, Unfinished: true}, nil
	}
	var c Contents
	if _, making := marked(head); !making && len(d.Partitions) == 2 && namedAsOurs(head, d.SectorBytes) {
		c.LaidOut = true
		c.find("the layout of a Lifeboat drive", "")
		c.probe(ctx, d.Partitions[1].Path)
		return c, nil
	}
	if n := len(d.Partitions); n > 0 {
		c.find(fmt.Sprintf("%d partitions", n), "")
	}
	for _, s := range Signatures(head) {
		c.find(s, "")
	}
	for _, path := range append([]string{d.Path}, partitionPaths(d)...) {
		c.probe(ctx, path)
	}
	if len(c.Found) == 0 && !(zero(head) && zero(tail)) {
		c.find("something that is not known here: its ends are not empty", "")
	}
	return c, nil
}

// namedAsOurs says that the first two entries of a partition table have the names
// of our layout. It is a hint: the names alone, from a disk that nobody vouches for.
func namedAsOurs(head []byte, sectorBytes int64) bool {
	const entry, name = 128, 56 // bytes, from the UEFI specification
	for i, want := range []string{startPartition, drivePartition} {
		at := 2*int(sectorBytes) + i*entry + name
		letters := make([]byte, 2*len(want)+2)
		for n := range want {
			letters[2*n] = want[n]
		}
		if at > len(head) || !bytes.HasPrefix(head[at:], letters) {
			return false
		}
	}
	return true
}

func (c *Contents) find(what, label string) {
	if !slices.Contains(c.Found, what) {
		c.Found = append(c.Found, what)
	}
	if label != "" && !slices.Contains(c.Labels, label) {
		c.Labels = append(c.Labels, label)
	}
}

// probe asks blkid, past its cache, what a device or a partition holds.
func (c *Contents) probe(ctx context.Context, path string) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, "blkid", "--probe", "--output", "export", path).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 8 {
		c.find("several file systems in one place, at "+path, "") // blkid's word for it: ambivalent
		return
	}
	facts := map[string]string{}
	for line := range strings.Lines(string(out)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		facts[name] = printable(value)
	}
	for _, kind := range []string{"TYPE", "PTTYPE"} {
		if facts[kind] == "" {
			continue
		}
		what := "a file system or volume of the kind " + facts[kind]
		if kind == "PTTYPE" {
			what = "a partition table (" + facts[kind] + ")"
		}
		if facts["LABEL"] != "" {
			what += " named " + facts["LABEL"]
		}
		c.find(what, facts["LABEL"])
	}
}

// LabelOn is the name of the file system on a device or a partition, or empty. It
// is one printable line, as long as a file system's name can be.
func LabelOn(ctx context.Context, path string) string {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, "blkid", "--probe", "--match-tag", "LABEL", "--output", "value", path).Output()
	if err != nil {
		return ""
	}
	return printable(string(out))
}

func partitionPaths(d Device) []string {
	var paths []string
	for _, p := range d.Partitions {
		paths = append(paths, p.Path)
	}
	return paths
}

// signatures are where the usual inhabitants of a device write their names.
var signatures = []struct {
	offset int
	bytes  string
	what   string
}{
	{1080, "\x53\xef", "an ext4 file system"},
	{0, "XFSB", "an XFS file system"},
	{65600, "_BHRfS_M", "a btrfs file system"},
	{3, "NTFS    ", "an NTFS file system"},
	{3, "EXFAT   ", "an exFAT file system"},
	{0, "LUKS\xba\xbe", "an encrypted volume (LUKS)"},
	{536, "LVM2 001", "a volume of LVM"},
	{4096, "\xfc\x4e\x2b\xa9", "a member of a RAID"},
	{512, "EFI PART", "a partition table (GPT)"},
	{4096, "EFI PART", "a partition table (GPT)"},
	{510, "\x55\xaa", "a boot sector or partition table"},
}

// Signatures names what the beginning of a device or an image looks like. Its
// first 68 KiB are enough.
func Signatures(head []byte) []string {
	var found []string
	for _, s := range signatures {
		if len(head) >= s.offset+len(s.bytes) && string(head[s.offset:s.offset+len(s.bytes)]) == s.bytes {
			found = append(found, s.what)
		}
	}
	return slices.Compact(found)
}

// ends reads both ends of a disk; of a small one they overlap.
func ends(f io.ReaderAt, size int64) (head, tail []byte, err error) {
	n := min(int64(edge), size)
	head, tail = make([]byte, n), make([]byte, n)
	if _, err := f.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	if _, err := f.ReadAt(tail, size-n); err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	return head, tail, nil
}

func zero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }
