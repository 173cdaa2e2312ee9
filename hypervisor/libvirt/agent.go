//go:build libvirt_dlopen && cgo

package libvirt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	lv "libvirt.org/go/libvirt"
)

// agentPatience is how long the guest's agent may take for an ordinary answer.
const agentPatience = 3 * time.Second

// agentBytesMost bounds what a guest may answer.
const agentBytesMost = 1 << 20

// askAgent carries out one command of the guest's agent. It goes past libvirt's
// own verbs (and leaves a line in the domain's log) because those have no limit
// of time: a guest that takes a minute to freeze would hold libvirt's line to its
// agent for that minute, and nobody could thaw it.
func (d *domain) askAgent(ctx context.Context, patience time.Duration, command string, arguments map[string]any) (json.RawMessage, error) {
	order := map[string]any{"execute": command}
	if len(arguments) > 0 {
		order["arguments"] = arguments
	}
	text, err := json.Marshal(order)
	if err != nil {
		return nil, err
	}
	seconds := lv.DomainQemuAgentCommandTimeout(max(1, int(patience/time.Second)))
	var said string
	err = d.do(ctx, "ask the guest's agent", func(dom *lv.Domain) (err error) {
		said, err = dom.QemuAgentCommand(string(text), seconds, 0)
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(said) > agentBytesMost {
		return nil, fmt.Errorf("the guest's agent answers %s with %d bytes", command, len(said))
	}
	var answer struct{ Return json.RawMessage }
	if err := json.Unmarshal([]byte(said), &answer); err != nil {
		return nil, fmt.Errorf("the guest's agent does not answer %s in order: %w", command, err)
	}
	return answer.Return, nil
}

// runAgent is askAgent for hypervisor.AskGuest.
func (d *domain) runAgent(ctx context.Context, command string, arguments map[string]any) (json.RawMessage, error) {
	return d.askAgent(ctx, agentPatience, command, arguments)
}

// pingPatience is how long the guest's agent may take to say that it is there.
const pingPatience = time.Second

// pingGuest asks whether the guest's agent is there.
func (d *domain) pingGuest(ctx context.Context) error {
	_, err := d.askAgent(ctx, pingPatience, "guest-ping", nil)
	return err
}

// frozenByOthers says whether the guest's file systems are frozen already.
func (d *domain) frozenByOthers(ctx context.Context) (bool, error) {
	answer, err := d.askAgent(ctx, pingPatience, "guest-fsfreeze-status", nil)
	if err != nil {
		return false, err
	}
	var status string
	if err := json.Unmarshal(answer, &status); err != nil {
		return false, errors.New("the guest's agent does not say whether its file systems are frozen")
	}
	return status == "frozen", nil
}

// freezeGuest freezes the guest's file systems. After an error some of them may
// be frozen, or be frozen later: thaw.
func (d *domain) freezeGuest(ctx context.Context) error {
	answer, err := d.askAgent(ctx, freezePatience, "guest-fsfreeze-freeze", nil)
	if err != nil {
		return err
	}
	var count int
	if err := json.Unmarshal(answer, &count); err != nil || count <= 0 {
		return errors.New("the guest has no file system that can be frozen")
	}
	return nil
}

// thawGuest thaws the guest's file systems. It asks again until ctx ends: an
// agent that is still busy freezing does not listen.
func (d *domain) thawGuest(ctx context.Context) error {
	for {
		_, err := d.askAgent(ctx, agentPatience, "guest-fsfreeze-thaw", nil)
		if err == nil {
			return nil
		}
		if on, offErr := d.active(ctx); offErr == nil && !on {
			return nil // nothing is frozen that does not run
		}
		if pause(ctx, rescueInterval) != nil {
			return err
		}
	}
}

// active says that the machine runs or is paused, and not off.
func (d *domain) active(ctx context.Context) (bool, error) {
	return onDomain(ctx, d, "see whether it runs", func(dom *lv.Domain) (bool, error) { return dom.IsActive() })
}
