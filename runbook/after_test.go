package runbook

import (
	"slices"
	"strings"
	"testing"
)

// threeTiers is the beginning of a file: db, then app, then web.
const threeTiers = "version: 1\nnetworks:\n  lan:\n    recover: nat\nmachines:\n  db:\n    checks: [{tcp: 22}]\n  app:\n    tier: 2\n    checks: [{tcp: 22}]\n  web:\n    tier: 3\n    checks: [{tcp: 22}]\n"

// A name of after: that stands for nothing in this mode means what would have come
// before it: nothing begins before it may.
func TestANameOfAStepThatIsNotDoneHereKeepsItsPlace(t *testing.T) {
	cases := []struct {
		name, steps string
		mode        Mode
		step        string
		waits       []string
	}{
		{"the release of a tier in a drill", "  - id: dns\n    run: [x]\n    after: release-tier-1\n", Drill, "dns", []string{"check-app", "check-db", "check-web"}},
		{"the release of a tier where nothing is isolated", "  - id: dns\n    run: [x]\n    after: release-tier-3\n", Recover, "dns", []string{"check-app", "check-db", "check-web"}},
		{"plugging in, in a drill", "  - id: smoke\n    run: [x]\n    after: connect-web\n", Drill, "smoke", []string{"boot-web"}},
		{"a named plugging in, in a drill", "  - id: plug\n    connect: web\n  - id: smoke\n    run: [x]\n    after: plug\n", Drill, "smoke", []string{"boot-web"}},
		{"moving what is not moved", "  - id: bye\n    run: [x]\n    after: settle-web\n", Recover, "bye", []string{"check-web"}},
		{"a part of a step of recoveries", "  - guest: [db, app]\n    command: [x]\n    when: recover\n  - id: smoke\n    run: [x]\n    after: guest-app\n", Drill, "smoke", []string{"boot-app", "check-app"}},
		{"all of a step of recoveries", "  - id: both\n    guest: [db, app]\n    command: [x]\n    when: recover\n  - id: smoke\n    run: [x]\n    after: both\n", Drill, "smoke", []string{"boot-app", "boot-db", "check-app", "check-db"}},
		{"a boot that only a recovery names", "  - id: start\n    boot: web\n    when: recover\n  - id: smoke\n    run: [x]\n    after: start\n", Drill, "smoke", []string{"boot-web"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b, err := Parse("shop", []byte(threeTiers+"steps:\n"+c.steps))
			if err != nil {
				t.Fatal(err)
			}
			p := resolved(t, b, shopSituation(c.mode))
			if err := p.StopsPlan(); err != nil {
				t.Error(err)
			}
			i := slices.IndexFunc(p.Steps, func(s PlannedStep) bool { return s.ID == c.step })
			if got := slices.Sorted(slices.Values(p.Steps[i].After)); !slices.Equal(got, c.waits) {
				t.Errorf("%s waits for %v, not for %v", c.step, got, c.waits)
			}
		})
	}
}

// A machine that the plan leaves out is waited for by nobody, whatever of it is named.
func TestNobodyWaitsForAMachineThatIsLeftOut(t *testing.T) {
	b, err := Parse("shop", []byte(threeTiers+"steps:\n  - guest: [db, web]\n    command: [x]\n  - id: dns\n    run: [x]\n    after: [guest-web, guest-db, connect-web]\n"))
	if err != nil {
		t.Fatal(err)
	}
	s := shopSituation(Recover)
	s.Only = []string{"db"}
	p := resolved(t, b, s)
	if err := p.StopsPlan(); err != nil {
		t.Error(err)
	}
	after(t, p, "guest-db", "dns")
}

// An id that means something else as well is refused: after: could not tell the
// person's step from the machine's.
func TestAnIDHasOneMeaning(t *testing.T) {
	for _, c := range []struct{ steps, says string }{
		{"  - id: check-web\n    run: [x]\n", `the id "check-web" means the check step of machine web`},
		{"  - id: check-web\n    check: web\n    checks: [{ping: true}]\n", "means the check step of machine web"},
		{"  - id: boot-db\n    boot: app\n", "means the boot step of machine db"},
		{"  - id: boot-db\n    boot: [app, db]\n", "means the boot step of machine db"},
		{"  - id: guest-db\n    confirm: Really?\n", "means the guest step of machine db"},
		{"  - id: web\n    run: [x]\n", "means the machine web"},
		{"  - id: release-tier-2\n    run: [x]\n", "means the release of tier 2"},
		{"  - id: dns\n    run: [x]\n    after: release-tier-9\n", `called "release-tier-9"`},
		{"  - id: dns\n    run: [x]\n    after: release-tier-one\n", `called "release-tier-one"`},
		{"  - id: dns\n    run: [x]\n    after: guest-web\n", `called "guest-web"`},
	} {
		if _, err := Parse("shop", []byte(threeTiers+"steps:\n"+c.steps)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.steps, err)
		}
	}
	b, err := Parse("shop", []byte(threeTiers+"steps:\n  - id: boot-db\n    boot: db\n  - check: web\n    checks: [{ping: true}]\n  - id: check-web-2\n    run: [x]\n  - id: dns\n    run: [x]\n    after: check-web-2\n"))
	if err != nil {
		t.Fatal(err)
	}
	p := resolved(t, b, shopSituation(Recover))
	i := slices.IndexFunc(p.Steps, func(s PlannedStep) bool { return s.ID == "check-web-2" })
	if i < 0 || p.Steps[i].Kind != StepRun || p.Steps[i].Step.Command == nil {
		t.Errorf("a step of the file lost its id to another:\n%s", stepsText(p))
	}
	after(t, p, "check-web-2", "dns")
}
