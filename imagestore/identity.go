package imagestore

import (
	"errors"
	"fmt"
	"strings"

	"filippo.io/age"
)

// Recipient is a public key that a slot can be made for without knowing the
// private half.
type Recipient struct {
	age  age.Recipient
	text string
}

// ParseRecipient reads a public key in age's written form ("age1…").
func ParseRecipient(text string) (Recipient, error) {
	list, err := age.ParseRecipients(strings.NewReader(text))
	if err != nil {
		return Recipient{}, fmt.Errorf("read the recipient: %w", err)
	}
	if len(list) != 1 {
		return Recipient{}, fmt.Errorf("one recipient is needed, not %d", len(list))
	}
	return Recipient{age: list[0], text: strings.TrimSpace(text)}, nil
}

// String is the recipient in its written form.
func (r Recipient) String() string { return r.text }

// Identity is a key pair, usually the control machine's own: it makes nightly
// exports need no typed secret.
type Identity struct {
	key *age.X25519Identity
}

// NewIdentity makes a fresh key pair.
func NewIdentity() (*Identity, error) {
	key, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, fmt.Errorf("make an identity: %w", err)
	}
	return &Identity{key}, nil
}

// ParseIdentity reads what SecretText wrote.
func ParseIdentity(text string) (*Identity, error) {
	key, err := age.ParseX25519Identity(strings.TrimSpace(text))
	if err != nil {
		// The library's error may quote the text, which is a secret.
		return nil, errors.New("this is not an identity")
	}
	return &Identity{key}, nil
}

// SecretText is the private key, to be kept in a file that nobody else reads.
func (i *Identity) SecretText() string { return i.key.String() }

// String is the public half; it may be printed.
func (i *Identity) String() string { return i.key.Recipient().String() }

// Secret is the identity as something that opens drives.
func (i *Identity) Secret() Secret {
	return Secret{identity: i.key, recipient: i.Recipient()}
}

// Recipient is the public half, for a slot of a drive.
func (i *Identity) Recipient() Recipient {
	return Recipient{age: i.key.Recipient(), text: i.key.Recipient().String()}
}
