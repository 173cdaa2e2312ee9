package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
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
	AgeSeconds    float64      `json:"ageSeconds"`
	PowerSeconds  float64      `json:"powerSeconds"`
	AnswerSeconds float64      `json:"answerSeconds,omitempty"`
	Answer        string       `json:"answer,omitempty"`
	Problem       *problemJSON `json:"problem,omitempty"`

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

// all boots every machine in order. One that fails stops the rest, because the
// order says that they need it.
func (b *booter) all(ctx context.Context) ([]bootResult, error) {
	var results []bootResult
	for _, m := range b.plan.Machines {
		r := b.one(ctx, m)
		results = append(results, r)
		if r.err != nil {
			return results, r.err
		}
	}
	return results, nil
}

func (b *booter) one(ctx context.Context, m plannedBoot) bootResult {
	r := bootResult{Machine: m.Name, Point: m.Point.ID, TakenAt: m.Point.TakenAt, Forwards: m.Forwards,
		AgeSeconds: b.began.Sub(m.Point.TakenAt).Seconds()}
	b.tell(m.Name, "boots from point %s of %s", short(m.Point.ID), stamp(m.Point.TakenAt))
	if r.err = b.start(ctx, m); r.err == nil {
		r.PowerSeconds = time.Since(b.began).Seconds()
		r.Answer, r.err = b.wait(ctx, m)
	}
	if r.err == nil && len(m.Checks) > 0 {
		r.AnswerSeconds = time.Since(b.began).Seconds()
		b.tell(m.Name, "answers after %s", humanSeconds(r.AnswerSeconds))
	}
	if r.err == nil && b.settle {
		r.err = b.moveOff(ctx, m)
	}
	if r.err != nil {
		p := newProblemJSON("boot", r.err)
		r.Problem = &p
	}
	return r
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

func askHTTP(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
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

// moveOff moves a machine's disks to local files while it runs.
func (b *booter) moveOff(ctx context.Context, m plannedBoot) error {
	p := b.a.newProgress(b.run, m.Name+" to local disk")
	err := b.host.Settle(ctx, m.Name, p.show)
	p.end()
	if err != nil {
		return fmt.Errorf("%s: move its disks to this host: %w", m.Name, err)
	}
	for i := range b.booted.Machines {
		if b.booted.Machines[i].Name == m.Name {
			b.booted.Machines[i].Settled = true
		}
	}
	b.tell(m.Name, "runs from local disk now; it does not need the drive any more")
	return b.booted.save(filepath.Join(b.a.runsDir(), b.run.ID))
}
