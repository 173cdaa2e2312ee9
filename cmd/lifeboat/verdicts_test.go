package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lifeboat"
	"lifeboat/imagestore"
)

func TestOnlyWhatWasReadCountsAsVerified(t *testing.T) {
	there := []lifeboat.RestorePoint{{ID: "read"}, {ID: "hurt"}, {ID: "committed-meanwhile"}}
	at := time.Unix(1e9, 0)
	got := readingOf(imagestore.VerifyReport{Hurt: []imagestore.Hurt{{PointID: "hurt"}, {PointID: "hurt"}},
		Checked: []imagestore.CheckedPoint{{PointID: "read", VerifiedAt: at}, {PointID: "hurt"}, {PointID: "gone", VerifiedAt: at}}}, there)
	if len(got.Points) != 1 || got.Points[0].PointID != "read" || !got.Points[0].VerifiedAt.Equal(at) || !slices.Equal(got.Hurt, []string{"hurt"}) || !got.Damaged {
		t.Errorf("%+v", got)
	}
}

func TestASampleIsAShare(t *testing.T) {
	for text, want := range map[string]float64{"5%": 0.05, "0.5 %": 0.005, "100%": 1, "5": 0, "0%": 0, "-1%": 0, "101%": 0, "NaN%": 0, "%": 0, "": 0} {
		got, err := parseShare(text)
		if got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

func TestVerboseShowsEveryCauseOfSeveral(t *testing.T) {
	disk, net := errors.New("no disk"), errors.New("no network")
	got := causes(fmt.Errorf("start: %w", errors.Join(fmt.Errorf("first: %w", disk), net)))
	for _, want := range []string{"no disk", "no network", "first: no disk"} {
		if !slices.Contains(got, want) {
			t.Errorf("%q is missing in %q", want, got)
		}
	}
}

func TestTheScriptThatStartsARestoredMachineAsksNothingOfTheHost(t *testing.T) {
	plan := &restorePlan{Format: "raw", Files: []restoreFile{{Disk: "root", Path: "root.raw"}}, Point: pickedPoint{RestorePoint: lifeboat.RestorePoint{TakenAt: time.Unix(0, 0),
		Machine: lifeboat.Machine{Name: "it's \"db\"", ClockLocal: true, Disks: []lifeboat.Disk{{Key: "root"}}}}}}
	text := startText(plan)
	for _, want := range []string{`accel="${ACCEL:-$accel}"`, "-cpu max", "-rtc base=localtime", "/usr/libexec/qemu-kvm", "ACCEL=tcg", `-name 'it'\''s "db"'`} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is missing in:\n%s", want, text)
		}
	}
	plan.Point.Machine.ClockLocal = false
	if strings.Contains(startText(plan), "localtime") {
		t.Error("a guest that wants UTC gets local time")
	}
}

func TestTheScriptGivesAMachineOfVMwareItsHardwareAndItsTPM(t *testing.T) {
	plan := &restorePlan{Folder: t.TempDir(), Format: "qcow2", Files: []restoreFile{{Disk: "root", Path: "root.qcow2"}}, Point: pickedPoint{RestorePoint: lifeboat.RestorePoint{TakenAt: time.Unix(0, 0),
		Machine: lifeboat.Machine{Name: "dc", CPUs: 4, Topology: &lifeboat.Topology{Sockets: 2, Cores: 2, Threads: 1}, GenerationID: true,
			SMBIOS: lifeboat.SMBIOS{Manufacturer: "VMware, Inc.", Serial: "VMware-56 'x'"}, TPM: &lifeboat.TPM{Version: "2.0", Model: "crb", State: []byte("secret")},
			Disks: []lifeboat.Disk{{Key: "root", Bus: lifeboat.BusPVSCSI}}}}}}
	text := startText(plan)
	for _, want := range []string{"-smp 4,sockets=2,cores=2,threads=1", "manufacturer=VMware,, Inc.,serial=VMware-56 '\\''x'\\''", "-device vmgenid,guid=auto",
		"-device pvscsi,id=scsi0 -device scsi-hd,bus=scsi0.0", "swtpm socket --tpm2", "-device tpm-crb,tpmdev=tpm0", "tar -C tpm -xf tpm-state.tar"} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is missing in:\n%s", want, text)
		}
	}
	if err := writeDescriptions(plan); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("sh", "-n", filepath.Join(plan.Folder, startScript)).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if info, err := os.Stat(filepath.Join(plan.Folder, tpmStateFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Error("everybody can read what the TPM keeps")
	}
	if data, err := os.ReadFile(filepath.Join(plan.Folder, "machine.json")); err != nil || strings.Contains(string(data), "state") {
		t.Errorf("it stands in machine.json as well: %s", data)
	}
}

func TestAMissingToolIsNamedWithTheCommandThatInstallsItHere(t *testing.T) {
	for release, want := range map[string]string{"ID=debian\n": "as root, run: apt-get install -y qemu", "ID=unheard-of\n": "otherwise"} {
		if got := installNext(release, "otherwise"); !strings.HasPrefix(got, want) {
			t.Errorf("%q: %s", release, got)
		}
	}
}

func TestAMachineOfFilesKeepsItsAddress(t *testing.T) {
	one, other := fileMachineMAC("1"), fileMachineMAC("2")
	if one == other || one != fileMachineMAC("1") || !strings.HasPrefix(one, "52:54:00:") || len(one) != 17 {
		t.Errorf("%s and %s", one, other)
	}
}
