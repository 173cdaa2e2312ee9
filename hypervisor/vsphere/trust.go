package vsphere

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"github.com/vmware/govmomi/vim25/soap"
)

// Shown is the certificate that a server shows to whoever asks.
type Shown struct {
	// Thumbprint is its SHA-256, as colon-separated hex digits.
	Thumbprint string
	// Doubt says why it is not believed as it is, or is nil.
	Doubt error
}

// Certificate asks the server of a URL for its certificate. It sends neither
// name nor password.
func Certificate(ctx context.Context, url string) (Shown, error) {
	u, err := serverURL(url)
	if err != nil {
		return Shown{}, err
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	var shown Shown
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: dialTime}, Config: &tls.Config{
		ServerName: u.Hostname(),
		// The caller decides: nothing is sent over this connection.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) == 0 {
				return errors.New("the server showed no certificate")
			}
			shown.Thumbprint = soap.ThumbprintSHA256(state.PeerCertificates[0])
			var refused *certificateError
			if err := believe(state.PeerCertificates, u.Hostname(), nil, false); errors.As(err, &refused) {
				shown.Doubt = errors.New(why(refused.err))
			}
			return nil
		},
	}}
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return Shown{}, fmt.Errorf("%s does not answer: %w", u.Host, err)
	}
	conn.Close()
	return shown, nil
}
