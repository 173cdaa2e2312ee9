package imagestore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"lifeboat"
	"lifeboat/imagestore/format"
)

// removeAtOnce is how many packs are marked as leaving with one small file.
const removeAtOnce = 256

// removeDead removes the packs of which the index says that nothing is needed.
// It returns those that turn out to hold something after all.
func (p *pruning) removeDead(ctx context.Context, dead []*packUse) (revived []*packUse, err error) {
	for group := range slices.Chunk(dead, removeAtOnce) {
		var leave []*packUse
		for _, u := range group {
			whole, err := p.accounted(ctx, u)
			switch {
			case isGone(err) || ctx.Err() != nil:
				return nil, errors.Join(err, ctx.Err())
			case err != nil:
				p.keep(u, err)
			case whole:
				leave = append(leave, u)
			case p.careful:
				p.stay(u)
			default:
				revived = append(revived, u)
			}
		}
		if err := p.retire(leave); err != nil {
			return nil, err
		}
	}
	return revived, nil
}

// stay leaves a pack as it is.
func (p *pruning) stay(u *packUse) {
	delete(p.leaving, u.number)
	p.meter.done.Add(u.bytes())
	p.report.Untouched++
}

// accounted says whether the index tells all that is in a pack. A chunk that is
// in two packs has one entry when two runs were merged: then the pack may hold
// the better copy of something that is needed.
func (p *pruning) accounted(ctx context.Context, u *packUse) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	o, err := p.s.openPack(u.pack)
	if err != nil {
		return false, err
	}
	defer o.file.Close()
	d, err := p.contents(ctx, o, u.number)
	n := 0
	for _, f := range d {
		n += len(f.Chunks)
	}
	return u.tables == 1 && n == u.entries, err
}

// retire removes packs that hold nothing which is needed and only there. They
// are marked first: until the index is rewritten it names packs that are gone.
func (p *pruning) retire(packs []*packUse) error {
	if len(packs) == 0 {
		return nil
	}
	var mark format.Mark
	for _, u := range packs {
		if !p.s.marks.has(format.NewPlace(u.number, 0, 0, 0, 1), format.ID{}) {
			mark = append(mark, format.MarkEntry{Pack: u.pack.ID})
		}
	}
	if err := p.s.remember(mark); err != nil {
		return err
	}
	for _, u := range packs {
		if err := p.s.removePack(u.pack); err != nil {
			return p.s.wrote(err)
		}
		p.folders[path.Dir(packName(u.pack))] = true
		p.report.RemovedPacks++
		p.report.RemovedBytes += u.bytes()
		p.meter.done.Add(u.bytes())
		p.changed = true
	}
	return nil
}

// syncFolders makes the removals durable, before the index forgets the packs:
// one that came back would be taken in again.
func (p *pruning) syncFolders() error {
	for folder := range p.folders {
		if err := p.s.dir.SyncDir(folder); err != nil {
			return p.s.wrote(fmt.Errorf("sync %s: %w", folder, err))
		}
	}
	clear(p.folders)
	return nil
}

// noteAbsent finds out which of the packs that are not on the drive any more
// were removed by a prune that was cut off: what is needed of them is elsewhere.
// The others are lost, and stay in the index for those who look for them.
func (p *pruning) noteAbsent(ctx context.Context, absent []*packUse) error {
	lost := map[uint32]bool{}
	for _, u := range absent {
		lost[u.number] = true
	}
	if len(lost) == 0 {
		return nil
	}
	type needed struct {
		id   format.ID
		pack uint32
	}
	var list []needed
	err := p.live.each(ctx, p.live.bits, func(e format.RunEntry, _ int64) {
		if lost[e.Place.Pack] && len(list) < maxLiveChunks {
			list = append(list, needed{e.ID, e.Place.Pack})
		}
	})
	if err != nil || len(list) == maxLiveChunks {
		return err
	}
	stays := map[uint32]bool{}
	for _, n := range list {
		if _, ok, err := p.s.index.search(n.id, func(at format.Place) bool { return !lost[at.Pack] && !p.s.marks.has(at, n.id) }); err != nil {
			return err
		} else if !ok {
			stays[n.pack] = true
		}
	}
	for _, u := range absent {
		if !stays[u.number] {
			p.changed = true
			if err := p.s.removePack(u.pack); err != nil {
				return p.s.wrote(err)
			}
		}
	}
	return nil
}

