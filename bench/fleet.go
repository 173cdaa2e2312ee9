package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// findFleet returns the folder of the disks, and builds them where they are not
// there yet.
func findFleet(ctx context.Context, dir string, small bool) (string, error) {
	if dir == "" {
		dir = os.Getenv("LIFEBOAT_FLEET")
	}
	if dir == "" {
		return "", fmt.Errorf("say where the disks are, or are to be built: -fleet DIR, or LIFEBOAT_FLEET")
	}
	if small {
		dir += "-small"
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if complete(dir) {
		return dir, nil
	}
	fmt.Fprintf(os.Stderr, "building the disks in %s; that takes some two minutes\n", dir)
	args := []string{"bench/fleet/make-fleet"}
	if small {
		args = append(args, "--small")
	}
	cmd := exec.CommandContext(ctx, "bash", append(args, dir)...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("build the disks: %w (see %s)", err, filepath.Join(dir, "make-fleet.log"))
	}
	return dir, nil
}

// complete says whether all disks are there. A build that was cut off leaves its
// mark.
func complete(dir string) bool {
	if _, err := os.Stat(filepath.Join(dir, "building")); err == nil {
		return false
	}
	for day := 1; day <= 2; day++ {
		for _, name := range diskNames {
			if _, err := os.Stat(filepath.Join(dir, fmt.Sprintf("day%d", day), name+".raw")); err != nil {
				return false
			}
		}
	}
	return true
}
