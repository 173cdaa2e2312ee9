package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"lifeboat"
	"lifeboat/imagestore"
)

func TestOnlyWhatWasReadCountsAsVerified(t *testing.T) {
	there := []lifeboat.RestorePoint{{ID: "read"}, {ID: "hurt"}, {ID: "committed-meanwhile"}}
	whole, bad := verdicts([]string{"read", "hurt", "gone"}, there, []imagestore.Hurt{{PointID: "hurt"}, {PointID: "hurt"}})
	if !slices.Equal(whole, []string{"read"}) || !slices.Equal(bad, []string{"hurt"}) {
		t.Errorf("whole %v, hurt %v", whole, bad)
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
	plan := &restorePlan{Format: "raw", Files: []restoreFile{{Disk: "root", Path: "root.raw"}}, Point: lifeboat.RestorePoint{TakenAt: time.Unix(0, 0),
		Machine: lifeboat.Machine{Name: "it's \"db\"", ClockLocal: true, Disks: []lifeboat.Disk{{Key: "root"}}}}}
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
