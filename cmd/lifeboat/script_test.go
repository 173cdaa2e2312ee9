package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"lifeboat/fixtures/medium"
)

// The scripts run this test binary under the name of the program, as a process
// of its own: what they see is what a user sees.
func TestMain(m *testing.M) {
	// "exe" is the name under which the program starts itself again.
	testscript.Main(m, map[string]func(){"lifeboat": main, "exe": main})
}

func TestScripts(t *testing.T) { runScripts(t, "testdata/script") }

// aloneVariable is set in a process whose mounts are its own.
const aloneVariable = "LIFEBOAT_TEST_ALONE"

// What a script says of a computer without any drive holds only while no other test
// has one mounted: these run when the other scripts have ended, and as root in a
// process that lets go of the drives of other rooms and sees no more of them.
func TestScriptsAlone(t *testing.T) {
	if os.Geteuid() != 0 || os.Getenv(aloneVariable) != "" {
		runScripts(t, "testdata/alone")
		return
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const letGo = `while read -r _ at _; do case "$at" in "$0"/*) umount -l "$at";; esac; done </proc/self/mounts; exec "$@"`
	cmd := exec.CommandContext(t.Context(), "sh", "-c", letGo, os.TempDir(), program, "-test.run=^TestScriptsAlone$", "-test.v")
	cmd.Env = append(os.Environ(), aloneVariable+"=yes")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) { // a container that lends no namespaces
		runScripts(t, "testdata/alone")
		return
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

func runScripts(t *testing.T, folder string) {
	testscript.Run(t, testscript.Params{
		Dir:                 folder,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setUpScript,
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits":       scriptExits,
			"problem":     scriptProblem,
			"warning":     scriptWarning,
			"site":        scriptSite,
			"random":      scriptRandom,
			"zeros":       scriptZeros,
			"put":         scriptPut,
			"flip":        scriptFlip,
			"holes":       scriptHoles,
			"same":        scriptSame,
			"hash":        scriptHash,
			"absent":      scriptAbsent,
			"json":        scriptJSON,
			"events":      scriptEvents,
			"problemjson": scriptProblemJSON,
			"capture":     scriptCapture,
			"tmpfs":       scriptTmpfs,
			"ext4":        scriptExt4,
			"medium":      scriptMedium,
			"unmount":     scriptUnmount,
			"loop":        scriptLoop,
			"unmountdisk": scriptUnmountDisk,
			"await":       scriptAwait,
			"sshd":        scriptSSHD,
			"vcenter":     (&vcenters{t: t}).script,
		},
		Condition: scriptCondition,
	})
}

// setUpScript gives each script a state folder and labels of its own. The
// labels are random, because drives that another test mounts are attached as
// well, and one label must not answer twice.
func setUpScript(env *testscript.Env) error {
	var b [3]byte
	rand.Read(b[:])
	env.Setenv("LIFEBOAT_STATE", env.WorkDir+"/state")
	env.Setenv("A", "A"+hex.EncodeToString(b[:]))
	env.Setenv("B", "B"+hex.EncodeToString(b[:]))
	env.Setenv("TZ", "UTC")
	program, err := exec.LookPath("lifeboat")
	if err != nil {
		return err
	}
	env.Setenv("LIFEBOAT", program)
	return os.WriteFile(env.WorkDir+"/secret.txt", []byte(scriptSecret+"\n"), 0o600)
}

// scriptSecret opens the drives that the command site sets up.
const scriptSecret = "barrel violet mongoose teacup lantern orchid"

func scriptCondition(cond string) (bool, error) {
	switch cond {
	case "sshd":
		_, err := exec.LookPath("/usr/sbin/sshd")
		return err == nil && os.Geteuid() == 0, nil
	case "mount":
		return medium.Missing(medium.Ext4) == "", nil
	case "exfat":
		return medium.Missing(medium.ExFAT) == "", nil
	case "ntfs":
		return medium.Missing(medium.NTFS) == "", nil
	case "lonely":
		return !driveMounted(), nil
	}
	return false, nil
}

// driveMounted says whether some other test has a drive mounted right now.
func driveMounted() bool {
	out, err := exec.Command("lifeboat", "drive", "list", "--json", "--state", "/nonexistent").Output()
	return err != nil || strings.TrimSpace(string(out)) != "[]"
}

// exits CODE PROGRAM ARGS...: the program ends with that exit code.
func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGS...")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if exit, ok := err.(*exec.ExitError); ok {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

var problemLines = regexp.MustCompile(`(?m)^([a-z]+(?: [a-z]+)*): (.+)\n  safe:  (.+)\n  next:  (.+)\n\z`)

// problem WHAT SAFE NEXT: stderr ends with the three lines of a problem, and
// each matches.
func scriptProblem(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: problem WHAT SAFE NEXT")
	}
	stderr := ts.ReadFile("stderr")
	lines := problemLines.FindStringSubmatch(stderr)
	if lines == nil {
		ts.Fatalf("stderr does not end with the three lines of a problem:\n%s", stderr)
	}
	for i, want := range args {
		if !regexp.MustCompile(want).MatchString(lines[i+2]) {
			ts.Fatalf("line %d of the problem is\n  %s\nand does not match\n  %s", i+1, lines[i+2], want)
		}
	}
}

// warning TEXT: stderr holds a warning that matches.
func scriptWarning(ts *testscript.TestScript, neg bool, args []string) {
	has := regexp.MustCompile(`(?m)^warning: .*` + args[0]).MatchString(ts.ReadFile("stderr"))
	if has == neg {
		ts.Fatalf("a warning that matches %q: %v", args[0], has)
	}
}

// site [DRIVE LABEL]...: sets up a site with the secret of secret.txt, and
// makes drives of folders.
func scriptSite(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(ts.Exec("lifeboat", "init", "--site", "Müller & Söhne", "--contact", "+49 30 1234567", "--passphrase-file", "secret.txt", "-q"))
	for len(args) > 0 {
		ts.Check(os.MkdirAll(ts.MkAbs(args[0]), 0o755))
		ts.Check(ts.Exec("lifeboat", "drive", "init", args[0], "--label", args[1], "-q"))
		args = args[2:]
	}
}
