package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"lifeboat"
	"lifeboat/hypervisor"
	"lifeboat/hypervisor/qemu"
)

// bootResult is what became of one machine.
type bootResult struct {
	Machine  string        `json:"machine"`
	Point    string        `json:"point"`
	TakenAt  time.Time     `json:"takenAt"`
	Forwards []bootForward `json:"forwards,omitempty"`
	// AgeSeconds is the age of the data when the boot was asked for: what is
	// lost (RPA). AnswerSeconds is from the start of the command to the answer
	// of the last check (RTA); zero where nothing was checked.
	AgeSeconds    float64 `json:"ageSeconds"`
	PowerSeconds  float64 `json:"powerSeconds"`
	AnswerSeconds float64 `json:"answerSeconds,omitempty"`
	Answer        string  `json:"answer,omitempty"`
	// ReadBytes were read from the drive while this machine started, by it and
	// by those that ran already.
	ReadBytes int64 `json:"readBytes"`
	// Skipped says why nothing was tried.
	Skipped string       `json:"skipped,omitempty"`
	Problem *problemJSON `json:"problem,omitempty"`

	err error
}

// booter boots the machines of a plan, one after the other.
type booter struct {
	a       *app
	host    *qemu.Host
	run     *run
	booted  *bootedRun
	plan    *bootPlan
	began   time.Time
	timeout time.Duration
	settle  bool
}

// all boots every machine in order, and moves them to local disk afterwards
// where that is wanted. One that fails stops the rest, because the order says
// that they need it.
func (b *booter) all(ctx context.Context) ([]bootResult, error) {
	var results []bootResult
	var failed error
	for _, m := range b.plan.Machines {
		if failed != nil {
			results = append(results, bootResult{Machine: m.Name, Point: m.Point.ID, TakenAt: m.Point.TakenAt, Skipped: "not tried: a machine before it failed"})
			continue
		}
		r := b.one(ctx, m)
		results = append(results, r)
		failed = r.err
	}
	if failed == nil && b.settle {
		failed = b.settleAll(ctx)
	}
	return results, b.outcome(ctx, results, failed)
}

func (b *booter) one(ctx context.Context, m plannedBoot) bootResult {
	r := bootResult{Machine: m.Name, Point: m.Point.ID, TakenAt: m.Point.TakenAt, Forwards: m.Forwards,
		AgeSeconds: b.began.Sub(m.Point.TakenAt).Seconds()}
	b.tell(m.Name, "boots from point %s of %s", short(m.Point.ID), stamp(m.Point.TakenAt))
	before, _ := readServing(b.booted.dir(b.a))
	if r.err = b.start(ctx, m); r.err == nil {
		r.PowerSeconds = time.Since(b.began).Seconds()
		r.Answer, r.err = b.wait(ctx, m)
	}
	if r.err == nil && len(m.Checks) > 0 {
		r.AnswerSeconds = time.Since(b.began).Seconds()
		b.tell(m.Name, "answers after %s", humanSeconds(r.AnswerSeconds))
	}
	if after, err := readServing(b.booted.dir(b.a)); err == nil {
		r.ReadBytes = after.ReadBytes - before.ReadBytes
	}
	if r.err != nil {
		p := newProblemJSON("boot", r.err)
		r.Problem = &p
	}
	return r
}

// outcome turns what became of the machines into the command's own: stopped by a
// person, failed, or done in part.
func (b *booter) outcome(ctx context.Context, results []bootResult, failed error) error {
	if failed == nil {
		return nil
	}
	running := b.running(context.WithoutCancel(ctx))
	safe, next := "no machine runs; the drive was only read", "run the command again"
	if len(running) > 0 {
		safe = fmt.Sprintf("%s run on, with what they wrote; the drive was only read", list(running))
		next = "see them: lifeboat ps; end them: lifeboat stop --all --remove"
	}
	switch {
	case ctx.Err() != nil:
		return &lifeboat.Problem{What: fmt.Sprintf("stopped; %d of %d machines run", len(running), len(b.plan.Machines)), Safe: safe, Next: next, Err: context.Cause(ctx)}
	case len(running) == 0 || len(results) == 1:
		return failed
	}
	p := problemOf(failed)
	return &lifeboat.Problem{What: fmt.Sprintf("%d of %d machines run; %s", len(running), len(b.plan.Machines), p.What), Safe: safe, Next: p.Next, Err: errors.Join(lifeboat.ErrPartial, failed)}
}

// running names the machines of this boot that have power: the host knows, also
// when this command was stopped half-way.
func (b *booter) running(ctx context.Context) []string {
	there, _ := b.a.machinesOf(ctx, b.booted)
	var names []string
	for _, m := range b.booted.Machines {
		if l, ok := there[m.Name]; ok && l.Power != hypervisor.PowerOff {
			names = append(names, m.Name)
		}
	}
	return names
}

func (b *booter) tell(machine, format string, args ...any) {
	text := machine + ": " + fmt.Sprintf(format, args...)
	e := event{Event: "boot", Time: time.Now().UTC(), Machine: machine, Text: text}
	b.run.log(e)
	if b.a.json {
		b.a.printJSON(e)
		return
	}
	b.a.note("%s", text)
}

