package custody

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// What a ledger may hold. A night adds one or two entries, so the most of them
// are more than a century; what is beyond comes from no site.
const (
	MaxEntries = 100_000
	// MaxLine is the most bytes of one entry's line, without its end.
	MaxLine = 16 << 10
	// MaxBytes is the most of a whole ledger.
	MaxBytes = 256 << 20
)

// ErrForm: the text of an entry is not one that this program writes.
var ErrForm = errors.New("it is not the line of an entry")

// Line is an entry as it is stored: its exact text, and the hash that was kept
// beside it, which is empty where none is.
type Line struct {
	Text string
	Hash Hash
}

// HashOf returns the hash of an entry's exact text.
func HashOf(text string) Hash {
	sum := sha256.Sum256([]byte(text))
	return Hash(hex.EncodeToString(sum[:]))
}

// Encode returns the one line of JSON that an entry is stored as, without its
// end. An entry has one text and a text one entry, so that the hash of an entry
// is that of its text.
func Encode(e Entry) string {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		// Of an entry's fields only a time can fail, in a year of five digits,
		// and such an entry was never valid.
		return ""
	}
	return string(bytes.TrimSuffix(out.Bytes(), []byte("\n")))
}

// Decode reads the line of an entry, and refuses with [ErrForm] what Encode would
// have written in another way, or what no valid entry says.
func Decode(text string) (Entry, error) {
	if len(text) > MaxLine {
		return Entry{}, fmt.Errorf("%w: it is longer than %d bytes", ErrForm, MaxLine)
	}
	if !utf8.ValidString(text) {
		return Entry{}, fmt.Errorf("%w: it is not UTF-8", ErrForm)
	}
	var e Entry
	dec := json.NewDecoder(bytes.NewReader([]byte(text)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil {
		return Entry{}, fmt.Errorf("%w: %v", ErrForm, err)
	}
	if Encode(e) != text {
		return Entry{}, fmt.Errorf("%w: its text is not in the one form of an entry", ErrForm)
	}
	if err := Check(e); err != nil {
		return Entry{}, fmt.Errorf("%w: %w", ErrForm, err)
	}
	return e, nil
}

// Lines returns entries as they are stored.
func Lines(entries []Entry) []Line {
	lines := make([]Line, len(entries))
	for i, e := range entries {
		text := Encode(e)
		lines[i] = Line{Text: text, Hash: HashOf(text)}
	}
	return lines
}

// Write writes a ledger as a file: one entry a line.
func Write(w io.Writer, entries []Entry) error {
	out := bufio.NewWriter(w)
	for _, e := range entries {
		out.WriteString(Encode(e))
		out.WriteByte('\n')
	}
	return out.Flush()
}

// Read reads a file that Write wrote, from wherever it comes: it may be hostile.
// Each line is an entry for itself; whether they are one chain, [Verify] says.
// More than [MaxEntries], [MaxLine] or [MaxBytes] is refused with [ErrForm].
func Read(r io.Reader) ([]Entry, error) {
	in := bufio.NewReaderSize(io.LimitReader(r, MaxBytes+1), MaxLine+1)
	var entries []Entry
	for total := 0; ; {
		line, err := in.ReadSlice('\n')
		total += len(line)
		switch {
		case errors.Is(err, io.EOF) && len(line) == 0:
			return entries, nil
		case errors.Is(err, io.EOF):
			return nil, fmt.Errorf("read the ledger: %w: entry %d is torn", ErrForm, len(entries)+1)
		case errors.Is(err, bufio.ErrBufferFull), total > MaxBytes, len(entries) == MaxEntries:
			return nil, fmt.Errorf("read the ledger: %w: it is larger than any site's", ErrForm)
		case err != nil:
			return nil, fmt.Errorf("read the ledger: %w", err)
		}
		e, err := Decode(string(line[:len(line)-1]))
		if err != nil {
			return nil, fmt.Errorf("read entry %d of the ledger: %w", len(entries)+1, err)
		}
		entries = append(entries, e)
	}
}
