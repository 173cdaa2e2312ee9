package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"lifeboat/hypervisor"
)

var _ hypervisor.GuestRunner = (*Host)(nil)

// agentCommand has one command carried out by the agent of a machine, on a
// connection of its own: QEMU lets one at a time have the agent, and others want
// it too.
func (m *machine) agentCommand(ctx context.Context, command string, arguments map[string]any) (json.RawMessage, error) {
	a, err := dialAgent(ctx, filepath.Join(m.sockets(), agentSocket))
	if err != nil {
		return nil, err
	}
	defer a.close()
	var answer json.RawMessage
	err = a.run(ctx, agentPatience, command, arguments, &answer)
	return answer, err
}

// GuestRun runs a program in a guest through its agent.
func (h *Host) GuestRun(ctx context.Context, name string, c hypervisor.GuestCommand) (hypervisor.GuestResult, error) {
	m, err := h.find(name)
	if err != nil {
		return hypervisor.GuestResult{}, err
	}
	result, err := hypervisor.RunInGuest(ctx, m.agentCommand, c)
	if err != nil {
		err = fmt.Errorf("%s: %w", m.name(), err)
	}
	return result, err
}

// GuestPing says whether the agent of a guest answers.
func (h *Host) GuestPing(ctx context.Context, name string) error {
	m, err := h.find(name)
	if err != nil {
		return err
	}
	_, err = m.agentCommand(ctx, "guest-ping", nil)
	return err
}

// Run runs a program in a guest through its agent and returns what it printed.
// A program that fails is an error with what it printed to stderr.
func (h *Host) Run(ctx context.Context, name, path string, arguments ...string) (string, error) {
	r, err := h.GuestRun(ctx, name, hypervisor.GuestCommand{Path: path, Args: arguments})
	if err == nil && r.ExitCode != 0 {
		err = fmt.Errorf("run %s in %s: %w", path, name, errors.New(hypervisor.GuestWords(fmt.Sprintf("it ended with %d: %s", r.ExitCode, r.Stderr))))
	}
	return string(r.Stdout), err
}
