package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"lifeboat/runbook"
)

// runningFolder is, in the run's folder, where commands of steps are written down
// while they run.
const runningFolder = "running"

// runningCommand is written down before a command starts and removed when it has
// ended. What it leaves behind then, such as a daemon, goes on as it wished.
type runningCommand struct {
	Step string `json:"step"`
	// Mark is the variable of all its processes.
	Mark string `json:"mark"`
	// Worker is the command of Lifeboat that waits for it.
	Worker process `json:"worker"`
}

// noteCommand writes down that the command of a step is about to run. What it
// returns says that it has ended.
func (k *asker) noteCommand(act runbook.Action, mark string) (ended func(), err error) {
	worker, err := thisProcess()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(k.run.dir, runningFolder)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	path := filepath.Join(dir, evidenceName(act.Step.ID, strconv.Itoa(act.Attempt))+".json")
	return func() { os.Remove(path) }, saveJSON(path, runningCommand{act.Step.ID, mark, worker})
}

// endLeftCommands ends the commands of a run that Lifeboat was killed over: nobody
// knows how they end any more, and their steps may be done again. It returns the
// steps of those that still ran.
func endLeftCommands(run string) (steps []string, err error) {
	files, _ := filepath.Glob(filepath.Join(run, runningFolder, "*.json")) // the pattern is a good one
	for _, file := range files {
		var c runningCommand
		if lerr := loadJSON(file, &c); lerr != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", file, lerr))
			continue
		}
		if c.Worker.alive() {
			continue
		}
		if len(marked(c.Mark)) > 0 {
			steps = append(steps, c.Step)
			if !killMarked(c.Mark) {
				err = errors.Join(err, fmt.Errorf("the command of step %s does not end", c.Step))
				continue
			}
		}
		if rerr := os.Remove(file); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}
	return steps, err
}

// killMarked ends all processes that have a mark, and says whether none is left.
// What forks meanwhile is met in the next round.
func killMarked(mark string) bool {
	for range 100 {
		left := marked(mark)
		if len(left) == 0 {
			return true
		}
		for _, p := range left {
			_ = syscall.Kill(p, syscall.SIGKILL)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return false
}
