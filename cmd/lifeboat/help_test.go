package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// eachCommand calls f for every command that a person may type.
func eachCommand(c *cobra.Command, f func(c *cobra.Command)) {
	if c.Hidden {
		return
	}
	f(c)
	for _, sub := range c.Commands() {
		eachCommand(sub, f)
	}
}

func helpOf(t *testing.T, words ...string) string {
	t.Helper()
	var out, problem bytes.Buffer
	a := newApp(strings.NewReader(""), &out, &problem)
	if code := a.run(t.Context(), append(words, "--help")); code != exitDone || problem.Len() > 0 {
		t.Errorf("help of %v ends with %d and says %s", words, code, problem.String())
	}
	return out.String()
}

func TestHelpOpensWithTwoExamplesAndEndsWithTheExitCodes(t *testing.T) {
	eachCommand(newApp(nil, nil, nil).rootCommand(), func(c *cobra.Command) {
		words := strings.Fields(c.CommandPath())[1:]
		help := helpOf(t, words...)
		if examples := strings.Split(c.Example, "\n"); !strings.HasPrefix(help, "Examples:\n  lifeboat ") || len(examples) < 2 {
			t.Errorf("%s: the help does not open with two examples", c.CommandPath())
		}
		if c.HasSubCommands() {
			return
		}
		_, codes, ok := strings.Cut(help, "\nExit codes:\n  0    done\n")
		if !ok || strings.Contains(codes, "\n\n") {
			t.Errorf("%s: the help does not end with the exit codes:\n%s", c.CommandPath(), help)
		}
	})
}

// An example is what people type: its flags have to exist.
func TestEveryExampleIsACommandThatExists(t *testing.T) {
	root := newApp(nil, nil, nil).rootCommand()
	eachCommand(root, func(c *cobra.Command) {
		for line := range strings.SplitSeq(c.Example, "\n") {
			line, _, _ = strings.Cut(line, "|")
			line, _, _ = strings.Cut(line, ">")
			words := strings.Fields(strings.ReplaceAll(line, "'", ""))
			if len(words) < 2 || words[0] != "lifeboat" {
				t.Errorf("%s: %q is no command line", c.CommandPath(), line)
				continue
			}
			found, rest, err := root.Find(words[1:])
			if err != nil || found == root {
				t.Errorf("%q: no such command: %v", line, err)
				continue
			}
			for _, w := range rest {
				name, _, _ := strings.Cut(strings.TrimLeft(w, "-"), "=")
				if strings.HasPrefix(w, "--") && found.Flag(name) == nil {
					t.Errorf("%q: no flag %s", line, w)
				}
			}
		}
	})
}

func TestHelpOfACommandThatDoesNotExistIsWrongUsage(t *testing.T) {
	for _, words := range [][]string{{"help", "nosuch"}, {"completion", "nosuch"}, {"help", "drive", "nosuch"}} {
		var out, problem bytes.Buffer
		if code := newApp(strings.NewReader(""), &out, &problem).run(t.Context(), words); code != exitUsage {
			t.Errorf("%v ends with %d\n%s%s", words, code, out.String(), problem.String())
		}
	}
}
