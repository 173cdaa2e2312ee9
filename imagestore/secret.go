package imagestore

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"filippo.io/age"
	"golang.org/x/text/unicode/norm"
)

// Secret is something that may open a key slot of a drive: a passphrase or an
// identity. Its text is never printed by this package.
type Secret struct {
	passphrase string
	identity   age.Identity
	// recipient is the public half of identity.
	recipient Recipient
}

// String hides the secret from logs.
func (Secret) String() string { return "(secret)" }

// GoString hides the secret from %#v.
func (Secret) GoString() string { return "(secret)" }

func (s Secret) empty() bool { return s.passphrase == "" && s.identity == nil }

// Passphrase makes a secret of a typed text: one line end at its end is dropped
// and the rest is brought to Unicode's NFKC form, so that the same words open
// the drive from any keyboard and any file. An empty one is refused.
func Passphrase(text string) (Secret, error) {
	text = strings.TrimSuffix(text, "\n")
	text = strings.TrimSuffix(text, "\r")
	text = norm.NFKC.String(text)
	if strings.TrimSpace(text) == "" {
		return Secret{}, errors.New("the passphrase is empty")
	}
	return Secret{passphrase: text}, nil
}

// minPassphraseLetters and minPassphraseKinds refuse what a thief with the
// drive at home tries first. Length is worth more than odd signs.
const (
	minPassphraseLetters = 15
	minPassphraseKinds   = 6
)

// CheckPassphrase refuses a weak passphrase with a reason that a person
// understands. It is for choosing one; Passphrase opens with any.
func CheckPassphrase(text string) error {
	s, err := Passphrase(text)
	if err != nil {
		return err
	}
	kinds := map[rune]bool{}
	letters := 0
	steps := 0 // neighbours such as "34" or "bc"
	var last rune
	for _, r := range strings.ToLower(s.passphrase) {
		if unicode.IsControl(r) {
			return errors.New("the passphrase holds a control character or a second line, which many keyboards cannot type")
		}
		if unicode.IsSpace(r) {
			continue
		}
		if r == last+1 || r == last {
			steps++
		}
		kinds[r] = true
		letters++
		last = r
	}
	switch {
	case letters < minPassphraseLetters:
		return fmt.Errorf("the passphrase has %d characters; at least %d are needed, five unrelated words are good", letters, minPassphraseLetters)
	case len(kinds) < minPassphraseKinds:
		return fmt.Errorf("the passphrase repeats %d different characters; five unrelated words are good", len(kinds))
	case steps*2 > letters:
		return errors.New("the passphrase is a row of neighbours or repetitions; five unrelated words are good")
	}
	return nil
}

// The letters of generated passphrases sit in the same place on QWERTY, QWERTZ
// and AZERTY keyboards: no a, q, w, z, y or m. Rescue systems often start with
// the wrong layout.
const (
	passphraseConsonants = "bcdfghjklnprstvx" // 16: 4 bits each
	passphraseVowels     = "eiou"             // 4: 2 bits each
	passphraseWords      = 5
)

// GeneratePassphrase returns a fresh passphrase of 80 bits: five pronounceable
// words of lower-case ASCII such as "tivok lorud penig hujes fobil".
func GeneratePassphrase() string {
	var raw [2 * passphraseWords]byte
	rand.Read(raw[:])
	words := make([]string, passphraseWords)
	for i := range words {
		bits := uint(raw[2*i])<<8 | uint(raw[2*i+1])
		c, v := passphraseConsonants, passphraseVowels
		words[i] = string([]byte{
			c[bits>>12&15], v[bits>>10&3], c[bits>>6&15], v[bits>>4&3], c[bits&15],
		})
	}
	return strings.Join(words, " ")
}
