package runbook

import "time"

// Limits are how much of a plan is done at the same time. Zero is a default.
type Limits struct {
	// Boots is how many machines start at the same time on a host of which the plan
	// says nothing (4), BootsPerDrive how many from one drive: a spinning disk that
	// serves twenty starts at once serves none (8). Drives says it of single drives,
	// by their ids.
	Boots, BootsPerDrive int
	Drives               map[string]int
	// Commands is how many of run and guest go on at the same time (8), Settles how
	// many machines of one drive move to local disk (1).
	Commands, Settles int
	// Storm is for how long a machine counts as starting after its boot step: until
	// its check passed, but no longer than this (2 minutes). A check that waits for
	// something else would otherwise keep that from starting.
	Storm time.Duration
	// Pause is how long to wait before a step is tried again (5 s). It doubles with
	// each try, up to a minute.
	Pause time.Duration
	// HostWait is how long a run that is taken up again waits for a host that does
	// not answer yet (5 minutes): after a power cut it may still start.
	HostWait time.Duration
}

const (
	defaultBoots         = 4
	defaultBootsPerDrive = 8
	defaultCommands      = 8
	defaultSettles       = 1
	defaultStorm         = 2 * time.Minute
	defaultPause         = 5 * time.Second
	maxPause             = time.Minute
	defaultHostWait      = 5 * time.Minute
	// DefaultLimit is how long a run or a guest step may take that says nothing of it.
	DefaultLimit = 15 * time.Minute
)

// orDefaults fills in what was not said.
func (l Limits) orDefaults() Limits {
	fill := func(n *int, otherwise int) {
		if *n <= 0 {
			*n = otherwise
		}
	}
	fill(&l.Boots, defaultBoots)
	fill(&l.BootsPerDrive, defaultBootsPerDrive)
	fill(&l.Commands, defaultCommands)
	fill(&l.Settles, defaultSettles)
	if l.Storm <= 0 {
		l.Storm = defaultStorm
	}
	if l.Pause <= 0 {
		l.Pause = defaultPause
	}
	if l.HostWait <= 0 {
		l.HostWait = defaultHostWait
	}
	return l
}

// pauseBefore is the wait before a step that was tried so often is tried again.
func (l Limits) pauseBefore(tries int) time.Duration {
	pause := l.Pause
	for range tries - 1 {
		if pause *= 2; pause >= maxPause {
			return max(maxPause, l.Pause)
		}
	}
	return pause
}

// stepLimit is when a step is ended by force; 0: by nobody. A check bounds itself,
// and a boot waits for its drive as long as it takes.
func stepLimit(s PlannedStep) time.Duration {
	switch s.Kind {
	case StepRun, StepGuest:
		if s.Step.Limit <= 0 {
			return DefaultLimit
		}
		return s.Step.Limit
	case StepConfirm:
		return s.Step.Limit
	}
	return 0
}

// hasRoom says whether a step may begin beside those that go on.
func (c *conductor) hasRoom(s PlannedStep) bool {
	switch s.Kind {
	case StepBoot:
		return c.roomToBoot(c.run.machine(s.Machine))
	case StepRun, StepGuest:
		return c.count(func(f *flight) bool { return f.step.Kind == StepRun || f.step.Kind == StepGuest }) < c.limits.Commands
	case StepSettle:
		drives := c.run.machine(s.Machine).DriveIDs
		return c.count(func(f *flight) bool { return f.step.Kind == StepSettle && f.reads(drives) }) < c.limits.Settles
	case StepConfirm:
		// Two questions at once on one terminal would get each other's answers.
		return c.count(func(f *flight) bool { return f.step.Kind == StepConfirm }) == 0
	}
	return true
}

// roomToBoot says whether a machine may start on its host and from its drives.
func (c *conductor) roomToBoot(m *MachineState) bool {
	boots := c.limits.Boots
	for _, h := range c.run.Plan.Hosts {
		if h.Name == m.Host && h.Boots > 0 {
			boots = h.Boots
		}
	}
	if c.count(func(f *flight) bool { return f.host == m.Host && c.starts(f) }) >= boots {
		return false
	}
	for _, id := range m.DriveIDs {
		most := c.limits.BootsPerDrive
		if n := c.limits.Drives[id]; n > 0 {
			most = n
		}
		if c.count(func(f *flight) bool { return c.starts(f) && f.reads([]string{id}) }) >= most {
			return false
		}
	}
	return true
}

// starts says that a machine is starting: it boots, or its check began lately.
func (c *conductor) starts(f *flight) bool {
	return f.step.Kind == StepBoot || f.step.Kind == StepCheck && f.host != "" && c.tick.Sub(f.began) < c.limits.Storm
}

func (c *conductor) count(which func(*flight) bool) int {
	n := 0
	for _, f := range c.flights {
		if which(f) {
			n++
		}
	}
	return n
}
