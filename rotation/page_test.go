package rotation_test

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"lifeboat"
	"lifeboat/fixtures/medium"
	"lifeboat/rotation"
)

var update = flag.Bool("update", false, "write the golden files anew")

func facts(t *testing.T) rotation.SheetFacts {
	t.Helper()
	hashed, err := rotation.HashPrograms(programs())
	if err != nil {
		t.Fatal(err)
	}
	return rotation.SheetFacts{
		Drive:   lifeboat.Drive{ID: idA, Label: "A2 north", SiteID: siteID, CreatedAt: noon},
		Contact: "+49 30 1234567, ask for the help desk", Programs: hashed, Filesystem: "ext4",
		Version: "1.0.0", PrintedAt: noon,
	}
}

func TestWhatAStrangerReadsStaysAsItIs(t *testing.T) {
	f := facts(t)
	golden(t, "start-here.txt", rotation.StartHereText(f))
	f.Secret = "tivok lorud penig hujes fobil"
	f.Slots = []string{"control machine", "passphrase"}
	golden(t, "recovery-sheet.txt", rotation.RecoverySheet(f))
	golden(t, "recovery-sheet.html", htmlSheet(t, f))
}

func TestPagesFitAnyPrinter(t *testing.T) {
	f := facts(t)
	f.Contact = strings.Repeat("a long contact that goes on and on, ", 10)
	f.CompanyName = "Überwald Maschinenbau GmbH & Co. KG"
	f.Secret = "tivok lorud penig hujes fobil"
	for _, filesystem := range []string{"", "ext4", "xfs", "btrfs", "exfat", "fuseblk"} {
		f.Filesystem = filesystem
		for _, text := range []string{rotation.StartHereText(f), rotation.RecoverySheet(f)} {
			for line := range strings.Lines(text) {
				if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 72 {
					t.Errorf("%d columns: %s", n, line)
				}
			}
		}
	}
}

func TestADriveTellsAThiefNoNameAndAStrangerNoHash(t *testing.T) {
	f := facts(t)
	f.Secret = "tivok lorud"
	text := rotation.StartHereText(f)
	for _, hidden := range []string{"Company", f.Secret, f.Programs[0].SHA256, siteID} {
		if strings.Contains(text, hidden) {
			t.Errorf("START-HERE.txt holds %q", hidden)
		}
	}
	for _, shown := range []string{f.Drive.ID, f.Drive.Label, f.Contact, "PRINTED"} {
		if !strings.Contains(text, shown) {
			t.Errorf("START-HERE.txt lacks %q", shown)
		}
	}
	f.CompanyName = "Überwald"
	if text := rotation.StartHereText(f); !strings.Contains(text, "Überwald") {
		t.Error("the name that was asked for is not there")
	}
}

func TestDriveAndSheetHaveTheSameCommandLines(t *testing.T) {
	f := facts(t)
	command := regexp.MustCompile(`(?m)^    (\S.*)$`)
	lines := func(text string) (all []string) {
		for _, m := range command.FindAllStringSubmatch(text[strings.Index(text, "STEP 1"):], -1) {
			all = append(all, m[1])
		}
		return all
	}
	onDrive, onSheet := lines(rotation.StartHereText(f)), lines(rotation.RecoverySheet(f))
	if fmt.Sprint(onDrive) != fmt.Sprint(onSheet) || !strings.HasPrefix(fmt.Sprint(onDrive), strings.TrimSuffix(fmt.Sprint(rotation.Commands(f)), "]")) {
		t.Errorf("on the drive %q\non the sheet %q", onDrive, onSheet)
	}
}

// The lines are typed as they are printed, with the device's name put in, on a
// mounted-nowhere ext4, with a stand-in for the program.
func TestTheCommandLinesOfTheSheetDoWhatTheySay(t *testing.T) {
	fs := medium.New(t, medium.Ext4, 32<<20)
	for _, program := range []string{"unshare", "lsblk", "losetup", "sha256sum"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs the program %s: install the packages util-linux and coreutils to enable it", program)
		}
	}
	if _, err := rotation.Init(t.Context(), fs.Path, options("A")); err != nil {
		t.Fatal(err)
	}
	fs.Unmount(t)
	device := attachLoop(t, fs.Image)
	before := hashFile(t, fs.Image)

	f := facts(t)
	// A name space of its own, so that nothing appears in this machine's /mnt.
	script := []string{"mount -t tmpfs none /mnt"}
	for _, line := range rotation.Commands(f) {
		if line != "sudo -i" {
			script = append(script, strings.ReplaceAll(line, "/dev/sdX1", device))
		}
	}
	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "sh", "-e", "-c", strings.Join(script, "\n"))
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil && strings.Contains(string(out), "Operation not permitted") {
		t.Skipf("mount name spaces are not allowed here: a machine or privileged container enables it\n%s", out)
	}
	if err != nil {
		t.Fatalf("%v\n%s\nscript:\n%s", err, out, strings.Join(script, "\n"))
	}
	for _, want := range []string{filepath.Base(device), rotation.StartHere, f.Programs[0].SHA256, "started with: boot --all --drive /mnt/lifeboat"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if after := hashFile(t, fs.Image); after != before {
		t.Error("following the sheet changed the drive")
	}
}

func TestTheCommandThatInstallsQEMUFitsTheDistribution(t *testing.T) {
	for release, want := range map[string]string{
		"ID=debian\nVERSION_ID=\"12\"\n":                      "apt-get install -y qemu-system-x86",
		"NAME=Ubuntu\nID=ubuntu\nID_LIKE=debian\n":            "apt-get install -y",
		"ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n":      "dnf install -y qemu-kvm",
		"ID_LIKE=\"suse opensuse\"\nID=\"opensuse-leap\"\n":   "zypper install -y",
		"ID=neon\nID_LIKE=\"ubuntu debian\"\n":                "apt-get install -y",
		"ID=alpine":                                           "apk add",
		"ID=endeavouros\nID_LIKE=arch\nPRETTY_NAME='x = y'\n": "pacman -S",
		"ID=plan9\n": "",
		"":           "",
	} {
		got, known := rotation.InstallQEMU(release)
		if known != (want != "") || !strings.HasPrefix(got, want) {
			t.Errorf("%q: %q", release, got)
		}
	}
}

func attachLoop(t *testing.T, image string) string {
	t.Helper()
	device, err := medium.Loop(image, "--read-only")
	if err != nil {
		t.Skipf("no loop device is free (%v): a machine with /dev/loop-control enables it", err)
	}
	t.Cleanup(func() {
		if err := medium.DropLoop(device, image); err != nil {
			t.Error(err)
		}
	})
	return device
}

func hashFile(t *testing.T, name string) string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

func golden(t *testing.T, name, text string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("%s is now\n%s", name, text)
	}
}
