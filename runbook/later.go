package runbook

import "slices"

// isPart says that a process left out steps which the next one does: the run has not
// come to its end.
func (r *Run) isPart() bool {
	return slices.ContainsFunc(r.Steps, func(s StepState) bool { return s.Status == StatusSkipped && s.once })
}

// endLater takes up how a run ended that was taken up again after it had passed.
func (r *Run) endLater(outcome string) {
	l := &r.later[len(r.later)-1]
	l.Ended, l.Outcome = r.at(r.Since), outcome
	waiting, failed, without, _ := r.bad()
	l.Problems = slices.Concat(waiting, failed, without)
	for _, was := range r.passed.Machines {
		if m := r.machine(was.Name); m.Point.ID != was.PointID || m.Host != was.Host {
			l.Machines = append(l.Machines, LaterMachine{Name: m.Name, PointID: m.Point.ID, TakenAt: m.Point.TakenAt, Host: m.Host})
		}
	}
}
