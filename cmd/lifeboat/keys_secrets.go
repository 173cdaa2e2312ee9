package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"

	"lifeboat"
	"lifeboat/imagestore"
)

// pendingSecrets are the passphrases of key changes that some drive does not have
// yet, by the change's id. The file is sealed to this computer's identity.
type pendingSecrets struct {
	Version int                      `json:"version"`
	Secrets map[string]pendingSecret `json:"secrets"`
}

// pendingSecret is the passphrase of one change, and the one that it replaces
// where that is known.
type pendingSecret struct {
	New string `json:"new"`
	Old string `json:"old,omitempty"`
}

const pendingSecretsVersion = 1

func (a *app) pendingSecretsPath() string { return filepath.Join(a.secretsDir(), "pending.sealed") }

// loadPendingSecrets returns what waits; where there is no file, nothing does.
func (a *app) loadPendingSecrets() (*imagestore.Identity, pendingSecrets, error) {
	p := pendingSecrets{Version: pendingSecretsVersion, Secrets: map[string]pendingSecret{}}
	id, err := a.identity()
	if err != nil || id == nil {
		return nil, p, err
	}
	var read pendingSecrets
	err = unsealFile(id, a.pendingSecretsPath(), &read)
	if errors.Is(err, fs.ErrNotExist) {
		return id, p, nil
	}
	if err == nil && read.Version != pendingSecretsVersion {
		err = fmt.Errorf("version %d is not one that this program knows", read.Version)
	}
	if err != nil {
		return id, p, &lifeboat.Problem{
			What: fmt.Sprintf("%s cannot be used: %v", a.pendingSecretsPath(), err),
			Safe: "no drive was changed: each opens as it did; only new passphrases that wait for absent drives are not known here",
			Next: "put the file back from a copy of the state folder; or move it away, and give the passphrases that wait (lifeboat key list) again: lifeboat key replace NAME",
			Err:  err,
		}
	}
	maps.Copy(p.Secrets, read.Secrets)
	return id, p, nil
}

// changePendingSecrets changes the file as it is now. The caller holds the state's
// lock.
func (a *app) changePendingSecrets(change func(secrets map[string]pendingSecret)) error {
	id, p, err := a.loadPendingSecrets()
	if err != nil {
		return err
	}
	if id == nil {
		return a.brokenSecret("identity", fs.ErrNotExist)
	}
	before := maps.Clone(p.Secrets)
	change(p.Secrets)
	if maps.Equal(before, p.Secrets) {
		return nil
	}
	plain, err := json.Marshal(p)
	if err != nil {
		return err
	}
	sealed, err := id.Seal(plain)
	if err != nil {
		return err
	}
	return writeFile(a.pendingSecretsPath(), sealed, 0o600)
}
