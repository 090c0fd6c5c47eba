package xds_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	ondemandv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/on_demand/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	"github.com/dmsc-mesh/dmsc/translator"
	"github.com/dmsc-mesh/dmsc/xds"
)

// A cluster that nobody has is refused at once, and so is the request that asks
// for it first. Envoy does not ask for a name twice: later ones wait out the
// timeout of the filter, which is why that is short. The clusters that there are
// are fetched at their first request, and no request fails when a route moves to
// one that is not there yet.
func TestARealEnvoyMovesBetweenClustersOnDemand(t *testing.T) {
	dir, err := os.MkdirTemp("", "xds")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	port, to := freePort(t), backend(t)
	const patience = time.Second
	set := func(name string) xds.Set {
		s := simple(name, "other")
		s.Endpoints[0], s.Endpoints[1] = endpoints(name, to), endpoints("other", to)
		s.OnDemand = []string{name, "other"}
		s.Static = []string{"ghost"} // or the set would be refused
		s.Listeners[0] = listener("in", "table", port)
		filter, hcm := s.Listeners[0].FilterChains[0].Filters[0], &hcmv3.HttpConnectionManager{}
		if err := filter.GetTypedConfig().UnmarshalTo(hcm); err != nil {
			t.Fatal(err)
		}
		hcm.HttpFilters = slices.Insert(hcm.HttpFilters, 0, &hcmv3.HttpFilter{
			Name: "on-demand",
			ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(&ondemandv3.OnDemand{Odcds: &ondemandv3.OnDemandCds{
				Source: ads, Timeout: durationpb.New(patience),
			}})},
		})
		filter.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: pack(hcm)}
		routes := s.Routes[0].VirtualHosts[0]
		ghost := proto.CloneOf(routes.Routes[0])
		ghost.Match.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: "/ghost"}
		ghost.GetRoute().ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: "ghost"}
		routes.Routes = slices.Insert(routes.Routes, 0, ghost)
		return s
	}
	f := serve(t, xds.Config{})
	t.Cleanup(listen(t, f.Server, filepath.Join(dir, "xds.sock")))
	version := f.publish("sg-1", set("first"))
	envoy := startEnvoy(t, dir, translator.Source{})
	f.expect(xds.Acked, version)

	for i := range 3 {
		began := time.Now()
		response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(httptest.NewRequestWithContext(
			t.Context(), http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/ghost", port), nil))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		took := time.Since(began)
		t.Logf("no such cluster: %d after %v", response.StatusCode, took.Round(100*time.Microsecond))
		if response.StatusCode != http.StatusServiceUnavailable || i == 0 && took > patience/2 || took > 2*patience {
			t.Errorf("no such cluster: %d after %v", response.StatusCode, took)
		}
	}
	load := startLoad(t, port)
	load.more(100)
	for _, name := range []string{"second", "third", "fourth"} {
		if strings.Contains(envoy.get(t, "/clusters"), name+"::") {
			t.Errorf("Envoy has %s before anybody needs it", name)
		}
		f.expect(xds.Acked, f.publish("sg-1", set(name)))
		load.more(200)
		if !strings.Contains(envoy.get(t, "/clusters"), name+"::") {
			t.Errorf("Envoy has not fetched %s", name)
		}
	}
	load.stop()
	if load.failed.Load() != 0 {
		t.Errorf("%d of %d requests failed", load.failed.Load(), load.total.Load())
	}
	if strings.Contains(envoy.get(t, "/clusters"), "other::") {
		t.Error("Envoy has fetched what nobody needs")
	}
}

// With clusters on demand a real Envoy has no next-hop group before a request
// needs it; that request waits a moment and is served, the next one does not.
func TestARealEnvoyFetchesAGroupAtItsFirstRequest(t *testing.T) {
	dir, err := os.MkdirTemp("", "xds")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	neighbour := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Header.Get("dmsc-via"))
	}))
	neighbour.Config.Protocols = new(http.Protocols)
	neighbour.Config.Protocols.SetUnencryptedHTTP2(true)
	neighbour.Start()
	t.Cleanup(neighbour.Close)

	hop := rib.NextHop{LinkKey: linkstate.LinkKey{Remote: "sr-1", ID: "0"}, Weight: 1}
	group := &rib.Group{Name: rib.GroupName([]rib.NextHop{hop}, nil), Primaries: []rib.NextHop{hop}}
	ingress := "127.0.0.1:" + strconv.Itoa(freePort(t))
	r, err := translator.Translate(translator.State{
		Node:       "sg-1",
		Addrs:      translator.Addrs{Ingress: ingress, Fabric: "127.0.0.1:" + strconv.Itoa(freePort(t)), Probe: "unix://" + dir + "/probe.sock"},
		RIB:        rib.NewRIB("sg-1", &rib.Entry{Prefix: dmsc.MustParsePrefix("b/2"), Kind: rib.Announced, Group: group}),
		Neighbours: []translator.Neighbour{{NextHop: hop, Data: neighbour.Listener.Addr().String(), Up: true}},
		OnDemand:   true,
	})
	if err != nil {
		t.Fatal(err)
	}
	f := serve(t, xds.Config{})
	t.Cleanup(listen(t, f.Server, filepath.Join(dir, "xds.sock")))
	version := f.publish("sg-1", xds.SetOf(r))
	boot, err := translator.Bootstrap("sg-1", "unix://"+dir+"/admin.sock", "unix://"+dir+"/xds.sock")
	if err != nil {
		t.Fatal(err)
	}
	text, err := translator.YAML(boot)
	if err != nil {
		t.Fatal(err)
	}
	envoy := launchEnvoy(t, dir, text)
	f.expect(xds.Acked, version)

	has := func() bool { return strings.Contains(envoy.get(t, "/clusters"), translator.GroupCluster(group)) }
	if has() {
		t.Error("Envoy has the group before anybody needs it")
	}
	for i := range 2 {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+ingress, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("dmsc-service-prefix", "b/2")
		began := time.Now()
		response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		took := time.Since(began)
		t.Logf("request %d: %v", i+1, took.Round(100*time.Microsecond))
		if response.StatusCode != 200 || string(body) != "<sg-1>" || took > 900*time.Millisecond {
			t.Errorf("request %d: %d %s %q after %v", i+1, response.StatusCode, response.Header.Get("dmsc-error"), body, took)
		}
	}
	if !has() {
		t.Error("Envoy has not kept the group")
	}
}
