package vsphere

import (
	"context"
	"testing"

	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// sessionList returns everybody who is signed in.
func sessionList(ctx context.Context, c *vim25.Client) ([]types.UserSession, error) {
	var m mo.SessionManager
	err := property.DefaultCollector(c).RetrieveOne(ctx, *c.ServiceContent.SessionManager, []string{"sessionList"}, &m)
	return m.SessionList, err
}

// endSessions ends every session but the one that does it.
func endSessions(t *testing.T, s *simulator.Server) {
	t.Helper()
	ctx := context.Background()
	c, err := vim25.NewClient(ctx, soap.NewClient(s.URL, true))
	if err != nil {
		t.Fatal(err)
	}
	m := session.NewManager(c)
	if err := m.Login(ctx, s.URL.User); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.Logout(ctx) }()
	list, err := sessionList(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range list {
		if one.UserAgent == "lifeboat" {
			if err := m.TerminateSession(ctx, []string{one.Key}); err != nil {
				t.Fatal(err)
			}
		}
	}
}
