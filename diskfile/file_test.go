package diskfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"lifeboat"
)

func TestRawImagesAreReadToTheLastByteAndHolesStayHoles(t *testing.T) {
	for _, size := range []int{0, 1, 511, 4096, 3<<20 + 17} {
		path := filepath.Join(t.TempDir(), "disk.raw")
		want := content(size, uint64(size))
		writeSparse(t, path, want)
		f, err := Open(t.Context(), path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		checkSame(t, f, want)
		if _, ok, why := f.Changed(t.Context()); ok || why == "" {
			t.Error("a file cannot know what changed")
		}
		if err := f.ReadAt(t.Context(), make([]byte, 2), int64(size)-1); err == nil {
			t.Error("read behind the end")
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestARawImageThatBecameShorterIsAnErrorAndNotZeros(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.raw")
	writeSparse(t, path, content(1<<20, 3))
	f, err := Open(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Truncate(path, 1000); err != nil {
		t.Fatal(err)
	}
	if err := f.ReadAt(t.Context(), make([]byte, 4096), 0); err == nil {
		t.Error("nothing was noticed")
	}
}

func TestImagesOfEveryFormatAreReadAsTheDiskTheyHold(t *testing.T) {
	need(t, "qemu-img", "qemu-nbd")
	want := content(6<<20, 4)
	source := filepath.Join(t.TempDir(), "source.raw")
	writeSparse(t, source, want)
	for _, c := range []struct {
		format  Format
		options string
	}{
		{QCOW2, "compat=1.1"},
		{QCOW2, "compat=0.10"},
		{VMDK, "subformat=monolithicSparse"},
		{VMDK, "subformat=monolithicFlat"},
		{VMDK, "subformat=streamOptimized"},
		{VHDX, "subformat=dynamic"},
		{VHDX, "subformat=fixed"},
		{VDI, "static=off"},
	} {
		t.Run(fmt.Sprint(c.format, " ", c.options), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "Größe 1, disk."+string(c.format))
			run(t, "qemu-img", "convert", "-f", "raw", "-O", string(c.format), "-o", c.options, source, path)
			f, err := Open(t.Context(), path, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if f.Format() != c.format {
				t.Errorf("format %s", f.Format())
			}
			checkSame(t, f, want)
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			// An image that is whole again after us is one that QEMU can write.
			hold(t, path, string(c.format))
		})
	}
}

func TestTheFormatIsNeverTakenFromBytesAlone(t *testing.T) {
	qcow2 := append([]byte("QFI\xfb\x00\x00\x00\x03"), make([]byte, 504)...)
	vdi := append(make([]byte, 0x40), "\x7f\x10\xda\xbe"...)
	zeros := make([]byte, 512)
	for _, c := range []struct {
		path   string
		device bool
		head   []byte
		said   Format
		want   Format
	}{
		{"a.raw", false, zeros, "", Raw},
		{"a.raw", false, qcow2, "", Raw},
		{"a.RAW", false, qcow2, "", Raw},
		{"a.img", false, zeros, "", Raw},
		{"a", false, zeros, "", Raw},
		{"a", false, nil, "", Raw},
		{"a.img", false, qcow2, "", ""},
		{"a", false, vdi, "", ""},
		{"a.img", false, qcow2, Raw, Raw},
		{"a.img", false, qcow2, QCOW2, QCOW2},
		{"a.img", false, zeros, QCOW2, ""},
		{"a.qcow2", false, qcow2, "", QCOW2},
		{"a.qcow2", false, qcow2, Raw, Raw},
		{"a.qcow2", false, qcow2, VMDK, ""},
		{"a.qcow2", false, zeros, "", ""},
		{"a.vmdk", false, qcow2, "", ""},
		{"a.vdi", false, vdi, "", VDI},
		{"a.vmdk", false, []byte("# Disk DescriptorFile\nversion=1"), "", VMDK},
		{"/dev/vg/disk.qcow2", true, qcow2, "", Raw},
		{"/dev/vg/disk", true, qcow2, QCOW2, QCOW2},
	} {
		got, err := Detect(c.path, c.device, c.head, c.said)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s, device %v, %.8q, said %q: %q, %v; want %q", c.path, c.device, c.head, c.said, got, err, c.want)
		}
		if err != nil {
			problem(t, err, ErrFormat)
		}
	}
}

func TestARawDiskWhoseGuestWroteAnotherFormatGivesAwayNoFileOfTheHost(t *testing.T) {
	need(t, "qemu-img", "qemu-nbd")
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	writeSparse(t, secret, content(1<<20, 5))
	for _, name := range []string{"guest.img", "guest.raw"} {
		path := filepath.Join(dir, name)
		run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", secret, path)
		header, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		f, err := Open(t.Context(), path, Options{})
		if name == "guest.img" {
			problem(t, err, ErrFormat)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		checkSame(t, f, header)
		f.Close()
	}
}

func TestImagesThatReadOtherFilesAreRefusedByName(t *testing.T) {
	need(t, "qemu-img", "qemu-nbd")
	dir := t.TempDir()
	want := content(1<<20, 6)
	base := filepath.Join(dir, "the base.raw")
	writeSparse(t, base, want)
	run(t, "qemu-img", "convert", "-f", "raw", "-O", "vmdk", base, filepath.Join(dir, "base.vmdk"))
	run(t, "qemu-img", "create", "-q", "-f", "vmdk", "-F", "vmdk", "-b", filepath.Join(dir, "base.vmdk"), filepath.Join(dir, "top.vmdk"))
	run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", base, filepath.Join(dir, "top.qcow2"))
	run(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o", "data_file="+filepath.Join(dir, "data"), base, filepath.Join(dir, "data.qcow2"))
	for name, mention := range map[string]string{"top.vmdk": "base.vmdk", "top.qcow2": "the base.raw", "data.qcow2": "external data file"} {
		path := filepath.Join(dir, name)
		_, err := Open(t.Context(), path, Options{})
		problem(t, err, ErrBacking)
		if err == nil || !strings.Contains(err.Error(), mention) {
			t.Errorf("%s: %v does not name %s", name, err, mention)
		}
		f, err := Open(t.Context(), path, Options{AllowBacking: true})
		if err != nil {
			t.Errorf("%s, allowed: %v", name, err)
			continue
		}
		checkSame(t, f, want)
		f.Close()
	}

	// A file of the host as an extent, in spellings that QEMU would take.
	text := "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\n"
	for line, kind := range map[string]error{
		"RW 2048 FLAT \"" + base + "\" 0\n":                 ErrBacking,
		" \vRW +2048 FLAT \"" + base + "\" 0":               ErrBacking,
		"RW 2048 FLAT \"nbd:host:1\" 0\n":                   ErrBacking,
		"RW 2048 FLAT \"..\\x\" 0\n":                        ErrBacking,
		strings.Repeat("#\n", 40000) + "RW 1 FLAT \"/x\"\n": ErrFormat,
	} {
		stolen := filepath.Join(dir, "stolen.vmdk")
		if err := os.WriteFile(stolen, []byte(text+line), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(t.Context(), stolen, Options{})
		problem(t, err, kind)
	}
}

func TestADiskThatAMachineWritesIsRefused(t *testing.T) {
	need(t, "qemu-img", "qemu-nbd", "qemu-io")
	for _, format := range []Format{Raw, QCOW2} {
		path := filepath.Join(t.TempDir(), "disk."+string(format))
		run(t, "qemu-img", "create", "-q", "-f", string(format), path, "1M")

		// While we read it, nobody else writes it.
		f, err := Open(t.Context(), path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		again, err := Open(t.Context(), path, Options{})
		if err != nil {
			t.Errorf("two readers at once: %v", err)
		} else {
			again.Close()
		}
		if out, err := exec.Command("qemu-io", "-f", string(format), "-c", "write 0 512", path).CombinedOutput(); err == nil {
			t.Errorf("QEMU wrote a disk that we read: %s", out)
		}
		f.Close()

		if err := CheckFree(path); err != nil {
			t.Errorf("nobody uses it: %v", err)
		}
		hold(t, path, string(format))
		_, err = Open(t.Context(), path, Options{})
		problem(t, err, ErrInUse)
		problem(t, CheckFree(path), ErrInUse)
	}
}

func TestAHelperThatDiesIsAnErrorAndNotZeros(t *testing.T) {
	need(t, "qemu-img", "qemu-nbd")
	path := filepath.Join(t.TempDir(), "disk.qcow2")
	run(t, "qemu-img", "create", "-q", "-f", "qcow2", path, "1M")
	f, err := Open(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	h := f.disk.(*helper)
	if _, err := os.Stat(h.dir); err == nil {
		t.Error("the helper's folder is still there")
	}
	h.process.Kill()
	<-h.ended
	if err := f.ReadAt(t.Context(), make([]byte, 4096), 0); err == nil {
		t.Error("nothing was noticed")
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// TestMain lets a test start this program again as one that opens an image and
// waits to be killed.
func TestMain(m *testing.M) {
	if path := os.Getenv("DISKFILE_OPEN_AND_WAIT"); path != "" {
		f, err := Open(contextOfTheChild(), path, Options{})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(f.disk.(*helper).process.Pid)
		os.Stdin.Read(make([]byte, 1))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestTheHelperDiesWithUs(t *testing.T) {
	need(t, "qemu-img", "qemu-nbd")
	dir := shortDir(t)
	path := filepath.Join(dir, "disk.qcow2")
	run(t, "qemu-img", "create", "-q", "-f", "qcow2", path, "1M")
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "DISKFILE_OPEN_AND_WAIT="+path, "TMPDIR="+dir)
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscan(stdout, &pid); err != nil || pid < 2 {
		t.Fatalf("the child did not say which process its helper is: %v", err)
	}
	child.Process.Kill()
	child.Wait()
	waitFor(t, "the helper ends", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) || isZombie(pid) })
}

// isZombie says that a process is over and only waits to be buried.
func isZombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(stat), ") Z ")
}

func TestAMissingProgramIsNamedWithItsPackage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.vhdx")
	if err := os.WriteFile(path, []byte("vhdxfile"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", "")
	_, err := Open(t.Context(), path, Options{})
	problem(t, err, ErrNoTool)
	var p *lifeboat.Problem
	if !errors.As(err, &p) || !strings.Contains(p.What, "qemu-nbd is not installed") || !strings.Contains(p.Next, "qemu-utils") {
		t.Errorf("got %v", err)
	}
}

// FuzzOutside: no header makes us panic or read without bounds.
func FuzzOutside(f *testing.F) {
	qcow2 := append([]byte("QFI\xfb\x00\x00\x00\x03"), make([]byte, 150)...)
	binary.BigEndian.PutUint64(qcow2[8:], 112)
	binary.BigEndian.PutUint32(qcow2[16:], 10)
	f.Add(qcow2)
	vmdk := append([]byte("KDMV"), make([]byte, 508)...)
	binary.LittleEndian.PutUint64(vmdk[28:], 1)
	binary.LittleEndian.PutUint64(vmdk[36:], 1)
	f.Add(append(vmdk, "parentCID=1\nparentFileNameHint=\"x\"\nRW 1 FLAT \"/y\""...))
	f.Add([]byte("# Disk DescriptorFile\nparentCID=ffffffff\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, format := range []Format{QCOW2, VMDK, VHDX} {
			names, _ := outside(strings.NewReader(string(b)), format)
			for _, name := range names {
				if len(name) > len(b)+100 {
					t.Errorf("a name of %d bytes out of %d", len(name), len(b))
				}
			}
		}
	})
}

func TestBlockDevicesAreReadAndWritten(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to attach a loop device; run the tests as root")
	}
	backing := filepath.Join(t.TempDir(), "backing")
	want := content(4<<20, 7)
	writeSparse(t, backing, want)
	out, err := exec.Command("losetup", "--find", "--show", backing).Output()
	if err != nil {
		t.Skipf("no loop device is to be had (%v); run where losetup works", err)
	}
	device := strings.TrimSpace(string(out))
	t.Cleanup(func() { exec.Command("losetup", "--detach", device).Run() })

	f, err := Open(t.Context(), device, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if f.Format() != Raw || f.SizeBytes() != 4<<20 {
		t.Errorf("%s of %d bytes", f.Format(), f.SizeBytes())
	}
	checkSame(t, f, want)
	if _, err := Create(t.Context(), device, Raw, 1<<20); !errors.Is(err, ErrInUse) {
		t.Errorf("a device that is read was opened for writing: %v", err)
	}
	f.Close()

	if _, err := Create(t.Context(), device, Raw, 4<<20+1); !errors.Is(err, ErrTooSmall) {
		t.Errorf("a disk was put onto a device that is too small: %v", err)
	}
	target, err := Create(t.Context(), device, Raw, 3<<20+100)
	if err != nil {
		t.Fatal(err)
	}
	disk := content(3<<20+100, 8)
	fillTarget(t, target, disk)
	copy(want, disk)
	got, err := os.ReadFile(device)
	if err != nil || string(got) != string(want) {
		t.Errorf("the device holds something else (%v)", err)
	}
	if _, err := Open(t.Context(), "/dev/null", Options{}); err == nil {
		t.Error("/dev/null was taken for a disk")
	}
}
