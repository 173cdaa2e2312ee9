package vsphere

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/soap"
)

// thumbprint is the SHA-256 or the SHA-1 of a certificate, or empty. vSphere's
// own screens show SHA-1 in older releases.
type thumbprint []byte

// parseThumbprint reads hex digits, with or without colons or spaces.
func parseThumbprint(text string) (thumbprint, error) {
	clean := strings.NewReplacer(":", "", " ", "", "-", "").Replace(strings.TrimSpace(text))
	sum, err := hex.DecodeString(clean)
	if err != nil || (len(sum) != 0 && len(sum) != sha1.Size && len(sum) != sha256.Size) {
		return nil, errors.New("a thumbprint has 64 hex digits (SHA-256) or 40 (SHA-1)")
	}
	return sum, nil
}

// is says whether this is the thumbprint of that certificate.
func (t thumbprint) is(cert *x509.Certificate) bool {
	switch len(t) {
	case sha256.Size:
		sum := sha256.Sum256(cert.Raw)
		return string(sum[:]) == string(t)
	case sha1.Size:
		sum := sha1.Sum(cert.Raw)
		return string(sum[:]) == string(t)
	}
	return false
}

// certificateError says that a server is not believed.
type certificateError struct {
	// server is its host name, thumbprint the SHA-256 of what it showed.
	server, thumbprint string
	// pinned: another certificate was expected.
	pinned bool
	err    error
}

func (e *certificateError) Error() string {
	return fmt.Sprintf("the certificate of %s is not trusted: %v", e.server, e.err)
}

func (e *certificateError) Unwrap() error { return e.err }

// Distrusted returns the SHA-256 of the certificate that a server showed, if err
// says that it was not believed.
func Distrusted(err error) (thumbprint string, ok bool) {
	var refused *certificateError
	if !errors.As(err, &refused) {
		return "", false
	}
	return refused.thumbprint, true
}

// dialTime bounds a connection and its handshake.
const dialTime = 30 * time.Second

// dialer connects with TLS and believes
//   - the server itself by its pinned thumbprint, or as every program does;
//   - another server (vCenter sends its clients to its ESXi hosts for the bytes
//     of disks) as every program does, or by the thumbprint that the server
//     itself gave for it (soap.Client.SetThumbprint).
//
// A pin is the whole proof: neither name nor date count beside it, since the
// certificates of ESXi are made by itself and often for no name at all.
func (h *Host) dialer(sc *soap.Client) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		server, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		pin := h.pin
		strict := len(pin) > 0
		if server != h.url.Hostname() {
			strict = false
			// A word from the server that is no thumbprint is none.
			pin, _ = parseThumbprint(sc.Thumbprint(addr))
		}
		d := tls.Dialer{
			NetDialer: &net.Dialer{Timeout: dialTime},
			Config: &tls.Config{
				ServerName: server,
				// The check is believe, below.
				InsecureSkipVerify: true,
				VerifyConnection: func(state tls.ConnectionState) error {
					return believe(state.PeerCertificates, server, pin, strict)
				},
			},
		}
		ctx, cancel := context.WithTimeout(ctx, dialTime)
		defer cancel()
		return d.DialContext(ctx, network, addr)
	}
}

// believe decides about a chain of certificates, the server's own first.
func believe(chain []*x509.Certificate, server string, pin thumbprint, strict bool) error {
	if len(chain) == 0 {
		return errors.New("the server showed no certificate")
	}
	if pin.is(chain[0]) {
		return nil
	}
	refuse := &certificateError{server: server, thumbprint: soap.ThumbprintSHA256(chain[0]), pinned: strict}
	if strict {
		refuse.err = errors.New("it is not the one that was pinned")
		return refuse
	}
	between := x509.NewCertPool()
	for _, cert := range chain[1:] {
		between.AddCert(cert)
	}
	if _, err := chain[0].Verify(x509.VerifyOptions{DNSName: server, Intermediates: between}); err != nil {
		refuse.err = err
		return refuse
	}
	return nil
}
