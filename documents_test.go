package lifeboat_test

import (
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documents returns every page of the manual, and those beside the code.
func documents(t *testing.T) []string {
	t.Helper()
	var pages []string
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != "." && strings.HasPrefix(d.Name(), ".") {
			return filepath.SkipDir
		}
		if filepath.Ext(path) == ".md" {
			pages = append(pages, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return pages
}

var (
	link     = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading  = regexp.MustCompile(`(?m)^#+ +(.+)$`)
	notInID  = regexp.MustCompile(`[^a-z0-9 _-]`)
	codeSpan = regexp.MustCompile("(?s)```.*?```|`[^`\n]*`")
)

func TestEveryLinkBetweenDocumentsLeadsSomewhere(t *testing.T) {
	for _, page := range documents(t) {
		for _, target := range linksOf(t, page) {
			if u, err := url.Parse(target); err != nil || u.Scheme != "" {
				continue
			}
			file, part, _ := strings.Cut(target, "#")
			path := page
			if file != "" {
				path = filepath.Join(filepath.Dir(page), file)
			}
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s links to %s, which is not there", page, target)
				continue
			}
			if part != "" && !slices.Contains(headingsOf(t, path), part) {
				t.Errorf("%s links to %s, and no heading there is called that", page, target)
			}
		}
	}
}

func linksOf(t *testing.T, page string) []string {
	t.Helper()
	var targets []string
	for _, found := range link.FindAllStringSubmatch(codeSpan.ReplaceAllString(read(t, page), ""), -1) {
		targets = append(targets, found[1])
	}
	return targets
}

// headingsOf returns what a link to a heading says after the #.
func headingsOf(t *testing.T, page string) []string {
	t.Helper()
	var ids []string
	for _, found := range heading.FindAllStringSubmatch(read(t, page), -1) {
		ids = append(ids, strings.ReplaceAll(notInID.ReplaceAllString(strings.ToLower(found[1]), ""), " ", "-"))
	}
	return ids
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// commandRow is a row of docs/reference/commands.md: command, purpose, codes.
var commandRow = regexp.MustCompile("(?m)^\\| `lifeboat ([a-z -]+)` \\| (.+?) \\| ([0-9 ]+) \\|$")

// told is what a command says of itself.
type told struct{ purpose, codes string }

func TestTheReferenceListsEveryCommandAsItIs(t *testing.T) {
	program := filepath.Join(t.TempDir(), "lifeboat")
	if out, err := exec.Command("go", "build", "-o", program, "./cmd/lifeboat").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	is := map[string]told{}
	tellCommands(t, program, nil, is)
	page := map[string]told{}
	for _, row := range commandRow.FindAllStringSubmatch(read(t, "docs/reference/commands.md"), -1) {
		page[row[1]] = told{row[2], row[3]}
	}
	for name, want := range is {
		if got, ok := page[name]; !ok {
			t.Errorf("docs/reference/commands.md lacks the command: | `lifeboat %s` | %s | %s |", name, want.purpose, want.codes)
		} else if got != want {
			t.Errorf("docs/reference/commands.md says of `lifeboat %s`:\n%q\nand its help says:\n%q", name, got, want)
		}
	}
	for name := range page {
		if _, ok := is[name]; !ok {
			t.Errorf("docs/reference/commands.md has a command that does not exist: lifeboat %s", name)
		}
	}
}

// tellCommands collects all commands below one, as completion and help say them.
func tellCommands(t *testing.T, program string, below []string, all map[string]told) {
	t.Helper()
	words := append(append([]string{"__complete"}, below...), "")
	for line := range strings.Lines(output(t, program, words...)) {
		name, purpose, ok := strings.Cut(strings.TrimRight(line, "\n"), "\t")
		if !ok || name == "help" || name == "completion" {
			continue
		}
		path := append(slices.Clone(below), name)
		help := output(t, program, append(slices.Clone(path), "--help")...)
		if strings.Contains(help, "  lifeboat "+strings.Join(path, " ")+" COMMAND\n") {
			tellCommands(t, program, path, all)
			// A group that answers by itself has exit codes of its own.
			if codes := exitCodes(help); codes != "" {
				all[strings.Join(path, " ")] = told{purpose, codes}
			}
			continue
		}
		all[strings.Join(path, " ")] = told{purpose, exitCodes(help)}
	}
}

var exitLine = regexp.MustCompile(`(?m)^  ([0-9]+) +\S`)

// exitCodes reads the end of a help page.
func exitCodes(help string) string {
	_, end, _ := strings.Cut(help, "Exit codes:\n")
	var codes []string
	for _, found := range exitLine.FindAllStringSubmatch(end, -1) {
		codes = append(codes, found[1])
	}
	return strings.Join(codes, " ")
}

// output runs the program with a state folder of its own.
func output(t *testing.T, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "LIFEBOAT_STATE="+t.TempDir())
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return string(out)
}
