package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"lifeboat"
)

// The works, by the names that they have in the report.
const (
	workExport     = "export"
	workNext       = "next day"
	workNextList   = "next day, change list"
	workRestore    = "restore"
	workVerify     = "verify"
	workRandom     = "random reads"
	workFlight     = "random reads, 8 in flight"
	workSequential = "sequential read"
)

// lifeboatTool is what this is all about: the program as it is shipped.
type lifeboatTool struct{ program string }

func (lifeboatTool) name() string { return ours }

const ours = "lifeboat"

func (t lifeboatTool) works(ctx context.Context, s *session) error {
	s.env = append(s.env, "LIFEBOAT_STATE="+filepath.Join(s.dir, "state"))
	drive := filepath.Join(s.dir, "drive")
	if err := os.Mkdir(drive, 0o755); err != nil {
		return err
	}
	if _, err := s.quiet(ctx, t.program, "init", "--site", "bench"); err != nil {
		return err
	}
	if _, err := s.quiet(ctx, t.program, "drive", "init", drive, "--label", "bench"); err != nil {
		return err
	}
	export := []string{"export", "--as", "fleet"}
	for _, path := range s.sources() {
		export = append(export, "--file", path)
	}
	store := filepath.Join(drive, "lifeboat", "store")
	if err := s.stores(ctx, workExport, store, t.program, export...); err != nil {
		return err
	}
	first, err := t.onlyPoint(ctx, s)
	if err != nil {
		return err
	}
	if err := s.use(2); err != nil {
		return err
	}
	if err := s.stores(ctx, workNext, store, t.program, export...); err != nil {
		return err
	}
	to := filepath.Join(s.dir, "web.raw")
	if err := s.record(ctx, workRestore, t.program, "restore", first, "--disk", "disk0", "--to", to, "--yes"); err != nil {
		return err
	}
	if err := s.same(to, 1, "web"); err != nil {
		return err
	}
	if err := s.record(ctx, workVerify, t.program, "verify"); err != nil {
		return err
	}
	if err := os.RemoveAll(drive); err != nil {
		return err
	}
	return measureStore(ctx, s)
}

// onlyPoint is the id of the one restore point there is.
func (t lifeboatTool) onlyPoint(ctx context.Context, s *session) (string, error) {
	out, err := s.quiet(ctx, t.program, "point", "list", "--json")
	if err != nil {
		return "", err
	}
	var list struct {
		Points []lifeboat.RestorePoint `json:"points"`
	}
	if err := json.Unmarshal(out, &list); err != nil || len(list.Points) != 1 {
		return "", fmt.Errorf("the list of points is not what was expected: %v: %s", err, out)
	}
	return list.Points[0].ID, nil
}

// restic is what Debian packages, with the compression that it recommends.
type restic struct{}

func (restic) name() string { return peer }

// peer is the tool that everything is compared with.
const peer = "restic"

func (restic) works(ctx context.Context, s *session) error {
	s.env = append(s.env, "RESTIC_PASSWORD=bench", "RESTIC_CACHE_DIR="+filepath.Join(s.dir, "cache"))
	common := []string{"-q", "-r", s.repo}
	command := func(args ...string) []string { return append(common[:len(common):len(common)], args...) }
	if _, err := s.quiet(ctx, "restic", command("init")...); err != nil {
		return err
	}
	backup := command("--compression", "auto", "backup", s.src)
	if err := s.stores(ctx, workExport, s.repo, "restic", backup...); err != nil {
		return err
	}
	out, err := s.quiet(ctx, "restic", command("snapshots", "--json")...)
	if err != nil {
		return err
	}
	var snapshots []struct {
		ID string `json:"short_id"`
	}
	if err := json.Unmarshal(out, &snapshots); err != nil || len(snapshots) != 1 {
		return fmt.Errorf("the list of snapshots is not what was expected: %v: %s", err, out)
	}
	if err := s.use(2); err != nil {
		return err
	}
	if err := s.stores(ctx, workNext, s.repo, "restic", backup...); err != nil {
		return err
	}
	web := filepath.Join(s.src, "web.raw")
	to := filepath.Join(s.dir, "out")
	restore := command("restore", snapshots[0].ID, "--target", to, "--include", web)
	if help, err := s.quiet(ctx, "restic", "restore", "--help"); err == nil && strings.Contains(string(help), "--sparse") {
		restore = append(restore, "--sparse") // since 0.15
	}
	if err := s.record(ctx, workRestore, "restic", restore...); err != nil {
		return err
	}
	if err := s.same(filepath.Join(to, web), 1, "web"); err != nil {
		return err
	}
	if err := s.record(ctx, workVerify, "restic", command("check", "--read-data")...); err != nil {
		return err
	}
	image := filepath.Join(s.dir, "mnt", "ids", snapshots[0].ID, web)
	return readMounted(ctx, s, image, "restic", command("mount", filepath.Join(s.dir, "mnt"))...)
}

