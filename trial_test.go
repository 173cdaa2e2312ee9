package lifeboat_test

import (
	"testing"

	"lifeboat"
)

func TestATrialIsKnownByTheIDOfItsSite(t *testing.T) {
	const id = "5d3a0c9e7b2f41d8a6e0935c1f7b8e24"
	trial := lifeboat.AsTrial(id)
	if lifeboat.IsTrial(id) || lifeboat.IsTrial("") || !lifeboat.IsTrial(trial) || len(trial) != len(id) || trial[10:] != id[10:] {
		t.Errorf("%q becomes %q", id, trial)
	}
}
