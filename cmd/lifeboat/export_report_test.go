package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestATimeThatAHostDoesNotTellIsNotZero(t *testing.T) {
	for told, want := range map[time.Duration]string{-1: "-", 0: humanSeconds(0), 55 * time.Millisecond: humanSeconds(0.055)} {
		if got := pausedWord(toldSeconds(told)); got != want {
			t.Errorf("%v is shown as %q", told, got)
		}
	}
	text, err := json.Marshal(exportResult{FrozenSeconds: toldSeconds(0), PausedSeconds: toldSeconds(-1)})
	if err != nil || !strings.Contains(string(text), `"frozenSeconds":0`) || strings.Contains(string(text), "pausedSeconds") {
		t.Errorf("%s, %v", text, err)
	}
}
