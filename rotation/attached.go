package rotation

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// lookTimeout is how long one medium may take to say what it is. A disk that
// sleeps needs up to ten seconds to spin up; a dead network share never answers.
const lookTimeout = 15 * time.Second

// Attached returns the drives that can be seen now: at the top of every mounted
// file system, and in the given folders (network shares, trials). What is not a
// drive is left out; a drive that is seen at two paths is listed once. A medium
// that does not answer is listed as [KindSilent] rather than waited for.
func Attached(ctx context.Context, folders []string) ([]Found, error) {
	mounts, err := readMounts()
	if err != nil {
		return nil, err
	}
	seen := make([]Found, 0, len(mounts)+len(folders))
	look := lookAll(ctx, candidates(mounts, folders))
	for _, found := range look {
		if found.Kind != KindNone && found.Kind != "" {
			seen = append(seen, found)
		}
	}
	return dropDuplicates(seen), ctx.Err()
}

// candidates lists the paths to look at, each once, with what is known of the
// mount.
func candidates(mounts []mount, folders []string) []Found {
	var all []Found
	known := map[string]bool{}
	add := func(path string, m mount) {
		if !known[path] {
			known[path] = true
			all = append(all, Found{Path: path, Device: m.Source, Filesystem: m.Filesystem, Warning: warning(m.Filesystem)})
		}
	}
	for i, m := range mounts {
		covered := slices.ContainsFunc(mounts[i+1:], func(later mount) bool { return later.Point == m.Point })
		if m.mayBeDrive() && !covered {
			add(m.Point, m)
		}
	}
	for _, folder := range folders {
		if path, err := filepath.Abs(folder); err == nil {
			m, _ := mountOf(mounts, path)
			add(path, m)
		}
	}
	return all
}

// lookAll identifies all candidates at the same time and keeps their order.
func lookAll(ctx context.Context, all []Found) []Found {
	out := make([]Found, len(all))
	var wait sync.WaitGroup
	for i, candidate := range all {
		wait.Go(func() { out[i] = lookOne(ctx, candidate, lookNow) })
	}
	wait.Wait()
	return out
}

// lookOne waits for one medium as long as is reasonable. The kernel cannot be
// asked to give up on a dead server, so the goroutine that waits is left behind.
func lookOne(ctx context.Context, candidate Found, look func(Found) Found) Found {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	result := make(chan Found, 1)
	go func() { result <- look(candidate) }()
	select {
	case found := <-result:
		return found
	case <-ctx.Done():
		// A copy: the goroutine left behind still reads the candidate.
		silent := candidate
		silent.Kind, silent.Note = KindSilent, "it does not answer"
		return silent
	}
}

func lookNow(candidate Found) Found {
	found, err := identify(candidate.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission), errors.Is(err, unix.ENOTDIR):
		// A share that is not mounted now, a file that is a mount point.
		return Found{Kind: KindNone}
	case err != nil:
		candidate.Kind, candidate.Note = KindSilent, err.Error()
		return candidate
	}
	found.Device, found.Filesystem, found.Warning = candidate.Device, candidate.Filesystem, candidate.Warning
	return found
}

// dropDuplicates keeps the shortest path of a medium that is mounted twice. Two
// media with the same id stay both: one is a copy of the other.
func dropDuplicates(all []Found) []Found {
	slices.SortFunc(all, func(a, b Found) int {
		if d := len(a.Path) - len(b.Path); d != 0 {
			return d
		}
		return strings.Compare(a.Path, b.Path)
	})
	var kept []Found
	var files []os.FileInfo
	for _, f := range all {
		info := storeInfo(f)
		if info != nil && slices.ContainsFunc(files, func(other os.FileInfo) bool { return os.SameFile(info, other) }) {
			continue
		}
		if info != nil {
			files = append(files, info)
		}
		kept = append(kept, f)
	}
	slices.SortStableFunc(kept, func(a, b Found) int { return strings.Compare(a.Drive.Label, b.Drive.Label) })
	return kept
}

// storeInfo identifies the medium itself, whatever path leads to it.
func storeInfo(f Found) os.FileInfo {
	if f.Kind == KindSilent {
		return nil
	}
	info, err := os.Stat(filepath.Join(f.Path, Folder))
	if err != nil {
		return nil
	}
	return info
}
