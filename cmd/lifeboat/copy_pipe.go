package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/rpc"
	"time"

	"lifeboat/internal/durable"
)

// A drive in the hand is read by a program at the other end of a pipe, such as that
// of ssh: the receiver asks for what its own store lacks, and for nothing else. So
// a copy over a line is the same as one from drive to drive: each block is checked
// where it arrives, and one that was cut off goes on where it was.

// The types that travel have exported names, because net/rpc takes no others.

// mostRead is how much the receiver may ask for at once.
const mostRead = 16 << 20

// pipeServer answers the receiver. It only ever reads the drive.
type pipeServer struct {
	dir   durable.Dir
	order CopyOrder
	// progress and result hear what the receiver says.
	progress func(done, total int64)
	result   func(CopyResult)
}

// CopyOrder is what a receiver is to do. The secret in it goes through the pipe
// alone.
type CopyOrder struct {
	Keys   secretKeys
	Points []string
	// Now is the sender's clock: that of a rented host may be anything.
	Now time.Time
}

// CopyResult is what came of it at the other end.
type CopyResult struct {
	Problem      string `json:"problem,omitempty"`
	Safe         string `json:"safe,omitempty"`
	Next         string `json:"next,omitempty"`
	Exit         int    `json:"exit"`
	Copied       int    `json:"copied"`
	Present      int    `json:"present"`
	WrittenBytes int64  `json:"writtenBytes"`
}

// PipeAnswer is what the sender answers: Missing and Failed are errors.
type PipeAnswer struct {
	Missing bool
	Failed  string
	Data    []byte
	Size    int64
	Entries []PipeEntry
}

// PipeRequest asks for a part of a file, a folder, or what a name is.
type PipeRequest struct {
	Name   string
	Offset int64
	Length int
}

// PipeEntry is a name in a folder. It is an fs.DirEntry and an fs.FileInfo.
type PipeEntry struct {
	Called string
	Bytes  int64
	Bits   fs.FileMode
	At     time.Time
}

func (e PipeEntry) Name() string               { return e.Called }
func (e PipeEntry) Size() int64                { return e.Bytes }
func (e PipeEntry) Mode() fs.FileMode          { return e.Bits }
func (e PipeEntry) ModTime() time.Time         { return e.At }
func (e PipeEntry) IsDir() bool                { return e.Bits.IsDir() }
func (e PipeEntry) Sys() any                   { return nil }
func (e PipeEntry) Type() fs.FileMode          { return e.Bits.Type() }
func (e PipeEntry) Info() (fs.FileInfo, error) { return e, nil }

func entryOf(i fs.FileInfo) PipeEntry { return PipeEntry{i.Name(), i.Size(), i.Mode(), i.ModTime()} }

// fail turns an error into an answer, so that the other end can tell what is not
// there from what cannot be read.
func (r *PipeAnswer) fail(err error) error {
	if err != nil {
		r.Missing, r.Failed = errors.Is(err, fs.ErrNotExist), err.Error()
	}
	return nil
}

func (r *PipeAnswer) err(name string) error {
	switch {
	case r.Missing:
		return fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	case r.Failed != "":
		return fmt.Errorf("%s: the other end: %s", name, oneLine(plainText(r.Failed)))
	}
	return nil
}

// Order, Progress, Result, List, Stat and Read are what the receiver calls.

func (s *pipeServer) Order(_ struct{}, order *CopyOrder) error {
	*order = s.order
	return nil
}

// Progress hears how far the copy is: bytes done, and in all.
func (s *pipeServer) Progress(done [2]int64, _ *struct{}) error {
	s.progress(done[0], done[1])
	return nil
}

func (s *pipeServer) Result(r CopyResult, _ *struct{}) error {
	s.result(r)
	return nil
}

func (s *pipeServer) List(q PipeRequest, r *PipeAnswer) error {
	entries, err := s.dir.List(q.Name)
	for _, e := range entries {
		info, ierr := e.Info()
		if errors.Is(ierr, fs.ErrNotExist) {
			continue
		}
		if ierr != nil {
			return r.fail(ierr)
		}
		r.Entries = append(r.Entries, entryOf(info))
	}
	return r.fail(err)
}