// tidyIndex writes runs that do not name the removed packs any more, and then
// drops the marks that served until now. Without room for that the index stays
// as it is, which costs space and nothing else.
func (p *pruning) tidyIndex() error {
	if !p.changed && p.s.marks.empty() {
		return nil
	}
	gone := p.s.packs.goneNow()
	stale := func(r *run) bool { return slices.ContainsFunc(r.packs, func(n uint32) bool { return gone[n] }) }
	for {
		runs := slices.Clone(*p.s.index.runs.Load())
		total := int64(0)
		for _, r := range runs {
			total += r.footer.FileSize()
		}
		if !slices.ContainsFunc(runs, stale) {
			break
		}
		if !p.roomFor(total) {
			runs = slices.DeleteFunc(runs, func(r *run) bool { return !stale(r) })
			slices.SortFunc(runs, func(a, b *run) int { return cmp.Compare(a.footer.Entries, b.footer.Entries) })
			if runs = runs[:1]; !p.roomFor(runs[0].footer.FileSize()) {
				p.s.log.Warn("there is no room to rewrite the index", "bytes", runs[0].footer.FileSize())
				return nil
			}
		}
		if err := p.s.index.compact(runs); err != nil {
			return p.s.wrote(err)
		}
	}
	return p.s.wrote(p.s.dropMarks())
}

func (p *pruning) roomFor(bytes int64) bool {
	free, _, err := p.s.dir.Space()
	return err == nil && free > bytes+pruneSlack
}

// compact writes one run in place of some, without what was in packs that are
// gone.
func (x *index) compact(runs []*run) error {
	id := newFileID()
	err := x.writeRunFile(id, nil, nil, runs, nil)
	var broken *brokenRun
	switch {
	case errors.Is(err, errEmptyRun):
		for _, r := range runs {
			if err := x.drop(r); err != nil {
				return err
			}
		}
		return x.s.dir.SyncDir("index")
	case errors.As(err, &broken) && !isGone(err):
		x.distrust(broken.run, err)
		return x.s.healIndex()
	case err != nil:
		return fmt.Errorf("write %s: %w", runName(id), err)
	}
	return x.replace(id, runs)
}

// dropMarks removes the marks of files that are not on the drive any more and
// that no run names.
func (s *Store) dropMarks() error {
	names, err := listMarks(s.dir, "marks")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list the marks: %w", err)
	}
	known, err := s.markable()
	if err != nil {
		return err
	}
	for _, name := range names {
		name = "marks/" + name
		mark, err := s.readMark(name)
		if isGone(err) {
			return err
		}
		if err != nil {
			continue // it says nothing to anybody
		}
		left := slices.DeleteFunc(slices.Clone(mark), func(m format.MarkEntry) bool { return !known[m.Pack] })
		if len(left) == len(mark) {
			continue
		}
		if err := s.remember(left); err != nil {
			return err
		}
		if err := s.index.remove(name); err != nil {
			return err
		}
	}
	return s.marks.reload(s)
}

// markable are the ids of the files that a mark may be about.
func (s *Store) markable() (map[format.ID]bool, error) {
	known := map[format.ID]bool{}
	files, err := s.listPacks(context.Background())
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		known[f.ID] = true
	}
	for _, r := range *s.index.runs.Load() {
		known[r.id] = true
		for _, n := range r.packs {
			known[s.packs.pack(n).ID] = true
		}
	}
	return known, nil
}

// errKept: a pack holds something that cannot be read and is nowhere else.
var errKept = fmt.Errorf("%w: a chunk that is needed cannot be read and is nowhere else", lifeboat.ErrDamaged)
