package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"lifeboat"
	"lifeboat/hypervisor"
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
		answer, err := b.ask(ctx, m, c)
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

// tellEvery is how often a host is asked for an address that the guest does not
// tell yet.
const tellEvery = 2 * time.Second

// dial is where a service is asked. On a network with others, a machine has the
// address that its guest tells now, where the host hears that: the one in the
// point may be another's today, and its answer would prove nothing.
func (b *booter) dial(ctx context.Context, m plannedBoot, c bootCheck) (string, error) {
	host, hears := b.host.(hypervisor.Addresser)
	if !c.direct || m.readdressed || !hears {
		return c.Dial, nil
	}
	name := b.booted.machine(m.Name).HostID
	if name == "" {
		name = m.Name
	}
	cards, err := host.Addresses(ctx, name)
	if err != nil {
		return "", fmt.Errorf("ask for its address: %w", err)
	}
	for _, card := range cards {
		if p, ok := addressOf(card); ok {
			return net.JoinHostPort(p.Addr().String(), strconv.Itoa(c.Port)), nil
		}
	}
	select {
	case <-ctx.Done():
	case <-time.After(tellEvery):
	}
	return "", fmt.Errorf("its guest tells no address (VMware Tools do); give it with --address %s=ADDRESS/BITS", shellWord(m.Name))
}

// ask asks a service once.
func (b *booter) ask(ctx context.Context, m plannedBoot, c bootCheck) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	to, err := b.dial(ctx, m, c)
	if err != nil {
		return "", err
	}
	if c.Kind == "http" {
		return askHTTP(ctx, "http://"+to+c.Path)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", to)
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
