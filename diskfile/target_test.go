package diskfile

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func contextOfTheChild() context.Context { return context.Background() }

// fillTarget writes a disk in pieces, zeros as zeros, twice over so that zeros
// fall on data too, and closes the target.
func fillTarget(t *testing.T, target Target, disk []byte) {
	t.Helper()
	const piece = 64 << 10
	if target.SizeBytes() != int64(len(disk)) {
		t.Fatalf("a target of %d bytes, want %d", target.SizeBytes(), len(disk))
	}
	half := bytes.Repeat([]byte{0xdd}, len(disk)/2)
	if err := target.WriteAt(t.Context(), half, 0); err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(disk); at += piece {
		part := disk[at:min(at+piece, len(disk))]
		var err error
		if bytes.Equal(part, make([]byte, len(part))) {
			err = target.ZeroAt(t.Context(), int64(at), int64(len(part)))
		} else {
			err = target.WriteAt(t.Context(), part, int64(at))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := target.WriteAt(t.Context(), []byte{1, 2}, int64(len(disk))-1); err == nil {
		t.Error("written behind the end")
	}
	if err := target.Sync(t.Context()); err != nil {
		t.Error(err)
	}
	got := make([]byte, len(disk))
	if err := target.ReadAt(t.Context(), got, 0); err != nil || !bytes.Equal(got, disk) {
		t.Errorf("the target holds something else (%v)", err)
	}
	if err := target.Close(); err != nil {
		t.Error(err)
	}
}

func TestWhatIsWrittenToATargetIsTheDiskForOthersToo(t *testing.T) {
	need(t, "qemu-img", "qemu-nbd")
	for _, size := range []int{5 << 20, 5<<20 + 700} {
		disk := content(size, uint64(size))
		plain := filepath.Join(t.TempDir(), "plain.raw")
		writeSparse(t, plain, append(disk, make([]byte, (size+511)/512*512-size)...))
		for _, format := range []Format{Raw, QCOW2, VMDK, VHDX} {
			t.Run(fmt.Sprint(format, " ", size), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "new disk."+string(format))
				target, err := Create(t.Context(), path, format, int64(size))
				if err != nil {
					t.Fatal(err)
				}
				fillTarget(t, target, disk)
				run(t, "qemu-img", "compare", "-f", "raw", "-F", string(format), plain, path)
				if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 {
					t.Errorf("others can read it: %v, %v", info.Mode(), err)
				}
				_, err = Create(t.Context(), path, format, int64(size))
				problem(t, err, ErrExists)
			})
		}
	}
}

func TestZerosOfATargetTakeNoSpace(t *testing.T) {
	need(t, "qemu-img", "qemu-nbd")
	const size = 256 << 20
	for _, format := range []Format{Raw, QCOW2, VMDK, VHDX} {
		path := filepath.Join(t.TempDir(), "empty."+string(format))
		target, err := Create(t.Context(), path, format, size)
		if err != nil {
			t.Fatal(err)
		}
		if err := target.ZeroAt(t.Context(), 0, size); err != nil {
			t.Errorf("%s: %v", format, err)
		}
		if err := target.Sync(t.Context()); err != nil {
			t.Error(err)
		}
		if err := target.Close(); err != nil {
			t.Error(err)
		}
		var st syscall.Stat_t
		if err := syscall.Stat(path, &st); err != nil || st.Blocks*512 > 16<<20 {
			t.Errorf("%s: an empty disk takes %d bytes (%v)", format, st.Blocks*512, err)
		}
	}
}

func TestATargetThatCannotBeMadeLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	if _, err := Create(t.Context(), filepath.Join(dir, "a.vdi"), VDI, 1<<20); err == nil {
		t.Error("a format that we cannot write was taken")
	}
	if _, err := Create(t.Context(), filepath.Join(dir, "b.raw"), Raw, -1); err == nil {
		t.Error("a negative size was taken")
	}
	need(t, "qemu-img")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Create(ctx, filepath.Join(dir, "c.qcow2"), QCOW2, 1<<20); err == nil {
		t.Error("made after its context had ended")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
