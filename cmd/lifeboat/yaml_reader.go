package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// yamlReader reads a part of a YAML file that people write, and keeps the first
// thing that cannot be meant, with its line. After that it reads on and returns
// zero values, so that its caller reads from the top without branching.
type yamlReader struct{ err error }

// wrong keeps the first mistake.
func (r *yamlReader) wrong(n *yaml.Node, format string, args ...any) {
	if r.err != nil {
		return
	}
	text := fmt.Sprintf(format, args...)
	if n != nil && n.Line > 0 {
		text = fmt.Sprintf("line %d: %s", n.Line, text)
	}
	r.err = fmt.Errorf("%s", text)
}

// followed is the node that an alias stands for; nil for nothing and for null.
func followed(n *yaml.Node) *yaml.Node {
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n == nil || n.IsZero() || n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return nil
	}
	return n
}

// fields reads a mapping that has these fields and no others, each at most once.
// A field that is not there is nil.
func (r *yamlReader) fields(n *yaml.Node, what string, known ...string) map[string]*yaml.Node {
	found := map[string]*yaml.Node{}
	for _, f := range r.pairs(n, what) {
		if !slices.Contains(known, f.key.Value) {
			r.wrong(f.key, "%s has no field %q%s; it has: %s", what, f.key.Value, meant(f.key.Value, known), strings.Join(known, ", "))
			continue
		}
		found[f.key.Value] = f.value
	}
	return found
}

// yamlPair is one line of a mapping.
type yamlPair struct{ key, value *yaml.Node }

// pairs reads a mapping whose keys are names, each at most once.
func (r *yamlReader) pairs(n *yaml.Node, what string) []yamlPair {
	if n = followed(n); n == nil {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		r.wrong(n, "%s has to be fields, each with a name and a colon", what)
		return nil
	}
	var all []yamlPair
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind != yaml.ScalarNode {
			r.wrong(key, "%s: the name of a field has to be a word", what)
			continue
		}
		if slices.ContainsFunc(all, func(p yamlPair) bool { return p.key.Value == key.Value }) {
			r.wrong(key, "%s: %q stands twice", what, key.Value)
		}
		all = append(all, yamlPair{key, followed(n.Content[i+1])})
	}
	return all
}

// items reads a list. One value alone is a list of one.
func (r *yamlReader) items(n *yaml.Node, what string) []*yaml.Node {
	if n = followed(n); n == nil {
		return nil
	}
	switch n.Kind {
	case yaml.ScalarNode:
		return []*yaml.Node{n}
	case yaml.SequenceNode:
		var all []*yaml.Node
		for _, item := range n.Content {
			if full := followed(item); full != nil {
				all = append(all, full)
			} else {
				r.wrong(item, "%s: an item is empty", what)
			}
		}
		return all
	}
	r.wrong(n, "%s has to be a list", what)
	return nil
}

// yamlTextLimit fits the line of a page.
const yamlTextLimit = 120

// text reads one line of plain text.
func (r *yamlReader) text(n *yaml.Node, what string) string {
	if n = followed(n); n == nil {
		return ""
	}
	switch {
	case n.Kind != yaml.ScalarNode:
		r.wrong(n, "%s has to be a word or a line of text", what)
		return ""
	case !utf8.ValidString(n.Value) || plainText(n.Value) != n.Value || oneLine(n.Value) != n.Value:
		r.wrong(n, "%s has to be one line of plain text", what)
		return ""
	case utf8.RuneCountInString(n.Value) > yamlTextLimit:
		r.wrong(n, "%s has at most %d characters", what, yamlTextLimit)
		return ""
	}
	return n.Value
}

// texts reads a list of lines, each at most once.
func (r *yamlReader) texts(n *yaml.Node, what string) (all []string) {
	for _, item := range r.items(n, what) {
		text := r.text(item, what)
		if slices.Contains(all, text) {
			r.wrong(item, "%s: %q stands twice", what, text)
		}
		all = append(all, text)
	}
	return all
}

// choice reads one of some words; nothing is the first of them.
func (r *yamlReader) choice(n *yaml.Node, what string, words ...string) string {
	text := r.text(n, what)
	if text == "" {
		return words[0]
	}
	if !slices.Contains(words, text) {
		r.wrong(n, "%s: %q is not one of: %s%s", what, text, strings.Join(words, ", "), meant(text, words))
		return words[0]
	}
	return text
}

// yes reads true or false.
func (r *yamlReader) yes(n *yaml.Node, what string) bool {
	return r.choice(n, what, "false", "true") == "true"
}

// number reads a count that is not negative.
func (r *yamlReader) number(n *yaml.Node, what string) int {
	text := r.text(n, what)
	if text == "" {
		return 0
	}
	value, err := strconv.Atoi(text)
	if err != nil || value < 0 || value > 1_000_000 {
		r.wrong(n, "%s: %q is not a number from 0 to a million", what, text)
		return 0
	}
	return value
}

// meant proposes the known word that is nearest to one that was typed.
func meant(typed string, known []string) string {
	best, distance := "", len(typed)/2+1
	for _, k := range known {
		if d := editDistance(strings.ToLower(typed), strings.ToLower(k)); d < distance {
			best, distance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

// editDistance counts the letters to add, take away or change between two words.
func editDistance(a, b string) int {
	from, to := []rune(a), []rune(b)
	row := make([]int, len(to)+1)
	for j := range row {
		row[j] = j
	}
	for i, x := range from {
		corner := row[0]
		row[0] = i + 1
		for j, y := range to {
			change := corner
			if x != y {
				change++
			}
			corner = row[j+1]
			row[j+1] = min(change, row[j]+1, corner+1)
		}
	}
	return row[len(to)]
}
