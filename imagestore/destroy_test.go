package imagestore

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"lifeboat"
	"lifeboat/internal/durable"
)

// onDisk is a store in a real folder.
func onDisk(t *testing.T) (path string, dir durable.Dir) {
	t.Helper()
	path = t.TempDir()
	dir, err := durable.OpenOS(path, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.(*durable.OSDir).Close() })
	return path, dir
}

func TestADestroyedDriveOpensWithNothingAndNoKeyIsLeft(t *testing.T) {
	path, dir := onDisk(t)
	createStore(t, dir)
	if gone, err := KeysGone(dir); err != nil || gone {
		t.Fatalf("%v, %v", gone, err)
	}
	slots, err := filepath.Glob(filepath.Join(path, "slots", "*"))
	if err != nil || len(slots) != 2 {
		t.Fatalf("%v, %v", slots, err)
	}
	// Links keep the bytes in sight after the names are gone.
	var kept []string
	for i, s := range slots {
		kept = append(kept, filepath.Join(path, string(rune('a'+i))))
		if err := os.Link(s, kept[i]); err != nil {
			t.Fatal(err)
		}
	}
	before, err := os.ReadFile(kept[0])
	if err != nil {
		t.Fatal(err)
	}
	// What a crash left, and what lies there by mistake, may be a wrap too.
	if err := os.WriteFile(filepath.Join(path, "slots", "left-over.tmp"), before, 0o600); err != nil {
		t.Fatal(err)
	}

	done, err := Destroy(t.Context(), dir, storeOptions().Drive.ID)
	if err != nil || done.Slots != 3 || !done.Overwritten {
		t.Fatalf("%+v, %v", done, err)
	}
	for _, k := range kept {
		after, err := os.ReadFile(k)
		if err != nil || len(after) != len(before) || slices.Equal(after, before) {
			t.Errorf("%s still holds a wrap of the key (%v)", k, err)
		}
	}
	if left, _ := os.ReadDir(filepath.Join(path, "slots")); len(left) != 0 {
		t.Errorf("%d files are left", len(left))
	}
	if _, err := openWith(dir, Read); err == nil {
		t.Error("it opens")
	}
	if gone, err := KeysGone(dir); err != nil || !gone {
		t.Errorf("%v, %v", gone, err)
	}
	// Once more, after a crash at the very end: nothing to do.
	if done, err := Destroy(t.Context(), dir, storeOptions().Drive.ID); err != nil || done.Slots != 0 {
		t.Errorf("%+v, %v", done, err)
	}
}

func TestADriveThatIsInUseIsNotDestroyed(t *testing.T) {
	_, dir := onDisk(t)
	createStore(t, dir)
	openStore(t, dir, Read)
	if _, err := Destroy(t.Context(), dir, storeOptions().Drive.ID); !errors.Is(err, lifeboat.ErrDriveHeld) {
		t.Fatalf("%v", err)
	}
	openStore(t, dir, Read)
}

func TestADriveWhoseFilesCannotBeWrittenOverSaysSo(t *testing.T) {
	d := newDrive(t)
	done, err := Destroy(t.Context(), d.Dir(), storeOptions().Drive.ID)
	if err != nil || done.Overwritten || done.Slots != 2 {
		t.Fatalf("%+v, %v", done, err)
	}
	if _, err := openWith(d.Dir(), Read); err == nil {
		t.Error("it opens")
	}
}

func TestAnotherDriveIsNotDestroyed(t *testing.T) {
	path, dir := onDisk(t)
	createStore(t, dir)
	if _, err := Destroy(t.Context(), dir, "fedcba9876543210fedcba9876543210"); !errors.Is(err, lifeboat.ErrWrongDrive) {
		t.Fatalf("%v", err)
	}
	// One copy of the superblock is enough to know it; none is not.
	for i, name := range []string{"store.a", "store.b"} {
		if err := os.WriteFile(filepath.Join(path, name), []byte("rot"), 0o600); err != nil {
			t.Fatal(err)
		}
		id := "fedcba9876543210fedcba9876543210"
		if i == 1 {
			id = storeOptions().Drive.ID
		}
		if _, err := Destroy(t.Context(), dir, id); !errors.Is(err, lifeboat.ErrWrongDrive) {
			t.Errorf("%s rotten: %v", name, err)
		}
	}
	if gone, err := KeysGone(dir); err != nil || gone {
		t.Errorf("keys gone: %v, %v", gone, err)
	}
}
