package vsphere

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"sync"
	"time"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

const (
	// mostLogins bounds how often one call may meet an expired session.
	mostLogins = 3
	// callTime bounds one call. Long work is a task, and a task is asked about.
	callTime = 3 * time.Minute
	// mostDials and dialPause are for a server that is being restarted. Only a
	// connection that never came about is tried again: nobody knows what became
	// of a call that was sent.
	mostDials = 3
	dialPause = 2 * time.Second
)

// signed carries the calls of one session and signs in again when the server
// has forgotten it. It is a soap.RoundTripper.
type signed struct {
	wire  soap.RoundTripper
	login func(context.Context) error

	mu      sync.Mutex
	logins  int
	refused error
}

func newSigned(wire soap.RoundTripper, login func(context.Context) error) *signed {
	return &signed{wire: wire, login: login}
}

// RoundTrip makes a call. A call that the server did not take, because the
// session is over, is made once more in a new one.
func (s *signed) RoundTrip(ctx context.Context, req, res soap.HasFault) error {
	for try := 0; ; try++ {
		seen := s.session()
		err := s.call(ctx, req, res)
		if !isNotAuthenticated(err) || try == mostLogins {
			return err
		}
		if err := s.again(ctx, seen); err != nil {
			return err
		}
		// The old answer must not shine through the new one.
		reflect.ValueOf(res).Elem().SetZero()
	}
}

func (s *signed) call(ctx context.Context, req, res soap.HasFault) error {
	for try := 1; ; try++ {
		bounded, cancel := context.WithTimeoutCause(ctx, callTime, errSilent)
		err := s.wire.RoundTrip(bounded, req, res)
		if err != nil && ctx.Err() == nil && bounded.Err() != nil {
			err = fmt.Errorf("%w: %w", context.Cause(bounded), err)
		}
		cancel()
		if !neverSent(err) || try == mostDials {
			return err
		}
		if err := sleep(ctx, dialPause); err != nil {
			return err
		}
	}
}

var errSilent = errors.New("the server took too long to answer")

// session numbers the sessions, so that of many calls that meet an expired one
// a single one signs in.
func (s *signed) session() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.logins
}

// again signs in, unless somebody did since the caller looked.
func (s *signed) again(ctx context.Context, seen int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refused != nil {
		return s.refused
	}
	if s.logins != seen {
		return nil
	}
	if err := s.login(ctx); err != nil {
		err = fmt.Errorf("sign in again: %w", err)
		if isInvalidLogin(err) {
			s.refused = err
		}
		return err
	}
	s.logins++
	return nil
}

// keepSession uses an idle session now and then. If the server forgot it all the
// same, asking signs in again.
func keepSession(ctx context.Context, c *vim25.Client, every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			// A failure is met again, and told, by whoever needs the session.
			_ = touch(ctx, c)
		}
	}
}

// touch asks something that only a signed-in user may ask.
func touch(ctx context.Context, c *vim25.Client) error {
	var m mo.SessionManager
	return property.DefaultCollector(c).RetrieveOne(ctx, *c.ServiceContent.SessionManager, []string{"currentSession"}, &m)
}

// get fetches from a server of the host over HTTP: the files of a datastore, a
// screen. Headers may be nil. A session that is over is made anew, once. The
// caller looks at the status, and closes the body.
func (h *Host) get(ctx context.Context, u *url.URL, header map[string]string) (*http.Response, error) {
	c, err := h.client(ctx)
	if err != nil {
		return nil, err
	}
	for try := 0; ; try++ {
		seen := c.RoundTripper.(*signed).session()
		res, err := c.DownloadRequest(ctx, u, &soap.Download{Method: http.MethodGet, Headers: header})
		if err != nil {
			return nil, err
		}
		if res.StatusCode != http.StatusUnauthorized || try > 0 {
			return res, nil
		}
		discard(res.Body)
		if err := c.RoundTripper.(*signed).again(ctx, seen); err != nil {
			return nil, err
		}
	}
}

// discard empties a short answer, so that its connection can be used again.
func discard(body io.ReadCloser) {
	_, _ = io.CopyN(io.Discard, body, 64<<10)
	_ = body.Close()
}

// taskPause is how often a running task is asked about; it starts short and
// doubles up to the second value.
const (
	taskPause   = 50 * time.Millisecond
	taskPauseTo = 2 * time.Second
)

// taskTime bounds waiting for a task that nothing else bounds. The server may go
// on with it. A test shortens it.
var taskTime = 10 * time.Minute

// errStillAtIt says that a task outlived our waiting for it.
var errStillAtIt = errors.New("the server is still at it")

// wait waits for a task, however often the session is made anew meanwhile: it
// asks, and does not subscribe, because a subscription dies with its session.
// When ctx ends, or most is over (errStillAtIt), the task is cancelled if the
// server lets itself be asked, and wait returns the cause; the task may still
// succeed. The error of a task that failed is its fault.
func (h *Host) wait(ctx context.Context, task types.ManagedObjectReference, most time.Duration) (*types.TaskInfo, error) {
	ctx, stop := context.WithTimeoutCause(ctx, most, fmt.Errorf("%w after %v", errStillAtIt, most))
	defer stop()
	c, err := h.client(ctx)
	if err != nil {
		return nil, err
	}
	for pause := taskPause; ; pause = min(2*pause, taskPauseTo) {
		var t mo.Task
		if err := property.DefaultCollector(c).RetrieveOne(ctx, task, []string{"info"}, &t); err != nil {
			if ctx.Err() != nil {
				return nil, h.cancel(ctx, c, task)
			}
			return nil, err
		}
		switch t.Info.State {
		case types.TaskInfoStateSuccess:
			return &t.Info, nil
		case types.TaskInfoStateError:
			return &t.Info, taskError(t.Info.Error)
		}
		if sleep(ctx, pause) != nil {
			return nil, h.cancel(ctx, c, task)
		}
	}
}

// taskError is the fault of a task as an error; callers find it with fault.As.
func taskError(f *types.LocalizedMethodFault) error {
	if f == nil || f.Fault == nil {
		return errors.New("the task failed, and the server does not say why")
	}
	if f.LocalizedMessage == "" {
		return soap.WrapVimFault(f.Fault)
	}
	return fmt.Errorf("%s (%w)", words(f.LocalizedMessage), soap.WrapVimFault(f.Fault))
}

// cancel asks the server to give a task up, and returns why nobody waits for it
// any more. A task that waits for an answer of the operator's is left to wait.
func (h *Host) cancel(ctx context.Context, c *vim25.Client, task types.ManagedObjectReference) error {
	cause := context.Cause(ctx)
	if errors.Is(cause, errAsked) {
		return cause
	}
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), logoutTime)
	defer stop()
	// Many tasks cannot be cancelled; the caller says what that means.
	_, _ = methods.CancelTask(ctx, c, &types.CancelTask{This: task})
	return cause
}

// sleep waits, or returns why the context ended.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

func isNotAuthenticated(err error) bool {
	return err != nil && fault.Is(err, &types.NotAuthenticated{})
}

func isInvalidLogin(err error) bool {
	return err != nil && fault.Is(err, &types.InvalidLogin{})
}

// neverSent says that a call did not leave this computer.
func neverSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}
