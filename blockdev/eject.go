package blockdev

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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
	// StillUsed says what other parts of the disk are used for, in words. They were
	// left as they are, and the disk must not be unplugged.
	StillUsed []string `json:"stillUsed,omitempty"`
	// PoweredDown: the disk was stopped and let go. Note says why it was not.
	PoweredDown bool   `json:"poweredDown"`
	Note        string `json:"note,omitempty"`
}

// Eject writes everything out and unmounts the part of a disk that a drive is on,
// wherever it is mounted, and the small part of our layout. Where nothing else of
// the disk is in use it stops the disk, if that is possible. What others have on
// the same disk is not touched, and neither is the disk that the system runs from.
// After an error the disk must not be unplugged.
func Eject(d Device, part string) (Ejected, error) {
	var done Ejected
	if d.System() {
		return done, fmt.Errorf("%s holds the running system", d.Path)
	}
	mine := ownParts(d, part)
	for _, u := range d.Uses {
		if u.Kind != UsedMounted && slices.Contains(mine, u.Part) {
			return done, fmt.Errorf("%v", u)
		}
	}
	// What was mounted last may lie inside what was mounted before.
	for _, u := range slices.Backward(d.Uses) {
		if !slices.Contains(mine, u.Part) {
			continue
		}
		if err := Unmount(u.By); err != nil {
			return done, err
		}
		done.Unmounted = append(done.Unmounted, u.By)
		if !OurMount(u.By) {
			done.Others = append(done.Others, u.By)
		}
	}
	if err := flushDevice(d.Path); err != nil {
		return done, fmt.Errorf("write out what is in memory for %s: %w", d.Path, err)
	}
	now, err := here.byNumber(d.Number)
	if err != nil {
		// It is gone already: there is nothing left to stop.
		done.Note = "it is gone from the system"
		return done, nil
	}
	for _, u := range now.Uses {
		if slices.Contains(mine, u.Part) {
			return done, fmt.Errorf("%v again", u)
		}
		done.StillUsed = append(done.StillUsed, u.String())
	}
	if len(done.StillUsed) > 0 {
		done.Note = "another part of the disk is in use"
		return done, nil
	}
	done.PoweredDown, done.Note = here.powerDown(d)
	return done, nil
}

// EjectUnmounts are the places that [Eject] would unmount.
func EjectUnmounts(d Device, part string) (points []string) {
	mine := ownParts(d, part)
	for _, u := range d.Uses {
		if u.Kind == UsedMounted && slices.Contains(mine, u.Part) {
			points = append(points, u.By)
		}
	}
	return points
}

// ownParts are the part that a drive is on and, where we laid the disk out, the
// small one beside it.
func ownParts(d Device, part string) []string {
	if real, err := filepath.EvalSymlinks(part); err == nil {
		part = real
	}
	mine := []string{part}
	if len(d.Partitions) == 2 && d.Partitions[1].Path == part {
		if ours, err := Ours(d); err == nil && ours {
			mine = append(mine, d.Partitions[0].Path)
		}
	}
	return mine
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
