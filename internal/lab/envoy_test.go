package lab

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc/internal/envoybin"
)

// An Envoy on a held port can be killed and started again: nobody takes its
// port, and while it is away connections are refused.
func TestEnvoyIsKilledAndRestartedOnItsPort(t *testing.T) {
	binary, err := envoybin.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	g := NewGroup()
	defer func() {
		if err := g.Stop(5 * time.Second); err != nil {
			t.Error(err)
		}
	}()
	port, err := HoldPort()
	if err != nil {
		t.Fatal(err)
	}
	defer port.Close()
	dir := t.TempDir()
	c := EnvoyConfig{
		Name: "sr-1 envoy", Binary: binary.Path, Bootstrap: filepath.Join(dir, "envoy.yaml"),
		Admin: filepath.Join(dir, "admin.sock"), Log: filepath.Join(dir, "envoy.log"),
	}
	bootstrap := fmt.Sprintf(`
admin: {address: {pipe: {path: %q}}}
static_resources:
  listeners:
  - name: one
    enable_reuse_port: false
    address: {socket_address: {address: 127.0.0.1, port_value: %d}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: one
          http_filters:
          - name: router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
          route_config: {virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: /}, direct_response: {status: 200}}]}]}
`, c.Admin, port.Number)
	if err := os.WriteFile(c.Bootstrap, []byte(bootstrap), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		e, err := StartEnvoy(t.Context(), g, c)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.Get("http://" + port.Addr())
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		http.DefaultClient.CloseIdleConnections()
		counters, err := e.Counters(t.Context(), `^http\.one\.downstream_rq_2xx$`)
		if err != nil || counters["http.one.downstream_rq_2xx"] != 1 || len(counters) != 1 {
			t.Errorf("counters %v, %v", counters, err)
		}
		if dump, err := e.ConfigDump(t.Context()); err != nil || !strings.Contains(string(dump), "direct_response") {
			t.Errorf("config dump of %d bytes, %v", len(dump), err)
		}
		if err := e.Kill(); err != nil {
			t.Fatal(err)
		}
		<-e.Done()
		if _, err := net.Dial("tcp", port.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("dead Envoy: %v", err)
		}
	}
}

func TestEnvoyThatDoesNotStartSaysWhy(t *testing.T) {
	binary, err := envoybin.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	g := NewGroup()
	defer g.Stop(time.Second)
	dir := t.TempDir()
	c := EnvoyConfig{Name: "bad envoy", Binary: binary.Path, Bootstrap: filepath.Join(dir, "none.yaml"), Admin: filepath.Join(dir, "a"), Log: filepath.Join(dir, "log")}
	if _, err := StartEnvoy(t.Context(), g, c); err == nil || !strings.Contains(err.Error(), "none.yaml") {
		t.Errorf("error %v", err)
	}
}
