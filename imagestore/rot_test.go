package imagestore

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	"lifeboat/fixtures/baddrive"
)

// rotRounds is how many damages the long proof makes.
func rotRounds() (flips, erasures int) {
	if os.Getenv("LIFEBOAT_SOAK") != "" {
		return 10_000, 1_000
	}
	if testing.Short() {
		return 40, 10
	}
	return 240, 30
}

// TestEveryFlippedBitIsSeenAndHealed flips bits and erases cells anywhere in
// packs, parity, indexes and points: a few in a round, each in a file of its own,
// so that each has to be told by itself. All are within parity's reach, or there
// is a second copy, or they can be made anew.
func TestEveryFlippedBitIsSeenAndHealed(t *testing.T) {
	t.Parallel()
	d := newStored(t, 3)
	names, sizes := filesIn(t, d.drive.Dir(), "packs", "index", "points", "heads")
	r := rand.New(rand.NewPCG(77, 1))
	flips, erasures := rotRounds()
	for round := 0; flips+erasures > 0; round++ {
		drive := d.drive.Clone(uint64(round))
		hit := map[string]string{}
		for range 6 {
			name := pickBySize(r, names, sizes)
			if hit[copyKey(name)] != "" || flips+erasures == 0 {
				continue // the other copy of it is damaged already
			}
			hit[copyKey(name)] = name
			if flips > 0 {
				flips--
				drive.FlipBit(name, r.Int64N(8*sizes[name]))
				continue
			}
			erasures--
			at := r.Int64N((sizes[name]+4095)/4096) * 4096
			drive.Erase(name, at, min(4096, sizes[name]-at))
		}
		// A test of its own, because what a test opened is held until it ends.
		if !t.Run(strconv.Itoa(round), func(t *testing.T) { d.seenAndHealed(t, drive, hit) }) {
			return
		}
	}
}

// While a run of the index and a part of a tree are rotten, nobody knows which
// packs are needed: the damage of one shows only after they are healed, and is
// within parity's reach all the same.
func TestDamageThatShowsOnlyAfterARepairHasBegunIsHealed(t *testing.T) {
	t.Parallel()
	d := newStored(t, 3)
	packs, sizes := filesIn(t, d.drive.Dir(), "packs")
	runs, runSizes := filesIn(t, d.drive.Dir(), "index")
	seed := uint64(0)
	for _, run := range runs {
		for _, tree := range packs {
			for _, data := range packs {
				if path.Ext(tree) != ".tree" || path.Ext(data) != ".data" {
					continue
				}
				seed++
				drive := d.drive.Clone(seed)
				drive.FlipBit(run, 8*min(4096, runSizes[run]/2))
				drive.FlipBit(tree, 8*100)
				drive.FlipBit(data, 8*(sizes[data]/2))
				t.Run(fmt.Sprint(seed), func(t *testing.T) {
					if report, err := repairDrive(t, drive.Dir(), RepairOptions{}); err != nil {
						t.Fatalf("%s, %s and %s: %+v, %v", run, tree, data, report, err)
					}
					d.checkWhole(t, drive)
				})
			}
		}
	}
}

// copyKey is one for the copies of a file, and for a pack and its parity.
func copyKey(name string) string { return name[:len(name)-len(path.Ext(name))] }

func pickBySize(r *rand.Rand, names []string, sizes map[string]int64) string {
	if r.IntN(3) == 0 {
		return names[r.IntN(len(names))]
	}
	var total int64
	for _, name := range names {
		total += sizes[name]
	}
	at := r.Int64N(total)
	for _, name := range names {
		if at -= sizes[name]; at < 0 {
			return name
		}
	}
	return names[0]
}

func (d stored) seenAndHealed(t *testing.T, drive *baddrive.Drive, hit map[string]string) {
	t.Helper()
	s := openStore(t, drive.ReadOnlyDir(), Read)
	report, _ := s.Verify(t.Context(), VerifyOptions{})
	s.Close()
	lostIndex := false
	for _, name := range hit {
		lostIndex = lostIndex || strings.HasPrefix(name, "index/")
	}
	for _, name := range hit {
		if lostIndex && strings.HasPrefix(name, "packs/") {
			continue // without its run a pack is read if a point needs it; the repair finds it
		}
		if !slices.ContainsFunc(report.Faults, func(f Fault) bool {
			return len(f.File) >= len(name) && f.File[:len(name)] == name || f.File == copyKey(name)
		}) {
			t.Errorf("damage of %s was not seen: %+v", name, report.Faults)
		}
	}
	if report, err := repairDrive(t, drive.Dir(), RepairOptions{}); err != nil {
		t.Fatalf("%v: %+v, %v", hit, report, err)
	}
	d.checkWhole(t, drive)
}
