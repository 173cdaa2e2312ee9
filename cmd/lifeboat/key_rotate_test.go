package main

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"lifeboat/rotation"
)

// TestAStoppedRotationSaysWhatToType: the key slots are made anew at the end of
// sealing, so what goes on needs the secrets that were named before.
func TestAStoppedRotationSaysWhatToType(t *testing.T) {
	d := &openedDrive{found: rotation.Found{}}
	d.found.Drive.Label = "A"
	err := resealProblem(d, []string{"board=/media/my board.txt"}, fmt.Errorf("prune drive A: %w", context.Canceled))
	p := problemOf(err)
	if want := "lifeboat key rotate --all-data --resume --drive A --secret-of 'board=/media/my board.txt'"; !strings.HasSuffix(p.Next, want) {
		t.Errorf("next: %s\nwithout %s", p.Next, want)
	}
	if strings.Contains(p.What, "canceled") || exitCode(err) != exitStopped {
		t.Errorf("%d: %s", exitCode(err), p.What)
	}
}
