package libvirt

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat"
	"lifeboat/hypervisor"
)

// lockPatience is how long a held lock is waited for: a dead export's guard
// cleans up in this time, a living export takes longer.
const lockPatience = 3 * time.Second

// lockMachine is held by whoever exports a machine from this computer. The kernel
// drops it when the last process that has the file open is gone: the guard of an
// export shares it, so that nobody comes between a dead export and its cleaning
// up. libvirt itself keeps two computers apart: a domain has one backup job.
func lockMachine(ctx context.Context, name, uuid string) (*os.File, error) {
	dir, err := lockFolder()
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, uuid), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	for deadline := time.Now().Add(lockPatience); ; {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return f, nil
		case !errors.Is(err, unix.EWOULDBLOCK):
			err = fmt.Errorf("lock %s: %w", name, err)
		case time.Now().After(deadline):
			err = &lifeboat.Problem{
				What: fmt.Sprintf("%s is held by another export from this computer, or by one that was killed and whose guard is still putting the machine right", name),
				Safe: "nothing was done",
				Next: "see what runs: lifeboat run list. If nothing does, see that the host can be reached and that the guest answers: the guard thaws it then, and ends",
				Err:  hypervisor.ErrMachineBusy,
			}
		default:
			err = pause(ctx, 20*time.Millisecond)
			if err == nil {
				continue
			}
		}
		f.Close()
		return nil, err
	}
}

// lockFolder makes and returns the folder of the locks, which is ours alone.
func lockFolder() (string, error) {
	dir := "/run/lifeboat/libvirt"
	if uid := os.Geteuid(); uid != 0 {
		dir = os.Getenv("XDG_RUNTIME_DIR")
		if dir == "" {
			dir = filepath.Join(os.TempDir(), "lifeboat-"+strconv.Itoa(uid))
		}
		dir = filepath.Join(dir, "lifeboat-libvirt")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return "", err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || int(owner.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 {
		return "", fmt.Errorf("the folder %s belongs to somebody else, or others can write there", dir)
	}
	return dir, nil
}

// computerName is what this computer's exports are marked with, so that another
// computer takes none of them for one that died.
func computerName() string {
	name, err := os.ReadFile("/etc/machine-id")
	if err != nil || len(name) == 0 {
		host, _ := os.Hostname()
		name = []byte(host)
	}
	sum := sha256.Sum256(append([]byte("export\x00"), name...))
	return hex.EncodeToString(sum[:4])
}

// pause waits, or returns why not.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
