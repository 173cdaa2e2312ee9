package blockdev

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Event says that disks or mounts changed.
type Event struct {
	// Kind is added, removed or mounts.
	Kind EventKind
	// Name is the kernel's name of the disk; empty for mounts.
	Name string
}

// EventKind says what changed.
type EventKind string

// The kinds of events.
const (
	EventAdded   EventKind = "added"
	EventRemoved EventKind = "removed"
	EventMounts  EventKind = "mounts"
)

// mountPoll is how long the wait for messages may keep from noticing that the
// caller has had enough.
const mountPoll = 500 * time.Millisecond

// Watch tells when disks come and go, from the kernel's own messages, and when
// the table of mounts changes. It needs neither udev nor root. The channel is
// closed when ctx ends. A message that was lost because nobody read is made good
// by an event with an empty name: look at everything then.
func Watch(ctx context.Context) (<-chan Event, error) {
	messages, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("listen to the kernel: %w", err)
	}
	const fromKernel = 1 // the group of the kernel; udev has another
	if err := unix.Bind(messages, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: fromKernel}); err != nil {
		unix.Close(messages)
		return nil, fmt.Errorf("listen to the kernel: %w", err)
	}
	// Not by os.Open: the runtime would poll it as well, and each change of the
	// table is told to one poll of an open file only.
	table, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		unix.Close(messages)
		return nil, fmt.Errorf("watch the table of mounts: %w", err)
	}
	events := make(chan Event)
	go func() {
		defer close(events)
		defer unix.Close(messages)
		defer unix.Close(table)
		watch(ctx, messages, table, func(e Event) {
			select {
			case events <- e:
			case <-ctx.Done():
			}
		})
	}()
	return events, nil
}

func watch(ctx context.Context, messages, table int, tell func(Event)) {
	buffer := make([]byte, 64<<10)
	for ctx.Err() == nil {
		fds := []unix.PollFd{{Fd: int32(messages), Events: unix.POLLIN}, {Fd: int32(table), Events: unix.POLLPRI}}
		if _, err := unix.Poll(fds, int(mountPoll/time.Millisecond)); err != nil && err != unix.EINTR {
			return
		}
		if fds[1].Revents&(unix.POLLPRI|unix.POLLERR) != 0 {
			tell(Event{Kind: EventMounts})
		}
		for ctx.Err() == nil && fds[0].Revents != 0 {
			n, from, err := unix.Recvfrom(messages, buffer, 0)
			if err == unix.ENOBUFS {
				tell(Event{Kind: EventAdded})
				continue
			}
			if err != nil {
				break
			}
			// Only the kernel is believed: any program may send to this group.
			if sender, ok := from.(*unix.SockaddrNetlink); ok && sender.Pid == 0 {
				if e, ok := parseMessage(buffer[:n]); ok {
					tell(e)
				}
			}
		}
	}
}

// parseMessage reads "add@/devices/...\0ACTION=add\0SUBSYSTEM=block\0..." and
// keeps what tells of a whole disk, or of its medium.
func parseMessage(message []byte) (Event, bool) {
	facts := map[string]string{}
	for i, field := range bytes.Split(message, []byte{0}) {
		if name, value, ok := strings.Cut(string(field), "="); ok && i > 0 {
			facts[name] = printable(value)
		}
	}
	if facts["SUBSYSTEM"] != "block" || !slices.Contains([]string{"disk", "partition"}, facts["DEVTYPE"]) {
		return Event{}, false
	}
	switch facts["ACTION"] {
	case "add", "change":
		return Event{Kind: EventAdded, Name: facts["DEVNAME"]}, true
	case "remove":
		return Event{Kind: EventRemoved, Name: facts["DEVNAME"]}, true
	}
	return Event{}, false
}
