package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

func (a *app) runCommand() *cobra.Command {
	return group("run", "List, follow and stop long work",
		"  lifeboat run list\n  lifeboat run attach 3f2a", "look",
		a.runListCommand(), a.runAttachCommand(), a.runStopCommand())
}

func (a *app) runListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List runs, newest first",
		Example:     "  lifeboat run list\n  lifeboat run list --json",
		Annotations: exits(), Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			all, err := a.listRuns()
			if err != nil {
				return err
			}
			if a.json {
				type row struct {
					runFile
					State string `json:"state"`
				}
				rows := []row{}
				for _, f := range all {
					rows = append(rows, row{f, f.state()})
				}
				a.printJSON(rows)
				return nil
			}
			var rows [][]string
			for _, f := range all {
				rows = append(rows, []string{short(f.ID), f.Kind, f.state(), stamp(f.Began), stamp(f.Ended), f.Summary})
			}
			a.print("%s", table([]string{"RUN", "KIND", "STATE", "BEGAN", "ENDED", "SUMMARY"}, rows))
			return nil
		},
	}
}

func (a *app) runAttachCommand() *cobra.Command {
	return &cobra.Command{
		Use: "attach [RUN]", Short: "Follow a run until it ends, and end with its exit code",
		Example:     "  lifeboat run attach\n  lifeboat run attach 3f2a --json",
		Annotations: exits(exitPartial, exitNoDrive, exitHeld, exitDamage, exitStopped), Args: oneArgAtMost("the id of a run"),
		ValidArgsFunction: a.completeRuns,
		RunE: func(c *cobra.Command, args []string) error {
			f, err := a.findRun(slices.Concat(args, []string{""})[0])
			if err != nil {
				return err
			}
			return a.follow(c.Context(), f)
		},
	}
}

// follow shows a run's log as it grows. Leaving it does not touch the run.
func (a *app) follow(ctx context.Context, f runFile) error {
	dir := filepath.Join(a.runsDir(), f.ID)
	file, err := os.Open(filepath.Join(dir, "log.jsonl"))
	if err != nil {
		return fmt.Errorf("open the log of run %s: %w", short(f.ID), err)
	}
	defer file.Close()
	in := bufio.NewReader(file)
	p := a.newProgress(nil, f.Kind)
	defer p.end()
	var partial []byte
	for {
		line, err := in.ReadBytes('\n')
		partial = append(partial, line...)
		if err == nil {
			if done := a.showEvent(p, partial); done {
				break
			}
			partial = partial[:0]
			continue
		}
		if !errors.Is(err, io.EOF) {
			return err
		}
		if now, rerr := readRun(dir); rerr == nil && now.Exit == nil && !now.Process.alive() {
			return fmt.Errorf("run %s died without saying why; its log is %s", short(f.ID), file.Name())
		}
		select {
		case <-ctx.Done():
			a.note("run %s goes on; follow it again with: lifeboat run attach %s", short(f.ID), short(f.ID))
			return context.Cause(ctx)
		case <-time.After(progressEvery):
		}
	}
	ended, err := readRun(dir)
	if err != nil {
		return err
	}
	if ended.Exit != nil && *ended.Exit != exitDone {
		return runEnded{ended}
	}
	return nil
}

// runEnded carries another run's failure, with its exit code.
type runEnded struct{ f runFile }

func (e runEnded) Error() string {
	return fmt.Sprintf("run %s %s: %s", short(e.f.ID), e.f.state(), e.f.Summary)
}

// showEvent shows one line of a log and says whether it was the last.
func (a *app) showEvent(p *progress, line []byte) (last bool) {
	var e event
	if json.Unmarshal(line, &e) != nil {
		return false
	}
	switch {
	case a.json:
		a.outMu.Lock()
		a.stdout.Write(line)
		a.outMu.Unlock()
	case e.Event == "progress":
		p.what, p.speed = e.Machine, e.BytesPerSecond
		if isTerminal(a.stderr) && !a.quiet {
			p.draw(e.DoneBytes, e.TotalBytes)
		}
	case e.Text != "":
		p.end()
		a.note("%s", e.Text)
	}
	return e.Event == "end"
}

func (a *app) runStopCommand() *cobra.Command {
	return &cobra.Command{
		Use: "stop RUN", Short: "Ask a run to stop safely, as Ctrl-C does",
		Example:     "  lifeboat run stop 3f2a\n  lifeboat run list",
		Annotations: exits(), Args: exactArgs("the id of a run"),
		ValidArgsFunction: a.completeRuns,
		RunE: func(c *cobra.Command, args []string) error {
			f, err := a.findRun(args[0])
			if err != nil {
				return err
			}
			if f.Exit != nil || !f.Process.alive() {
				return usagef("run %s is not running: it is %s", short(f.ID), f.state())
			}
			if err := f.Process.signal(syscall.SIGINT); err != nil {
				return fmt.Errorf("signal run %s: %w", short(f.ID), err)
			}
			if a.json {
				a.printJSON(event{Event: "stopping", Time: a.now().UTC(), Run: f.ID})
			}
			a.note("run %s was asked to stop; follow it with: lifeboat run attach %s", short(f.ID), short(f.ID))
			return nil
		},
	}
}

func (a *app) completeRuns(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	all, err := a.listRuns()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, f := range all {
		names = append(names, short(f.ID)+"\t"+f.Kind+" "+f.state())
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
