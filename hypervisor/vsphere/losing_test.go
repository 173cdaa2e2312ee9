package vsphere

import (
	"context"
	"io"
	"testing"

	"github.com/vmware/govmomi/vim25/soap"
)

// losing is a wire that loses answers: the server has done what it was asked.
type losing struct {
	soap.RoundTripper
	lose func(answer soap.HasFault) bool
}

func (l *losing) RoundTrip(ctx context.Context, req, res soap.HasFault) error {
	err := l.RoundTripper.RoundTrip(ctx, req, res)
	if err == nil && l.lose(res) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// loseAnswers loses those of which lose says so. It may be called by several at
// once.
func loseAnswers(t *testing.T, h *Host, lose func(answer soap.HasFault) bool) {
	t.Helper()
	c, err := h.client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := c.RoundTripper.(*signed)
	s.wire = &losing{s.wire, lose}
}
