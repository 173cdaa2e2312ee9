package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var namedCommand = regexp.MustCompile(`(?:: |run |with |\()lifeboat ([a-z]+(?: [a-z]+)?)`)

// What an operator is told to type has to exist, whichever room says it.
func TestEveryCommandThatAMessageNamesExists(t *testing.T) {
	root := newApp(nil, nil, nil).rootCommand()
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() != ".." && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir
		case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			text, _ := strconv.Unquote(lit.Value)
			for _, found := range namedCommand.FindAllStringSubmatch(text, -1) {
				words := strings.Fields(found[1])
				c, rest, err := root.Find(words)
				if err != nil || c == root || c.HasSubCommands() && len(rest) > 0 {
					t.Errorf("%s tells people to run %q, which is no command", path, "lifeboat "+found[1])
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
