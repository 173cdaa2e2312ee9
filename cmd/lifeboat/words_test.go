package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"lifeboat"
	"lifeboat/hypervisor"
	"lifeboat/runbook"
)

func TestEveryCauseHasItsExitCode(t *testing.T) {
	problem := func(err error) error { return &lifeboat.Problem{What: "x", Err: fmt.Errorf("deeper: %w", err)} }
	for _, c := range []struct {
		err  error
		code int
	}{
		{nil, 0},
		{errors.New("anything"), 1},
		{usagef("x"), 2},
		{problem(errors.Join(lifeboat.ErrPartial, lifeboat.ErrDriveFull)), 3},
		{problem(lifeboat.ErrNoDrive), 10},
		{problem(lifeboat.ErrWrongDrive), 10},
		{problem(lifeboat.ErrDriveHeld), 11},
		{problem(lifeboat.ErrDamaged), 12},
		{problem(errNeedsPerson), 13},
		{problem(runbook.ErrPerson), 13},
		{fmt.Errorf("%w: the plan has no step", runbook.ErrUsage), 2},
		{problem(context.Canceled), 130},
		{problem(stoppedBy{os.Interrupt}), 130},
		{problem(lifeboat.ErrWrongSecret), 1},
	} {
		if got := exitCode(c.err); got != c.code {
			t.Errorf("%v: got %d, want %d", c.err, got, c.code)
		}
	}
}

func TestUntilIsTheNextTimeOfThatHour(t *testing.T) {
	zone := time.FixedZone("test", 2*3600)
	now := time.Date(2026, 11, 20, 23, 30, 0, 0, zone)
	for text, want := range map[string]time.Time{
		"07:00": time.Date(2026, 11, 21, 7, 0, 0, 0, zone),
		"23:45": time.Date(2026, 11, 20, 23, 45, 0, 0, zone),
		"23:30": time.Date(2026, 11, 21, 23, 30, 0, 0, zone),
		"":      {},
	} {
		if got, err := parseUntil(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: got %v, %v; want %v", text, got, err, want)
		}
	}
	for _, bad := range []string{"7", "25:00", "7pm"} {
		if _, err := parseUntil(bad, now); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// A name comes from a hypervisor: it may hold anything, and is printed for a
// person to paste into a shell.
func TestAWordForTheShellComesBackFromIt(t *testing.T) {
	for _, word := range []string{"db", "", "my db", "it's", "a\nb", "$(reboot)", "`x`", "Größe", "-rf", "*", "a;b", `back\slash`} {
		out, err := exec.Command("sh", "-c", "printf %s "+shellWord(word)).Output()
		if err != nil || string(out) != word {
			t.Errorf("%q came back as %q, %v", word, out, err)
		}
	}
}

func TestSizesAndTimesReadAsPeopleSayThem(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 1 << 30: "1.0 GiB", 250 << 20: "250 MiB"} {
		if got := humanBytes(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{5 * time.Millisecond: "5 ms", 1500 * time.Millisecond: "1.5 s", 75 * time.Second: "1 min 15 s",
		3 * time.Hour: "3 h 00 min", 72 * time.Hour: "3 days"} {
		if got := humanDuration(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
}

func TestAProcessIsNotMistakenForAnotherOfItsNumber(t *testing.T) {
	self, err := thisProcess()
	if err != nil {
		t.Fatal(err)
	}
	if !self.alive() {
		t.Error("this process is said to be gone")
	}
	other := self
	other.Start = "1"
	if other.alive() || other.signal(0) == nil {
		t.Error("a process that started at another time is taken for this one")
	}
	other = self
	other.BootID = "another boot"
	if other.alive() {
		t.Error("a process of another boot is taken for this one")
	}
	if (process{}).alive() {
		t.Error("no process at all is said to be alive")
	}
}

func TestARemarkThatDoesNotFitTheScreenStandsUnderItsRow(t *testing.T) {
	head := []string{"HOST", "WORKS", ""}
	rows := func() [][]string {
		return [][]string{{"kvm1", "yes", "fits"}, {"vc", "no", "Müller's machine cannot be exported as it is"}, {"local", "yes", ""}}
	}
	if got, want := remarks(0, head, rows()), table(head, rows()); got != want {
		t.Errorf("no screen:\n%s", got)
	}
	want := "HOST   WORKS\nkvm1   yes    fits\nvc     no\n    Müller's machine\n    cannot be exported\n    as it is\nlocal  yes\n"
	if got := remarks(22, head, rows()); got != want {
		t.Errorf("22 columns:\n%s", got)
	}
	if got := remarks(3, head, rows()); !strings.Contains(got, "    cannot\n    be\n") {
		t.Errorf("a screen that is too small:\n%s", got)
	}
}

func TestAMachineWithoutASocketForItsScreenIsNotSaidToHaveOne(t *testing.T) {
	for _, c := range []struct {
		con       hypervisor.Console
		want, not string
	}{
		{hypervisor.Console{URL: "https://vc.example.com/ui/"}, "  https://vc.example.com/ui/\n", "ssh"},
		{hypervisor.Console{VNCSocket: "/run/vnc"}, "ssh -N -L 5901:/run/vnc ", "browser"},
		{hypervisor.Console{SerialLog: "/var/log/a b"}, "lifeboat console 'a b' --screenshot FILE.png\n\nIts serial line, so far:  tail -n 50 '/var/log/a b'\n", "ssh"},
	} {
		var out strings.Builder
		(&app{stdout: &out}).showConsole("a b", c.con)
		if got := out.String(); !strings.Contains(got, c.want) || strings.Contains(got, c.not) {
			t.Errorf("%+v:\n%s", c.con, got)
		}
	}
}
