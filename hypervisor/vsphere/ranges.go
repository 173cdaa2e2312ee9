package vsphere

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"lifeboat/hypervisor"
)

const (
	// partBytes is the most that one request asks for: a region of the store.
	partBytes = 4 << 20
	// mostTries is how often a part is asked for. A connection that drops loses
	// only what it had not brought.
	mostTries = 5
	// partTime bounds one request.
	partTime = 2 * time.Minute
	// partsAtOnce is how many requests of one disk are under way.
	partsAtOnce = 4
)

// partPause is how long a server that failed is left alone, the first time.
var partPause = 250 * time.Millisecond

// errWay says that a way of reading does not work here, and another one may.
var errWay = errors.New("this way of reading does not work here")

// httpGet fetches a URL; Host.get is one.
type httpGet func(ctx context.Context, u *url.URL, header map[string]string) (*http.Response, error)

// ranges reads a file of a datastore in parts. It believes nothing that the
// server does not say: an answer has to name exactly the bytes that were asked
// for, and the same file of the same size each time.
type ranges struct {
	get  httpGet
	url  *url.URL
	size int64
	turn *turn
	// stands fails if the file may have been written while it was read. It is
	// asked after the bytes came and before they are believed.
	stands func(ctx context.Context) error

	flights chan struct{}

	mu  sync.Mutex
	tag string // the file's ETag or date, of the first answer
	// sized: an answer has said that the file is as large as the disk.
	sized bool
}

func newRanges(get httpGet, u *url.URL, size int64, turn *turn, stands func(context.Context) error) *ranges {
	return &ranges{get: get, url: u, size: size, turn: turn, stands: stands, flights: make(chan struct{}, partsAtOnce)}
}

// readAt fills p from an offset, part by part.
func (r *ranges) readAt(ctx context.Context, p []byte, offset int64) error {
	select {
	case r.flights <- struct{}{}:
		defer func() { <-r.flights }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := r.turn.take(ctx); err != nil {
		return err
	}
	defer r.turn.give()
	for at := 0; at < len(p); {
		n := min(len(p)-at, partBytes)
		if err := r.part(ctx, p[at:at+n], offset+int64(at)); err != nil {
			// Without its snapshot the file is locked, or another one.
			if broken := r.stands(ctx); errors.Is(broken, hypervisor.ErrStillBroken) || errors.Is(broken, hypervisor.ErrMachineGone) {
				return broken
			}
			return err
		}
		at += n
	}
	return r.stands(ctx)
}

// part reads one part, and goes on where a connection dropped.
func (r *ranges) part(ctx context.Context, p []byte, offset int64) error {
	pause := partPause
	for try := 1; ; try++ {
		n, err := r.ask(ctx, p, offset)
		p, offset = p[n:], offset+int64(n)
		switch {
		case len(p) == 0:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, errWay) || try == mostTries:
			return fmt.Errorf("read %d bytes from %d of %s: %w", len(p), offset, words(r.url.Path), err)
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		pause *= 2
	}
}

// ask makes one request and returns how many bytes of p it filled. It returns
// an error, or fills p.
func (r *ranges) ask(ctx context.Context, p []byte, offset int64) (int, error) {
	limited, cancel := context.WithTimeout(ctx, partTime)
	defer cancel()
	last := offset + int64(len(p)) - 1
	res, err := r.get(limited, r.url, map[string]string{
		"Range":           fmt.Sprintf("bytes=%d-%d", offset, last),
		"Accept-Encoding": "identity",
	})
	if err != nil {
		return 0, err
	}
	// What is left of a wrong answer may be the whole disk: it is not read.
	defer res.Body.Close()
	if err := r.check(res, offset, last); err != nil {
		return 0, err
	}
	n, err := io.ReadFull(res.Body, p)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// check looks at an answer before any of its bytes is believed.
func (r *ranges) check(res *http.Response, offset, last int64) error {
	switch code := res.StatusCode; {
	case code == http.StatusOK:
		return fmt.Errorf("%w: the server sends the whole file in place of a part", errWay)
	case code >= 500 && code != http.StatusNotImplemented, code == http.StatusTooManyRequests, code == http.StatusRequestTimeout:
		return fmt.Errorf("the server answers %s", words(res.Status))
	case code != http.StatusPartialContent:
		return fmt.Errorf("%w: the server answers %s", errWay, words(res.Status))
	}
	want := fmt.Sprintf("bytes %d-%d/%d", offset, last, r.size)
	got := res.Header.Get("Content-Range")
	sized := got == want
	if !sized && got != fmt.Sprintf("bytes %d-%d/*", offset, last) {
		return fmt.Errorf("%w: asked for %q, the server sends %q", errWay, want, words(got))
	}
	if e := res.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return fmt.Errorf("%w: the server sends the part as %q", errWay, words(e))
	}
	if res.ContentLength >= 0 && res.ContentLength != last-offset+1 {
		return fmt.Errorf("%w: the server sends %d bytes for a part of %d", errWay, res.ContentLength, last-offset+1)
	}
	return r.sameFile(res, sized)
}

// sameFile refuses a file that is another one than at the first answer, and one
// whose size nobody has said. Sized: this answer does.
func (r *ranges) sameFile(res *http.Response, sized bool) error {
	tag := res.Header.Get("ETag")
	if tag == "" {
		tag = res.Header.Get("Last-Modified")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.tag == "" {
		r.tag = tag
	}
	r.sized = r.sized || sized
	switch {
	case tag != "" && tag != r.tag:
		return fmt.Errorf("%w: the file changed while it was read", errWay)
	case !r.sized:
		return fmt.Errorf("%w: the server does not say how large the file is", errWay)
	}
	return nil
}
