package libvirt

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"pgregory.net/rapid"
)

func TestAnAccessListComesBackAsItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		entries := rapid.SliceOf(rapid.Custom(func(t *rapid.T) accessEntry {
			return accessEntry{rapid.Uint16().Draw(t, "tag"), rapid.Uint16().Draw(t, "perm"), rapid.Uint32().Draw(t, "id")}
		})).Draw(t, "entries")
		got, err := parseAccess(encodeAccess(entries))
		if err != nil || !slices.Equal(got, entries) {
			t.Fatalf("%v became %v (%v)", entries, got, err)
		}
	})
}

func TestLettingThroughTakesNothingFromAnybody(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before := entriesOf(os.FileMode(rapid.IntRange(0, 0o777).Draw(t, "mode")))
		uid := rapid.Uint32Range(1, 1000).Draw(t, "uid")
		after := mayPass(before, uid)
		for _, e := range before {
			if !slices.Contains(after, e) {
				t.Fatalf("%v is gone from %v", e, after)
			}
		}
		if !slices.Contains(after, accessEntry{tagUser, permPass, uid}) {
			t.Fatalf("the user is not in %v", after)
		}
		if again := mayPass(after, uid); !slices.Equal(again, after) {
			t.Fatalf("a second time changes %v to %v", after, again)
		}
	})
}

func TestQEMUsUserMayPassAFolderAndNotListIt(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("acting as another user needs root: run the tests as root")
	}
	const uid = 64055
	base, err := os.MkdirTemp("", "lb-acl-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(base)
	inner := filepath.Join(base, "inner")
	file := filepath.Join(inner, "file")
	if err := os.Mkdir(inner, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("x"), 0o666); err != nil {
		t.Fatal(err)
	}
	as := func(words ...string) error {
		cmd := exec.Command(words[0], words[1:]...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		return cmd.Run()
	}
	if as("cat", file) == nil {
		t.Fatal("it could pass before: the test proves nothing")
	}
	if err := letThrough(inner, uid); err != nil {
		t.Fatal(err)
	}
	if err := as("cat", file); err != nil {
		t.Errorf("it cannot pass: %v", err)
	}
	if as("ls", inner) == nil {
		t.Error("it can list the folder")
	}
}
