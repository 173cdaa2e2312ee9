package rotation

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"

	"lifeboat"
	"lifeboat/internal/durable"
)

// sumsFile lists the hashes of the programs for tools that check a drive. It
// proves nothing to a stranger: who can change a program can change this too.
const sumsFile = "SHA256SUMS"

var programName = regexp.MustCompile(`^lifeboat-linux-(amd64|arm64)$`)

// ProgramSource is a program that a drive is to carry.
type ProgramSource struct {
	// Arch is "amd64" or "arm64".
	Arch string
	// Open gives its bytes, from the start, each time.
	Open func() (io.ReadCloser, error)
}

// ProgramFile is a source that reads a file of this machine.
func ProgramFile(arch, file string) ProgramSource {
	return ProgramSource{Arch: arch, Open: func() (io.ReadCloser, error) { return os.Open(file) }}
}

func (s ProgramSource) file() string { return "lifeboat-linux-" + s.Arch }

// Program is a program as a drive carries it.
type Program struct {
	File   string `json:"file"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// ProgramState is what became of one program of a drive.
type ProgramState string

// The states of a program on a drive: as it should be; not there; other bytes
// than this program would write, which is so after an update and after damage
// alike; a program that does not belong there.
const (
	ProgramRight   ProgramState = "right"
	ProgramMissing ProgramState = "missing"
	ProgramOther   ProgramState = "other"
	ProgramForeign ProgramState = "foreign"
)

// ProgramFinding is one line of CheckPrograms.
type ProgramFinding struct {
	File  string       `json:"file"`
	State ProgramState `json:"state"`
	// Want is the program as it should be, Has the hash of what is there.
	Want Program `json:"want"`
	Has  string  `json:"has,omitempty"`
}

// HashPrograms returns what WritePrograms would write, for the printed sheet.
func HashPrograms(sources []ProgramSource) ([]Program, error) {
	var all []Program
	for _, s := range sources {
		if !programName.MatchString(s.file()) {
			return nil, fmt.Errorf("no program is built for %q", s.Arch)
		}
		r, err := s.Open()
		if err != nil {
			return nil, fmt.Errorf("read the program for %s: %w", s.Arch, err)
		}
		sum := sha256.New()
		n, err := io.Copy(sum, r)
		if err := errors.Join(err, r.Close()); err != nil {
			return nil, fmt.Errorf("read the program for %s: %w", s.Arch, err)
		}
		all = append(all, Program{File: s.file(), Bytes: n, SHA256: hex.EncodeToString(sum.Sum(nil))})
	}
	return all, nil
}

// WritePrograms puts the programs onto the drive in dir, replacing others, and
// reads each back from the medium. Without sources it leaves what is there.
func WritePrograms(dir durable.Dir, sources []ProgramSource) ([]Program, error) {
	programs, err := HashPrograms(sources)
	if err != nil || len(programs) == 0 {
		return nil, err
	}
	for i, p := range programs {
		if err := writeProgram(dir, sources[i], p); err != nil {
			return nil, fmt.Errorf("put %s onto the drive: %w", p.File, err)
		}
	}
	if err := writeSums(dir); err != nil {
		return nil, fmt.Errorf("list the programs on the drive: %w", err)
	}
	return programs, nil
}

// writeSums lists every program that is there, also one that an earlier version
// wrote and this one has no source for.
func writeSums(dir durable.Dir) error {
	entries, err := dir.List(BinFolder)
	if err != nil {
		return err
	}
	var sums bytes.Buffer
	for _, e := range entries {
		if !programName.MatchString(e.Name()) {
			continue
		}
		sum, err := hashFile(dir, binName(e.Name()))
		if errors.Is(err, lifeboat.ErrDamaged) {
			continue
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%s  %s\n", sum, e.Name())
	}
	return durable.WriteFileAtomic(dir, binName(sumsFile), sums.Bytes())
}

func writeProgram(dir durable.Dir, source ProgramSource, want Program) error {
	r, err := source.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err := durable.WriteFrom(dir, binName(want.File), r); err != nil {
		return err
	}
	has, err := hashFile(dir, binName(want.File))
	if err != nil {
		return err
	}
	if has != want.SHA256 {
		return fmt.Errorf("it reads back with other bytes: %w", lifeboat.ErrDamaged)
	}
	return nil
}

// CheckPrograms compares what the drive in dir carries with what this program
// would write. It reads from the medium and changes nothing. Anything but
// [ProgramRight] is put right by WritePrograms, except a foreign program, which
// a person should look at: nobody has a reason to put one there.
func CheckPrograms(dir durable.Dir, sources []ProgramSource) ([]ProgramFinding, error) {
	programs, err := HashPrograms(sources)
	if err != nil {
		return nil, err
	}
	var findings []ProgramFinding
	expected := map[string]bool{sumsFile: true}
	for _, want := range programs {
		expected[want.File] = true
		finding := ProgramFinding{File: want.File, State: ProgramRight, Want: want}
		finding.Has, err = hashFile(dir, binName(want.File))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			finding.State = ProgramMissing
		case errors.Is(err, lifeboat.ErrDamaged):
			finding.State = ProgramOther
		case err != nil:
			return nil, fmt.Errorf("check %s on the drive: %w", want.File, err)
		case finding.Has != want.SHA256:
			finding.State = ProgramOther
		}
		findings = append(findings, finding)
	}
	foreign, err := foreignPrograms(dir, expected)
	return append(findings, foreign...), err
}

func foreignPrograms(dir durable.Dir, expected map[string]bool) ([]ProgramFinding, error) {
	entries, err := dir.List(BinFolder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("check the programs on the drive: %w", err)
	}
	var findings []ProgramFinding
	for _, e := range entries {
		if !expected[e.Name()] && !programName.MatchString(e.Name()) && !durable.IsTemp(e.Name()) {
			findings = append(findings, ProgramFinding{File: e.Name(), State: ProgramForeign})
		}
	}
	return findings, nil
}

// hashFile hashes a file as the medium has it, past the cache.
func hashFile(dir durable.Dir, name string) (string, error) {
	f, err := dir.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return "", err
	}
	if err := f.DropCache(0, size); err != nil {
		return "", err
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(f, 0, size)); err != nil {
		return "", fmt.Errorf("read %s: %w", path.Base(name), err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func archOf(p Program) string { return strings.TrimPrefix(p.File, "lifeboat-linux-") }
