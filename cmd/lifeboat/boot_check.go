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
)

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
				Next: "look at its screen: lifeboat console " + shellWord(m.Name) + "; if its system does not find its disk, remove it and boot it with --disks sata",
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
