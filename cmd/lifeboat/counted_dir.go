package main

import (
	"sync/atomic"

	"lifeboat/internal/durable"
)

// readCounter counts what is read from a drive.
type readCounter struct{ n atomic.Int64 }

func (c *readCounter) take() int64 { return c.n.Swap(0) }

// countedDir is a folder that counts what is read from its files.
type countedDir struct {
	durable.Dir
	count *readCounter
}

func (d countedDir) Open(name string) (durable.ReadFile, error) {
	f, err := d.Dir.Open(name)
	if err != nil {
		return nil, err
	}
	return countedFile{f, d.count}, nil
}

func (d countedDir) Sub(name string) (durable.Dir, error) {
	sub, err := d.Dir.Sub(name)
	if err != nil {
		return nil, err
	}
	return countedDir{sub, d.count}, nil
}

type countedFile struct {
	durable.ReadFile
	count *readCounter
}

func (f countedFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.ReadFile.ReadAt(p, off)
	f.count.n.Add(int64(n))
	return n, err
}
