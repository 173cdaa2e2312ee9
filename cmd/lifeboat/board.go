package main

import (
	"errors"
	"fmt"
	"html/template"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"lifeboat"
)

// boardState colours what the board says; the words say it as well.
type boardState string

const (
	boardIdle    boardState = "idle"
	boardWorking boardState = "working"
	boardSafe    boardState = "safe"
	boardProblem boardState = "problem"
)

// board is what a person without a login sees: big letters on a console, and a
// page. It holds no secret and no name of a machine.
type board struct {
	a       *app
	console string
	page    string
	drive   string

	mu    sync.Mutex
	state boardState
	text  string
	drawn time.Time
	// broken: the page could not be written, and that was said.
	broken bool
}

func (a *app) newBoard(f attendFlags) *board {
	return &board{a: a, console: f.console, page: f.page}
}

// say shows one sentence, until the next.
func (b *board) say(state boardState, text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state, b.text = state, oneLine(plainText(text))
	b.show(b.text)
	b.a.note("%s", b.text)
}

// problem shows what went wrong, what to do with the disk, and whom to call. What
// is no known drive was not touched, and no word is needed on taking it away.
func (b *board) problem(p lifeboat.Problem, call string) {
	text := "Problem: " + p.What
	switch {
	case b.state == boardSafe: // ejected, and not everything was written before
		text = strings.TrimSuffix(b.text, ".") + ". But: " + p.What + "."
	case b.drive == "":
		text += ". It was not touched."
	default:
		text += ". Leave it plugged in, and do not take it away as a good copy."
	}
	if call != "" {
		text += " Call " + call + "."
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state, b.text = boardProblem, oneLine(plainText(text))
	b.show(b.text)
}

// boardEvery is how often the board tells how far it is.
const boardEvery = 5 * time.Second

// progress adds how far the work is to what the board says.
func (b *board) progress(e event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state != boardWorking || e.TotalBytes <= 0 || time.Since(b.drawn) < boardEvery {
		return
	}
	text := fmt.Sprintf("%s %d %%", b.text, 100*e.DoneBytes/e.TotalBytes)
	if e.RemainingSeconds >= 1 {
		text += ", about " + humanDuration(time.Duration(e.RemainingSeconds*float64(time.Second)).Round(time.Second))
	}
	b.show(text)
}

// show writes console and page. The caller holds mu.
func (b *board) show(text string) {
	b.drawn = time.Now()
	if f := openConsole(b.console); f != nil {
		fmt.Fprintf(f, "\r\n%s\r\n", bigLetters(text))
		f.Close()
	}
	if err := b.writePage(text); err != nil && !b.broken {
		b.broken = true
		b.a.warn("the page %s cannot be written: %v", b.page, err)
	}
}

// bigLetters is a sentence that is seen from the door: in capitals, framed, at
// most 76 columns wide.
func bigLetters(text string) string {
	const width = 72
	bar := strings.Repeat("*", width+4)
	var out strings.Builder
	out.WriteString(bar + "\r\n")
	line := ""
	flush := func() { fmt.Fprintf(&out, "* %-*s *\r\n", width, line); line = "" }
	for _, word := range strings.Fields(strings.ToUpper(text)) {
		if line != "" && len(line)+1+len(word) > width {
			flush()
		}
		for len(word) > width {
			line = word[:width]
			word = word[width:]
			flush()
		}
		line = strings.TrimSpace(line + " " + word)
	}
	flush()
	out.WriteString(bar)
	return out.String()
}

var boardPage = template.Must(template.New("board").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="10"><title>Lifeboat</title>
<style>body{font-family:sans-serif;font-size:6vw;text-align:center;margin:12vh 6vw;background:{{.Colour}};color:#fff}small{font-size:2vw}</style></head>
<body><p>{{.Text}}</p><small>{{.At}}</small></body></html>
`))

// writePage replaces the page as a whole: who looks at it never sees half of one.
func (b *board) writePage(text string) error {
	colour := map[boardState]string{boardIdle: "#345", boardWorking: "#a50", boardSafe: "#174", boardProblem: "#a11"}[b.state]
	var out strings.Builder
	if err := boardPage.Execute(&out, map[string]string{"Text": text, "At": stamp(b.a.now()), "Colour": colour}); err != nil {
		return err
	}
	folder := filepath.Dir(b.page)
	if _, err := os.Stat(folder); err != nil {
		// All may look into it, whatever the mask of the service is.
		if err := errors.Join(os.MkdirAll(folder, 0o755), os.Chmod(folder, 0o755)); err != nil {
			return err
		}
	}
	return replaceFile(b.page, out.String())
}
