package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// progressEvery is how often a long command says how far it is: often enough
// for a person, rare enough for a log.
const (
	progressEvery     = 250 * time.Millisecond
	progressEveryJSON = time.Second
)

// progress shows how far long work is: one line that is drawn over and over on
// a terminal, an event a second with --json, nothing otherwise. Everything it
// learns also goes to the run's log, so that another terminal can follow.
type progress struct {
	a   *app
	run *run
	// what is being done, and what the line on a terminal begins with.
	what  string
	line  string
	began time.Time

	mu       sync.Mutex
	last     time.Time
	lastDone int64
	// speed is a moving average in bytes per second.
	speed float64
}

func (a *app) newProgress(r *run, what string) *progress {
	now := time.Now()
	return &progress{a: a, run: r, what: what, line: what, began: now, last: now}
}

// from says that much was done before, by an earlier run.
func (p *progress) from(done int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lastDone = done
}

// name says what the line begins with from now on.
func (p *progress) name(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.line = text
}

// show reports done of total bytes. It is cheap to call often.
func (p *progress) show(done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	every := progressEvery
	if p.a.json {
		every = progressEveryJSON
	}
	since := now.Sub(p.last)
	if since < every {
		return
	}
	p.measure(done, since)
	p.last, p.lastDone = now, done
	e := event{Event: "progress", Time: p.a.now().UTC(), Machine: p.what, DoneBytes: done, TotalBytes: total,
		BytesPerSecond: p.speed, RemainingSeconds: p.remaining(done, total).Seconds()}
	p.run.log(e)
	if p.a.watched != nil {
		p.a.watched(e)
	}
	switch {
	case p.a.json:
		p.a.printJSON(e)
	case isTerminal(p.a.stderr) && !p.a.quiet:
		p.draw(done, total)
	}
}

func (p *progress) measure(done int64, since time.Duration) {
	now := float64(done-p.lastDone) / since.Seconds()
	if p.speed == 0 {
		p.speed = now
		return
	}
	p.speed = 0.8*p.speed + 0.2*now
}

func (p *progress) remaining(done, total int64) time.Duration {
	if p.speed < 1 || total <= done {
		return 0
	}
	return time.Duration(float64(total-done) / p.speed * float64(time.Second))
}

func (p *progress) draw(done, total int64) {
	line := fmt.Sprintf("%s  %s of %s  %s/s", p.line, humanBytes(done), humanBytes(total), humanBytes(int64(p.speed)))
	if left := p.remaining(done, total); left > 0 {
		line += "  " + humanDuration(left) + " left"
	}
	p.a.outMu.Lock()
	defer p.a.outMu.Unlock()
	io.WriteString(p.a.stderr, "\r\x1b[K"+line)
	p.a.drawn = true
}

// end removes the line.
func (p *progress) end() {
	p.a.outMu.Lock()
	defer p.a.outMu.Unlock()
	p.a.clearLine()
}

// list writes names as people say them: "a, b and c".
func list(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}
