package imagestore

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/zeebo/blake3"

	"lifeboat"
	"lifeboat/imagestore/format"
)

// commitState is what the newest commit says: the points there are.
type commitState struct {
	head     format.Head
	headHash format.ID
	// points ascend by sequence. They are the head's, and those whose commit
	// was cut off after the point came into being.
	points []format.HeadPoint
}

// sequence is the highest one that was ever used.
func (c *commitState) sequence() uint64 {
	last := c.head.Sequence
	if n := len(c.points); n > 0 {
		last = max(last, c.points[n-1].Sequence)
	}
	return last
}

// next is the sequence of the commit that comes. A drive on which somebody put
// a file with the last number there can be takes no more commits.
func (c *commitState) next() (uint64, error) {
	if c.sequence() >= maxSequence {
		return 0, &lifeboat.Problem{
			What: fmt.Sprintf("a file in the store's points/ claims the last number a commit can have, %016x; no program of ours writes it", c.sequence()),
			Safe: "nothing was changed; every restore point that is listed can be read",
			Next: "find out who had the drive, move that file away, and run the command again; or use another drive",
			Err:  lifeboat.ErrDamaged,
		}
	}
	return c.sequence() + 1, nil
}

// maxSequence is the highest number of a commit. Names with a higher one are no
// names of ours: a stranger's file must not make the count begin anew.
const maxSequence = 1 << 62

// readState reads the newest head and lists the points.
func (s *Store) readState() (*commitState, []Fault, error) {
	state, faults, err := s.readHead()
	if err != nil {
		return nil, nil, err
	}
	names, err := listTwins(s.dir, "points")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("list the restore points: %w", err)
	}
	state.points = append(state.points, state.head.Points...)
	for _, name := range names {
		p, ok := parsePointName(name)
		if ok && p.Sequence > state.head.Sequence {
			state.points = append(state.points, p)
		}
	}
	if state.head.Sequence == 0 && len(state.points) > 0 && len(faults) == 0 && state.points[0].Sequence != 1 {
		faults = append(faults, Fault{File: "heads", Lost: true, Why: "there are restore points, but no commit that lists them"})
	}
	return state, faults, nil
}

// readHead reads the newest head that can be read.
func (s *Store) readHead() (*commitState, []Fault, error) {
	names, err := listTwins(s.dir, "heads")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("list the commits: %w", err)
	}
	var faults []Fault
	for i := len(names) - 1; i >= 0; i-- {
		sequence, ok := parseSequence(names[i])
		if !ok {
			continue
		}
		state, second, err := s.openHead("heads/"+names[i], sequence)
		if isGone(err) {
			return nil, nil, err
		}
		if err == nil && second != nil {
			faults = append(faults, Fault{File: "heads/" + names[i] + copyA, Why: second.Error()})
		}
		if err == nil {
			return state, faults, nil
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed by commits that came since the listing
		}
		faults = append(faults, Fault{File: "heads/" + names[i], Lost: true, Why: err.Error()})
	}
	return &commitState{}, faults, nil
}

func (s *Store) openHead(name string, sequence uint64) (state *commitState, second, err error) {
	state = &commitState{}
	second, err = readTwin(s.dir, name, format.MaxSmallFile, func(b []byte) error {
		_, body, err := format.OpenSmall(b, s.driveID, format.KindHead, s.masters)
		if err != nil {
			return err
		}
		state.headHash = blake3.Sum256(body)
		if state.head, err = format.DecodeHead(body); err != nil {
			return err
		}
		if state.head.Sequence != sequence {
			return fmt.Errorf("%w: it is another commit", format.ErrCorrupt)
		}
		return nil
	})
	return state, second, err
}

func headName(sequence uint64) string { return fmt.Sprintf("heads/%016x", sequence) }

func parseSequence(text string) (uint64, bool) {
	n, err := strconv.ParseUint(text, 16, 64)
	return n, err == nil && n > 0 && n <= maxSequence && fmt.Sprintf("%016x", n) == text
}

func parsePointName(name string) (format.HeadPoint, bool) {
	sequence, id, ok := strings.Cut(name, "-")
	n, good := parseSequence(sequence)
	short, err := format.ParseShortID(id)
	return format.HeadPoint{ID: short, Sequence: n}, ok && good && err == nil
}