// borg works on one processor. With chunks of a fixed size it skips holes.
type borg struct {
	label   string
	options []string
}

func (b borg) name() string { return b.label }

func (b borg) works(ctx context.Context, s *session) error {
	s.env = append(s.env, "BORG_PASSPHRASE=bench", "BORG_RELOCATED_REPO_ACCESS_IS_OK=yes", "BORG_BASE_DIR="+filepath.Join(s.dir, "cache"))
	if _, err := s.quiet(ctx, "borg", "init", "-e", "repokey-blake2", s.repo); err != nil {
		return err
	}
	create := func(day string) []string {
		args := append([]string{"create", "--sparse"}, b.options...)
		return append(append(args, s.repo+"::"+day), s.sources()...)
	}
	if err := s.stores(ctx, workExport, s.repo, "borg", create("day1")...); err != nil {
		return err
	}
	if err := s.use(2); err != nil {
		return err
	}
	if err := s.stores(ctx, workNext, s.repo, "borg", create("day2")...); err != nil {
		return err
	}
	web := strings.TrimPrefix(filepath.Join(s.src, "web.raw"), "/")
	// borg extracts into the folder that it is started in.
	extract := []string{"-c", `mkdir out && cd out && exec borg extract --sparse "$0" "$1"`, s.repo + "::day1", web}
	if err := s.record(ctx, workRestore, "sh", extract...); err != nil {
		return err
	}
	if err := s.same(filepath.Join(s.dir, "out", web), 1, "web"); err != nil {
		return err
	}
	return s.record(ctx, workVerify, "borg", "check", "--verify-data", s.repo)
}

// qemuImg writes compressed images: no encryption, no deduplication, nothing
// that knows the day before.
type qemuImg struct{}

func (qemuImg) name() string { return "qemu-img" }

func (qemuImg) works(ctx context.Context, s *session) error {
	if err := os.Mkdir(s.repo, 0o755); err != nil {
		return err
	}
	convert := `for d in web db file; do
		qemu-img convert -c -W -m 8 -f raw -O qcow2 -o compression_type=zstd "$0/$d.raw" "$1/$d.qcow2" || exit; done`
	if err := s.stores(ctx, workExport, s.repo, "sh", "-c", convert, s.src, s.repo); err != nil {
		return err
	}
	web, to := filepath.Join(s.repo, "web.qcow2"), filepath.Join(s.dir, "web.raw")
	if err := s.record(ctx, workRestore, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", "-W", "-m", "8", web, to); err != nil {
		return err
	}
	if err := s.same(to, 1, "web"); err != nil {
		return err
	}
	return readQemuNBD(ctx, s, web)
}

// zstd compresses the disks as files: the least that anybody would do.
type zstd struct{}

func (zstd) name() string { return "zstd -1" }

func (zstd) works(ctx context.Context, s *session) error {
	if err := os.Mkdir(s.repo, 0o755); err != nil {
		return err
	}
	compress := `for d in web db file; do zstd -1 -T2 -q -f "$0/$d.raw" -o "$1/$d.zst" || exit; done`
	to := filepath.Join(s.dir, "web.raw")
	return errors.Join(
		s.stores(ctx, workExport, s.repo, "sh", "-c", compress, s.src, s.repo),
		s.record(ctx, workRestore, "zstd", "-d", "-q", "--sparse", "-f", filepath.Join(s.repo, "web.zst"), "-o", to),
		s.same(to, 1, "web"),
		s.record(ctx, workVerify, "sh", "-c", `exec zstd -t -q "$0"/*.zst`, s.repo))
}