func (s *pipeServer) Stat(q PipeRequest, r *PipeAnswer) error {
	info, err := s.dir.Stat(q.Name)
	if err == nil {
		r.Entries = []PipeEntry{entryOf(info)}
	}
	return r.fail(err)
}

func (s *pipeServer) Read(q PipeRequest, r *PipeAnswer) error {
	if q.Length < 0 || q.Length > mostRead {
		return r.fail(fmt.Errorf("%d bytes are not read at once", q.Length))
	}
	f, err := s.dir.Open(q.Name)
	if err != nil {
		return r.fail(err)
	}
	defer f.Close()
	if r.Size, err = f.Size(); err != nil {
		return r.fail(err)
	}
	r.Data = make([]byte, q.Length)
	n, err := f.ReadAt(r.Data, q.Offset)
	r.Data = r.Data[:n]
	if errors.Is(err, io.EOF) {
		err = nil // the other end sees it by the length
	}
	return r.fail(err)
}

// pipedDir is a folder at the other end of a pipe, for reading.
type pipedDir struct {
	client *rpc.Client
	under  string
}

func (d pipedDir) call(method string, q PipeRequest) (PipeAnswer, error) {
	var r PipeAnswer
	if d.under != "" {
		q.Name = d.under + "/" + q.Name
	}
	if err := d.client.Call("Drive."+method, q, &r); err != nil {
		return r, fmt.Errorf("%s: the line to the drive: %w", q.Name, err)
	}
	return r, r.err(q.Name)
}

func (d pipedDir) Open(name string) (durable.ReadFile, error) {
	r, err := d.call("Read", PipeRequest{Name: name})
	if err != nil {
		return nil, err
	}
	return pipedFile{d, name, r.Size}, nil
}

func (d pipedDir) List(name string) ([]fs.DirEntry, error) {
	r, err := d.call("List", PipeRequest{Name: name})
	var all []fs.DirEntry
	for _, e := range r.Entries {
		all = append(all, e)
	}
	return all, err
}

func (d pipedDir) Stat(name string) (fs.FileInfo, error) {
	r, err := d.call("Stat", PipeRequest{Name: name})
	if err != nil {
		return nil, err
	}
	if len(r.Entries) != 1 {
		return nil, fmt.Errorf("%s: the other end does not say what it is", name)
	}
	return r.Entries[0], nil
}

func (d pipedDir) Sub(name string) (durable.Dir, error) {
	if d.under != "" {
		name = d.under + "/" + name
	}
	return pipedDir{d.client, name}, nil
}

func (d pipedDir) ReadOnly() bool { return true }
func (d pipedDir) String() string { return "the drive at the other end" }
func (d pipedDir) Cached() string { return "it is read over a line" }

func (d pipedDir) Create(string) (durable.WriteFile, error) { return nil, fs.ErrPermission }
func (d pipedDir) Mkdir(string) error                       { return fs.ErrPermission }
func (d pipedDir) Rename(_, _ string) error                 { return fs.ErrPermission }
func (d pipedDir) Remove(string) error                      { return fs.ErrPermission }
func (d pipedDir) SyncDir(string) error                     { return fs.ErrPermission }
func (d pipedDir) Space() (free, total int64, err error)    { return 0, 0, errors.ErrUnsupported }
func (d pipedDir) Lock(string, bool) (io.Closer, error)     { return nil, errors.ErrUnsupported }

// pipedFile is a file of such a folder.
type pipedFile struct {
	dir  pipedDir
	name string
	size int64
}

func (f pipedFile) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		want := min(len(p)-n, mostRead)
		r, err := f.dir.call("Read", PipeRequest{Name: f.name, Offset: off + int64(n), Length: want})
		if err != nil {
			return n, err
		}
		n += copy(p[n:], r.Data)
		if len(r.Data) < want {
			return n, io.EOF
		}
	}
	return n, nil
}

func (f pipedFile) Size() (int64, error)       { return f.size, nil }
func (f pipedFile) Close() error               { return nil }
func (f pipedFile) DropCache(_, _ int64) error { return nil }
