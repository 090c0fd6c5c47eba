package translator_test

import (
	"slices"
	"strings"
	"testing"
)

// What Envoy counts is found under the names of the network: Prometheus gets a
// label for what a cluster is, which listener, which steered name.
func TestEnvoysCountersSpeakOurWords(t *testing.T) {
	n := newNetwork(t, findEnvoy(t))
	n.pod(t, pod{name: "pod"})
	n.start(t, n.expand(`
node: sg-1
addrs: {ingress: "{sg-1}", fabric: "{sg-1.fabric}", probe: "{sg-1.probe}"}
neighbours: [{link: sg-2, data: "{sg-2.fabric}"}]
entries: [{prefix: b/2, via: [sg-2]}, {prefix: a/1.x, local: true}]
services: [{prefix: a/1.x, address: "{pod}"}]
steering: [{prefix: b/2, policy: p, paths: [{path: sg-1 sg-2, weight: 100}]}]
`))
	for _, name := range []string{"a/1.x", "b/2"} {
		n.get(t, n.states["sg-1"].Addrs.Ingress, "/", "", "dmsc-service-prefix: "+name)
	}
	page := string(n.ask(t, "sg-1", "/stats?format=prometheus"))
	lines := strings.Split(page, "\n")
	for _, want := range [][]string{
		{"envoy_cluster_upstream_rq_total{", `dmsc_kind="local"`, `dmsc_cluster="local/a/1!x"`, "} 1"},
		{"envoy_cluster_upstream_cx_total{", `dmsc_kind="group"`, `dmsc_cluster="group/sg-2"`},
		{"envoy_cluster_upstream_cx_total{", `dmsc_kind="neighbour"`, `dmsc_cluster="neighbour/sg-2"`},
		{"envoy_cluster_upstream_cx_total{", `dmsc_kind="probe"`, `dmsc_cluster="probe/sg-2"`},
		{"envoy_cluster_upstream_cx_total{", `dmsc_kind="demote"`, `dmsc_cluster="demote"`},
		{"envoy_http_downstream_rq_total{", `dmsc_listener="ingress"`, "} 2"},
		{"envoy_http_downstream_rq_total{", `dmsc_listener="fabric"`, "} 0"},
		{"envoy_listener_downstream_cx_total{", `dmsc_listener="ingress"`, "} 2"},
		{"envoy_vhost_route_upstream_rq_xx{", `envoy_response_code_class="5"`, `dmsc_policy="b/2"`, "} 1"},
	} {
		if !slices.ContainsFunc(lines, func(line string) bool {
			return !slices.ContainsFunc(want, func(part string) bool { return !strings.Contains(line, part) })
		}) {
			t.Errorf("no line has all of %q", want)
		}
	}
	for _, unwanted := range []string{"vcluster", "circuit_breakers_high"} {
		if strings.Contains(page, unwanted) {
			t.Errorf("the page has %s", unwanted)
		}
	}
}
