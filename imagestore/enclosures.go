package imagestore

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/zeebo/blake3"

	"lifeboat"
	"lifeboat/imagestore/format"
)

const (
	enclosuresFolder = "enclosures"
	partsFolder      = "parts"
	// enclosureSlack is kept free beside an enclosure: the folders grow as well.
	enclosureSlack = 1 << 20
)

// EnclosureLimit is how long a document may be.
const EnclosureLimit = format.MaxEnclosure

var (
	// ErrNoEnclosure: the drive has no enclosure of that name.
	ErrNoEnclosure = errors.New("there is no such document on the drive")
	// ErrEnclosureTooLong: the document is longer than [EnclosureLimit].
	ErrEnclosureTooLong = fmt.Errorf("a document of more than %d MiB is not taken", EnclosureLimit>>20)
)

// Enclosure is a document that lies sealed on the drive beside its points: what
// somebody needs beside the machines. It comes from the drive: names and notes
// are whatever somebody wrote there.
type Enclosure struct {
	Name      string    `json:"name"`
	Note      string    `json:"note,omitempty"`
	SizeBytes int64     `json:"sizeBytes"`
	WrittenAt time.Time `json:"writtenAt"`
	// Hash is BLAKE3 of the document, as 64 hex digits.
	Hash string `json:"hash"`
}

// NewEnclosureHash computes what Enclosure.Hash is of bytes that are on no drive
// yet.
func NewEnclosureHash() hash.Hash { return blake3.New() }

func enclosureOf(e format.Enclosure) Enclosure {
	return Enclosure{Name: e.Name, Note: e.Note, SizeBytes: e.Size, WrittenAt: time.Unix(0, e.WrittenAt).UTC(), Hash: hex.EncodeToString(e.Hash[:])}
}

// Enclosures lists the documents on the drive by name. A record that cannot be
// read is a Fault and never hides the others.
func (s *Store) Enclosures(ctx context.Context) ([]Enclosure, []Fault, error) {
	if err := s.begin(); err != nil {
		return nil, nil, err
	}
	defer s.end()
	records, faults, err := s.enclosureRecords(ctx)
	if err != nil {
		return nil, faults, s.explain(err)
	}
	all := []Enclosure{}
	for _, e := range present(records) {
		all = append(all, enclosureOf(e))
	}
	return all, faults, nil
}

// ReadEnclosure writes a document to w and says what it is. It goes through a
// small buffer, however long it is. What was written counts only when the error
// is nil: bytes that are not those of the document end it. One that is not there
// is [ErrNoEnclosure].
func (s *Store) ReadEnclosure(ctx context.Context, name string, w io.Writer) (Enclosure, error) {
	if err := s.begin(); err != nil {
		return Enclosure{}, err
	}
	defer s.end()
	records, faults, err := s.enclosureRecords(ctx)
	if err != nil {
		return Enclosure{}, s.explain(err)
	}
	for _, e := range present(records) {
		if e.Name != name {
			continue
		}
		if err := s.writeOut(ctx, e, w); err != nil {
			return enclosureOf(e), s.readProblem(name, err)
		}
		return enclosureOf(e), nil
	}
	if len(faults) > 0 {
		return Enclosure{}, s.readProblem(name, fmt.Errorf("%w: it is not listed, and %s cannot be read: %s", format.ErrCorrupt, faults[0].File, faults[0].Why))
	}
	return Enclosure{}, fmt.Errorf("%w: %q", ErrNoEnclosure, name)
}

// readProblem says of a document that is damaged what is safe.
func (s *Store) readProblem(name string, err error) error {
	if !errors.Is(err, format.ErrCorrupt) {
		return s.explain(fmt.Errorf("read %q from the drive: %w", name, err))
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s: the document %q cannot be read: %v", s.label(), name, err),
		Safe: "no restore point is concerned; the site's other drives have documents of their own",
		Next: "read it from another drive; then heal this one with: lifeboat repair " + s.nameOnSticker(),
		Err:  fmt.Errorf("%w: %w", lifeboat.ErrDamaged, err),
	}
}

// Enclose stores a document under a name in place of one that has it. With nil
// it is there after a power cut; on error, or after a cut, the one that was there
// is, or the new one, whole. A document that is there already, with the same
// note, is not written again. It is read from r once, in bounded memory. The
// store must be open for writing.
//
// Errors wrap [ErrEnclosureTooLong] or lifeboat.ErrDriveFull, and leave the
// drive as it was.
func (s *Store) Enclose(ctx context.Context, name, note string, r io.Reader) (Enclosure, error) {
	if err := s.writable(); err != nil {
		return Enclosure{}, err
	}
	if err := checkEnclosureName(name, note); err != nil {
		return Enclosure{}, err
	}
	if err := s.begin(); err != nil {
		return Enclosure{}, err
	}
	defer s.end()
	s.enclosing.Lock()
	defer s.enclosing.Unlock()
	e, err := s.enclose(ctx, name, note, r)
	if err != nil {
		return Enclosure{}, s.explain(fmt.Errorf("store %q on the drive: %w", name, err))
	}
	return enclosureOf(e), nil
}

