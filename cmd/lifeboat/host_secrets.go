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
	"strings"

	"lifeboat"
	"lifeboat/imagestore"
)

// hostPasswords is what signs in at hosts, by their names in site.yaml. It is
// kept in the secrets of the state folder, sealed to this computer's identity;
// it is on no drive, in no log and on no command line.
type hostPasswords struct {
	Version   int               `json:"version"`
	Passwords map[string]string `json:"passwords"`
}

func (a *app) hostPasswordsPath() string { return filepath.Join(a.secretsDir(), "hosts.sealed") }

func (a *app) loadHostPasswords() (*imagestore.Identity, hostPasswords, error) {
	p := hostPasswords{Version: 1, Passwords: map[string]string{}}
	id, err := a.identity()
	if err != nil {
		return nil, p, err
	}
	if id == nil {
		return nil, p, &lifeboat.Problem{
			What: fmt.Sprintf("%s has no identity of this control machine, which passwords of hosts are sealed to", a.secretsDir()),
			Safe: "nothing was done",
			Next: "initialise a new state folder: lifeboat init --site NAME --state DIR",
		}
	}
	err = unsealFile(id, a.hostPasswordsPath(), &p)
	if errors.Is(err, fs.ErrNotExist) {
		return id, p, nil
	}
	if err != nil {
		return nil, p, &lifeboat.Problem{
			What: fmt.Sprintf("%s cannot be used: %v", a.hostPasswordsPath(), err),
			Safe: "drives and restore points are untouched",
			Next: "move the file away, and give each host its password again: lifeboat host password NAME",
			Err:  err,
		}
	}
	if p.Passwords == nil {
		p.Passwords = map[string]string{}
	}
	return id, p, nil
}

// setHostPassword keeps a password, or with an empty one forgets it.
func (a *app) setHostPassword(host, password string) error {
	unlock, err := a.lockState()
	if err != nil {
		return err
	}
	defer unlock()
	return a.writeHostPassword(host, password)
}

// writeHostPassword is setHostPassword for who holds the state folder's lock.
func (a *app) writeHostPassword(host, password string) error {
	id, p, err := a.loadHostPasswords()
	if err != nil {
		return err
	}
	p.Passwords[host] = password
	if password == "" {
		delete(p.Passwords, host)
	}
	plain, err := json.Marshal(p)
	if err != nil {
		return err
	}
	sealed, err := id.Seal(plain)
	if err != nil {
		return err
	}
	return writeFile(a.hostPasswordsPath(), sealed, 0o600)
}

// hostPassword returns what signs in at a host.
func (a *app) hostPassword(host string) (string, error) {
	_, p, err := a.loadHostPasswords()
	if err != nil {
		return "", err
	}
	password, ok := p.Passwords[host]
	if !ok {
		return "", &lifeboat.Problem{
			What: fmt.Sprintf("host %s: its password is not kept on this computer", host),
			Safe: "nothing was done",
			Next: "give it: lifeboat host password " + shellWord(host),
		}
	}
	return password, nil
}

// newHostPassword takes a password from a file, or asks at the terminal.
func (a *app) newHostPassword(ctx context.Context, h hostFile, file string) (string, error) {
	var text string
	switch {
	case file != "":
		data, err := a.readSecretFile(file)
		if err != nil {
			return "", usagef("--password-file: %v", err)
		}
		text = data
	case !isTerminal(a.stdin):
		return "", &lifeboat.Problem{
			What: fmt.Sprintf("host %s: a password is needed for %s, and nobody is here to type it", h.Name, h.User),
			Safe: "nothing was done",
			Next: "give it in a file: --password-file FILE",
			Err:  errNeedsPerson,
		}
	default:
		typed, err := a.typeSecret(ctx, fmt.Sprintf("Password of %s at %s", h.User, h.URL))
		if err != nil {
			return "", err
		}
		text = typed
	}
	if text == "" {
		return "", usagef("the password of a host must not be empty")
	}
	return text, nil
}

// readSecretFile reads one line from a file, and warns of one that others may
// read as well.
func (a *app) readSecretFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.Mode().IsRegular() && st.Mode().Perm()&0o077 != 0 {
		a.warn("%s can be read by others on this computer: chmod 600 %s", path, shellWord(path))
	}
	data, err := io.ReadAll(io.LimitReader(f, secretSize+1))
	switch text := strings.TrimRight(string(data), "\r\n"); {
	case err != nil:
		return "", err
	case len(data) > secretSize:
		return "", fmt.Errorf("%s is larger than a secret can be", path)
	case strings.ContainsAny(text, "\r\n"):
		return "", fmt.Errorf("%s has more than one line", path)
	default:
		return text, nil
	}
}
