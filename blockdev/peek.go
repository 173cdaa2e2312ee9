package blockdev

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

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
	kind, err := exec.CommandContext(ctx, "blkid", "--probe", "--match-tag", "TYPE", "--output", "value", partition).Output()
	if err != nil {
		return fmt.Errorf("%s has no file system that is known here", partition)
	}
	out, err := exec.CommandContext(ctx, "mount", "-o", lookOptions(strings.TrimSpace(string(kind))), "--", partition, at).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mount %s: %w: %s", partition, err, printable(lastLine(out)))
	}
	err = look(at)
	if umountErr := Unmount(at); err == nil {
		err = umountErr
	}
	return err
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
