package blockdev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNoFilesystem: there is no file system, or none of the kinds that a drive has.
var ErrNoFilesystem = errors.New("no file system that a drive has")

// mountable are the kinds of file systems that drives have. The kernel knows many
// more, and a stick that a stranger plugs in must not choose which of them reads it.
var mountable = []string{"ext2", "ext3", "ext4", "xfs", "btrfs", "exfat", "ntfs", "vfat"}

// Peek mounts a file system for reading only, in a folder of its own that only
// root may look into, shows it to look, and unmounts it again. Nothing is written to it: not even its
// own journal. What has no file system that can be read is an error.
func Peek(ctx context.Context, partition string, look func(at string) error) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	free, err := hold(ctx, partition, unix.LOCK_SH)
	if err != nil {
		return err
	}
	defer free()
	if err := os.MkdirAll(MountFolder, 0o700); err != nil {
		return fmt.Errorf("make the folder for drives: %w", err)
	}
	at, err := os.MkdirTemp(MountFolder, "look-")
	if err != nil {
		return fmt.Errorf("make a folder to look at %s: %w", partition, err)
	}
	defer os.Remove(at)
	kind, err := filesystemOn(ctx, partition)
	if err != nil {
		return err
	}
	args := []string{"-o", lookOptions(kind), "--", partition, at}
	if kind != "ntfs" { // whose driver has another name than it
		args = append([]string{"-t", kind}, args...)
	}
	out, err := exec.CommandContext(ctx, "mount", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mount %s: %w: %s", partition, err, printable(firstLine(out)))
	}
	err = look(at)
	if umountErr := Unmount(at); err == nil {
		err = umountErr
	}
	return err
}

// filesystemOn asks blkid, past its cache, for the kind of the file system.
func filesystemOn(ctx context.Context, partition string) (string, error) {
	out, err := exec.CommandContext(ctx, "blkid", "--probe", "--match-tag", "TYPE", "--output", "value", partition).Output()
	var exit *exec.ExitError
	const nothingFound = 2 // in the words of blkid(8)
	if errors.As(err, &exit) && exit.ExitCode() == nothingFound {
		return "", fmt.Errorf("%s: %w", partition, ErrNoFilesystem)
	}
	if err != nil {
		return "", fmt.Errorf("ask blkid for the file system on %s: %w", partition, err)
	}
	kind := strings.TrimSpace(string(out))
	if !slices.Contains(mountable, kind) {
		return "", fmt.Errorf("%s (%s): %w", partition, printable(kind), ErrNoFilesystem)
	}
	return kind, nil
}

// firstLine of what mount says is the reason; hints follow.
func firstLine(out []byte) string {
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}

// lookOptions leave a journal as it is that an unclean end left behind.
func lookOptions(filesystem string) string {
	const always = "ro,nosuid,nodev,noexec"
	switch filesystem {
	case "ext2", "ext3", "ext4":
		return always + ",noload"
	case "xfs":
		return always + ",norecovery"
	case "btrfs":
		return always + ",rescue=nologreplay"
	}
	return always
}