// commit makes a restore point of trees that are durable and findable. With the
// rename of its first file the point exists; the head that follows lists it.
func (s *Store) commit(ctx context.Context, point lifeboat.RestorePoint, disks []format.PointDisk) (lifeboat.RestorePoint, error) {
	s.commitMu.Lock()
	defer s.commitMu.Unlock()
	if err := s.writer.err(); err != nil {
		return point, err
	}
	if err := ctx.Err(); err != nil {
		return point, err
	}
	sequence, err := s.state.next()
	if err != nil {
		return point, s.explain(err)
	}
	record := format.Point{Sequence: sequence, PreviousHead: s.state.headHash, Disks: disks}
	if point.IsPart() {
		record.ID, err = format.ParseShortID(point.ID)
		if err := cmp.Or(err, point.CheckTogether()); err != nil {
			return point, fmt.Errorf("describe the restore point: %w", err)
		}
		if err := s.wrote(s.allowParts()); err != nil {
			return point, err
		}
	} else {
		rand.Read(record.ID[:])
	}
	point.ID, point.Sequence, point.CommittedAt = record.ID.String(), record.Sequence, s.now().UTC()
	if record.JSON, err = point.Record(); err != nil {
		return point, fmt.Errorf("describe the restore point: %w", err)
	}
	if err := s.writeCommit(record); err != nil {
		// Nothing is known any more about what the medium holds of this.
		s.writer.fail(err)
		return point, s.writer.err()
	}
	return point, nil
}

func (s *Store) writeCommit(record format.Point) error {
	body := record.Append(nil)
	// What is written is read back by the same rules first: a record that
	// cannot be listed would be a lost night.
	if _, err := format.DecodePoint(body); err != nil {
		return fmt.Errorf("describe the restore point: %w", err)
	}
	if err := s.writeSealed(format.KindPoint, pointName(record.Sequence, record.ID), body); err != nil {
		return fmt.Errorf("write the restore point: %w", err)
	}
	added := format.HeadPoint{ID: record.ID, Sequence: record.Sequence, Hash: blake3.Sum256(body)}
	return s.writeHead(added.Sequence, append(s.state.points[:len(s.state.points):len(s.state.points)], added))
}

// writeHead commits a list of points under a sequence that none is above.
func (s *Store) writeHead(sequence uint64, points []format.HeadPoint) error {
	points, err := s.withHashes(points)
	if err != nil {
		return err
	}
	head := format.Head{Sequence: sequence, Previous: s.state.headHash, Points: points}
	body := head.Append(nil)
	if _, err := format.DecodeHead(body); err != nil {
		return fmt.Errorf("describe the commit: %w", err)
	}
	if err := s.writeSealed(format.KindHead, headName(head.Sequence), body); err != nil {
		return fmt.Errorf("write the commit: %w", err)
	}
	previous := s.state.head.Sequence
	s.state = &commitState{head: head, headHash: blake3.Sum256(body), points: points}
	return s.dropHeads(previous)
}

// withHashes fills in the hashes of points that no head had listed yet. One that
// cannot be read is listed without: it may be a commit that was cut off, or a
// point that is rotten now, and only people may give that up.
func (s *Store) withHashes(points []format.HeadPoint) ([]format.HeadPoint, error) {
	var listed []format.HeadPoint
	for _, p := range points {
		if p.Hash.IsZero() {
			r, _, err := s.readRecord(p)
			switch {
			case isGone(err):
				return nil, fmt.Errorf("read a restore point that no commit lists: %w", err)
			case errors.Is(err, fs.ErrNotExist) && p.Sequence > s.state.head.Sequence:
				continue // there is nothing that could be lost
			case err != nil:
				s.log.Warn("a restore point that cannot be read is listed without its hash", "point", p.ID, "why", err)
			default:
				p.Hash = r.hash
			}
		}
		listed = append(listed, p)
	}
	return listed, nil
}

// dropHeads removes the heads before the previous one.
func (s *Store) dropHeads(previous uint64) error {
	names, err := listTwins(s.dir, "heads")
	if err != nil {
		return fmt.Errorf("list the commits: %w", err)
	}
	for _, name := range names {
		sequence, ok := parseSequence(name)
		if !ok || sequence >= previous {
			continue
		}
		if err := removeTwin(s.dir, "heads/"+name); err != nil {
			return fmt.Errorf("remove an old commit: %w", err)
		}
	}
	return nil
}

func (s *Store) writeSealed(kind format.Kind, name string, body []byte) error {
	h := format.Header{Kind: kind, Generation: s.super.Generation, Drive: s.driveID, File: newFileID()}
	b, err := s.seal(h, body)
	if err != nil {
		return err
	}
	return writeTwin(s.dir, name, b)
}
