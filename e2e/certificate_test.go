package e2e_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/admin"
	"github.com/dmsc-mesh/dmsc/internal/lab"
	"github.com/dmsc-mesh/dmsc/internal/topology"
)

// pair is a certificate that signs itself, and its key.
type pair struct {
	certificate *x509.Certificate
	chain, key  []byte // PEM
}

func newPair(t *testing.T, host string, life time.Duration) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pair{c, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})}
}

// gateway starts sg-1 beside sr-1, with these settings of its own.
func gateway(t *testing.T, settings map[string]any) *network {
	t.Helper()
	return start(t, "", func(o *lab.Options) {
		o.Topology.Nodes = slices.DeleteFunc(o.Topology.Nodes, func(n topology.Node) bool { return n.ID != "sg-1" && n.ID != "sr-1" })
		o.Topology.Links = slices.DeleteFunc(o.Topology.Links, func(l topology.Link) bool { return l.A != "sg-1" || l.B != "sr-1" })
		o.Topology.Pods = slices.DeleteFunc(o.Topology.Pods, func(p topology.Pod) bool { return p.Gateway != "sg-1" })
		o.Settings = func(id dmsc.NodeID) map[string]any {
			if id != "sg-1" {
				return nil
			}
			return settings
		}
	})
}

// Whatever an operator does to the certificate of a gateway, clients are served
// the last good one: in place, by a change of symbolic links, over a restart of
// the agent and of Envoy. What is wrong is said until it is mended.
func TestABadCertificateIsToldAndTheLastGoodOneServed(t *testing.T) {
	port, err := lab.HoldPort()
	if err != nil {
		t.Fatal(err)
	}
	defer port.Close()
	dir := t.TempDir()
	certificate, key, documents := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "alias.yaml")
	write := func(file string, data []byte) {
		t.Helper()
		if err := os.WriteFile(file, data, 0o600); err != nil { // in place: the worst that operators do
			t.Fatal(err)
		}
	}
	write(documents, []byte("apiVersion: dmsc.io/v1alpha1\nkind: HostAlias\nmetadata: {name: shop}\nspec: {hosts: [shop.example], prefix: b/1, from: [outside]}\n"))
	old, renewed, short := newPair(t, "shop.example", 90*24*time.Hour), newPair(t, "shop.example", 80*24*time.Hour), newPair(t, "shop.example", 13*24*time.Hour)
	write(certificate, old.chain[:100])
	write(key, old.key)
	n := gateway(t, map[string]any{"documents": documents, "outside": map[string]any{
		"listen": port.Addr(), "tls": map[string]any{"certificate": certificate, "key": key},
	}})
	sg1 := n.Node("sg-1")

	served := func() (*x509.Certificate, error) {
		pool := x509.NewCertPool()
		for _, p := range []pair{old, renewed, short} {
			pool.AddCert(p.certificate)
		}
		transport := &http.Transport{
			DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool},
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, port.Addr())
			},
		}
		r, err := http.NewRequestWithContext(t.Context(), "GET", "https://shop.example/", nil)
		if err != nil {
			return nil, err
		}
		a, err := transport.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		defer a.Body.Close()
		if a.StatusCode != 200 {
			return nil, fmt.Errorf("%s", a.Status)
		}
		return a.TLS.PeerCertificates[0], nil
	}
	serves := func(p pair) func(context.Context) error {
		return func(context.Context) error {
			c, err := served()
			if err == nil && !c.Equal(p.certificate) {
				err = fmt.Errorf("another is served, until %v", c.NotAfter)
			}
			return err
		}
	}
	// told waits for the certificate's alarms to be these codes, and for dmsc status
	// to say so, or to be content.
	told := func(words string, codes ...string) {
		t.Helper()
		until(t, 10*time.Second, fmt.Sprintf("alarms %q, %q", codes, words), func(context.Context) error {
			s, got := n.status(t, "sg-1"), []string{}
			for _, a := range s.Alarms {
				if strings.HasPrefix(a.Code, "certificate_") {
					got = append(got, a.Code)
				}
			}
			if !slices.Equal(got, codes) || !strings.Contains(s.Outside.Refused, words) || words == "" && s.Outside.Refused != "" {
				return fmt.Errorf("they are %q, %q", got, s.Outside.Refused)
			}
			return nil
		})
		code, stderr := dmscRun(t, nil, "status", "--node", sg1.Agent.Health)
		if want := map[bool]int{true: 0, false: 1}[words == ""]; code != want {
			t.Errorf("dmsc status: %d, want %d: %s", code, want, stderr)
		}
	}

	// No good pair yet: no listener, and all else works.
	told("the PEM block is damaged; put the whole file there; until then the gateway has no listener for the outside", "certificate_refused")
	if _, err := served(); err == nil {
		t.Error("there is a listener")
	}
	write(certificate, old.chain)
	took := until(t, 10*time.Second, "the first good one is served", serves(old))
	t.Logf("measured: the listener is there %v after its certificate", took)
	told("")

	write(certificate, []byte("garbage"))
	told("is no PEM file; put the whole file there, for the user of the agent to read; until then the one from before is served", "certificate_refused")
	write(certificate, old.chain) // the same bytes
	told("")
	write(key, renewed.key)
	told(key+" is not the key of the first certificate in "+certificate, "certificate_refused")
	if err := serves(old)(t.Context()); err != nil {
		t.Error(err)
	}

	// Neither a new agent nor a new Envoy has to do without.
	if err := sg1.Agent.Kill(); err != nil {
		t.Fatal(err)
	}
	<-sg1.Agent.Done()
	if err := n.StartDaemon(sg1.Agent); err != nil {
		t.Fatal(err)
	}
	n.settle(t)
	told(key+" is not the key of", "certificate_refused")
	if err := serves(old)(t.Context()); err != nil {
		t.Error(err)
	}
	if err := n.KillNode("sg-1"); err != nil {
		t.Fatal(err)
	}
	if err := n.StartNode(t.Context(), "sg-1"); err != nil {
		t.Fatal(err)
	}
	n.settle(t)
	until(t, 10*time.Second, "a new Envoy serves the last good one", serves(old))
	told(key+" is not the key of", "certificate_refused")
	write(certificate, renewed.chain)
	took = until(t, 10*time.Second, "the renewed one is served", serves(renewed))
	t.Logf("measured: a renewed certificate is served after %v", took)
	told("")

	// As volumes of secrets are changed, to one that does not last.
	generation := filepath.Join(dir, "generation")
	if err := os.Mkdir(generation, 0o700); err != nil {
		t.Fatal(err)
	}
	write(filepath.Join(generation, "cert.pem"), short.chain)
	write(filepath.Join(generation, "key.pem"), short.key)
	for _, file := range []string{"cert.pem", "key.pem"} {
		link := filepath.Join(dir, file)
		if err := os.Symlink(filepath.Join("generation", file), link+".new"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(link+".new", link); err != nil {
			t.Fatal(err)
		}
	}
	until(t, 10*time.Second, "the one behind the links is served", serves(short))
	told("", "certificate_expiring")

	// No key is anywhere but where Envoy reads it.
	dump, err := admin.Client{Address: sg1.Agent.Health}.Open(t.Context(), "/api/v1/envoy/config_dump", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dump.Close()
	page, err := io.ReadAll(dump)
	if err != nil {
		t.Fatal(err)
	}
	recorded, err := os.ReadFile(filepath.Join(sg1.Dir, "xds.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{"the config dump": string(page), "the record of xDS": string(recorded), "the log": n.log(t, "sg-1")} {
		for _, p := range []pair{old, renewed, short} {
			if strings.Contains(text, strings.Split(string(p.key), "\n")[1]) || strings.Contains(text, base64.StdEncoding.EncodeToString(p.key)[:60]) {
				t.Errorf("%s has a key", what)
			}
		}
	}
}

// The roots of a host outside are replaced in place: what they do not cover any
// more is refused, what they cover now is believed, and half a file changes
// nothing.
func TestRotatedRootsOfAnExternalServiceReachEnvoy(t *testing.T) {
	dir := t.TempDir()
	documents, roots := filepath.Join(dir, "out.yaml"), filepath.Join(dir, "ca.pem")
	write := func(file string, data []byte) {
		t.Helper()
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	first, second := newPair(t, "partner.example", time.Hour), newPair(t, "partner.example", time.Hour)
	var shown atomic.Pointer[tls.Certificate]
	show := func(p pair) {
		t.Helper()
		c, err := tls.X509KeyPair(p.chain, p.key)
		if err != nil {
			t.Fatal(err)
		}
		shown.Store(&c)
	}
	show(first)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close") // the next request shakes hands again
	}))
	server.TLS = &tls.Config{SessionTicketsDisabled: true, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return shown.Load(), nil }}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	write(roots, first.chain)
	write(documents, fmt.Appendf(nil, "apiVersion: dmsc.io/v1alpha1\nkind: ExternalService\nmetadata: {name: partner}\n"+
		"spec: {hosts: [partner.example], port: %s, endpoints: [127.0.0.1], allowLocal: true, retries: 0, tls: {ca: %s}}\n", port, roots))
	n := gateway(t, map[string]any{"documents": documents})
	answers := func(status int) func(context.Context) error {
		return func(ctx context.Context) error {
			r, err := http.NewRequestWithContext(ctx, "GET", "http://"+n.Node("sg-1").Ingress+"/", nil)
			if err != nil {
				return err
			}
			r.Host = "partner.example:" + port
			a, err := h1.Do(r)
			if err != nil {
				return err
			}
			a.Body.Close()
			return is(a.StatusCode == status, "it is %s", a.Status)
		}
	}
	until(t, 10*time.Second, "the host is reached", answers(200))
	show(second)
	until(t, 10*time.Second, "a certificate of others is refused", answers(503))
	write(roots, second.chain[:200])
	until(t, 10*time.Second, "half a file is told", func(context.Context) error {
		d := n.status(t, "sg-1").Documents
		return is(strings.Contains(d.Refused, "the PEM block is damaged"), "refused is %q", d.Refused)
	})
	show(first)
	if err := answers(200)(t.Context()); err != nil {
		t.Errorf("half a file of roots has changed what runs: %v", err)
	}
	show(second)
	write(roots, second.chain)
	took := until(t, 10*time.Second, "the new roots are believed", answers(200))
	t.Logf("measured: rotated roots count after %v", took)
	show(first)
	until(t, 10*time.Second, "the former ones are not", answers(503))
	if s := n.status(t, "sg-1"); s.Documents.Refused != "" || len(s.Alarms) > 0 {
		t.Errorf("refused is %q, the alarms are %+v", s.Documents.Refused, s.Alarms)
	}
}

func is(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, args...)
}