// start defines the machine on this host and gives it power.
func (b *booter) start(ctx context.Context, m plannedBoot) error {
	d := hypervisor.Definition{Machine: m.Point.Machine, Name: m.Name, Networks: m.Networks, Recovery: b.run.ID, Disks: map[string]hypervisor.Backing{}}
	for _, known := range b.booted.Machines {
		if known.Name != m.Name {
			continue
		}
		for key, export := range known.Exports {
			d.Disks[key] = hypervisor.Backing{NBD: &hypervisor.NBDBacking{Socket: b.booted.Socket, Export: export}}
		}
	}
	if err := b.host.Define(ctx, d); err != nil {
		return b.problem(m, err)
	}
	if err := b.host.PowerOn(ctx, m.Name); err != nil {
		// It never ran, so nothing is lost with it.
		rerr := b.host.Remove(context.WithoutCancel(ctx), m.Name)
		return errors.Join(b.problem(m, err), rerr)
	}
	return nil
}

// problem says what a machine that does not start means.
func (b *booter) problem(m plannedBoot, err error) error {
	var p *lifeboat.Problem
	if errors.As(err, &p) {
		return err
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s: it does not start: %v", m.Name, err),
		Safe: fmt.Sprintf("drive %s is only read; the point is unchanged", b.booted.Drive.Label),
		Next: "see what this host can do: lifeboat host check " + shellWord(b.host.Name()),
		Err:  err,
	}
}

// wait asks the machine's checks until all answer, and returns the last answer.
func (b *booter) wait(ctx context.Context, m plannedBoot) (string, error) {
	answer := ""
	for _, c := range m.Checks {
		var err error
		if answer, err = b.waitFor(ctx, m, c); err != nil {
			return "", err
		}
	}
	return answer, nil
}

// checkEvery is how often a service that does not answer yet is asked again.
const checkEvery = 250 * time.Millisecond

func (b *booter) waitFor(ctx context.Context, m plannedBoot, c bootCheck) (string, error) {
	limit := time.Now().Add(b.timeout)
	for {
		answer, err := b.ask(ctx, c)
		if err == nil {
			return answer, nil
		}
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		if time.Now().After(limit) {
			return "", &lifeboat.Problem{
				What: fmt.Sprintf("%s: its check %s did not answer within %s: %v%s", m.Name, c, humanDuration(b.timeout), err, b.damage()),
				Safe: fmt.Sprintf("the machine runs on; drive %s is only read", b.booted.Drive.Label),
				Next: "look at its screen: lifeboat console " + shellWord(m.Name),
				Err:  err,
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(checkEvery):
		}
	}
}

// damage tells what the server of the disks could not read, if anything.
func (b *booter) damage() string {
	s, err := readServing(b.booted.dir(b.a))
	if err != nil || len(s.Damage) == 0 {
		return ""
	}
	return "; " + s.Damage[0]
}

// askLimit bounds one question to a service.
const askLimit = 10 * time.Second

// ask asks a service once.
func (b *booter) ask(ctx context.Context, c bootCheck) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	if c.Kind == "http" {
		return askHTTP(ctx, "http://"+c.Dial+c.Path)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.Dial)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if c.Guest == "" {
		return "", nil
	}
	return "", b.guestAnswers(ctx, c.Guest)
}

// guestAnswers waits until the gateway saw the machine itself take a connection.
func (b *booter) guestAnswers(ctx context.Context, port string) error {
	for {
		if s, err := readServing(b.booted.dir(b.a)); err == nil && slices.Contains(s.Answers, port) {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.New("the machine takes no connection there")
		case <-time.After(answersEvery):
		}
	}
}

// checkClient asks a recovered service and nobody else: no proxy, and no
// redirect to where production may still be.
var checkClient = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func askHTTP(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := checkClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("it answers %s", resp.Status)
	}
	return strings.TrimSpace(string(body)), nil
}

// settleAll moves the disks of all machines to local files while they run.
func (b *booter) settleAll(ctx context.Context) error {
	for i := range b.booted.Machines {
		m := &b.booted.Machines[i]
		if m.Settled {
			continue
		}
		if err := b.settleOne(ctx, m.Name); err != nil {
			return err
		}
		m.Settled = true
		if err := b.booted.save(b.booted.dir(b.a)); err != nil {
			return err
		}
		b.tell(m.Name, "runs from local disk now; it does not need the drive any more")
	}
	return nil
}

func (b *booter) settleOne(ctx context.Context, machine string) error {
	p := b.a.newProgress(b.run, machine+" to local disk")
	err := b.host.Settle(ctx, machine, p.show)
	p.end()
	if err == nil || ctx.Err() != nil {
		return err
	}
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s: its disks could not be moved to this computer: %v", machine, err),
		Safe: "the machine runs on, from the drive",
		Next: fmt.Sprintf("make room, and run: lifeboat boot --resume %s --settle", short(b.booted.Run)),
		Err:  err,
	}
}
