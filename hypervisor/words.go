package hypervisor

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// longestWords bounds what is shown of a guest's words, in bytes.
const longestWords = 200

// GuestWords is what a guest said, for a person: one line of printable
// characters, cut where it gets long.
func GuestWords(text string) string {
	text = Printable(text)
	if len(text) <= longestWords {
		return text
	}
	cut := longestWords
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "..."
}

// Printable leaves out what a terminal could take for a command.
func Printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, text)
}
