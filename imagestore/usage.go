package imagestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
)

// Usage is what the store takes up.
type Usage struct {
	// StoredBytes counts all files of the store, PackBytes its packs,
	// ParityBytes what heals them.
	StoredBytes int64 `json:"storedBytes"`
	PackBytes   int64 `json:"packBytes"`
	ParityBytes int64 `json:"parityBytes"`
	Packs       int   `json:"packs"`
	// Chunks counts the entries of the index, including those of the trees: a
	// chunk that is in two packs may count twice.
	Chunks     int64 `json:"chunks"`
	FreeBytes  int64 `json:"freeBytes"`
	TotalBytes int64 `json:"totalBytes"`
}

// Usage measures the store.
func (s *Store) Usage(ctx context.Context) (Usage, error) {
	if err := s.begin(); err != nil {
		return Usage{}, err
	}
	defer s.end()
	u, err := s.usage(ctx)
	return u, s.explain(err)
}

func (s *Store) usage(ctx context.Context) (Usage, error) {
	var u Usage
	packs, err := s.listPacks(ctx)
	if err != nil {
		return u, err
	}
	for _, p := range packs {
		u.PackBytes += fileSize(p.entry)
		u.Packs++
	}
	err = s.walkPacks(ctx, func(_ string, e fs.DirEntry) {
		if path.Ext(e.Name()) == ".par" {
			u.ParityBytes += fileSize(e)
		}
	})
	if err != nil {
		return u, err
	}
	u.StoredBytes = u.PackBytes + u.ParityBytes
	for _, folder := range []string{".", "slots", "index", "points", "heads", "marks", checksFolder, enclosuresFolder, partsFolder} {
		entries, err := s.dir.List(folder)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return u, fmt.Errorf("list %s: %w", folder, err)
		}
		for _, e := range entries {
			u.StoredBytes += fileSize(e)
		}
	}
	for _, r := range *s.index.runs.Load() {
		u.Chunks += int64(r.footer.Entries)
	}
	u.FreeBytes, u.TotalBytes, err = s.dir.Space()
	return u, err
}

// fileSize is the size of a file; one that went away meanwhile has none.
func fileSize(e fs.DirEntry) int64 {
	info, err := e.Info()
	if err != nil || e.IsDir() {
		return 0
	}
	return info.Size()
}
