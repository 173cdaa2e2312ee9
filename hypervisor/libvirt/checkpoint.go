//go:build libvirt_dlopen && cgo

package libvirt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	lv "libvirt.org/go/libvirt"
)

// checkpointNote is the name of the note that keeps the XML of a machine's
// checkpoints: a JSON object from name to XML. libvirt loses them when a domain
// is undefined and defined again, and when a host is installed anew.
const checkpointNote = "libvirt-checkpoints"

// noteBytesMost bounds a note that is read back: eight drives' checkpoints with
// some dozens of disks are a few kilobytes.
const noteBytesMost = 1 << 20

// settleCheckpoints brings back what libvirt lost, finds out what is sound,
// removes what nobody needs, and returns what is left. Known are checkpoints that
// tokens name, for a host whose notes are lost too.
func (s *still) settleCheckpoints(ctx context.Context, known map[string]string) ([]checkpoint, error) {
	d := s.domain
	listed, err := d.checkpoints(ctx)
	if err != nil {
		return nil, err
	}
	s.noted = d.readNote(ctx)
	lost := s.inImages(ctx)
	maps.Copy(lost, known)
	maps.Copy(lost, s.noted)
	maps.DeleteFunc(lost, func(name, _ string) bool { _, there := listed[name]; return there })
	for name, text := range lost {
		// What cannot come back has no disk to come back to.
		if d.redefine(ctx, text, 0) == nil {
			listed[name] = text
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	var have []checkpoint
	for name, text := range listed {
		c, err := parseCheckpoint(text)
		if err != nil {
			return nil, err
		}
		_, c.Lost = lost[name]
		err = d.redefine(ctx, text, lv.DOMAIN_CHECKPOINT_CREATE_REDEFINE_VALIDATE)
		c.Sound, c.Unsaid = err == nil, err != nil && !saysUnsound(err)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		have = append(have, c)
		s.noted[name] = text
	}
	maps.DeleteFunc(s.noted, func(name, _ string) bool { _, there := listed[name]; return !there })
	if err := s.removeCheckpoints(ctx, surplus(have, s.options.DriveID, slices.Collect(maps.Keys(known)))); err != nil {
		return nil, err
	}
	s.domain.keepNote(ctx, s.noted)
	return have, nil
}

// removeCheckpoints removes checkpoints and what is noted of them.
func (s *still) removeCheckpoints(ctx context.Context, names []string) error {
	if len(names) == 0 {
		return nil
	}
	var problems error
	for _, name := range names {
		if err := s.domain.removeCheckpoint(ctx, name); err != nil {
			problems = errors.Join(problems, err)
			continue
		}
		delete(s.noted, name)
	}
	s.domain.keepNote(ctx, s.noted)
	return problems
}

// checkpoints returns the XML of our checkpoints on a domain by their names.
func (d *domain) checkpoints(ctx context.Context) (map[string]string, error) {
	return onDomain(ctx, d, "list the checkpoints", func(dom *lv.Domain) (map[string]string, error) {
		list, err := dom.ListAllCheckpoints(0)
		if err != nil {
			return nil, err
		}
		found := map[string]string{}
		for i := range list {
			name, nameErr := list[i].GetName()
			if _, _, ours := splitCheckpointName(name); nameErr == nil && ours {
				text, xmlErr := list[i].GetXMLDesc(lv.DOMAIN_CHECKPOINT_XML_NO_DOMAIN)
				// One that went meanwhile is not there any more.
				if xmlErr == nil {
					found[name], nameErr = withoutParent(text)
				} else if !isCode(xmlErr, lv.ERR_NO_DOMAIN_CHECKPOINT) {
					nameErr = xmlErr
				}
			}
			_ = list[i].Free()
			err = errors.Join(err, nameErr)
		}
		return found, err
	})
}

// redefine tells libvirt of a checkpoint that it may have lost; with the flag
// that validates it fails unless its bitmaps are there and in order, which only
// a machine that runs can say.
func (d *domain) redefine(ctx context.Context, text string, flags lv.DomainCheckpointCreateFlags) error {
	return d.do(ctx, "tell libvirt of a checkpoint", func(dom *lv.Domain) error {
		c, err := dom.CreateCheckpointXML(text, lv.DOMAIN_CHECKPOINT_CREATE_REDEFINE|flags)
		if err == nil {
			_ = c.Free()
		}
		return err
	})
}

// saysUnsound says of an error of validation that it is about the bitmaps: one is
// missing or broken, or its disk is gone or has no place for one. Any other says
// something of libvirt at that moment, and nothing of them.
func saysUnsound(err error) bool {
	return isCode(err, lv.ERR_CHECKPOINT_INCONSISTENT, lv.ERR_CONFIG_UNSUPPORTED)
}

// removeCheckpoint removes a checkpoint with its bitmaps; where a bitmap is gone,
// the others and what libvirt knows. One that is not there is left alone.
func (d *domain) removeCheckpoint(ctx context.Context, name string) error {
	active, err := d.active(ctx)
	if err != nil {
		return err
	}
	if !active {
		return d.removeFromImages(ctx, name)
	}
	return d.do(ctx, "remove the checkpoint "+name, func(dom *lv.Domain) error {
		err := deleteCheckpoint(dom, name, 0)
		if !isCode(err, lv.ERR_INTERNAL_ERROR, lv.ERR_CHECKPOINT_INCONSISTENT) {
			return err
		}
		if err := deleteCheckpoint(dom, name, lv.DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY); err != nil {
			return err
		}
		return deleteByDisk(dom, name)
	})
}

// forgetCheckpoint makes libvirt forget a checkpoint whose bitmaps are gone.
func (d *domain) forgetCheckpoint(ctx context.Context, name string) error {
	return d.do(ctx, "forget the checkpoint "+name, func(dom *lv.Domain) error {
		return deleteCheckpoint(dom, name, lv.DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY)
	})
}

func deleteCheckpoint(dom *lv.Domain, name string, flags lv.DomainCheckpointDeleteFlags) error {
	c, err := dom.CheckpointLookupByName(name, 0)
	if isCode(err, lv.ERR_NO_DOMAIN_CHECKPOINT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer c.Free()
	return c.Delete(flags)
}

// deleteByDisk removes the bitmaps that are left of a checkpoint that libvirt
// cannot remove: it removes all or none, so it is told of them one by one, and on
// every disk, because the image may stand behind another target than it did.
func deleteByDisk(dom *lv.Domain, name string) error {
	text, err := dom.GetXMLDesc(0)
	if err != nil {
		return err
	}
	doc, err := parseDomain(text)
	if err != nil {
		return err
	}
	for i := range doc.Devices.Disks {
		target := targetName(&doc.Devices.Disks[i])
		one, err := checkpointXML(name, []string{target}, map[string]bool{target: true})
		if err != nil {
			return err
		}
		redefined, err := dom.CreateCheckpointXML(one, lv.DOMAIN_CHECKPOINT_CREATE_REDEFINE)
		if err != nil {
			continue // a disk that has no place for a bitmap
		}
		if err = redefined.Delete(0); err != nil {
			err = redefined.Delete(lv.DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY)
		}
		_ = redefined.Free()
		if err != nil {
			return err
		}
	}
	return nil
}

// readNote returns the checkpoints that are noted. A note that is lost or not in
// order costs a full read where libvirt lost its checkpoints too.
func (d *domain) readNote(ctx context.Context) map[string]string {
	noted := map[string]string{}
	if d.h.o.Notes == nil {
		return noted
	}
	data, err := d.h.o.Notes.Note(ctx, d.uuid, checkpointNote)
	if err == nil && len(data) > 0 && len(data) <= noteBytesMost {
		err = json.Unmarshal(data, &noted)
	}
	if err != nil {
		d.h.note(d.name, "what was noted of its change tracking cannot be read: "+err.Error())
		return map[string]string{}
	}
	maps.DeleteFunc(noted, func(name, text string) bool {
		c, err := parseCheckpoint(text)
		_, _, ours := splitCheckpointName(name)
		return err != nil || !ours || c.Name != name
	})
	return noted
}

// keepNote keeps what is known of the checkpoints. A note that cannot be kept is
// worth no export: without it a full read is due where libvirt loses them too.
func (d *domain) keepNote(ctx context.Context, noted map[string]string) {
	if err := d.writeNote(ctx, noted); err != nil {
		d.h.note(d.name, "its change tracking goes on and is not noted, so it may be lost with libvirt's own record: "+err.Error())
	}
}

// writeNote writes the note.
func (d *domain) writeNote(ctx context.Context, noted map[string]string) error {
	if d.h.o.Notes == nil {
		return nil
	}
	var data []byte
	if len(noted) > 0 {
		var err error
		if data, err = json.Marshal(noted); err != nil {
			return err
		}
	}
	if err := d.h.o.Notes.SetNote(ctx, d.uuid, checkpointNote, data); err != nil {
		return fmt.Errorf("note the checkpoints of %s: %w", d.name, err)
	}
	return nil
}

// inImages returns our checkpoints that the images themselves have bitmaps of, as
// XML: an image that somebody put back may hold some that nobody knows of. Only
// files of this computer are asked, and one that does not answer has none to tell.
func (s *still) inImages(ctx context.Context) map[string]string {
	found := map[string]map[string]bool{}
	for _, source := range s.sources {
		if source.format != "qcow2" || source.path == "" || !s.domain.h.local() {
			continue
		}
		chain, err := imageChain(ctx, source.path, source.format)
		if err != nil {
			continue
		}
		for _, b := range chain[0].Specific.Data.Bitmaps {
			if _, _, ours := splitCheckpointName(b.Name); ours {
				if found[b.Name] == nil {
					found[b.Name] = map[string]bool{}
				}
				found[b.Name][source.target] = true
			}
		}
	}
	texts := map[string]string{}
	for name, targets := range found {
		if text, err := checkpointXML(name, s.diskTargets(), targets); err == nil {
			texts[name] = text
		}
	}
	return texts
}

// wanted returns the checkpoints that the tokens of the drive's newest point
// name, as XML.
func (s *still) wanted() (map[string]string, error) {
	tracked := map[string]map[string]bool{}
	for _, source := range s.sources {
		if name, _, ok := parseToken(s.options.Since[source.key], s.domain.uuid); ok {
			if tracked[name] == nil {
				tracked[name] = map[string]bool{}
			}
			tracked[name][source.target] = true
		}
	}
	known := map[string]string{}
	for name, targets := range tracked {
		text, err := checkpointXML(name, s.diskTargets(), targets)
		if err != nil {
			return nil, err
		}
		known[name] = text
	}
	return known, nil
}
