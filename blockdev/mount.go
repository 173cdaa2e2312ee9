package blockdev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat"
)

// MountFolder is where Lifeboat mounts drives. It is in memory, so that nothing
// of it outlives the computer's run, and only root may look inside.
const MountFolder = "/run/lifeboat-drives"

// MountPartition mounts the file system on a partition below [MountFolder], under a name
// that is made of name, and returns where. One that is mounted already, anywhere,
// is left as it is. Nothing on a drive is run, and no device file on it counts.
func MountPartition(ctx context.Context, partition, name string, readOnly bool) (at string, err error) {
	if at, mounted := MountedAt(partition); mounted {
		return at, nil
	}
	// The folder's rights hide what is mounted in it from other users.
	if err := os.MkdirAll(MountFolder, 0o700); err != nil {
		return "", fmt.Errorf("make the folder for drives: %w", err)
	}
	at = filepath.Join(MountFolder, folderName(name))
	if err := os.Mkdir(at, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("make the folder for %s: %w", partition, err)
	}
	if m, err := MountOf(at); err != nil || m.Point == at {
		return "", errors.Join(fmt.Errorf("something else is mounted at %s", at), err)
	}
	options := "nosuid,nodev,noatime"
	if readOnly {
		options += ",ro"
	}
	// The program knows helpers for file systems in user space, and tells udev.
	out, err := exec.CommandContext(ctx, "mount", "-o", options, "--", partition, at).CombinedOutput()
	if err != nil {
		os.Remove(at)
		return "", fmt.Errorf("mount %s: %w: %s", partition, err, printable(lastLine(out)))
	}
	return at, nil
}

// folderName makes one name of a folder of a label: letters, digits, - and _.
func folderName(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, name)
}

// MountedAt says where a partition is mounted, if it is.
func MountedAt(partition string) (at string, mounted bool) {
	d, err := Of(partition)
	if err != nil {
		return "", false
	}
	real, err := filepath.EvalSymlinks(partition)
	if err != nil {
		return "", false
	}
	for _, u := range d.Uses {
		if u.Kind == UsedMounted && u.Part == real {
			return u.By, true
		}
	}
	return "", false
}

// OurMount says that Lifeboat mounted what lies at a path.
func OurMount(at string) bool { return filepath.Dir(at) == MountFolder }

// Whoever lists drives or disks looks into each file system for a moment, and keeps
// it busy meanwhile: an unmount waits for that.
const (
	busyPatience = 10 * time.Second
	busyPoll     = 50 * time.Millisecond
)

// Unmount writes out what is still in memory for the file system at a path, and
// unmounts it. Whoever keeps it busy is named in the [lifeboat.Problem].
func Unmount(at string) error {
	if err := syncMount(at); err != nil {
		return fmt.Errorf("write out what is in memory for %s: %w", at, err)
	}
	err := unix.Unmount(at, unix.UMOUNT_NOFOLLOW)
	for deadline := time.Now().Add(busyPatience); errors.Is(err, unix.EBUSY) && time.Now().Before(deadline); {
		time.Sleep(busyPoll)
		err = unix.Unmount(at, unix.UMOUNT_NOFOLLOW)
	}
	if errors.Is(err, unix.EBUSY) {
		p := &lifeboat.Problem{
			What: fmt.Sprintf("%s is in use and was not unmounted", at),
			Safe: "everything is written out, but do not unplug the drive yet",
			Next: "end what uses it and run the command again", Err: err,
		}
		if who := Busy(at); len(who) > 0 {
			p.What += ": " + strings.Join(who[:min(len(who), 5)], ", ")
		}
		return p
	}
	if err != nil {
		return fmt.Errorf("unmount %s: %w", at, err)
	}
	if OurMount(at) {
		os.Remove(at)
	}
	return nil
}

func syncMount(at string) error {
	f, err := os.Open(at)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}

// Busy names the processes that have a file or their working folder in the file
// system mounted at a path: "bash (4711)". It sees those that it may look into.
func Busy(at string) []string { return here.busy(at, os.Getpid()) }

func (k kernel) busy(at string, self int) []string {
	var st unix.Stat_t
	if unix.Stat(at, &st) != nil {
		return nil
	}
	processes, _ := filepath.Glob(filepath.Join(k.proc, "[0-9]*"))
	var who []string
	for _, p := range processes {
		pid := filepath.Base(p)
		if pid == fmt.Sprint(self) || !uses(p, st.Dev) {
			continue
		}
		name := attribute(p, "comm")
		who = append(who, fmt.Sprintf("%s (%s)", name, pid))
	}
	slices.Sort(who)
	return who
}

// uses says that a process has something open on a device.
func uses(process string, dev uint64) bool {
	links := []string{filepath.Join(process, "cwd"), filepath.Join(process, "root"), filepath.Join(process, "exe")}
	for _, folder := range []string{"fd", "map_files"} {
		entries, _ := os.ReadDir(filepath.Join(process, folder))
		for _, e := range entries {
			links = append(links, filepath.Join(process, folder, e.Name()))
		}
	}
	return slices.ContainsFunc(links, func(link string) bool {
		var st unix.Stat_t
		return unix.Stat(link, &st) == nil && st.Dev == dev
	})
}
