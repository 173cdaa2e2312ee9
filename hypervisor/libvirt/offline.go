//go:build libvirt_dlopen && cgo

package libvirt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"time"

	"lifeboat"
	"lifeboat/hypervisor"
)

// holdOff holds the disks of a machine that is off. qemu-storage-daemon, a child
// of the guard, gives its images out read-only; QEMU's locks on them keep the
// machine from being started meanwhile, by whomever.
//
// libvirt makes no checkpoint of a machine that is off. But the moment needs a
// name of its own: an image may be put back that has the bitmap of the drive's
// last point and nothing of this one. So the bitmap is begun in the image, and
// libvirt is told of it as of a checkpoint that it had lost.
func (s *still) holdOff(ctx context.Context) error {
	if !s.domain.h.local() {
		return &lifeboat.Problem{
			What: s.domain.name + " is off, and its host is another computer",
			Safe: "nothing was done",
			Next: "start it for the export, or run Lifeboat on that host: images of a machine that is off are read there",
			Err:  hypervisor.ErrUnsupported,
		}
	}
	s.off = true
	s.consistency, s.takenAt = lifeboat.ConsistentOff, time.Now().UTC()
	chains, err := s.lookAtImages(ctx)
	if err != nil {
		return err
	}
	if err := s.settleImages(ctx, chains); err != nil {
		return err
	}
	if err := s.beginTrackingOff(ctx); err != nil {
		return err
	}
	if s.folder, err = s.domain.exportFolder(ctx); err != nil {
		return err
	}
	if err := s.folder.make(ctx, owner{}, false); err != nil {
		return err
	}
	server, err := tool("qemu-storage-daemon")
	if err != nil {
		return err
	}
	socket := path.Join(s.folder.path, socketName)
	words, err := s.serverWords(socket)
	if err != nil {
		return err
	}
	order := guardOrder{Fresh: s.fresh, Bases: s.bases(), Serve: append([]string{server}, words...), ServeSocket: socket}
	if s.guard, err = s.domain.startGuard(s.lock, order); err != nil {
		return errors.Join(s.whyNotServed(ctx, err), s.folder.remove(ctx))
	}
	return s.dial(ctx, socket, "")
}

// whyNotServed tells a machine that was started just now from images that cannot
// be read.
func (s *still) whyNotServed(ctx context.Context, err error) error {
	if on, activeErr := s.domain.active(ctx); activeErr == nil && on {
		return fmt.Errorf("%w: it was started just now: %w", hypervisor.ErrMachineBusy, err)
	}
	return err
}

// lookAtImages returns the image of every disk to be read with those below it.
func (s *still) lookAtImages(ctx context.Context) (map[string][]imageInfo, error) {
	chains := map[string][]imageInfo{}
	for _, disk := range s.wantedDisks() {
		source := s.source(disk.Key)
		chain, err := imageChain(ctx, source.path, source.format)
		if err != nil {
			return nil, fmt.Errorf("look at disk %s: %w", disk.Key, err)
		}
		chains[disk.Key] = chain
		sd := &stillDisk{still: s, key: disk.Key, size: chain[0].VirtualSize}
		s.disks[disk.Key] = sd
		for i := range s.description.Disks {
			if s.description.Disks[i].Key == disk.Key {
				s.description.Disks[i].SizeBytes = sd.size
			}
		}
	}
	return chains, nil
}

// settleImages chooses the bases, and removes the checkpoints that nobody needs.
func (s *still) settleImages(ctx context.Context, chains map[string][]imageInfo) error {
	d := s.domain
	listed, err := d.checkpoints(ctx)
	if err != nil {
		return err
	}
	s.noted = d.readNote(ctx)
	known, err := s.wanted()
	if err != nil {
		return err
	}
	lost := map[string]bool{}
	all := s.inImages(ctx)
	maps.Copy(all, known)
	for name, text := range all {
		// Lost by libvirt: the image knows its bitmap, and that is what counts.
		if _, there := listed[name]; !there {
			listed[name], lost[name] = text, true
		}
	}
	var have []checkpoint
	for name, text := range listed {
		c, err := parseCheckpoint(text)
		if err != nil {
			return err
		}
		c.Lost = lost[name]
		c.Sound = s.soundIn(c, chains)
		have = append(have, c)
	}
	if s.untracked != "" {
		s.dropCheckpoints(ctx, have)
		for _, sd := range s.disks {
			sd.why = s.untracked
		}
		return nil
	}
	if err := s.removeCheckpoints(ctx, surplus(have, s.options.DriveID, slices.Collect(maps.Keys(known)))); err != nil {
		return s.whyNotServed(ctx, err)
	}
	for key, sd := range s.disks {
		if s.source(key).format != "qcow2" {
			sd.why = whyRaw
			continue
		}
		sd.base, sd.why = base(have, d.uuid, s.source(key).target, s.options.Since[key], sd.size)
		for _, below := range chains[key][1:] {
			// libvirt's snapshots begin the bitmap anew in the upper image.
			if there, _ := below.bitmap(sd.base); there {
				sd.base, sd.why = "", whySnapshot
			}
		}
	}
	s.domain.keepNote(ctx, s.noted)
	return nil
}

// soundIn says that the images hold all bitmaps of a checkpoint, closed cleanly.
// Disks that are not looked at are not asked.
func (s *still) soundIn(c checkpoint, chains map[string][]imageInfo) bool {
	for key, chain := range chains {
		if _, sound := chain[0].bitmap(c.Name); !sound && slices.Contains(c.Disks, s.source(key).target) {
			return false
		}
	}
	return true
}

// serverWords are the arguments of the program that gives out the images. The
// filter lets QEMU keep writers away from raw images too: a reader of one alone
// does not mind them.
func (s *still) serverWords(socket string) ([]string, error) {
	type options = map[string]any
	var words []string
	var problems error
	add := func(word string, o options) {
		text, err := json.Marshal(o)
		problems = errors.Join(problems, err)
		words = append(words, word, string(text))
	}
	// By number: QEMU's names are shorter than keys may be.
	for i, disk := range s.wantedDisks() {
		file, lock, node := fmt.Sprintf("file%d", i), fmt.Sprintf("lock%d", i), fmt.Sprintf("disk%d", i)
		source := s.source(disk.Key)
		driver := "file"
		if info, err := os.Stat(source.path); err == nil && info.Mode()&os.ModeDevice != 0 {
			driver = "host_device"
		}
		add("--blockdev", options{"driver": driver, "node-name": file, "filename": source.path,
			"read-only": true, "cache": options{"direct": canBypassCache(source.path)}})
		add("--blockdev", options{"driver": "blkdebug", "node-name": lock, "image": file,
			"read-only": true, "unshare-child-perms": []string{"write", "resize"}})
		add("--blockdev", options{"driver": source.format, "node-name": node, "file": lock, "read-only": true})
	}
	add("--nbd-server", options{"addr": options{"type": "unix", "path": socket}, "max-connections": 0})
	for i, disk := range s.wantedDisks() {
		export := options{"type": "nbd", "id": fmt.Sprintf("still%d", i), "node-name": fmt.Sprintf("disk%d", i), "name": disk.Key}
		if base := s.disks[disk.Key].base; base != "" {
			export["bitmaps"] = []string{base}
		}
		add("--export", export)
	}
	return words, problems
}
