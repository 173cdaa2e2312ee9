package libvirt

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"libvirt.org/go/libvirtxml"
)

// bitmapExport is what the exports call the bitmap with the changes.
const bitmapExport = "changes"

// exportDisk is one disk of a backup job.
type exportDisk struct {
	// key is what Lifeboat calls it, and the export; target what libvirt does.
	key, target string
	// base is the checkpoint that changes are counted from, or empty.
	base string
}

// backupXML is the job that holds the given disks still and gives them out on a
// socket. All other disks of the domain are left out of it. Each disk names its
// own base: the job's own <incremental> would be for all, raw ones too.
func backupXML(folder string, all []string, disks []exportDisk) (string, error) {
	pull := &libvirtxml.DomainBackupPull{
		Server: &libvirtxml.DomainBackupPullServer{UNIX: &libvirtxml.DomainBackupPullServerUNIX{Socket: path.Join(folder, socketName)}},
		Disks:  &libvirtxml.DomainBackupPullDisks{},
	}
	chosen := map[string]exportDisk{}
	for _, d := range disks {
		chosen[d.target] = d
	}
	for _, target := range all {
		d, ok := chosen[target]
		if !ok {
			pull.Disks.Disks = append(pull.Disks.Disks, libvirtxml.DomainBackupPullDisk{Name: target, Backup: "no"})
			continue
		}
		disk := libvirtxml.DomainBackupPullDisk{
			Name: target, Backup: "yes", BackupMode: "full", ExportName: d.key,
			Driver: &libvirtxml.DomainBackupDiskDriver{Type: "qcow2"},
			Scratch: &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{
				File: path.Join(folder, target+scratchSuffix)}},
		}
		if d.base != "" {
			disk.BackupMode, disk.Incremental, disk.ExportBitmap = "incremental", d.base, bitmapExport
		}
		pull.Disks.Disks = append(pull.Disks.Disks, disk)
	}
	return (&libvirtxml.DomainBackup{Pull: pull}).Marshal()
}

// checkpointXML is a checkpoint with a bitmap on each tracked disk, for a domain
// with the given disks, all by libvirt's names; "" if none is tracked.
func checkpointXML(name string, all []string, tracked map[string]bool) (string, error) {
	c := &libvirtxml.DomainCheckpoint{Name: name, Disks: &libvirtxml.DomainCheckpointDisks{}}
	// libvirt takes back none without it, and does not look at it otherwise.
	if _, made, ok := splitCheckpointName(name); ok {
		seconds, err := strconv.ParseInt(made, 16, 64)
		if err != nil {
			return "", fmt.Errorf("checkpoint %s has no time", name)
		}
		c.CreationTime = strconv.FormatInt(seconds, 10)
	}
	some := false
	for _, target := range all {
		disk := libvirtxml.DomainCheckpointDisk{Name: target, Checkpoint: "no"}
		if tracked[target] {
			some = true
			disk.Checkpoint, disk.Bitmap = "bitmap", name
		}
		c.Disks.Disks = append(c.Disks.Disks, disk)
	}
	if !some {
		return "", nil
	}
	return c.Marshal()
}

// parseCheckpoint reads a checkpoint as libvirt describes it. Unsound until
// somebody has asked.
func parseCheckpoint(text string) (checkpoint, error) {
	var c libvirtxml.DomainCheckpoint
	if err := c.Unmarshal(text); err != nil {
		return checkpoint{}, fmt.Errorf("read a checkpoint: %w", err)
	}
	found := checkpoint{Name: c.Name}
	if c.Disks != nil {
		for _, d := range c.Disks.Disks {
			if d.Checkpoint == "bitmap" {
				found.Disks = append(found.Disks, d.Name)
			}
		}
	}
	return found, nil
}

// withoutParent is a checkpoint's XML as libvirt takes it back when it has lost
// it: no parent, which it may have lost as well and which means nothing.
func withoutParent(text string) (string, error) {
	var c libvirtxml.DomainCheckpoint
	if err := c.Unmarshal(text); err != nil {
		return "", fmt.Errorf("read a checkpoint: %w", err)
	}
	c.Parent, c.Domain = nil, nil
	return c.Marshal()
}

// jobSocket is the socket on which a backup job gives out the disks, or "" for
// a job of another kind.
func jobSocket(text string) string {
	var job libvirtxml.DomainBackup
	if job.Unmarshal(text) != nil || job.Pull == nil || job.Pull.Server == nil || job.Pull.Server.UNIX == nil {
		return ""
	}
	return job.Pull.Server.UNIX.Socket
}

// What an export puts on the host: a folder per machine, and in it a socket and
// a scratch file per disk.
const (
	folderPrefix  = "lifeboat-"
	socketName    = "nbd"
	scratchSuffix = ".scratch"
)

// folderName is the export's folder of a domain, and names the computer that
// exports it: only that one can know whether the export lives. It is short: the
// path of a socket has 107 bytes at most.
func folderName(uuid, computer string) string {
	return folderPrefix + strings.ReplaceAll(uuid, "-", "") + "-" + computer
}

// parseFolder says whose export has this socket.
func parseFolder(socket, uuid string) (computer string, ours bool) {
	folder := path.Base(path.Dir(socket))
	computer, ours = strings.CutPrefix(folder, folderName(uuid, ""))
	return computer, ours && path.Base(socket) == socketName && computer != ""
}
