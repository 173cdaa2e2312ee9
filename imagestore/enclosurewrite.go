package imagestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/zeebo/blake3"

	"lifeboat"
	"lifeboat/imagestore/format"
	"lifeboat/internal/durable"
)

// enclose writes a document. The caller holds enclosing.
func (s *Store) enclose(ctx context.Context, name, note string, r io.Reader) (format.Enclosure, error) {
	none := format.Enclosure{}
	if err := s.writer.err(); err != nil {
		return none, err
	}
	head := make([]byte, format.MaxEnclosureInline+1)
	n, err := io.ReadFull(r, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return none, err
	}
	records, _, err := s.enclosureRecords(ctx)
	if err != nil {
		return none, err
	}
	e := format.Enclosure{WrittenAt: s.now().UnixNano(), Name: name, Note: note, Sequence: 1}
	copy(e.ID[:], newID16())
	for _, other := range records {
		e.Sequence = max(e.Sequence, other.Sequence+1)
	}
	if n <= format.MaxEnclosureInline {
		e.Size, e.Inline, e.Hash = int64(n), head[:n], blake3.Sum256(head[:n])
		if same := slices.IndexFunc(present(records), func(o format.Enclosure) bool {
			return o.Name == name && o.Note == note && o.Hash == e.Hash
		}); same >= 0 {
			return present(records)[same], nil
		}
	}
	if err := s.prepareEnclosures(); err != nil {
		return none, s.wrote(err)
	}
	if n > format.MaxEnclosureInline {
		if e, err = s.writeParts(ctx, e, io.MultiReader(strings.NewReader(string(head)), r)); err != nil {
			return none, err
		}
	}
	if err := s.roomFor(int64(len(e.Inline))); err != nil {
		return none, errors.Join(err, s.wrote(s.removeParts(e.ID)))
	}
	if err := s.wrote(s.writeSealed(format.KindEnclosure, enclosureName(e.ID), e.Append(nil))); err != nil {
		return none, err
	}
	// What it replaces goes last: a cut leaves both, and the higher sequence counts.
	return e, s.wrote(s.removeEnclosures(records, func(o format.Enclosure) bool { return o.Name == name }))
}

// newID16 is a fresh random id.
func newID16() []byte {
	id := newFileID()
	return id[:16]
}

// roomFor refuses what would fill the drive to its last byte: a write that fails
// ends all writing of this process.
func (s *Store) roomFor(length int64) error {
	free, _, err := s.dir.Space()
	if err != nil {
		return fmt.Errorf("ask for the free space: %w", err)
	}
	if need := 2*length + enclosureSlack; free < need {
		return fmt.Errorf("%w: it needs %d MiB", lifeboat.ErrDriveFull, need>>20)
	}
	return nil
}

// prepareEnclosures makes the folders, and removes what an unfinished write left.
func (s *Store) prepareEnclosures() error {
	for _, folder := range []string{enclosuresFolder, partsFolder} {
		if err := s.dir.Mkdir(folder); err != nil {
			return fmt.Errorf("make the folder of enclosures: %w", err)
		}
	}
	if err := s.dir.SyncDir("."); err != nil {
		return err
	}
	for _, folder := range []string{enclosuresFolder, partsFolder} {
		if err := durable.RemoveTemps(s.dir, folder); err != nil {
			return err
		}
	}
	return s.removeStrayParts()
}

// removeStrayParts removes the parts of documents that never came to be, or that
// were removed.
func (s *Store) removeStrayParts() error {
	parts, err := s.twins(partsFolder)
	if err != nil {
		return err
	}
	records, err := s.twins(enclosuresFolder)
	if err != nil {
		return err
	}
	for _, part := range parts {
		id, _, _ := strings.Cut(part, "-")
		if _, there := slices.BinarySearch(records, id); there {
			continue
		}
		if err := removeTwin(s.dir, partsFolder+"/"+part); err != nil {
			return fmt.Errorf("remove a part without a document: %w", err)
		}
	}
	return nil
}

// writeParts writes a long document and completes what its record says of it.
// Where that does not come to its end the parts are removed, now or by the next
// writer: without a record they are nothing.
func (s *Store) writeParts(ctx context.Context, e format.Enclosure, r io.Reader) (format.Enclosure, error) {
	sum := blake3.New()
	buffer := make([]byte, format.EnclosurePartSize)
	for number := 0; ; number++ {
		n, err := io.ReadFull(r, buffer)
		last := err == io.EOF || err == io.ErrUnexpectedEOF
		if err != nil && !last {
			return e, errors.Join(err, s.wrote(s.removeParts(e.ID)))
		}
		sum.Write(buffer[:n])
		e.Size += int64(n)
		why := ctx.Err()
		if e.Size > EnclosureLimit {
			why = ErrEnclosureTooLong
		}
		if why == nil {
			why = s.roomFor(int64(n))
		}
		if why != nil {
			return e, errors.Join(why, s.wrote(s.removeParts(e.ID)))
		}
		if n > 0 {
			part := format.EnclosurePart{ID: e.ID, Number: uint32(number), Bytes: buffer[:n]}
			if err := s.wrote(s.writeSealed(format.KindPart, partName(e.ID, number), part.Append(nil))); err != nil {
				return e, err
			}
		}
		if last {
			e.Hash = format.ID(sum.Sum(nil))
			return e, nil
		}
	}
}

// removeEnclosures removes the records that a choice takes, then their parts.
func (s *Store) removeEnclosures(records []format.Enclosure, chosen func(format.Enclosure) bool) error {
	for _, e := range records {
		if !chosen(e) {
			continue
		}
		if err := removeTwin(s.dir, enclosureName(e.ID)); err != nil {
			return fmt.Errorf("remove a document: %w", err)
		}
		if e.Parts() > 0 {
			if err := s.removeParts(e.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeParts removes all parts of one document.
func (s *Store) removeParts(id format.ShortID) error {
	parts, err := s.twins(partsFolder)
	if err != nil {
		return err
	}
	for _, part := range parts {
		if !strings.HasPrefix(part, id.String()+"-") {
			continue
		}
		if err := removeTwin(s.dir, partsFolder+"/"+part); err != nil {
			return fmt.Errorf("remove a part of a document: %w", err)
		}
	}
	return nil
}
