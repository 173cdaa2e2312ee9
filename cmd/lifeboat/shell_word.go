package main

import "strings"

// shellWord writes a word so that a person can paste it into a shell.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:@%+=,", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// quoted writes names as arguments of a command line.
func quoted(names []string) string {
	var words []string
	for _, n := range names {
		words = append(words, shellWord(n))
	}
	return strings.Join(words, " ")
}
