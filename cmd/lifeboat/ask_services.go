package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"lifeboat/hypervisor"
	"lifeboat/runbook"
)

// mostBody is how much of a page is looked through for the text of a check.
const mostBody = 1 << 20

// askHTTP asks for a page, over connections of the way alone: no proxy, and no
// redirect to where production may still be.
func (w *networkWay) askHTTP(ctx context.Context, at string, c runbook.Check) (string, error) {
	var seen certificateSeen
	client := &http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return w.dial(ctx, "tcp", at) },
			TLSClientConfig: &tls.Config{
				ServerName: c.HostName,
				// What it verifies instead is below: see certificateSeen.
				InsecureSkipVerify: true,
				VerifyConnection:   func(s tls.ConnectionState) error { return seen.look(s, c.HostName) },
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	host := cmp.Or(c.HostName, at)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, string(c.Kind)+"://"+host+cmp.Or(c.Path, "/"), nil)
	if err != nil {
		return "", &neverPasses{why: err.Error(), next: "correct the path of the check in the runbook"}
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if want := cmp.Or(c.Status, http.StatusOK); resp.StatusCode != want {
		return "", fmt.Errorf("it answers %s, and %d is wanted", hypervisor.GuestWords(resp.Status), want)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, mostBody))
	if err != nil {
		return "", err
	}
	if !strings.Contains(string(body), c.Body) {
		return "", fmt.Errorf("it answers %d, and its page does not have the text %q in the first %s", resp.StatusCode, c.Body, humanBytes(mostBody))
	}
	return words(fmt.Sprintf("answers %d", resp.StatusCode), seen.words()), nil
}

// certificateSeen is the certificate of a recovered service. Whether it is valid
// today is not the service's fault: in a drill the clock of the guest, the names
// and the revocation lists are those of a moment. If the check names a host, the
// certificate has to be for it; what else is wrong with it is told.
type certificateSeen struct {
	fingerprint, note string
}

func (s *certificateSeen) look(state tls.ConnectionState, host string) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("it shows no certificate")
	}
	leaf := state.PeerCertificates[0]
	sum := sha256.Sum256(leaf.Raw)
	s.fingerprint = hex.EncodeToString(sum[:])
	if host != "" {
		if err := leaf.VerifyHostname(host); err != nil {
			return fmt.Errorf("its certificate (SHA-256 %s) is for another: %s", s.fingerprint, hypervisor.GuestWords(err.Error()))
		}
	}
	between := x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		between.AddCert(c)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Intermediates: between, DNSName: host}); err != nil {
		s.note = "a browser of this computer would refuse it today: " + hypervisor.GuestWords(err.Error())
	}
	return nil
}

func (s *certificateSeen) words() string {
	return words(with("certificate SHA-256", s.fingerprint), s.note)
}

// mostAddresses bounds what is told of an answer.
const mostAddresses = 8

// askDNS asks the machine's own DNS server for the addresses of a name.
func (w *networkWay) askDNS(ctx context.Context, at string, c runbook.Check) (string, error) {
	resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		if strings.HasPrefix(network, "tcp") {
			network = "tcp"
		} else {
			network = "udp"
		}
		return w.dial(ctx, network, at)
	}}
	// With a dot at its end nothing is added to it.
	found, err := resolver.LookupNetIP(ctx, "ip", strings.TrimSuffix(c.HostName, ".")+".")
	if err != nil {
		return "", errors.New(hypervisor.GuestWords(err.Error()))
	}
	var texts []string
	for _, a := range found[:min(len(found), mostAddresses)] {
		texts = append(texts, a.Unmap().String())
	}
	slices.SortFunc(texts, func(a, b string) int {
		x, _ := netip.ParseAddr(a)
		y, _ := netip.ParseAddr(b)
		return x.Compare(y)
	})
	return "is " + strings.Join(texts, ", "), nil
}
