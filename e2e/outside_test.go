package e2e_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/lab"
)

// Draft §4.2(3): the gateway forwards "to the target microservices or external
// service". An operator opens its border bit by bit, with documents that the
// running agent takes up, makes a mistake, and closes it again.
func TestRequestsPassTheBorderOfTheMeshAsDocumentsSay(t *testing.T) {
	port, err := lab.HoldPort()
	if err != nil {
		t.Fatal(err)
	}
	defer port.Close()
	documents := t.TempDir()
	n := start(t, "", func(o *lab.Options) {
		o.Settings = func(id dmsc.NodeID) map[string]any {
			if id != "sg-1" {
				return nil
			}
			return map[string]any{"documents": documents, "outside": map[string]any{"listen": port.Addr()}}
		}
	})
	write := func(name, kind, spec string) {
		t.Helper()
		text := fmt.Sprintf("apiVersion: dmsc.io/v1alpha1\nkind: %s\nmetadata: {name: %s}\nspec: %s\n", kind, name, spec)
		if err := os.WriteFile(filepath.Join(documents, name+".yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(addr, host, path string, h http.Header) (status int, header http.Header, body string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+addr+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host, r.Header = host, h
		a, err := h1.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Body.Close()
		text, err := io.ReadAll(a.Body)
		if err != nil {
			t.Fatal(err)
		}
		return a.StatusCode, a.Header, string(text)
	}
	pods, outside := n.Node("sg-1").Ingress, port.Addr()
	becomes := func(addr, host, path string, status int) {
		t.Helper()
		took := until(t, 10*time.Second, fmt.Sprintf("%d for %s%s at %s", status, host, path, addr), func(context.Context) error {
			if got, _, body := ask(addr, host, path, nil); got != status {
				return fmt.Errorf("it is %d %q", got, body)
			}
			return nil
		})
		t.Logf("measured: a document for %s is in force after %v", host, took)
	}
	is := func(addr, host, path string, h http.Header, status int) {
		t.Helper()
		if got, _, body := ask(addr, host, path, h); got != status {
			t.Errorf("%s%s at %s: %d %q, want %d", host, path, addr, got, body, status)
		}
	}

	// Without a document nothing passes.
	is(pods, "shop.example", "/", nil, 404)
	is(outside, "shop.example", "/", nil, 404)

	// In: b/4 is three hops away, at sg-4.
	write("shop", "HostAlias", "{hosts: [shop.example], path: /cart, prefix: b/4, stripPath: true, from: [pods, outside]}")
	becomes(outside, "shop.example", "/cart/items", 200)
	is(pods, "shop.example", "/cart/items", nil, 200)
	is(outside, "shop.example", "/cart/%2e%2e/items", nil, 404)
	is(outside, "shop.example", "/cart/..%2fitems", nil, 400)
	is(outside, "other.example", "/cart", http.Header{"dmsc-service-prefix": {"b/4"}}, 404)
	_, header, body := ask(outside, "shop.example", "/cart/items", http.Header{"dmsc-trace": {"1"}, "dmsc-via": {"<sg-4>"}})
	if !strings.Contains(body, `"pod-4"`) || strings.Contains(body, "/cart") {
		t.Errorf("%s answers", body)
	}
	for key := range header {
		if strings.HasPrefix(strings.ToLower(key), "dmsc") || strings.HasPrefix(strings.ToLower(key), "x-envoy") {
			t.Errorf("a stranger sees %s: %v", key, header[key])
		}
	}
	if header.Get("x-request-id") == "" {
		t.Error("the answer names no request")
	}

	// Out: a server that is found by DNS, and that forges.
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("dmsc-error", "loop; node=sg-1")
		for key := range r.Header {
			if strings.HasPrefix(strings.ToLower(key), "dmsc") || strings.HasPrefix(strings.ToLower(key), "x-forwarded") {
				http.Error(w, key, http.StatusTeapot)
			}
		}
	}))
	defer server.Close()
	_, external, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	is(pods, "localhost", "/", nil, 404)
	write("out", "ExternalService", fmt.Sprintf("{hosts: [localhost], port: %s, allowLocal: true}", external))
	becomes(pods, "localhost", "/", 200)
	is(pods, "localhost:1", "/", nil, 403)
	is(outside, "localhost", "/", nil, 404)
	if _, header, _ := ask(pods, "localhost", "/", nil); header.Get("dmsc-error") != "" {
		t.Error("what is outside has spoken in the name of the mesh")
	}
	tunnel := func(addr string) int {
		t.Helper()
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "CONNECT localhost:%s HTTP/1.1\r\nHost: localhost:%s\r\n\r\n", external, external)
		r := bufio.NewReader(c)
		a, err := http.ReadResponse(r, &http.Request{Method: "CONNECT"})
		if err != nil {
			t.Fatal(err)
		}
		if a.StatusCode == 200 {
			fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			if a, err = http.ReadResponse(r, nil); err != nil {
				t.Fatal(err)
			}
		}
		return a.StatusCode
	}
	if got := tunnel(pods); got != 403 {
		t.Errorf("CONNECT without a document: %d", got)
	}
	write("tunnel", "ExternalService", fmt.Sprintf("{hosts: [localhost], port: %s, protocol: tcp, allowLocal: true}", external))
	until(t, 10*time.Second, "CONNECT through the gateway", func(context.Context) error {
		if got := tunnel(pods); got != 200 {
			return fmt.Errorf("it is %d", got)
		}
		return nil
	})
	if got := tunnel(outside); got != 404 {
		t.Errorf("CONNECT from outside: %d", got)
	}

	// A mistake is told, and what is in force stays.
	write("mistake", "HostAlias", "{hosts: [localhost], prefix: b/4}")
	until(t, 10*time.Second, "the refusal", func(context.Context) error {
		d := n.status(t, "sg-1").Documents
		if d == nil || !strings.Contains(d.Refused, "DMSC303") {
			return fmt.Errorf("documents are %+v", d)
		}
		return nil
	})
	is(outside, "shop.example", "/cart/items", nil, 200)
	is(pods, "localhost", "/", nil, 200)

	// Closed again.
	for _, name := range []string{"mistake", "shop", "out", "tunnel"} {
		if err := os.Remove(filepath.Join(documents, name+".yaml")); err != nil {
			t.Fatal(err)
		}
	}
	becomes(outside, "shop.example", "/cart/items", 404)
	is(pods, "localhost", "/", nil, 404)
	if got := tunnel(pods); got != 403 {
		t.Errorf("CONNECT after all: %d", got)
	}
}
