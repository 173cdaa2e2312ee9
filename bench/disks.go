package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"

	"lifeboat"
	"lifeboat/diskfile"
)

// extent is a run of bytes of a disk.
type extent = lifeboat.Extent

const (
	// dirtyGrain is how finely hypervisors say what changed.
	dirtyGrain = 64 << 10
	// randomBlock is what is read at random, and randomReads how often.
	randomBlock = 64 << 10
	randomReads = 1000
)

// openDisk opens a raw image.
func openDisk(path string) (*diskfile.File, error) {
	return diskfile.Open(context.Background(), path, diskfile.Options{})
}

// dataOf returns the parts of an image that are no holes.
func dataOf(path string) ([]extent, error) {
	f, err := openDisk(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Extents(context.Background(), extent{Length: f.SizeBytes()})
}

// eachData calls do for each part of an image that is no hole.
func eachData(path string, do func(io.Reader) error) error {
	data, err := dataOf(path)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, e := range data {
		if err := do(io.NewSectionReader(f, e.Offset, e.Length)); err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
	}
	return nil
}

// compareDays finds where the disks changed, as a hypervisor would tell it.
func (w *workplace) compareDays() (map[string][]extent, error) {
	dirty := map[string][]extent{}
	for _, name := range diskNames {
		changed, err := compareDisks(w.day(1, name), w.day(2, name))
		if err != nil {
			return nil, err
		}
		dirty[name] = changed
	}
	return dirty, nil
}

// compareDisks returns the grains in which two images differ.
func compareDisks(before, after string) (changed []extent, err error) {
	var files [2]*os.File
	grains := map[int64]bool{}
	for i, path := range []string{before, after} {
		if files[i], err = os.Open(path); err != nil {
			return nil, err
		}
		defer files[i].Close()
		data, err := dataOf(path)
		if err != nil {
			return nil, err
		}
		for _, e := range data {
			for at := e.Offset / dirtyGrain * dirtyGrain; at < e.End(); at += dirtyGrain {
				grains[at] = true
			}
		}
	}
	var a, b [dirtyGrain]byte
	for at := range grains {
		n, errA := files[0].ReadAt(a[:], at)
		m, errB := files[1].ReadAt(b[:], at)
		if errA != nil && errA != io.EOF || errB != nil && errB != io.EOF {
			return nil, fmt.Errorf("compare %s and %s: %v, %v", before, after, errA, errB)
		}
		if !bytes.Equal(a[:n], b[:m]) {
			changed = append(changed, extent{Offset: at, Length: int64(m)})
		}
	}
	slices.SortFunc(changed, func(a, b extent) int { return int(a.Offset/dirtyGrain - b.Offset/dirtyGrain) })
	return changed, nil
}

func total(extents []extent) (n int64) {
	for _, e := range extents {
		n += e.Length
	}
	return n
}

// pickBlocks chooses places to read at, the same ones each time, where an image
// has data.
func pickBlocks(path string, n int) ([]int64, error) {
	data, err := dataOf(path)
	if err != nil {
		return nil, err
	}
	var all []int64
	for _, e := range data {
		for at := (e.Offset + randomBlock - 1) / randomBlock * randomBlock; at+randomBlock <= e.End(); at += randomBlock {
			all = append(all, at)
		}
	}
	if len(all) < n {
		return nil, fmt.Errorf("%s has only %d blocks of data", path, len(all))
	}
	r := rand.New(rand.NewPCG(7, 7))
	r.Shuffle(len(all), func(i, k int) { all[i], all[k] = all[k], all[i] })
	return all[:n], nil
}
