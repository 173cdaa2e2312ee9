package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// size reads 20M, 64K or 1234.
func scriptSize(ts *testscript.TestScript, text string) int64 {
	unit := int64(1)
	switch {
	case strings.HasSuffix(text, "M"):
		unit = 1 << 20
	case strings.HasSuffix(text, "K"):
		unit = 1 << 10
	}
	n, err := strconv.ParseInt(strings.TrimRight(text, "MK"), 10, 64)
	ts.Check(err)
	return n * unit
}

// random FILE SIZE SEED: bytes that do not compress, the same for the same seed.
func scriptRandom(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(writeRandom(ts.MkAbs(args[0]), scriptSize(ts, args[1]), args[2]))
}

func writeRandom(path string, size int64, seed string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.CopyN(f, rand.NewChaCha8(sha256.Sum256([]byte(seed))), size)
	return err
}

// zeros FILE SIZE: a file that is one hole.
func scriptZeros(ts *testscript.TestScript, _ bool, args []string) {
	f, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	defer f.Close()
	ts.Check(f.Truncate(scriptSize(ts, args[1])))
}

// put FILE OFFSET TEXT: writes into a file, which may be a device.
func scriptPut(ts *testscript.TestScript, _ bool, args []string) {
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_WRONLY, 0)
	ts.Check(err)
	defer f.Close()
	_, err = f.WriteAt([]byte(args[2]), scriptSize(ts, args[1]))
	ts.Check(err)
}

// flip GLOB OFFSET [BYTES]: changes bytes in each file that matches.
func scriptFlip(ts *testscript.TestScript, _ bool, args []string) {
	files, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(files) == 0 {
		ts.Fatalf("nothing matches %s", args[0])
	}
	count := int64(1)
	if len(args) > 2 {
		count = scriptSize(ts, args[2])
	}
	for _, name := range files {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		ts.Check(err)
		b := make([]byte, count)
		_, err = f.ReadAt(b, scriptSize(ts, args[1]))
		ts.Check(err)
		for i := range b {
			b[i] ^= 0x5a
		}
		_, err = f.WriteAt(b, scriptSize(ts, args[1]))
		ts.Check(err)
		ts.Check(f.Close())
	}
}

// holes COPY SOURCE: the copy takes no more room than the source, but for what
// a file system rounds up.
func scriptHoles(ts *testscript.TestScript, _ bool, args []string) {
	const slack = 64 << 10
	used := func(name string) int64 {
		info, err := os.Stat(ts.MkAbs(name))
		ts.Check(err)
		return info.Sys().(*syscall.Stat_t).Blocks * 512
	}
	if copied, source := used(args[0]), used(args[1]); copied > source+slack {
		ts.Fatalf("%s takes %d bytes, %s takes %d", args[0], copied, args[1], source)
	}
}

// same A B: the two hold the same bytes; cmp would read them into a message.
func scriptSame(ts *testscript.TestScript, neg bool, args []string) {
	a, b := fileHash(ts, args[0]), fileHash(ts, args[1])
	if (a == b) == neg {
		ts.Fatalf("%s and %s: same is %v", args[0], args[1], a == b)
	}
}

func fileHash(ts *testscript.TestScript, name string) string {
	f, err := os.Open(ts.MkAbs(name))
	ts.Check(err)
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	ts.Check(err)
	return hex.EncodeToString(h.Sum(nil))
}

// hash NAME FILE: keeps the SHA-256 of a file in a variable.
func scriptHash(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv(args[0], fileHash(ts, args[1]))
}

// absent FOLDER TEXT...: no file below the folder, and no name, holds the text.
func scriptAbsent(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(filepath.WalkDir(ts.MkAbs(args[0]), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, text := range args[1:] {
			if bytes.Contains(data, []byte(text)) || strings.Contains(d.Name(), text) {
				return fmt.Errorf("%s can be read in %s", text, path)
			}
		}
		return nil
	}))
}

// json PATH PATTERN: stdout is one JSON document, and what is at the path
// ("points.0.machine.name"; "" for all of it) matches. An event of a long
// command is found by its name: "result:machines.0.point.id".
func scriptJSON(ts *testscript.TestScript, neg bool, args []string) {
	value, err := jsonAt([]byte(ts.ReadFile("stdout")), args[0])
	ts.Check(err)
	if regexp.MustCompile(args[1]).MatchString(value) == neg {
		ts.Fatalf("%s is %s, and that it matches %q should be %v", args[0], value, args[1], !neg)
	}
}

func jsonAt(text []byte, path string) (string, error) {
	if event, rest, ok := strings.Cut(path, ":"); ok {
		path = rest
		for line := range bytes.Lines(text) {
			if bytes.Contains(line, []byte(`{"event":"`+event+`"`)) {
				text = line
			}
		}
		path = "result." + path
	}
	var at any
	if err := json.Unmarshal(text, &at); err != nil {
		return "", fmt.Errorf("this is not one JSON document: %w", err)
	}
	for step := range strings.FieldsFuncSeq(path, func(r rune) bool { return r == '.' }) {
		switch v := at.(type) {
		case map[string]any:
			at = v[step]
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i >= len(v) {
				return "null", nil
			}
			at = v[i]
		}
	}
	out, err := json.Marshal(at)
	return string(out), err
}

// events NAME...: stdout is one JSON event a line, and these are among them.
func scriptEvents(ts *testscript.TestScript, _ bool, args []string) {
	seen := map[string]bool{}
	for line := range strings.Lines(ts.ReadFile("stdout")) {
		var e struct {
			Event string
			Time  time.Time
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Event == "" || e.Time.IsZero() {
			ts.Fatalf("this is no event (%v): %s", err, line)
		}
		seen[e.Event] = true
	}
	for _, want := range args {
		if !seen[want] {
			ts.Fatalf("no event %q; seen: %v", want, seen)
		}
	}
}

// problemjson EXIT PATTERN: the last line of stderr is JSON that says the problem.
func scriptProblemJSON(ts *testscript.TestScript, _ bool, args []string) {
	var p problemJSON
	lines := strings.Split(strings.TrimSpace(ts.ReadFile("stderr")), "\n")
	stderr := lines[len(lines)-1]
	if err := json.Unmarshal([]byte(stderr), &p); err != nil {
		ts.Fatalf("stderr is not one JSON document: %v\n%s", err, stderr)
	}
	if strconv.Itoa(p.Exit) != args[0] || p.Safe == "" || p.Next == "" || !regexp.MustCompile(args[1]).MatchString(p.Problem) {
		ts.Fatalf("got %+v", p)
	}
}

// capture NAME PATTERN: keeps what the pattern's group finds in stdout.
func scriptCapture(ts *testscript.TestScript, _ bool, args []string) {
	found := regexp.MustCompile(args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if found == nil {
		ts.Fatalf("stdout does not match %s", args[1])
	}
	ts.Setenv(args[0], found[len(found)-1])
}

// await FILE PATTERN: waits until a file holds what is looked for.
func scriptAwait(ts *testscript.TestScript, _ bool, args []string) {
	want := regexp.MustCompile(args[1])
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		files, _ := filepath.Glob(ts.MkAbs(args[0]))
		for _, name := range files {
			if data, err := os.ReadFile(name); err == nil && want.Match(data) {
				return
			}
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s never held %s", args[0], args[1])
		}
	}
}
