package translator_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc/translator"
)

// Clients speak TLS to the gateway. A certificate that is renewed while Envoy
// runs is served without a restart.
func TestTheOutsideListenerTerminatesTLSAndServesARenewedCertificate(t *testing.T) {
	n := newNetwork(t, findEnvoy(t))
	n.pod(t, pod{name: "web"})
	secretFile := filepath.Join(t.TempDir(), "secret.json")
	issue := func() tls.Certificate {
		t.Helper()
		c := n.authority.certificate(t, "www.example")
		key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		chain, key := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
		data, err := translator.SecretFile(chain, key)
		if err != nil {
			t.Fatal(err)
		}
		if chain2, key2, err := translator.ReadSecretFile(data); err != nil || !bytes.Equal(chain, chain2) || !bytes.Equal(key, key2) {
			t.Errorf("the file is read as %q, %q, %v", chain2, key2, err)
		}
		if err := os.WriteFile(secretFile+".new", data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(secretFile+".new", secretFile); err != nil {
			t.Fatal(err)
		}
		return c
	}
	first := issue()
	n.start(t, n.expand(`
node: sg-1
addrs: {ingress: "{sg-1}", fabric: "{sg-1.fabric}", probe: "{sg-1.probe}"}
entries:
- {prefix: web/1, local: true}
services:
- {prefix: web/1, address: "{web}"}
aliases:
- {host: www.example, prefix: web/1, from: outside}
outside: {address: "{sg-1.outside}", secretfile: `+secretFile+"}\n"))

	pool := x509.NewCertPool()
	pool.AddCert(n.authority.cert)
	get := func() *http.Response {
		t.Helper()
		transport := &http.Transport{
			DisableKeepAlives: true, ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: pool},
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, n.address("sg-1.outside"))
			},
		}
		request, err := http.NewRequestWithContext(t.Context(), "GET", "https://www.example/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := transport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if response.StatusCode != 200 || !strings.HasPrefix(string(body), "web: /x ") {
			t.Errorf("%s: %s", response.Status, body)
		}
		return response
	}
	r := get()
	if r.ProtoMajor != 2 || !r.TLS.PeerCertificates[0].Equal(parse(t, first)) {
		t.Errorf("%s with certificate %v", r.Proto, r.TLS.PeerCertificates[0].SerialNumber)
	}
	if r.Header.Get("x-request-id") == "" {
		t.Errorf("a client that complains has no request id to name: %v", r.Header)
	}
	second := issue()
	late := time.After(20 * time.Second)
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for !get().TLS.PeerCertificates[0].Equal(parse(t, second)) {
		select {
		case <-late:
			t.Fatal("the renewed certificate is not served after 20 s")
		case <-poll.C:
		}
	}
}

func parse(t *testing.T, c tls.Certificate) *x509.Certificate {
	t.Helper()
	cert, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return cert
}