// RemoveEnclosure removes a document for good. One that is not there is
// [ErrNoEnclosure].
func (s *Store) RemoveEnclosure(ctx context.Context, name string) error {
	if err := s.writable(); err != nil {
		return err
	}
	if err := s.begin(); err != nil {
		return err
	}
	defer s.end()
	s.enclosing.Lock()
	defer s.enclosing.Unlock()
	records, _, err := s.enclosureRecords(ctx)
	if err != nil {
		return s.explain(err)
	}
	if !slices.ContainsFunc(records, func(e format.Enclosure) bool { return e.Name == name }) {
		return fmt.Errorf("%w: %q", ErrNoEnclosure, name)
	}
	return s.wrote(s.removeEnclosures(records, func(e format.Enclosure) bool { return e.Name == name }))
}

// checkEnclosureName refuses names that would not come back as they were given.
func checkEnclosureName(name, note string) error {
	switch {
	case name == "" || len(name) > format.MaxEnclosureName || !utf8.ValidString(name):
		return fmt.Errorf("a document's name has 1 to %d bytes of UTF-8", format.MaxEnclosureName)
	case len(note) > format.MaxEnclosureNote || !utf8.ValidString(note):
		return fmt.Errorf("a document's note has at most %d bytes of UTF-8", format.MaxEnclosureNote)
	}
	return nil
}

func enclosureName(id format.ShortID) string { return enclosuresFolder + "/" + id.String() }

func partName(id format.ShortID, number int) string {
	return fmt.Sprintf("%s/%s-%04x", partsFolder, id, number)
}

// present drops what a newer enclosure of the same name replaces, and sorts the
// rest by name.
func present(records []format.Enclosure) []format.Enclosure {
	sorted := slices.SortedFunc(slices.Values(records), func(a, b format.Enclosure) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(b.Sequence, a.Sequence))
	})
	return slices.CompactFunc(sorted, func(a, b format.Enclosure) bool { return a.Name == b.Name })
}

// enclosureRecords reads every record there is, replaced ones as well.
func (s *Store) enclosureRecords(ctx context.Context) (records []format.Enclosure, faults []Fault, err error) {
	names, err := s.twins(enclosuresFolder)
	if err != nil {
		return nil, nil, err
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		e, err := s.readEnclosed(name)
		switch {
		case err == nil:
			records = append(records, e)
		case isGone(err):
			return nil, nil, err
		case errors.Is(err, fs.ErrNotExist): // a writer replaced it meanwhile
		default:
			faults = append(faults, Fault{File: enclosuresFolder + "/" + name, Lost: true, Why: err.Error()})
		}
	}
	return records, faults, nil
}

// twins lists the twin files of a folder that may not be there.
func (s *Store) twins(folder string) ([]string, error) {
	names, err := listTwins(s.dir, folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list %s: %w", folder, err)
	}
	return names, nil
}

func (s *Store) readEnclosed(name string) (e format.Enclosure, err error) {
	_, err = readTwin(s.dir, enclosuresFolder+"/"+name, format.MaxSmallFile, func(b []byte) error {
		_, body, err := format.OpenSmall(b, s.driveID, format.KindEnclosure, s.masters)
		if err == nil {
			e, err = format.DecodeEnclosure(body)
		}
		if err == nil && e.ID.String() != name {
			err = fmt.Errorf("%w: it is another enclosure", format.ErrCorrupt)
		}
		return err
	})
	return e, err
}

// readPart gives the bytes of one part of a long document.
func (s *Store) readPart(e format.Enclosure, number int) (data []byte, err error) {
	_, err = readTwin(s.dir, partName(e.ID, number), format.MaxSmallFile, func(b []byte) error {
		_, body, err := format.OpenSmall(b, s.driveID, format.KindPart, s.masters)
		if err != nil {
			return err
		}
		part, err := format.DecodeEnclosurePart(body)
		if err == nil && (part.ID != e.ID || int(part.Number) != number || len(part.Bytes) != e.PartLength(number)) {
			err = fmt.Errorf("%w: it is another part", format.ErrCorrupt)
		}
		data = part.Bytes
		return err
	})
	return data, err
}

// writeOut gives the bytes of a document.
func (s *Store) writeOut(ctx context.Context, e format.Enclosure, w io.Writer) error {
	sum := blake3.New()
	give := func(b []byte) error {
		sum.Write(b)
		_, err := w.Write(b)
		return err
	}
	if e.Parts() == 0 {
		if err := give(e.Inline); err != nil {
			return err
		}
	}
	for number := range e.Parts() {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := s.readPart(e, number)
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: %w", format.ErrCorrupt, err)
		}
		if err != nil {
			return err
		}
		if err := give(b); err != nil {
			return err
		}
	}
	if format.ID(sum.Sum(nil)) != e.Hash {
		return fmt.Errorf("%w: its bytes are not those that were stored", format.ErrCorrupt)
	}
	return nil
}
