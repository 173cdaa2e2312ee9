package main

import (
	"regexp"
	"slices"
	"strings"
)

// masked stands where a secret was.
const masked = "********"

var (
	secretName = regexp.MustCompile(`(?i)pass|secret|token|credential|private|api_?key|_key$|^key$`)
	// secretSaid are words that a secret follows: password=..., Authorization: Bearer ...
	secretSaid = regexp.MustCompile(`(?i)((?:pass(?:word|wd|phrase)?|secret|token|credentials?|api[_-]?key|authorization)["']?\s*[:=]\s*(?:bearer\s+|basic\s+)?["']?)[^\s"',;&]+`)
	secretURL  = regexp.MustCompile(`([a-zA-Z][a-zA-Z0-9+.-]*://[^\s/@:]*:)[^\s/@]+@`)
	secretPEM  = regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)`)
)

// leastSecret is the shortest value that is taken for a secret: a shorter one would
// take half of a text with it.
const leastSecret = 4

// secretValues are the values of variables that are called as secrets are, the
// longest first.
func secretValues(env map[string]string) []string {
	var values []string
	for name, value := range env {
		if secretName.MatchString(name) && len(value) >= leastSecret {
			values = append(values, value)
		}
	}
	slices.SortFunc(values, func(a, b string) int { return len(b) - len(a) })
	return values
}

// mask takes out of a text what looks like a secret, and the values that are known
// to be one. What a program prints in a form of its own stays: it is kept where
// only the owner of the state reads it.
func mask(text string, secrets []string) string {
	for _, s := range secrets {
		text = strings.ReplaceAll(text, s, masked)
	}
	text = secretPEM.ReplaceAllString(text, masked)
	text = secretURL.ReplaceAllString(text, "${1}"+masked+"@")
	return secretSaid.ReplaceAllString(text, "${1}"+masked)
}

// tail is the end of a text, beginning with a whole line where there is one.
func tail(text string, most int) string {
	if len(text) <= most {
		return text
	}
	text = text[len(text)-most:]
	if at := strings.IndexByte(text, '\n'); at >= 0 && at < len(text)-1 {
		text = text[at+1:]
	}
	return strings.ToValidUTF8(text, "")
}
