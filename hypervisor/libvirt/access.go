package libvirt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	"libvirt.org/go/libvirtxml"
)

// QEMU runs as a user of its own under libvirt. A disk server's socket stands in
// a folder of Lifeboat's that nobody else may enter, and libvirt gives its QEMU
// the images that a machine has, but no sockets. So that one user is let through
// the folder, by an access control list: "may pass", not "may list".

// qemuUser is the user that libvirt starts QEMU as, from the host's capabilities.
func qemuUser(caps libvirtxml.Caps) (uid uint32, err error) {
	for _, model := range caps.Host.SecModel {
		if model.Name != "dac" {
			continue
		}
		for _, label := range model.Labels {
			user, _, _ := strings.Cut(label.Value, ":")
			n, err := strconv.ParseUint(strings.TrimPrefix(user, "+"), 10, 32)
			if err != nil {
				return 0, fmt.Errorf("libvirt's user for QEMU is %q, which is no number", label.Value)
			}
			return uint32(n), nil
		}
	}
	// Without this model QEMU runs as libvirtd does.
	return 0, nil
}

// letThrough lets a user pass a folder and those above it. Folders of others stay
// as they are.
func letThrough(dir string, uid uint32) error {
	if uid == 0 {
		return nil // root passes everywhere
	}
	for dir = filepath.Clean(dir); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		owner, ok := info.Sys().(*syscall.Stat_t)
		if ok && info.Mode().Perm()&0o001 == 0 && owner.Uid != uid {
			if err := grantPass(dir, info.Mode().Perm(), uid); err != nil {
				return fmt.Errorf("let QEMU's user through %s: %w", dir, err)
			}
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

const accessList = "system.posix_acl_access"

func grantPass(dir string, mode fs.FileMode, uid uint32) error {
	buf := make([]byte, 4096)
	n, err := unix.Getxattr(dir, accessList, buf)
	entries := entriesOf(mode)
	switch {
	case errors.Is(err, unix.ENODATA):
	case err != nil:
		return err
	default:
		if entries, err = parseAccess(buf[:n]); err != nil {
			return err
		}
	}
	granted := mayPass(entries, uid)
	if slices.Equal(granted, entries) {
		return nil
	}
	return unix.Setxattr(dir, accessList, encodeAccess(granted), 0)
}

// accessEntry is one entry of an access control list as Linux keeps it
// (include/uapi/linux/posix_acl_xattr.h).
type accessEntry struct {
	tag, perm uint16
	id        uint32
}

const (
	accessVersion = 2

	tagOwner = 0x01
	tagUser  = 0x02
	tagGroup = 0x04
	tagMask  = 0x10
	tagOther = 0x20

	permPass = 1
	noID     = ^uint32(0)
)

// entriesOf is the list that a mode stands for.
func entriesOf(mode fs.FileMode) []accessEntry {
	return []accessEntry{
		{tagOwner, uint16(mode >> 6 & 7), noID}, {tagGroup, uint16(mode >> 3 & 7), noID}, {tagOther, uint16(mode & 7), noID},
	}
}

func parseAccess(b []byte) ([]accessEntry, error) {
	if len(b) < 4 || (len(b)-4)%8 != 0 || binary.LittleEndian.Uint32(b) != accessVersion {
		return nil, errors.New("its access control list is of an unknown form")
	}
	var entries []accessEntry
	for b = b[4:]; len(b) > 0; b = b[8:] {
		entries = append(entries, accessEntry{binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:]), binary.LittleEndian.Uint32(b[4:])})
	}
	return entries, nil
}

func encodeAccess(entries []accessEntry) []byte {
	b := binary.LittleEndian.AppendUint32(nil, accessVersion)
	for _, e := range entries {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return b
}

// mayPass adds to a list that a user may pass, and takes nothing from anybody.
func mayPass(entries []accessEntry, uid uint32) []accessEntry {
	all := slices.Clone(entries)
	user := slices.IndexFunc(all, func(e accessEntry) bool { return e.tag == tagUser && e.id == uid })
	if user >= 0 {
		all[user].perm |= permPass
	} else {
		all = append(all, accessEntry{tagUser, permPass, uid})
	}
	// The mask bounds all but owner and others. Without one, the group's
	// permissions are what it has to leave.
	mask := slices.IndexFunc(all, func(e accessEntry) bool { return e.tag == tagMask })
	if mask >= 0 {
		all[mask].perm |= permPass
	} else {
		group := slices.IndexFunc(all, func(e accessEntry) bool { return e.tag == tagGroup })
		perm := uint16(permPass)
		if group >= 0 {
			perm |= all[group].perm
		}
		all = append(all, accessEntry{tagMask, perm, noID})
	}
	slices.SortFunc(all, func(a, b accessEntry) int {
		if a.tag != b.tag {
			return int(a.tag) - int(b.tag)
		}
		if a.id < b.id {
			return -1
		}
		return 1
	})
	return all
}
