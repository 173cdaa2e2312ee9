package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"lifeboat"
	"lifeboat/imagestore"
)

// How a drive was opened, as a record says it.
const (
	openedTyped    = "typed"
	openedSheet    = "sheet"
	openedIdentity = "identity"
)

// openAsPeopleDo opens a drive for a drill, with the secret that people have on the
// worst day: typed at the terminal, or from --passphrase-file. Where nobody is
// there, or who is there types nothing, this computer's own key opens it, which
// the record says.
func (a *app) openAsPeopleDo(ctx context.Context, want string) (d *openedDrive, with string, err error) {
	if id, err := a.identity(); err != nil || id == nil || a.passphraseFile != "" || !isTerminal(a.stdin) {
		return a.openWithWhatIsThere(ctx, want)
	}
	found, err := a.findDrive(ctx, want)
	if err != nil {
		return nil, "", err
	}
	for try := 1; ; try++ {
		text, err := a.typeSecret(ctx, "Secret of drive "+found.Drive.Label+", as its recovery sheet has it (nothing: this computer's own key, and the drill does not count)")
		if err != nil {
			return nil, "", err
		}
		if text == "" {
			return a.openWithWhatIsThere(ctx, want)
		}
		d, err := a.openFound(ctx, found, secretKeys{Passphrase: text}, imagestore.Read, nil)
		if err == nil {
			err = a.checkSite(d)
			if err != nil {
				d.Close()
			}
			return d, openedTyped, err
		}
		if !errors.Is(err, lifeboat.ErrWrongSecret) || try == secretTries {
			return nil, "", err
		}
		a.ask("It does not open the drive.\n")
	}
}

// openWithWhatIsThere opens a drive as every command does, and says with what.
func (a *app) openWithWhatIsThere(ctx context.Context, want string) (*openedDrive, string, error) {
	d, err := a.openDrive(ctx, want, imagestore.Read)
	switch {
	case err != nil:
		return nil, "", err
	case a.passphraseFile != "":
		return d, openedSheet, nil
	case a.asked != nil:
		return d, openedTyped, nil
	default:
		return d, openedIdentity, nil
	}
}

// declaration is who declared a disaster, and why.
type declaration struct {
	By     string `json:"by,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// declare has a person type the name of the site, which nobody does by mistake,
// and say who declares the disaster and why.
func (a *app) declare(ctx context.Context, f executionFlags, site, what string) (declaration, error) {
	d := declaration{f.declaredBy, f.reason}
	if f.yesSite != "" && f.yesSite != site {
		return d, usagef("--yes-site %q is not the name of this site, which is %q", f.yesSite, site)
	}
	if f.yesSite != "" && d.By != "" && d.Reason != "" {
		return d, nil
	}
	if !isTerminal(a.stdin) {
		return d, &lifeboat.Problem{
			What: fmt.Sprintf("a person has to declare that %s is recovered in earnest, and none is here", site),
			Safe: "nothing was started; the drive was only read",
			Next: fmt.Sprintf("in a terminal, run the command again; in a script, add: --yes-site %s --declared-by NAME --reason TEXT", shellWord(site)),
			Err:  errNeedsPerson,
		}
	}
	if f.yesSite == "" {
		if err := a.confirmWord(ctx, false, what, site); err != nil {
			return d, err
		}
	}
	for _, q := range []struct {
		answer *string
		text   string
	}{{&d.By, "Who declares the disaster? "}, {&d.Reason, "What happened? "}} {
		if *q.answer != "" {
			continue
		}
		text, err := a.typeLine(ctx, q.text)
		if err != nil {
			return d, err
		}
		if *q.answer = oneLine(plainText(text)); *q.answer == "" {
			return d, &lifeboat.Problem{What: "nobody declared the disaster", Safe: "nothing was started",
				Next: "run the command again, and say who declares it and what happened", Err: errNeedsPerson}
		}
	}
	return d, nil
}

// typeLine asks a person at the terminal for a line.
func (a *app) typeLine(ctx context.Context, question string) (string, error) {
	a.ask(question)
	text, err := a.typed(ctx, func(in *os.File) (string, error) { return bufio.NewReader(in).ReadString('\n') })
	return strings.TrimSpace(text), err
}
