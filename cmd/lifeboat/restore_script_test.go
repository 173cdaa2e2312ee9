package main

import (
	"os"
	"path/filepath"
	"testing"

	"lifeboat"
)

func TestARestoreWritesWhatOnlyTheOldHypervisorUnderstands(t *testing.T) {
	outside := t.TempDir()
	folder := filepath.Join(outside, "web")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	plan := &restorePlan{Folder: folder}
	plan.Point.Machine = lifeboat.Machine{Name: "web", Native: &lifeboat.NativeDescription{Format: "vmx", Text: "the words",
		Files: map[string][]byte{"nvram": []byte("boot entries"), "description.txt": []byte("not the words"), "/../../out": []byte("x"), "/root.raw": []byte("x"), "a\nb": []byte("x")}}}
	if err := writeDescriptions(plan); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"original-nvram": "boot entries", "original-description.txt": "the words"} {
		if got, err := os.ReadFile(filepath.Join(folder, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if st, err := os.Stat(filepath.Join(folder, "original-nvram")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("others read it: %v, %v", st, err)
	}
	left, err := os.ReadDir(folder)
	if err != nil || len(left) != 4 {
		t.Errorf("the folder holds %v, %v", left, err)
	}
	if beside, err := os.ReadDir(outside); err != nil || len(beside) != 1 {
		t.Errorf("beside it are %v, %v", beside, err)
	}
}
