package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"lifeboat"
	"lifeboat/blockdev"
	"lifeboat/imagestore"
	"lifeboat/runbook"
)

// A machine that starts reads the same parts of its disks each time: its boot set.
// Every drill keeps it until the checks of the machine passed, and a recovery
// reads it ahead, in the order in which it lies on the drive, where the drive
// seeks: at random an external disk gives 80 reads a second.

const (
	// bootSetsFolder is the folder of the state that holds them.
	bootSetsFolder = "bootsets"
	// bootBlock is the piece of a disk that a boot set counts in.
	bootBlock = 128 << 10
	// mostBootBlocks bounds the set of one disk: 4 GiB of it.
	mostBootBlocks = 32 << 10
	// mostReadAhead bounds what one run reads ahead: it has to stay in memory.
	mostReadAhead = 1 << 30
)

// bootSet is what a machine read until its checks passed.
type bootSet struct {
	Machine string    `json:"machine"`
	Run     string    `json:"run"`
	At      time.Time `json:"at"`
	// Disks are, by key, runs of blocks of BlockBytes: the first and how many.
	BlockBytes int64                 `json:"blockBytes"`
	Disks      map[string][][2]int64 `json:"disks"`
}

// extents are the parts of a disk that the set has.
func (b bootSet) extents(key string) (all []lifeboat.Extent) {
	for _, r := range b.Disks[key] {
		// A damaged file must not become a read of everything.
		if r[0] >= 0 && r[1] > 0 && r[1] <= mostBootBlocks && b.BlockBytes == bootBlock {
			all = append(all, lifeboat.Extent{Offset: r[0] * bootBlock, Length: r[1] * bootBlock})
		}
	}
	return all
}

// bootSetPath is where the newest boot set of a machine is kept.
func (a *app) bootSetPath(machine string) string {
	sum := sha256.Sum256([]byte(machine))
	return filepath.Join(a.stateDir, bootSetsFolder, hex.EncodeToString(sum[:16])+".json")
}

// readsPath is, in a run's folder, what its machines have read so far.
func readsPath(dir string) string { return filepath.Join(dir, "reads.json") }

// readBlocks are the blocks of a disk that were read.
type readBlocks struct {
	mu   sync.Mutex
	seen map[int64]bool
}

// note notes a read.
func (r *readBlocks) note(offset, length int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen == nil {
		r.seen = map[int64]bool{}
	}
	for b := offset / bootBlock; b*bootBlock < offset+length && len(r.seen) < mostBootBlocks; b++ {
		r.seen[b] = true
	}
}

// runs are the blocks in order, those that follow each other together.
func (r *readBlocks) runs() (all [][2]int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	blocks := make([]int64, 0, len(r.seen))
	for b := range r.seen {
		blocks = append(blocks, b)
	}
	slices.Sort(blocks)
	for _, b := range blocks {
		if n := len(all); n > 0 && all[n-1][0]+all[n-1][1] == b {
			all[n-1][1]++
			continue
		}
		all = append(all, [2]int64{b, 1})
	}
	return all
}

// sayReads writes down what each disk gave so far, by its export.
func (s *diskServer) sayReads() {
	s.mu.Lock()
	disks := make(map[string]*servedDisk, len(s.disks))
	for name, d := range s.disks {
		disks[name] = d
	}
	s.mu.Unlock()
	reads := map[string][][2]int64{}
	for name, d := range disks {
		reads[name] = d.blocks.runs()
	}
	// A set that is lost costs a little speed and nothing else.
	_ = saveJSON(readsPath(s.dir), reads)
}

// keepBootSet keeps what a machine of a drill read until now.
func (w *world) keepBootSet(planned string) error {
	m := w.entry(planned)
	var reads map[string][][2]int64
	if err := loadJSON(readsPath(w.o.run.dir), &reads); err != nil {
		return err
	}
	set := bootSet{Machine: m.Machine, Run: w.o.run.ID, At: w.a.now().UTC(), BlockBytes: bootBlock, Disks: map[string][][2]int64{}}
	for key, export := range m.Exports {
		set.Disks[key] = reads[export]
	}
	path := w.a.bootSetPath(m.Machine)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return saveJSON(path, set)
}

// readAheadOf reads the boot sets of the machines of a recovery ahead, each once,
// as they are begun.
func (s *diskServer) readAheadOf(ctx context.Context) {
	begun := map[string]bool{}
	left := int64(mostReadAhead)
	for {
		b := s.known()
		if b.Mode != runbook.Recover {
			return
		}
		for _, m := range b.Machines {
			if len(m.Exports) == 0 || m.Settled || begun[m.Machine+m.Point] {
				continue
			}
			begun[m.Machine+m.Point] = true
			var set bootSet
			if loadJSON(s.a.bootSetPath(m.Machine), &set) != nil || set.Machine != m.Machine {
				continue
			}
			for _, d := range s.allDrives() {
				left -= s.readSetFrom(ctx, b, m, set, d, left)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(servingEvery):
		}
	}
}

// readSetFrom reads ahead what of a machine's boot set is on one drive.
func (s *diskServer) readSetFrom(ctx context.Context, b *bootedRun, m bootedMachine, set bootSet, d *servedDrive, limit int64) int64 {
	select {
	case <-d.tried:
	case <-ctx.Done():
		return 0
	}
	open := d.current()
	if open == nil || !seeks(open.found.Path) {
		return 0
	}
	var wanted []imagestore.Wanted
	for key := range m.Exports {
		if id, point := b.source(m, key); id == d.Drive.ID {
			wanted = append(wanted, imagestore.Wanted{PointID: point, Disk: key, Extents: set.extents(key)})
		}
	}
	began, total := time.Now(), int64(0)
	// Guests read at the same time: half of the drive's time is theirs.
	read, err := open.store.ReadSet(ctx, wanted, func(ctx context.Context, n int) error {
		if total += int64(n); total > limit {
			return errAheadEnough
		}
		took := time.Since(began)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(min(took, time.Second)):
		}
		began = time.Now()
		return nil
	})
	text := fmt.Sprintf("%s of what %s reads when it starts were read ahead", humanBytes(read), m.Name)
	if err != nil {
		text += ", until: " + err.Error() // the machine finds by itself what is wrong
	}
	s.log.log(event{Event: "ahead", Machine: m.Name, Text: text})
	return read
}

var errAheadEnough = errors.New("it is as much as one run reads ahead")

// seeks says that a path is on a disk whose heads move. What is not known is taken
// for one: reading ahead does little harm.
func seeks(path string) bool {
	d, err := blockdev.OfMount(path)
	return err != nil || d.Rotational
}
