package yamlfile

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// Reader reads a part of a YAML file that people write, and keeps what cannot be
// meant, with its line. After a mistake it reads on and returns zero values, so
// that its caller reads from the top without branching.
type Reader struct {
	// Err is the first mistake; nil: none so far.
	Err      error
	mistakes []Mistake
}

// Mistake is something in a file that cannot be meant. Line counts from 1; 0: the
// file as a whole.
type Mistake struct {
	Line int
	Text string
}

// String is the mistake with its line: "line 7: period is empty".
func (m Mistake) String() string {
	if m.Line == 0 {
		return m.Text
	}
	return fmt.Sprintf("line %d: %s", m.Line, m.Text)
}

// mistakeLimit is as many as a person corrects in one go.
const mistakeLimit = 20

// Mistakes are all that were found, at most 20, by their lines.
func (r *Reader) Mistakes() []Mistake {
	all := slices.Clone(r.mistakes)
	slices.SortStableFunc(all, func(a, b Mistake) int { return a.Line - b.Line })
	return slices.Compact(all)
}

// Full says that there are as many mistakes as are told: to look for more is of no
// use.
func (r *Reader) Full() bool { return len(r.mistakes) >= mistakeLimit }

// Wrong keeps a mistake. Names in it may be anybody's: what would drive a terminal
// is taken out, and what is too long to read is cut.
func (r *Reader) Wrong(n *Node, format string, args ...any) {
	m := Mistake{Text: readable(fmt.Sprintf(format, args...))}
	if n != nil {
		m.Line = n.Line
	}
	if r.Err == nil {
		r.Err = errors.New(m.String())
	}
	if !r.Full() {
		r.mistakes = append(r.mistakes, m)
	}
}

// Followed is the node that an alias stands for; nil for nothing and for null.
func Followed(n *Node) *Node {
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n == nil || n.IsZero() || n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return nil
	}
	return n
}

// Fields reads a mapping that has these fields and no others, each at most once.
// A field that is not there is nil.
func (r *Reader) Fields(n *Node, what string, known ...string) map[string]*Node {
	found := map[string]*Node{}
	for _, f := range r.Pairs(n, what) {
		if !slices.Contains(known, f.Key.Value) {
			r.Wrong(f.Key, "%s has no field %q%s; it has: %s", what, f.Key.Value, Meant(f.Key.Value, known), strings.Join(known, ", "))
			continue
		}
		found[f.Key.Value] = f.Value
	}
	return found
}

// Pair is one line of a mapping.
type Pair struct{ Key, Value *Node }

// Pairs reads a mapping whose keys are names, each at most once.
func (r *Reader) Pairs(n *Node, what string) []Pair {
	if n = Followed(n); n == nil {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		r.Wrong(n, "%s has to be fields, each with a name and a colon", what)
		return nil
	}
	var all []Pair
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind != yaml.ScalarNode {
			r.Wrong(key, "%s: the name of a field has to be a word", what)
			continue
		}
		if seen[key.Value] {
			r.Wrong(key, "%s: %q stands twice", what, key.Value)
		}
		seen[key.Value] = true
		all = append(all, Pair{key, Followed(n.Content[i+1])})
	}
	return all
}

// Items reads a list. One value alone is a list of one.
func (r *Reader) Items(n *Node, what string) []*Node {
	if n = Followed(n); n == nil {
		return nil
	}
	switch n.Kind {
	case yaml.ScalarNode:
		return []*Node{n}
	case yaml.SequenceNode:
		var all []*Node
		for _, item := range n.Content {
			if full := Followed(item); full != nil {
				all = append(all, full)
			} else {
				r.Wrong(item, "%s: an item is empty", what)
			}
		}
		return all
	}
	r.Wrong(n, "%s has to be a list", what)
	return nil
}

// TextLimit fits the line of a page.
const TextLimit = 120

// Text reads one line of plain text.
func (r *Reader) Text(n *Node, what string) string { return r.Line(n, what, TextLimit) }

