package durable

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strconv"
	"sync"

	"lifeboat"
)

// maxJournalFile bounds what is read into memory: a journal holds steps, and a
// million of them would fit.
const maxJournalFile = 256 << 20

var journalFile = regexp.MustCompile(`^\d{6}\.jsonl$`)

// Journal is an append-only list of records in a folder. A record that Append
// returned nil for is there after a power cut; one that was being written is
// there whole or not at all. Every opening starts a new file in the folder, so
// that nothing is ever written behind a torn line.
//
// Each line is one JSON object whose checksum covers the line before it too: a
// line that was changed, lost or moved is seen.
type Journal struct {
	dir  Dir
	name string

	mu     sync.Mutex
	file   WriteFile
	next   int
	last   string
	failed error
}

type journalLine struct {
	N      int             `json:"n"`
	Sum    string          `json:"sum"`
	Record json.RawMessage `json:"record"`
}

// OpenJournal reads what the folder name holds and opens it for more. The folder
// is made when it does not exist. Only one process may have it open; the caller
// holds the lock that sees to it.
func OpenJournal(dir Dir, name string) (*Journal, []json.RawMessage, error) {
	records, state, err := readJournal(dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		err = makeJournalFolder(dir, name)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("open journal %s: %w", name, err)
	}
	j := &Journal{dir: dir, name: name, next: len(records) + 1, last: state.sum}
	file := path.Join(name, fmt.Sprintf("%06d.jsonl", state.files+1))
	if j.file, err = dir.Create(file); err != nil {
		return nil, nil, fmt.Errorf("open journal %s: %w", name, err)
	}
	if err := dir.SyncDir(name); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open journal %s: %w", name, err), j.file.Close())
	}
	return j, records, nil
}

// Append adds a record and returns once it is on the medium. After an error the
// journal takes no more: whether that record is there is not known.
func (j *Journal) Append(record any) error {
	data, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("journal %s: %w", j.name, err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failed != nil {
		return j.failed
	}
	line := journalLine{N: j.next, Sum: journalSum(j.last, j.next, data), Record: data}
	if err := j.write(line); err != nil {
		j.failed = fmt.Errorf("journal %s: write record %d: %w", j.name, j.next, err)
		return j.failed
	}
	j.next++
	j.last = line.Sum
	return nil
}

// Close ends writing.
func (j *Journal) Close() error { return j.file.Close() }

func (j *Journal) write(line journalLine) error {
	text, err := json.Marshal(line)
	if err != nil {
		return err
	}
	if _, err := j.file.Write(append(text, '\n')); err != nil {
		return err
	}
	return j.file.Sync()
}

// ReadJournal returns the records of a journal, which may be open for writing
// elsewhere. A torn line at the end of a file is what a power cut leaves and is
// dropped; anything else that is not as it was written is
// [lifeboat.ErrDamaged], returned with the good records before it.
func ReadJournal(dir Dir, name string) ([]json.RawMessage, error) {
	records, _, err := readJournal(dir, name)
	if err != nil {
		return records, fmt.Errorf("read journal %s: %w", name, err)
	}
	return records, nil
}

// journalState is where reading ended: the number of the last file, and the sum
// of the last good line.
type journalState struct {
	files int
	sum   string
}

func readJournal(dir Dir, name string) ([]json.RawMessage, journalState, error) {
	var state journalState
	var records []json.RawMessage
	entries, err := dir.List(name)
	if err != nil {
		return nil, state, err
	}
	for _, e := range entries {
		if !journalFile.MatchString(e.Name()) {
			continue
		}
		data, err := ReadWhole(dir, path.Join(name, e.Name()), maxJournalFile)
		if err != nil {
			return records, state, err
		}
		more, sum, err := decodeJournal(data, len(records), state.sum)
		records, state.sum = append(records, more...), sum
		if err != nil {
			return records, state, fmt.Errorf("%s: %w", e.Name(), err)
		}
		state.files, _ = strconv.Atoi(e.Name()[:6])
	}
	return records, state, nil
}

// decodeJournal reads one file that continues after the given number of records
// and the sum of the last of them.
func decodeJournal(data []byte, before int, sum string) ([]json.RawMessage, string, error) {
	var records []json.RawMessage
	for len(data) > 0 {
		text, rest, whole := bytes.Cut(data, []byte("\n"))
		line, ok := decodeLine(text)
		if !(ok && whole) && torn(rest) {
			return records, sum, nil
		}
		n := before + len(records) + 1
		if !ok || line.N != n || line.Sum != journalSum(sum, n, line.Record) {
			return records, sum, fmt.Errorf("record %d: %w", n, lifeboat.ErrDamaged)
		}
		records, sum, data = append(records, line.Record), line.Sum, rest
	}
	return records, sum, nil
}

// torn says that nothing whole follows a bad line. Each record is synced before
// the next is written, so a power cut can only leave its mark on the last.
func torn(rest []byte) bool {
	for text := range bytes.Lines(rest) {
		if _, ok := decodeLine(bytes.TrimSuffix(text, []byte("\n"))); ok {
			return false
		}
	}
	return true
}

// decodeLine accepts exactly what Append writes, byte for byte.
func decodeLine(text []byte) (journalLine, bool) {
	var line journalLine
	if json.Unmarshal(text, &line) != nil {
		return line, false
	}
	again, err := json.Marshal(line)
	return line, err == nil && bytes.Equal(again, text)
}

func journalSum(last string, n int, record []byte) string {
	h := sha256.New()
	fmt.Fprintf(h, "lifeboat journal 1\n%s\n%d\n", last, n)
	h.Write(record)
	return hex.EncodeToString(h.Sum(nil)[:16])
}

func makeJournalFolder(dir Dir, name string) error {
	if err := dir.Mkdir(name); err != nil {
		return err
	}
	return dir.SyncDir(path.Dir(name))
}
