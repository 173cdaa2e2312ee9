package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/term"

	"lifeboat"
	"lifeboat/imagestore"
)

// secretSize bounds a passphrase file: more than this is the wrong file.
const secretSize = 4096

func (a *app) secretsDir() string { return filepath.Join(a.stateDir, "secrets") }

// identity is the control machine's own key, which lets night jobs work without
// a person; nil where this machine has none.
func (a *app) identity() (*imagestore.Identity, error) {
	data, err := os.ReadFile(filepath.Join(a.secretsDir(), "identity"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read this machine's identity: %w", err)
	}
	id, err := imagestore.ParseIdentity(string(data))
	if err != nil {
		return nil, a.brokenSecret("identity", err)
	}
	return id, nil
}

// brokenSecret says that a file of the secrets folder is not what it was.
func (a *app) brokenSecret(name string, err error) error {
	return &lifeboat.Problem{
		What: fmt.Sprintf("%s cannot be used: %v", filepath.Join(a.secretsDir(), name), err),
		Safe: "drives and restore points are untouched; each drive still opens with its passphrase",
		Next: "put the file back from a copy of the state folder, or begin a new one: lifeboat init --site NAME --state DIR",
		Err:  err,
	}
}

// givenPassphrase reads --passphrase-file; ok is false when it was not given.
func (a *app) givenPassphrase() (text string, ok bool, err error) {
	if a.passphraseFile == "" {
		return "", false, nil
	}
	f, err := os.Open(a.passphraseFile)
	if err != nil {
		return "", false, usagef("--passphrase-file: %v", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, secretSize+1))
	if err != nil {
		return "", false, fmt.Errorf("read the passphrase file: %w", err)
	}
	if len(data) > secretSize {
		return "", false, usagef("--passphrase-file: %s is larger than a secret can be", a.passphraseFile)
	}
	return string(data), true, nil
}

// askPassphrase asks the person at the terminal, once per command.
func (a *app) askPassphrase(ctx context.Context, prompt string) (string, error) {
	if a.asked != nil {
		return *a.asked, nil
	}
	if !isTerminal(a.stdin) {
		return "", &lifeboat.Problem{
			What: "a secret is needed, and nobody is here to type it",
			Safe: "nothing was done",
			Next: "give it in a file: --passphrase-file FILE",
			Err:  errNeedsPerson,
		}
	}
	text, err := a.typeSecret(ctx, prompt)
	if err != nil {
		return "", err
	}
	a.asked = &text
	return text, nil
}

// typeSecret lets a person at the terminal type a secret, which is not shown.
func (a *app) typeSecret(ctx context.Context, prompt string) (string, error) {
	if err := a.takeTerminal(ctx); err != nil {
		return "", err
	}
	defer a.terminal.Unlock()
	a.ask(prompt + ": ")
	text, err := a.typed(ctx, func(in *os.File) (string, error) {
		secret, err := term.ReadPassword(int(in.Fd()))
		return string(secret), err
	})
	if ctx.Err() != nil {
		return "", err
	}
	a.ask("\n")
	if err != nil {
		return "", fmt.Errorf("read the secret: %w", err)
	}
	return text, nil
}

// secretKeys are the texts that may open a drive, as they are handed to a
// process that has to open it again by itself. They only ever travel through
// pipes.
type secretKeys struct {
	Identity   string `json:"identity,omitempty"`
	Passphrase string `json:"passphrase,omitempty"`
}

func (k secretKeys) secrets() ([]imagestore.Secret, error) {
	var all []imagestore.Secret
	if k.Identity != "" {
		id, err := imagestore.ParseIdentity(k.Identity)
		if err != nil {
			return nil, err
		}
		all = append(all, id.Secret())
	}
	if k.Passphrase != "" {
		s, err := imagestore.Passphrase(k.Passphrase)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// keys collects what may open a drive without asking anybody: the passphrase
// file if one was named, else this machine's identity.
func (a *app) keys() (secretKeys, error) {
	text, given, err := a.givenPassphrase()
	if err != nil {
		return secretKeys{}, err
	}
	if given {
		return secretKeys{Passphrase: text}, nil
	}
	id, err := a.identity()
	if err != nil {
		return secretKeys{}, err
	}
	if id == nil {
		return secretKeys{}, nil
	}
	return secretKeys{Identity: id.SecretText()}, nil
}

// siteSecrets is what a control machine keeps sealed to its own identity: what
// new drives of the site are made with. It is in no log and in no extract.
type siteSecrets struct {
	Version int             `json:"version"`
	Site    imagestore.Site `json:"site"`
	// Passphrase opens every drive of the site that has no secret of its own.
	Passphrase string `json:"passphrase"`
	// Borrowed is the key slot of a person whose passphrase this is, where this
	// computer joined the site with that instead of the site's own. Then no drive is
	// made with it: it would open for that person for good.
	Borrowed string `json:"borrowed,omitempty"`
}

func (a *app) siteSecretsPath() string { return filepath.Join(a.secretsDir(), "site.sealed") }

func (a *app) saveSiteSecrets(id *imagestore.Identity, s siteSecrets) error {
	plain, err := json.Marshal(s)
	if err != nil {
		return err
	}
	sealed, err := id.Seal(plain)
	if err != nil {
		return err
	}
	return writeFile(a.siteSecretsPath(), sealed, 0o600)
}

// unsealFile reads a file that is sealed to an identity into v.
func unsealFile(id *imagestore.Identity, path string, v any) error {
	data, err := os.ReadFile(path)
	if err == nil {
		data, err = id.Unseal(data)
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}

func (a *app) loadSiteSecrets() (*imagestore.Identity, siteSecrets, error) {
	var s siteSecrets
	id, err := a.identity()
	if err != nil {
		return nil, s, err
	}
	if id == nil {
		return nil, s, &lifeboat.Problem{
			What: fmt.Sprintf("%s has no identity of this control machine", a.secretsDir()),
			Safe: "drives and restore points are untouched; each drive still opens with its passphrase",
			Next: "initialise a new state folder: lifeboat init --site NAME --state DIR",
		}
	}
	if err := unsealFile(id, a.siteSecretsPath(), &s); err != nil {
		return nil, s, a.brokenSecret("site.sealed", err)
	}
	return id, s, nil
}
