//go:build libvirt_dlopen && cgo

package libvirt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	lv "libvirt.org/go/libvirt"
)

// beginTracking begins a checkpoint on every disk that can have one. Each disk
// has its own, because libvirt calls the bitmaps of one checkpoint the same on
// all disks (it refuses any other name), and then nobody could tell two images
// apart that were exchanged.
//
// They begin a moment before the instant. So they hold what was written in
// between, which the point has as well: the next export reads a little more than
// it has to, and nothing less.
func (s *still) beginTracking(ctx context.Context) error {
	return s.eachFresh(ctx, func(sd *stillDisk, text string) error {
		return s.domain.do(ctx, "begin the checkpoint "+sd.fresh, func(dom *lv.Domain) error {
			c, err := dom.CreateCheckpointXML(text, 0)
			if err == nil {
				_ = c.Free()
			}
			return err
		})
	})
}

// beginTrackingOff does so in the images of a machine that is off. libvirt is told
// first: a checkpoint without its bitmap is found and removed, a bitmap that
// nobody knows of would record for ever.
func (s *still) beginTrackingOff(ctx context.Context) error {
	for _, disk := range s.wantedDisks() {
		if sd := s.disks[disk.Key]; s.options.DriveID != "" && s.untracked == "" && s.source(disk.Key).format == "qcow2" {
			sd.fresh = newCheckpointName(s.options.DriveID, time.Now())
			s.fresh = append(s.fresh, sd.fresh)
		}
	}
	return s.eachFresh(ctx, func(sd *stillDisk, text string) error {
		if err := s.domain.redefine(ctx, text, 0); err != nil {
			return err
		}
		_, err := runImage(ctx, "bitmap", "-f", "qcow2", "--add", s.source(sd.key).path, sd.fresh)
		return err
	})
}

// eachFresh begins the new checkpoints, and notes them. A disk on which none can
// be begun is read whole the next time; what is left of it goes with the still.
func (s *still) eachFresh(ctx context.Context, begin func(sd *stillDisk, text string) error) error {
	begun := false
	for _, sd := range s.disks {
		if sd.fresh == "" {
			continue
		}
		text, err := checkpointXML(sd.fresh, s.diskTargets(), map[string]bool{s.source(sd.key).target: true})
		if err != nil {
			return err
		}
		if err := begin(sd, text); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			s.domain.h.note(s.domain.name, fmt.Sprintf("disk %s does not track changes, the next export reads all of it: %v", sd.key, err))
			sd.fresh = ""
			continue
		}
		begun = true
		s.noted[sd.fresh] = text
	}
	if begun {
		s.domain.keepNote(ctx, s.noted)
	}
	return nil
}

// removeFromImages removes a checkpoint of a machine that is off: its bitmaps from
// the images, and what libvirt knows of it. On another computer it stays, because
// its bitmaps would: the next export while the machine runs removes it.
func (d *domain) removeFromImages(ctx context.Context, name string) error {
	if !d.h.local() {
		return nil
	}
	seen, err := d.look(ctx)
	if err != nil {
		return err
	}
	var problems error
	for _, source := range seen.disks {
		if source.format != "qcow2" || source.path == "" {
			continue
		}
		chain, err := imageChain(ctx, source.path, source.format)
		if _, statErr := os.Stat(source.path); errors.Is(statErr, fs.ErrNotExist) {
			continue // its bitmaps went with it
		}
		if err != nil {
			problems = errors.Join(problems, fmt.Errorf("look at disk %s: %w", source.key, err))
			continue
		}
		if there, _ := chain[0].bitmap(name); !there {
			continue
		}
		if _, err := runImage(ctx, "bitmap", "-f", "qcow2", "--remove", source.path, name); err != nil {
			problems = errors.Join(problems, fmt.Errorf("remove change tracking from disk %s: %w", source.key, err))
		}
	}
	if problems != nil {
		return problems
	}
	return d.forgetCheckpoint(ctx, name)
}
