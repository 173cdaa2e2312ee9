// Package yamlfile reads the YAML files that people write, strictly: what cannot be
// meant is named with its line and, for a word that is not known, with the nearest
// one that is. It is the door of the YAML library for every room, and knows nothing
// of what a file is about.
package yamlfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Node is a place in a file: a mapping, a list, or a word.
type Node = yaml.Node

// What a place may be; an alias is what it stands for.
const (
	Mapping  = yaml.MappingNode
	Sequence = yaml.SequenceNode
)

// Bounds of a file that nobody may have meant well. They are far beyond the
// runbook of five hundred machines.
const (
	SizeLimit  = 1 << 20
	nodeLimit  = 200_000 // with each alias counted as what it stands for
	depthLimit = 24
)

// errTooLong: nobody writes as much.
var errTooLong = fmt.Errorf("the file is longer than %d KiB", SizeLimit>>10)

// Read reads the one document of a file, whose bounds it checks: an alias that
// stands for itself, or for a world, is refused before anybody follows it. The
// error is one of [Mistake]s, with its line. An empty file is nil.
func Read(text []byte) (*Node, []Mistake) {
	if len(text) > SizeLimit {
		return nil, []Mistake{{Text: errTooLong.Error()}}
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc, second Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, []Mistake{syntax(err)}
	}
	if err := dec.Decode(&second); err == nil {
		return nil, []Mistake{{second.Line, "a second document begins here, and the file has to be one"}}
	} else if !errors.Is(err, io.EOF) {
		return nil, []Mistake{syntax(err)}
	}
	left := nodeLimit
	if m, bad := unbounded(&doc, 0, &left); bad {
		return nil, []Mistake{m}
	}
	if len(doc.Content) == 0 {
		return nil, nil
	}
	return doc.Content[0], nil
}

// unbounded finds where a tree is too deep, too large, or has a tag.
func unbounded(n *Node, depth int, left *int) (Mistake, bool) {
	if *left--; *left < 0 {
		return Mistake{n.Line, fmt.Sprintf("the file says more than %d things, with what aliases stand for", nodeLimit)}, true
	}
	if depth > depthLimit {
		return Mistake{n.Line, fmt.Sprintf("more than %d levels deep, or an alias stands for itself", depthLimit)}, true
	}
	if n.Style&yaml.TaggedStyle != 0 {
		return Mistake{n.Line, fmt.Sprintf("the tag %q is not read here: write the plain value", n.Tag)}, true
	}
	if n.Kind == yaml.AliasNode {
		return unbounded(n.Alias, depth+1, left)
	}
	for _, child := range n.Content {
		if m, bad := unbounded(child, depth+1, left); bad {
			return m, true
		}
	}
	return Mistake{}, false
}

var syntaxLine = regexp.MustCompile(`^yaml: line ([0-9]+): `)

// syntax is an error of the library in the form of all others.
func syntax(err error) Mistake {
	text := err.Error()
	if m := syntaxLine.FindStringSubmatch(text); m != nil {
		line, _ := strconv.Atoi(m[1])
		return Mistake{line, "not YAML: " + strings.TrimPrefix(text, m[0])}
	}
	return Mistake{Text: "not YAML: " + strings.TrimPrefix(text, "yaml: ")}
}
