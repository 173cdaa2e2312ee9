package main

import (
	"context"
	"fmt"
	"os/exec"
)

// figurePlan is the figure of how long a plan is resolved, in seconds.
const figurePlan = "resolve-s"

// measurePlan lets the benchmark of runbooks resolve a plan of 500 machines on 20
// hosts with 2,000 steps, a few times.
func measurePlan(ctx context.Context, w *workplace, r *report) error {
	w.say("a plan of 500 machines")
	out, err := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^BenchmarkResolve500$", "-benchtime", "5x", "./runbook").CombinedOutput()
	v, found := benchFigures(string(out))[figurePlan]
	if err == nil && !found {
		err = fmt.Errorf("it printed no figure %s", figurePlan)
	}
	if err != nil {
		return fmt.Errorf("measure a plan of 500 machines: %w\n%s", err, out)
	}
	r.note(figurePlan, v)
	return nil
}
