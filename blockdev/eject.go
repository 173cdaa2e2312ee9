package blockdev

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Ejected says what was done to a disk that may be unplugged.
type Ejected struct {
	// Unmounted are the places where it was mounted, Others those of them that
	// Lifeboat had not mounted itself.
	Unmounted []string `json:"unmounted"`
	Others    []string `json:"others,omitempty"`
	// PoweredDown: the disk was stopped and let go. Note says why it was not.
	PoweredDown bool   `json:"poweredDown"`
	Note        string `json:"note,omitempty"`
}

// Eject writes everything out, unmounts all parts of a disk, stops it where that
// is possible, and looks whether it is gone from the table of mounts. It touches
// nothing but that disk, and refuses the one that the system runs from. After an
// error the disk must not be unplugged.
func Eject(d Device) (Ejected, error) {
	var done Ejected
	if d.System() {
		return done, fmt.Errorf("%s holds the running system", d.Path)
	}
	for _, u := range d.Uses {
		if u.Kind != UsedMounted {
			return done, fmt.Errorf("%v", u)
		}
	}
	points := d.Mounted()
	// What was mounted last may lie inside what was mounted before.
	for i := len(points) - 1; i >= 0; i-- {
		if err := Unmount(points[i]); err != nil {
			return done, err
		}
		done.Unmounted = append(done.Unmounted, points[i])
		if !OurMount(points[i]) {
			done.Others = append(done.Others, points[i])
		}
	}
	if err := flushDevice(d.Path); err != nil {
		return done, fmt.Errorf("write out what is in memory for %s: %w", d.Path, err)
	}
	now, err := here.byNumber(d.Number)
	if err == nil && len(now.Uses) > 0 {
		return done, fmt.Errorf("%v again", now.Uses[0])
	}
	done.PoweredDown, done.Note = here.powerDown(d)
	return done, nil
}

func flushDevice(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Fsync(int(f.Fd()))
}

// powerDownWait bounds how long a disk may take to park its heads.
const powerDownWait = 20 * time.Second

// powerDown stops a disk that hangs on USB or SATA: the kernel flushes its cache
// and parks its heads, and the device is gone. What has no switch is left on.
func (k kernel) powerDown(d Device) (done bool, note string) {
	if d.Transport == "loop" {
		return false, "a file has nothing to power down"
	}
	if d.Transport != "usb" && d.Transport != "ata" {
		return false, "it cannot be powered down from here"
	}
	folder := filepath.Join(k.sys, "block", d.Name)
	err := os.WriteFile(filepath.Join(folder, "device/delete"), []byte("1\n"), 0)
	if err != nil {
		return false, fmt.Sprintf("it could not be powered down (%s)", reason(err))
	}
	for end := time.Now().Add(powerDownWait); time.Now().Before(end); time.Sleep(nodePoll) {
		if _, err := os.Stat(folder); errors.Is(err, os.ErrNotExist) {
			return true, ""
		}
	}
	return false, "it did not power down in time"
}

// reason is an error of the system without its path.
func reason(err error) string {
	var path *os.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return strings.TrimSpace(err.Error())
}
