package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"image/png"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"lifeboat/hypervisor"
	"lifeboat/runbook"
)

const (
	// lookPatience bounds a look: it must not hold a recovery up.
	lookPatience = 30 * time.Second
	// mostScreenshot and mostConsole bound what is kept of one look.
	mostScreenshot = 8 << 20
	mostConsole    = 16 << 10
	// mostScreen is the side of the largest screen that is kept.
	mostScreen = 8192
)

// Look keeps the screen and the last lines of the serial console of a machine.
func (w *world) Look(ctx context.Context, act runbook.Action) (e runbook.Evidence, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, lookPatience, errSlow)
	defer cancel()
	host, l, there, err := w.machineOf(ctx, act)
	if err != nil || !there {
		return e, err
	}
	dir := filepath.Join(w.o.run.dir, evidenceDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return e, err
	}
	base := evidenceName(act.Machine.Name, fmt.Sprintf("%s-%d-%d", act.Step.ID, act.Form, act.Attempt))
	picture, screenErr := host.Screenshot(ctx, hostWord(l))
	if screenErr == nil {
		screenErr = checkScreenshot(picture)
	}
	if screenErr == nil {
		if screenErr = writeFile(filepath.Join(dir, base+".png"), picture, 0o600); screenErr == nil {
			e.Screenshot = filepath.Join(evidenceDir, base+".png")
		}
	}
	text, printErr := printed(ctx, host, hostWord(l))
	if printErr == nil {
		if printErr = writeFile(filepath.Join(dir, base+".txt"), text, 0o600); printErr == nil {
			e.Console = filepath.Join(evidenceDir, base+".txt")
		}
	}
	return e, errors.Join(screenErr, printErr)
}

// printed are the last lines of a machine's serial console, without anything that
// a terminal would obey.
func printed(ctx context.Context, host hypervisor.Host, machine string) ([]byte, error) {
	p, ok := host.(hypervisor.Printer)
	if !ok {
		return nil, hypervisor.ErrUnsupported
	}
	text, err := p.Printed(ctx, machine, mostConsole)
	if err != nil {
		return nil, err
	}
	return consoleText(text), nil
}

// terminalOrder is a sequence that a terminal obeys and nobody reads: colours, and
// questions where the cursor is.
var terminalOrder = regexp.MustCompile(`\x1b(\[[0-9;:?<=>]*[ -/]*[@-~]|[()][0-9A-B]|[=>78])`)

// consoleText is what a machine printed as people read it.
func consoleText(text []byte) []byte {
	text = terminalOrder.ReplaceAll(text, nil)
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	var lines bytes.Buffer
	for line := range bytes.Lines(text) {
		lines.WriteString(plainText(string(bytes.TrimRight(line, "\r\n"))) + "\n")
	}
	return lines.Bytes()
}

// checkScreenshot refuses what is no picture of a screen: it goes into reports.
func checkScreenshot(data []byte) error {
	if len(data) > mostScreenshot {
		return fmt.Errorf("the screenshot of %s is larger than any screen's", humanBytes(int64(len(data))))
	}
	c, err := png.DecodeConfig(bytes.NewReader(data))
	if err == nil && (c.Width > mostScreen || c.Height > mostScreen) {
		err = fmt.Errorf("%d by %d pixels are no screen", c.Width, c.Height)
	}
	return err
}

var plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,47}$`)

// evidenceName is the name of a file for a machine, which may be called anything,
// and a step. Two never have the same.
func evidenceName(machine, step string) string {
	sum := sha256.Sum256([]byte(machine + "\x00" + step))
	word := "machine"
	if plainName.MatchString(machine) {
		word = machine
	}
	return word + "-" + hex.EncodeToString(sum[:6])
}
