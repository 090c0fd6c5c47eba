package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc/internal/lab"
)

// An Envoy with listeners of its own keeps them, and becomes a gateway, when it
// is started with the sample overlay.
func TestOverlayMakesAnExistingEnvoyAGateway(t *testing.T) {
	envoy := findEnvoy(t)
	dir := shortTempDir(t)
	ports := holdPorts(t, 3)
	own, ingress, fabric := ports[0].Addr(), ports[1].Addr(), ports[2].Addr()
	existing := fmt.Sprintf(`
node: {id: "edge-7", cluster: "edge"}
admin: {address: {pipe: {path: %q}}}
static_resources:
  listeners:
    - name: "own"
      address: {socket_address: {address: "127.0.0.1", port_value: %d}}
      filter_chains:
        - filters:
            - name: "own"
              typed_config:
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
                stat_prefix: "own"
                route_config:
                  virtual_hosts:
                    - {name: "own", domains: ["*"], routes: [{match: {prefix: "/"}, direct_response: {status: 200, body: {inline_string: "own"}}}]}
                http_filters:
                  - name: "router"
                    typed_config: {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}
`, dir+"/admin.sock", ports[0].Number)
	writeFile(t, dir+"/existing.yaml", existing, 0o644)
	sample, err := os.ReadFile("../../envoy-configs/overlay-existing-envoy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	overlay := strings.ReplaceAll(string(sample), "/var/lib/dmsc/sg-1", dir)
	if overlay == string(sample) {
		t.Fatal("the overlay no longer names the agent's default socket")
	}

	f := start(t, "node", "--set", "node=sg-1", "--set", "role=SG", "--set", "state_dir="+dir, "--set", "log.format=json",
		"--set", "listen.api=127.0.0.1:0", "--set", "listen.peering=127.0.0.1:0", "--set", "listen.health=127.0.0.1:0",
		"--set", "envoy.ingress="+ingress, "--set", "envoy.fabric="+fabric).logged(t, "node is up")
	startGateway(t, f["health"], lab.EnvoyConfig{
		Name: "existing", Binary: envoy, Bootstrap: dir + "/existing.yaml", Admin: dir + "/admin.sock", Log: dir + "/envoy.log",
		Args: []string{"--config-yaml", overlay},
	})
	c := oneRequestClient()
	if code, body := get(t, c, own, "a/1"); code != http.StatusOK || body != "own" {
		t.Errorf("its own listener answers %d %q", code, body)
	}
	knowsNoName(t, c, ingress)
}

// A fleet whose bootstraps have streams of their own for each type, and no ADS,
// is served by them: everything comes up, in both dialects.
func TestAFleetWithoutADSIsServedByStreamsOfItsTypes(t *testing.T) {
	for _, dialect := range []string{"delta", "sotw"} {
		t.Run(dialect, func(t *testing.T) {
			envoy := findEnvoy(t)
			dir := shortTempDir(t)
			ports := holdPorts(t, 2)
			ingress, fabric := ports[0].Addr(), ports[1].Addr()
			config := dir + "/sg-1.yaml"
			writeFile(t, config, fmt.Sprintf(`
node: sg-1
role: SG
state_dir: %s
log: {format: json}
listen: {api: "127.0.0.1:0", peering: "127.0.0.1:0", health: "127.0.0.1:0"}
envoy:
  ingress: %q
  fabric: %q
  xds: {streams: per_type, dialect: %s, cluster: control_plane}
`, dir, ingress, fabric, dialect), 0o644)
			boot := string(output(t, "bootstrap", "--config", config))
			if strings.Contains(boot, "ads") || !strings.Contains(boot, "control_plane") {
				t.Errorf("the bootstrap has ADS, or not the cluster:\n%s", boot)
			}
			writeFile(t, dir+"/envoy.yaml", boot, 0o644)
			f := start(t, "node", "--config", config).logged(t, "node is up")
			startGateway(t, f["health"], lab.EnvoyConfig{
				Name: "fleet", Binary: envoy, Bootstrap: dir + "/envoy.yaml", Admin: dir + "/admin.sock", Log: dir + "/envoy.log",
			})
			knowsNoName(t, oneRequestClient(), ingress)
		})
	}
}

// startGateway starts an Envoy until the test ends, and waits until the agent at
// health finds it ready.
func startGateway(t *testing.T, health string, cfg lab.EnvoyConfig) {
	t.Helper()
	g := lab.NewGroup()
	t.Cleanup(func() {
		if err := g.Stop(10 * time.Second); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := lab.StartEnvoy(ctx, g, cfg); err != nil {
		t.Fatal(err)
	}
	err := lab.Until(ctx, "the Envoy is no gateway", func(context.Context) error {
		var status struct {
			Ready bool `json:"ready"`
		}
		body := page(t, health, "/api/v1/status")
		if err := json.Unmarshal([]byte(body), &status); err != nil || !status.Ready {
			return fmt.Errorf("%v %s", err, body)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func oneRequestClient() *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
}

// knowsNoName: the ingress is sg-1's, and nothing is announced.
func knowsNoName(t *testing.T, c *http.Client, ingress string) {
	t.Helper()
	if code, body := get(t, c, ingress, "a/1"); code != http.StatusNotFound || !strings.Contains(body, "no-route; node=sg-1") {
		t.Errorf("the ingress answers %d %q", code, body)
	}
}

// holdPorts reserves ports for as long as the test runs.
func holdPorts(t *testing.T, n int) []*lab.Port {
	t.Helper()
	ports, err := lab.HoldPorts(n)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range ports {
		t.Cleanup(func() { p.Close() })
	}
	return ports
}
