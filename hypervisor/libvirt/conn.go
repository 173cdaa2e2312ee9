//go:build libvirt_dlopen && cgo

package libvirt

import (
	"context"
	"errors"
	"net/url"
	"sync"
	"time"

	lv "libvirt.org/go/libvirt"
)

// The connection is asked for a sign of life this often, and given up after so
// many that stayed without an answer: 30 s, so that a host that was switched off
// does not hold a call for ever.
const (
	keepAliveSeconds = 5
	keepAliveCount   = 5
)

// link is one connection. It is closed when nobody uses it any more: a call that
// its caller gave up is still inside libvirt's client.
type link struct {
	c       *lv.Connect
	users   int
	retired bool
}

// events starts libvirt's event loop, once per process. Without it a connection
// that broke is only noticed by the next call that fails.
var events = sync.OnceValue(func() error {
	if err := lv.EventRegisterDefaultImpl(); err != nil {
		return err
	}
	go func() {
		for {
			if err := lv.EventRunDefaultImpl(); err != nil {
				time.Sleep(100 * time.Millisecond) // never spin on an error that stays
			}
		}
	}()
	return nil
})

// use returns a connection that lives, and what to call when done with it.
func (h *Host) use(ctx context.Context) (*lv.Connect, func(), error) {
	select {
	case h.opening <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
	defer func() { <-h.opening }()
	if c, done, err := h.living(); c != nil || err != nil {
		return c, done, err
	}
	c, err := blocking(ctx, func() (*lv.Connect, error) { return connect(h.address()) }, closeConnection)
	if err != nil {
		return nil, nil, h.unreachable(err)
	}
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		closeConnection(c)
		return nil, nil, errClosed
	}
	h.link = &link{c: c}
	h.mu.Unlock()
	c, done, err := h.living()
	if c == nil && err == nil {
		err = h.unreachable(errLost)
	}
	return c, done, err
}

// errClosed: somebody goes on after Close.
var errClosed = errors.New("the host was closed")

// errLost: a connection that was just made does not live.
var errLost = errors.New("the connection was lost at once")

// living returns the connection that there is, or nil if there is none.
func (h *Host) living() (*lv.Connect, func(), error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, nil, errClosed
	}
	if h.link == nil {
		return nil, nil, nil
	}
	if alive, err := h.link.c.IsAlive(); err != nil || !alive {
		h.retire()
		return nil, nil, nil
	}
	l := h.link
	l.users++
	return l.c, sync.OnceFunc(func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		l.users--
		if l.retired && l.users == 0 {
			closeConnection(l.c)
		}
	}), nil
}

// retire forgets the connection, with h.mu held.
func (h *Host) retire() {
	l := h.link
	if l == nil {
		return
	}
	h.link, l.retired = nil, true
	if l.users == 0 {
		closeConnection(l.c)
	}
}

// closeConnection ends a connection. That cannot fail in a way that matters: the
// other end sees it gone.
func closeConnection(c *lv.Connect) { _, _ = c.Close() }

// connect opens a connection. Whatever would ask a person is answered with
// nothing: credentials come from libvirt's own files, keys and certificates.
func connect(address string) (*lv.Connect, error) {
	if err := events(); err != nil {
		return nil, err
	}
	c, err := lv.NewConnectWithAuth(address, &lv.ConnectAuth{
		CredType: []lv.ConnectCredentialType{lv.CRED_AUTHNAME, lv.CRED_PASSPHRASE},
		Callback: func([]*lv.ConnectCredential) {},
	}, 0)
	if err != nil {
		return nil, err
	}
	if err := c.SetKeepAlive(keepAliveSeconds, keepAliveCount); err != nil && !isCode(err, lv.ERR_NO_SUPPORT) {
		closeConnection(c)
		return nil, err
	}
	return c, nil
}

// address is the URI for the client library. SSH never asks at the terminal: a
// service has none, and a question that nobody sees looks like a host that hangs.
func (h *Host) address() string {
	if h.transport() != "ssh" || h.uri.Query().Has("no_tty") {
		return h.uri.String()
	}
	u := *h.uri
	u.RawQuery = joinQuery(u.RawQuery, url.Values{"no_tty": {"1"}}.Encode())
	return u.String()
}

func joinQuery(a, b string) string {
	if a == "" {
		return b
	}
	return a + "&" + b
}

// blocking runs a call that knows no context and returns when it does, or when
// ctx ends. What a call returns that nobody waits for any more goes to drop.
func blocking[T any](ctx context.Context, f func() (T, error), drop func(T)) (T, error) {
	type result struct {
		value T
		err   error
	}
	var none T
	if ctx.Err() != nil {
		return none, context.Cause(ctx)
	}
	done := make(chan result)
	go func() {
		value, err := f()
		select {
		case done <- result{value, err}:
		case <-ctx.Done():
			if err == nil && drop != nil {
				drop(value)
			}
		}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		return none, context.Cause(ctx)
	}
}

// onHost asks the host something. A connection that broke meanwhile is made once
// more and the question asked again, so f must not change anything.
func onHost[T any](ctx context.Context, h *Host, op string, f func(*lv.Connect) (T, error)) (T, error) {
	value, lost, err := once(ctx, h, op, f)
	if lost && ctx.Err() == nil {
		value, _, err = once(ctx, h, op, f)
	}
	return value, err
}

// do changes something on the host: f runs at most once.
func (h *Host) do(ctx context.Context, op string, f func(*lv.Connect) error) error {
	_, _, err := once(ctx, h, op, func(c *lv.Connect) (struct{}, error) { return struct{}{}, f(c) })
	return err
}

// once runs one call, and says whether the connection was lost under it. The
// connection is held until the call itself ends, even if nobody waits for it.
func once[T any](ctx context.Context, h *Host, op string, f func(*lv.Connect) (T, error)) (value T, lost bool, err error) {
	c, done, err := h.use(ctx)
	if err != nil {
		return value, false, err
	}
	value, err = blocking(ctx, func() (T, error) {
		defer done()
		value, err := f(c)
		if err != nil {
			alive, aliveErr := c.IsAlive()
			lost := aliveErr != nil || !alive
			return value, &callError{op: op, lost: lost, err: err}
		}
		return value, nil
	}, nil)
	var call *callError
	if !errors.As(err, &call) {
		return value, false, err
	}
	return value, call.lost, h.explain(call)
}

// callError is a call that libvirt refused.
type callError struct {
	op   string
	lost bool
	err  error
}

func (e *callError) Error() string { return e.op + ": " + e.err.Error() }
func (e *callError) Unwrap() error { return e.err }
