package blockdev

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMessagesOfTheKernel(t *testing.T) {
	message := func(fields ...string) []byte { return []byte(strings.Join(fields, "\x00") + "\x00") }
	disk := []string{"SUBSYSTEM=block", "DEVTYPE=disk", "DEVNAME=sdb"}
	for name, c := range map[string]struct {
		message []byte
		want    Event
		told    bool
	}{
		"plugged in":                          {message(append([]string{"add@/devices/x/block/sdb", "ACTION=add"}, disk...)...), Event{EventAdded, "sdb"}, true},
		"a medium came or the table was read": {message(append([]string{"change@/x", "ACTION=change"}, disk...)...), Event{EventAdded, "sdb"}, true},
		"pulled out":                          {message(append([]string{"remove@/x", "ACTION=remove"}, disk...)...), Event{EventRemoved, "sdb"}, true},
		"a part":                              {message("add@/x", "ACTION=add", "SUBSYSTEM=block", "DEVTYPE=partition", "DEVNAME=sdb1"), Event{EventAdded, "sdb1"}, true},
		"something else":                      {message("add@/x", "ACTION=add", "SUBSYSTEM=usb", "DEVTYPE=usb_device"), Event{}, false},
		"a list of disks of a driver":         {message("add@/x", "ACTION=add", "SUBSYSTEM=block"), Event{}, false},
		"bound to a driver":                   {message(append([]string{"bind@/x", "ACTION=bind"}, disk...)...), Event{}, false},
		"only a head":                         {[]byte("add@/devices/x/block/sdb"), Event{}, false},
		"the head is no field":                {message("ACTION=add", "SUBSYSTEM=block", "DEVTYPE=disk"), Event{}, false},
		"nothing":                             {nil, Event{}, false},
		"a name with a line end":              {message("add@/x", "ACTION=add", "SUBSYSTEM=block", "DEVTYPE=disk", "DEVNAME=s\nd\x1b"), Event{EventAdded, "s d"}, true},
	} {
		if got, told := parseMessage(c.message); got != c.want || told != c.told {
			t.Errorf("%s: %+v, %v", name, got, told)
		}
	}
}

// A mount and an unmount are told, as is a loop device that gets its file; the
// channel is closed with the context.
func TestWatchTellsOfMountsAndDisks(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounts a file system: run the tests as root")
	}
	image := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(image, make([]byte, 4<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", image).CombinedOutput(); err != nil {
		t.Skipf("no mkfs.ext4 here: %v %s", err, out)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	events, err := Watch(ctx)
	if err != nil {
		t.Skipf("the kernel does not let us listen here: %v", err)
	}
	await := func(what string, is func(Event) bool) {
		t.Helper()
		const patience = 2 * time.Minute
		for end := time.After(patience); ; {
			select {
			case e, open := <-events:
				if !open || is(e) {
					return
				}
			case <-end:
				t.Fatalf("%s was not told", what)
			}
		}
	}
	out, err := exec.Command("losetup", "--find", "--show", image).Output()
	if err != nil {
		t.Skipf("no loop devices here: %v", err)
	}
	device := strings.TrimSpace(string(out))
	defer exec.Command("losetup", "--detach", device).Run()
	await("the disk", func(e Event) bool { return e.Kind == EventAdded && e.Name == filepath.Base(device) })
	at := t.TempDir()
	if out, err := exec.Command("mount", device, at).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	defer exec.Command("umount", at).Run()
	await("the mount", func(e Event) bool { return e.Kind == EventMounts })
	if err := Unmount(at); err != nil {
		t.Fatal(err)
	}
	await("the unmount", func(e Event) bool { return e.Kind == EventMounts })
	stop()
	for range events {
	}
}
