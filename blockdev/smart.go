package blockdev

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

// Health is what a disk says of itself through SMART.
type Health struct {
	// Verdict is good, failing, or unknown.
	Verdict HealthVerdict `json:"verdict"`
	// Why says in words what is bad, or why nothing is known.
	Why string `json:"why,omitempty"`
	// Reallocated and Pending count sectors that were replaced, and that could not
	// be read and wait for being written.
	Reallocated int64 `json:"reallocated,omitempty"`
	Pending     int64 `json:"pending,omitempty"`
	Hours       int64 `json:"hours,omitempty"`
	Celsius     int64 `json:"celsius,omitempty"`
}

// HealthVerdict is the short answer.
type HealthVerdict string

// The verdicts.
const (
	HealthGood    HealthVerdict = "good"
	HealthFailing HealthVerdict = "failing"
	HealthUnknown HealthVerdict = "unknown"
)

const (
	smartTimeout = 30 * time.Second
	longestSmart = 1 << 20 // smartctl prints some tens of KiB
)

// CheckHealth asks smartctl, where it is installed. A disk that does not answer,
// such as one behind a USB bridge that does not pass the question on, is unknown,
// and that is no error.
func CheckHealth(ctx context.Context, d Device) Health {
	ctx, cancel := context.WithTimeout(ctx, smartTimeout)
	defer cancel()
	program, err := exec.LookPath("smartctl")
	if err != nil {
		return Health{Verdict: HealthUnknown, Why: "smartctl is not installed"}
	}
	c := exec.CommandContext(ctx, program, "--json", "--health", "--attributes", d.Path)
	c.WaitDelay = time.Second
	var out bytes.Buffer
	c.Stdout = &limited{w: &out, left: longestSmart}
	// Its exit code is a set of bits that the document repeats.
	if err := c.Run(); err != nil && ctx.Err() != nil {
		return Health{Verdict: HealthUnknown, Why: "smartctl did not answer in time"}
	}
	return parseHealth(out.Bytes())
}

// limited refuses more than it is meant to hold.
type limited struct {
	w    io.Writer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	if len(p) > l.left {
		return 0, errors.New("more than smartctl ever prints")
	}
	l.left -= len(p)
	return l.w.Write(p)
}

// smartDocument is the part of smartctl's JSON that is used.
type smartDocument struct {
	Smartctl struct {
		Messages []struct {
			String string `json:"string"`
		} `json:"messages"`
	} `json:"smartctl"`
	Status *struct {
		Passed bool `json:"passed"`
	} `json:"smart_status"`
	PowerOn struct {
		Hours int64 `json:"hours"`
	} `json:"power_on_time"`
	Temperature struct {
		Current int64 `json:"current"`
	} `json:"temperature"`
	Attributes struct {
		Table []struct {
			ID  int `json:"id"`
			Raw struct {
				Value int64 `json:"value"`
			} `json:"raw"`
		} `json:"table"`
	} `json:"ata_smart_attributes"`
	NVMe struct {
		MediaErrors int64 `json:"media_errors"`
	} `json:"nvme_smart_health_information_log"`
}

// parseHealth reads smartctl's answer; any bytes give an answer.
func parseHealth(data []byte) Health {
	var s smartDocument
	if err := json.Unmarshal(data, &s); err != nil {
		return Health{Verdict: HealthUnknown, Why: "smartctl's answer was not understood"}
	}
	h := Health{Verdict: HealthUnknown, Hours: max(s.PowerOn.Hours, 0), Celsius: s.Temperature.Current}
	for _, a := range s.Attributes.Table {
		switch a.ID {
		case 5:
			h.Reallocated = a.Raw.Value
		case 197:
			h.Pending = a.Raw.Value
		}
	}
	switch {
	case s.Status == nil:
		h.Why = "the disk, or the box it is in, does not tell"
		if len(s.Smartctl.Messages) > 0 {
			h.Why = cmp.Or(printable(s.Smartctl.Messages[0].String), h.Why)
		}
	case !s.Status.Passed:
		h.Verdict, h.Why = HealthFailing, "the disk says that it is about to fail"
	default:
		h.Verdict = HealthGood
	}
	var bad []string
	if h.Pending > 0 {
		bad = append(bad, fmt.Sprintf("%d sectors cannot be read", h.Pending))
	}
	if s.NVMe.MediaErrors > 0 {
		bad = append(bad, fmt.Sprintf("%d errors of its memory", s.NVMe.MediaErrors))
	}
	if len(bad) > 0 {
		h.Verdict, h.Why = HealthFailing, strings.Join(bad, ", ")
	}
	return h
}
