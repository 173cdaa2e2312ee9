package rotation_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat"
	"lifeboat/fixtures/medium"
	"lifeboat/rotation"
)

func TestIdentifySaysWhatAPathIs(t *testing.T) {
	for name, c := range map[string]struct {
		change func(path string) error
		want   rotation.Kind
		id     bool // the id is still known
	}{
		"a drive":             {func(string) error { return nil }, rotation.KindDrive, true},
		"drive.json gone":     {func(p string) error { return os.Remove(p + "/lifeboat/drive.json") }, rotation.KindHurt, true},
		"drive.json rotten":   {func(p string) error { return writeFile(p, "lifeboat/drive.json", "\x00\x00") }, rotation.KindHurt, true},
		"drive.json a folder": {func(p string) error { return swapForFolder(p + "/lifeboat/drive.json") }, rotation.KindHurt, true},
		"store.a gone too": {func(p string) error {
			return errors.Join(os.Remove(p+"/lifeboat/drive.json"), os.Remove(p+"/lifeboat/store/store.a"))
		}, rotation.KindHurt, true},
		"store rotten too": {func(p string) error {
			return errors.Join(os.Remove(p+"/lifeboat/drive.json"), writeFile(p, "lifeboat/store/store.a", "x"), writeFile(p, "lifeboat/store/store.b", "x"))
		}, rotation.KindHurt, false},
		"unknown field":        {func(p string) error { return addField(p, "colour", "red") }, rotation.KindDrive, true},
		"newer":                {func(p string) error { return addField(p, "layout", 7) }, rotation.KindNewer, false},
		"label of two lines":   {func(p string) error { return addField(p, "label", "a\nb") }, rotation.KindHurt, true},
		"id that is a path":    {func(p string) error { return addField(p, "id", "../../../../../../etc/passwd....") }, rotation.KindHurt, true},
		"nothing but a folder": {func(p string) error { return os.RemoveAll(p + "/lifeboat") }, rotation.KindNone, false},
		"a link to elsewhere": {func(p string) error {
			return errors.Join(os.Rename(p+"/lifeboat", p+"-moved"), os.Symlink(p+"-moved", p+"/lifeboat"))
		}, rotation.KindHurt, false},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "drive")
			if err := os.Mkdir(path, 0o755); err != nil {
				t.Fatal(err)
			}
			drive, err := rotation.Init(t.Context(), path, options("A"))
			if err != nil {
				t.Fatal(err)
			}
			if err := c.change(path); err != nil {
				t.Fatal(err)
			}
			before := tree(t, path)
			found, err := rotation.Identify(path)
			if err != nil || found.Kind != c.want || (found.Drive.ID == drive.ID) != c.id {
				t.Errorf("%+v, %v", found, err)
			}
			if found.Kind == rotation.KindHurt && found.Note == "" {
				t.Error("it does not say why")
			}
			if after := tree(t, path); after != before {
				t.Errorf("looking changed it:\n%s\nbefore:\n%s", after, before)
			}
		})
	}
}

func TestConfirmComparesTheDriveWithItsStore(t *testing.T) {
	found := rotation.Found{Path: "/mnt/a", Kind: rotation.KindDrive, Drive: lifeboat.Drive{ID: idA, Label: "A", SiteID: siteID}}
	sealed := found.Drive
	if remark, err := found.Confirm(sealed, siteID); err != nil || remark != "" {
		t.Errorf("%q, %v", remark, err)
	}
	sealed.Label = "B"
	if remark, err := found.Confirm(sealed, siteID); err != nil || !strings.Contains(remark, "the drive's own label is B") {
		t.Errorf("%q, %v", remark, err)
	}
	if _, err := found.Confirm(sealed, idB); !errors.Is(err, lifeboat.ErrWrongDrive) || !strings.Contains(err.Error(), "another site") {
		t.Errorf("another site: %v", err)
	}
	sealed.ID = idB
	if _, err := found.Confirm(sealed, siteID); !errors.Is(err, lifeboat.ErrWrongDrive) {
		t.Errorf("another drive: %v", err)
	}
}

func TestAttachedFindsMountedDrivesAndRecordedFolders(t *testing.T) {
	fs := medium.New(t, medium.Ext4, 32<<20)
	mounted, err := rotation.Init(t.Context(), fs.Path, options("mounted"))
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	recorded, err := rotation.Init(t.Context(), folder, options("folder"))
	if err != nil {
		t.Fatal(err)
	}
	again := filepath.Join(t.TempDir(), "with a blank")
	if err := errors.Join(os.Mkdir(again, 0o755), unix.Mount(fs.Path, again, "", unix.MS_BIND, "")); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(again, unix.MNT_DETACH)
	all, err := rotation.Attached(t.Context(), []string{folder, folder + "/", t.TempDir(), "/no/such/folder"})
	if err != nil {
		t.Fatal(err)
	}
	times := map[string]int{}
	for _, f := range all {
		times[f.Drive.ID]++
		if f.Drive.ID == mounted.ID && (f.Filesystem != "ext4" || !strings.HasPrefix(f.Device, "/dev/loop") || f.Warning != "") {
			t.Errorf("%+v", f)
		}
	}
	if times[mounted.ID] != 1 || times[recorded.ID] != 1 {
		t.Errorf("seen so often: %v", times)
	}
}

func TestAMediumThatDoesNotAnswerHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dead := make(chan bool)
		defer close(dead)
		began := time.Now()
		got := rotation.LookOne(t.Context(), rotation.Found{Path: "/mnt/nas"}, func(f rotation.Found) rotation.Found {
			<-dead
			return f
		})
		if got.Kind != rotation.KindSilent || got.Path != "/mnt/nas" || time.Since(began) > 20*time.Second {
			t.Errorf("%+v after %v", got, time.Since(began))
		}
	})
}

func TestAReadOnlyMountIsAReadOnlyDrive(t *testing.T) {
	fs := medium.New(t, medium.Ext4, 32<<20)
	if _, err := rotation.Init(t.Context(), fs.Path, options("A")); err != nil {
		t.Fatal(err)
	}
	fs.Again(t, "ro,noload")
	found, err := rotation.Identify(fs.Path)
	if err != nil || found.Kind != rotation.KindDrive || !found.ReadOnly || found.Filesystem != "ext4" {
		t.Errorf("%+v, %v", found, err)
	}
}

func TestMountsAreReadAsTheKernelWritesThem(t *testing.T) {
	const text = `26 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 26 0:30 / /proc rw - proc proc rw
57 26 8:17 / /media/my\040drive\134x rw,nosuid shared:30 master:2 - fuseblk /dev/sdb1 rw,user_id=0
58 26 0:50 / /mnt/nas ro - nfs4 nas:/vol\0401 rw
59 26 0:51 / /mnt/ssh rw - fuse.sshfs host: rw
broken line
60 26 8:33 / /mnt/a rw -
`
	var got []string
	for _, m := range rotation.ParseMounts([]byte(text)) {
		point, source, filesystem := rotation.MountFields(m)
		if rotation.MayBeDrive(m) {
			got = append(got, point+"|"+source+"|"+filesystem)
		}
	}
	want := `/|/dev/sda1|ext4, /media/my drive\x|/dev/sdb1|fuseblk, /mnt/nas|nas:/vol 1|nfs4, /mnt/ssh|host:|fuse.sshfs`
	if s := strings.Join(got, ", "); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
}

func FuzzMounts(f *testing.F) {
	f.Add([]byte(`57 26 8:17 / /media/my\040drive rw,nosuid shared:30 - fuseblk /dev/sdb1 rw`))
	f.Add([]byte(`1 1 1:1 / \ a - b \04`))
	f.Fuzz(func(t *testing.T, data []byte) { rotation.ParseMounts(data) })
}

func FuzzDriveNote(f *testing.F) {
	path := f.TempDir()
	if _, err := rotation.Init(f.Context(), path, options("Ä 1")); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(filepath.Join(path, "lifeboat/drive.json"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"layout":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		once, err := rotation.NoteAgain(data)
		if err != nil {
			return
		}
		twice, err := rotation.NoteAgain(once)
		if err != nil || !bytes.Equal(once, twice) {
			t.Errorf("%q became %q, then %q, %v", data, once, twice, err)
		}
	})
}

func TestLabelsCanBeTypedAndStuckOn(t *testing.T) {
	for label, ok := range map[string]bool{
		"A": true, "B2": true, "Köln 3": true, "tape.01_x-y+#": true, strings.Repeat("x", 32): true, "金庫": true,
		"": false, " A": false, "A ": false, "-A": false, ".": false, "a/b": false, "a\nb": false, "a\"b": false,
		strings.Repeat("x", 33): false, "\xff": false, "a\u202eb": false,
	} {
		if err := rotation.CheckLabel(label); (err == nil) != ok {
			t.Errorf("%q: %v", label, err)
		}
	}
}

func swapForFolder(name string) error {
	return errors.Join(os.Remove(name), os.Mkdir(name, 0o755))
}

func addField(path, key string, value any) error {
	name := filepath.Join(path, "lifeboat/drive.json")
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	var fields map[string]any
	if err := json.Unmarshal(data, &fields); err != nil {
		return err
	}
	fields[key] = value
	if data, err = json.Marshal(fields); err != nil {
		return err
	}
	return os.WriteFile(name, data, 0o644)
}
