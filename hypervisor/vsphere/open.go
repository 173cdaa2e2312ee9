package vsphere

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"lifeboat/hypervisor"
)

const (
	// keepAlive is how often an idle session is used. vCenter drops one after 30
	// minutes.
	keepAlive = 5 * time.Minute
	// logoutTime bounds the good-bye of a command that is about to end.
	logoutTime = 10 * time.Second
	// idleConnection is shorter than any server keeps a silent connection: a
	// request on one that the server has just closed cannot be sent again.
	idleConnection = 20 * time.Second
	// headerTime is how long a server may think before it answers at all.
	headerTime = 3 * time.Minute
)

// Host is one vCenter, or one ESXi without a vCenter.
type Host struct {
	o   Options
	url *url.URL
	pin thumbprint

	// turn has room for one: whoever connects, or looks at the fields below. It is
	// waited for no longer than a caller's context lasts.
	turn   chan struct{}
	conn   *vim25.Client
	stop   context.CancelFunc
	closed bool
	// refused is the answer to a wrong password. It is kept: asking again would
	// lock the account.
	refused error
}

var errClosed = errors.New("the connection to this host was closed")

var _ hypervisor.Host = (*Host)(nil)

// Open returns the host that the options name. It connects when something is
// asked of it for the first time.
func Open(o Options) (*Host, error) {
	u, err := serverURL(o.URL)
	if err != nil {
		return nil, fmt.Errorf("host %q: %w", o.Name, err)
	}
	if o.User == "" {
		return nil, fmt.Errorf("host %q: the name of the user is missing", o.Name)
	}
	pin, err := parseThumbprint(o.Thumbprint)
	if err != nil {
		return nil, fmt.Errorf("host %q: %w", o.Name, err)
	}
	if o.Note == nil {
		o.Note = func(string, string) {}
	}
	if o.StreamsPerDatastore <= 0 {
		o.StreamsPerDatastore = 2
	}
	return &Host{o: o, url: u, pin: pin, turn: make(chan struct{}, 1)}, nil
}

// Name is what the operator called the host.
func (h *Host) Name() string { return h.o.Name }

// serverURL completes what an operator writes: "vc.example.com" is enough. A
// name or password in it is refused, because URLs end up in logs; so is plain
// HTTP, which would carry the password in the open.
func serverURL(text string) (*url.URL, error) {
	if text == "" {
		return nil, errors.New("the URL of the server is missing, for example https://vc.example.com")
	}
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		// The text of this error holds the whole URL, password included.
		return nil, errors.New("the URL of the server is not one; write for example https://vc.example.com")
	case u.User != nil:
		return nil, errors.New("the URL of the server must not hold a user or a password")
	case u.Scheme != "https":
		return nil, fmt.Errorf("the URL of the server begins with %s: it has to be https", u.Scheme)
	case u.Hostname() == "":
		return nil, errors.New("the URL of the server names no server, write for example https://vc.example.com")
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/sdk"
	}
	return u, nil
}

// client returns the signed-in connection; the first caller makes it.
func (h *Host) client(ctx context.Context) (*vim25.Client, error) {
	select {
	case h.turn <- struct{}{}:
		defer func() { <-h.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	switch {
	case h.closed:
		return nil, errClosed
	case h.refused != nil:
		return nil, h.refused
	case h.conn != nil:
		return h.conn, nil
	}
	c, err := h.connect(ctx)
	if err != nil {
		return nil, h.noConnection(ctx, err)
	}
	h.conn = c
	alive, stop := context.WithCancel(context.Background())
	h.stop = stop
	go keepSession(alive, c, keepAlive)
	return c, nil
}

// connect reaches the server and signs in.
func (h *Host) connect(ctx context.Context) (*vim25.Client, error) {
	sc := soap.NewClient(h.url, false)
	t := sc.DefaultTransport()
	// The servers stand in the same house: a proxy of the environment would
	// only hide their certificates.
	t.Proxy = nil
	t.DialTLSContext = h.dialer(sc)
	t.IdleConnTimeout = idleConnection
	t.ResponseHeaderTimeout = headerTime
	t.MaxIdleConnsPerHost = 16
	sc.UserAgent = "lifeboat"
	c, err := vim25.NewClient(ctx, sc)
	if err != nil {
		return nil, err
	}
	if c.ServiceContent.SessionManager == nil {
		return nil, errors.New("the server has no session manager")
	}
	// Older servers refuse calls in the words of a newer one.
	if v := c.ServiceContent.About.ApiVersion; v != "" {
		sc.Version = v
	}
	login := func(ctx context.Context) error {
		_, err := methods.Login(ctx, sc, &types.Login{
			This:     *c.ServiceContent.SessionManager,
			UserName: h.o.User, Password: h.o.Password, Locale: "en_US",
		})
		return err
	}
	if err := login(ctx); err != nil {
		return nil, err
	}
	c.RoundTripper = newSigned(sc, login)
	return c, nil
}

// Close signs out. Machines go on, and so does what the server is doing.
func (h *Host) Close() error {
	h.turn <- struct{}{}
	defer func() { <-h.turn }()
	h.closed = true
	if h.conn == nil {
		return nil
	}
	c := h.conn
	h.conn = nil
	h.stop()
	// The caller's context may be what ended: this one is our own.
	ctx, cancel := context.WithTimeout(context.Background(), logoutTime)
	defer cancel()
	defer c.CloseIdleConnections()
	_, err := methods.Logout(ctx, c.Client, &types.Logout{This: *c.ServiceContent.SessionManager})
	if err != nil && !isNotAuthenticated(err) {
		return fmt.Errorf("sign out of host %q: %w", h.o.Name, err)
	}
	return nil
}