// Line reads one line of plain text of at most so many characters.
func (r *Reader) Line(n *Node, what string, limit int) string {
	text := r.Lines(n, what, limit)
	if n = Followed(n); n != nil && strings.Join(strings.Fields(text), " ") != text {
		r.Wrong(n, "%s has to be one line of plain text", what)
		return ""
	}
	return text
}

// Lines reads text of one or several lines as it is, without what would drive a
// terminal.
func (r *Reader) Lines(n *Node, what string, limit int) string {
	if n = Followed(n); n == nil {
		return ""
	}
	switch {
	case n.Kind != yaml.ScalarNode:
		r.Wrong(n, "%s has to be a word or a line of text", what)
		return ""
	case !utf8.ValidString(n.Value) || strings.ContainsFunc(n.Value, drivesTerminal):
		r.Wrong(n, "%s has to be one line of plain text", what)
		return ""
	case utf8.RuneCountInString(n.Value) > limit:
		r.Wrong(n, "%s has at most %d characters", what, limit)
		return ""
	}
	return n.Value
}

// readable bounds a sentence about text that nobody may have meant well.
func readable(s string) string {
	const most = 600
	s = strings.Map(func(r rune) rune {
		if drivesTerminal(r) || r == '\n' || r == '\t' {
			return '\uFFFD'
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	if all := []rune(s); len(all) > most {
		return string(all[:most]) + "..."
	}
	return s
}

func drivesTerminal(r rune) bool {
	return unicode.IsControl(r) && r != '\n' && r != '\t' || unicode.Is(unicode.Bidi_Control, r)
}

// Texts reads a list of lines, each at most once.
func (r *Reader) Texts(n *Node, what string) (all []string) {
	for _, item := range r.Items(n, what) {
		text := r.Text(item, what)
		if slices.Contains(all, text) {
			r.Wrong(item, "%s: %q stands twice", what, text)
		}
		all = append(all, text)
	}
	return all
}

// Choice reads one of some words; nothing is the first of them.
func (r *Reader) Choice(n *Node, what string, words ...string) string {
	text := r.Text(n, what)
	if text == "" {
		return words[0]
	}
	if !slices.Contains(words, text) {
		r.Wrong(n, "%s: %q is not one of: %s%s", what, text, strings.Join(words, ", "), Meant(text, words))
		return words[0]
	}
	return text
}

// Yes reads true or false.
func (r *Reader) Yes(n *Node, what string) bool {
	return r.Choice(n, what, "false", "true") == "true"
}

// Number reads a count that is not negative.
func (r *Reader) Number(n *Node, what string) int {
	text := r.Text(n, what)
	if text == "" {
		return 0
	}
	value, err := strconv.Atoi(text)
	if err != nil || value < 0 || value > 1_000_000 {
		r.Wrong(n, "%s: %q is not a number from 0 to a million", what, text)
		return 0
	}
	return value
}

// Meant proposes the known word that is nearest to one that was typed, as the end of
// a sentence; empty: none is near enough.
func Meant(typed string, known []string) string {
	best := Nearest(typed, known)
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

// Nearest is the known word that a mistyped one probably means; empty: none is near
// enough.
func Nearest(typed string, known []string) string {
	if len(typed) > TextLimit {
		return ""
	}
	best, least := "", len([]rune(typed))/2+1
	for _, k := range known {
		if d := editDistance([]rune(strings.ToLower(typed)), []rune(strings.ToLower(k))); d < least {
			best, least = k, d
		}
	}
	return best
}

// editDistance counts the letters to add, take away, change or swap with the next
// between two words.
func editDistance(a, b []rune) int {
	before, row, next := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range a {
		next[0] = i + 1
		for j := range b {
			change := row[j]
			if a[i] != b[j] {
				change++
			}
			next[j+1] = min(change, row[j+1]+1, next[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				next[j+1] = min(next[j+1], before[j-1]+1)
			}
		}
		before, row, next = row, next, before
	}
	return row[len(b)]
}
