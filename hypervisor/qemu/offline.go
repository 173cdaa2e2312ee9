package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"lifeboat"
)

// freezeOff holds the disks of a machine that is off. Nothing writes them: the
// machine's lock keeps it from being started, and QEMU's own locks keep
// everybody else away.
func (s *still) freezeOff(ctx context.Context) error {
	m := s.machine
	if err := m.removeScratch(); err != nil {
		return err
	}
	if err := s.describe(ctx); err != nil {
		return err
	}
	s.consistency, s.takenAt = lifeboat.ConsistentOff, time.Now().UTC()
	for _, disk := range s.wanted() {
		if err := s.prepareFile(ctx, disk.Key); err != nil {
			return fmt.Errorf("prepare disk %s: %w", disk.Key, err)
		}
	}
	socket := filepath.Join(m.host.socketDir("machine", m.folder), nbdSocket)
	if err := m.host.makeSocketDir(filepath.Dir(socket)); err != nil {
		return err
	}
	if err := os.RemoveAll(socket); err != nil {
		return err
	}
	server, err := m.host.tool("qemu-storage-daemon")
	if err != nil {
		return err
	}
	if s.guard, err = m.startGuard(s.lock, append([]string{server}, s.serverWords(socket)...), socket); err != nil {
		return err
	}
	return s.dial(ctx, socket)
}

// prepareFile tidies the bitmaps of an image and begins one: as nothing is
// written, its moment is any moment until the machine starts.
func (s *still) prepareFile(ctx context.Context, key string) error {
	m := s.machine
	file := m.def.Disks[key]
	info, err := m.host.imageInfo(ctx, m.path(file.File), file.Format)
	if err != nil {
		return err
	}
	s.setSize(key, info.VirtualSize)
	sd := &stillDisk{still: s, key: key, size: info.VirtualSize}
	s.disks[key] = sd
	if file.Format != "qcow2" {
		sd.why = whyRaw
		return nil
	}
	t := fileTracker{host: m.host, path: m.path(file.File)}
	if err := s.settleTracking(ctx, sd, t); err != nil {
		return err
	}
	if s.options.DriveID == "" {
		return nil
	}
	fresh := newBitmapName(s.options.DriveID, time.Now())
	if err := t.add(ctx, fresh); err != nil {
		if sd.base == "" && sd.why == "" {
			sd.why = "change tracking does not work on this disk: " + err.Error()
		}
		return ctx.Err()
	}
	sd.fresh = fresh
	return nil
}

// serverWords are the arguments of the program that gives out the images,
// read-only.
func (s *still) serverWords(socket string) []string {
	var c cmdline
	for _, disk := range s.wanted() {
		file := s.machine.def.Disks[disk.Key]
		path := s.machine.path(file.File)
		c.add("--blockdev", options{"driver": "file", "node-name": nodeName(nodeFile, disk.Key), "filename": path,
			"read-only": true, "cache": options{"direct": canBypassCache(path)}}.json())
		c.add("--blockdev", options{"driver": file.Format, "node-name": nodeName(nodeDisk, disk.Key),
			"file": nodeName(nodeFile, disk.Key), "read-only": true}.json())
	}
	c.add("--nbd-server", options{"addr": options{"type": "unix", "path": socket}, "max-connections": 0}.json())
	for _, disk := range s.wanted() {
		export := options{"type": "nbd", "id": exportPrefix + disk.Key, "node-name": nodeName(nodeDisk, disk.Key), "name": disk.Key}
		if base := s.disks[disk.Key].base; base != "" {
			export["bitmaps"] = []string{base}
		}
		c.add("--export", export.json())
	}
	return c.words
}

// settleFiles leaves the bitmaps of a machine that is off as they have to be
// after this export.
func (s *still) settleFiles(ctx context.Context) error {
	var problems error
	for _, sd := range s.disks {
		if sd.fresh == "" {
			continue
		}
		t := fileTracker{host: s.machine.host, path: s.machine.path(s.machine.def.Disks[sd.key].File)}
		_, err := settleBase(ctx, t, s.options.DriveID, s.keep(sd))
		problems = errors.Join(problems, err)
	}
	return problems
}
