package xds_test

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/dmsc-mesh/dmsc/xds"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var ads = &corev3.ConfigSource{
	ResourceApiVersion:    corev3.ApiVersion_V3,
	ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
}

// cluster is an EDS cluster; rev makes its content differ.
func cluster(name string, rev int) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name: name, ConnectTimeout: durationpb.New(time.Second + time.Duration(rev)*time.Millisecond),
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig:     &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads},
	}
}

func endpoints(name string, port int) *endpointv3.ClusterLoadAssignment {
	return &endpointv3.ClusterLoadAssignment{
		ClusterName: name,
		Endpoints: []*endpointv3.LocalityLbEndpoints{{
			LbEndpoints: []*endpointv3.LbEndpoint{{
				HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: address("127.0.0.1", port)}},
			}},
		}},
	}
}

func address(host string, port int) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)},
	}}}
}

// route sends everything to to.
func route(name, to string) *routev3.RouteConfiguration {
	return &routev3.RouteConfiguration{
		Name: name,
		VirtualHosts: []*routev3.VirtualHost{{
			Name: "all", Domains: []string{"*"},
			Routes: []*routev3.Route{{
				Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
				Action: &routev3.Route_Route{Route: &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: to}}},
			}},
		}},
	}
}

// listener takes its routes from RDS.
func listener(name, routes string, port int) *listenerv3.Listener {
	return &listenerv3.Listener{
		Name: name, Address: address("127.0.0.1", port),
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name: "envoy.filters.network.http_connection_manager",
			ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(&hcmv3.HttpConnectionManager{
				StatPrefix:     "in",
				RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{ConfigSource: ads, RouteConfigName: routes}},
				HttpFilters: []*hcmv3.HttpFilter{{
					Name:       "envoy.filters.http.router",
					ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(&routerv3.Router{})},
				}},
			})},
		}}}},
	}
}

func pack(m proto.Message) *anypb.Any {
	a := &anypb.Any{}
	if err := anypb.MarshalFrom(a, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		panic(err)
	}
	return a
}

// simple is a set whose listener "in" and route table "table" send everything
// to the first of the named EDS clusters.
func simple(clusters ...string) xds.Set {
	set := xds.Set{
		Routes:    []*routev3.RouteConfiguration{route("table", clusters[0])},
		Listeners: []*listenerv3.Listener{listener("in", "table", 15001)},
	}
	for _, name := range clusters {
		set.Clusters = append(set.Clusters, cluster(name, 0))
		set.Endpoints = append(set.Endpoints, endpoints(name, 8080))
	}
	return set
}

// fixture is a server whose events a test can wait for.
type fixture struct {
	*xds.Server
	t      testing.TB
	events chan xds.Event // all but Connected
}

func serve(t testing.TB, cfg xds.Config) *fixture {
	f := &fixture{t: t, events: make(chan xds.Event, 256)}
	cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	cfg.OnEvent = func(e xds.Event) {
		if e.Kind != xds.Connected {
			f.events <- e
		}
	}
	f.Server = xds.New(cfg)
	return f
}

func (f *fixture) publish(node string, set xds.Set) string {
	f.t.Helper()
	version, err := f.Publish(node, set)
	if err != nil {
		f.t.Fatal(err)
	}
	return version
}

// event waits for the next event and checks its kind.
func (f *fixture) event(kind xds.EventKind) xds.Event {
	f.t.Helper()
	select {
	case e := <-f.events:
		if e.Kind != kind {
			f.t.Fatalf("got event %+v, want %s", e, kind)
		}
		return e
	case <-time.After(10 * time.Second):
		f.t.Fatalf("no event %s", kind)
	}
	return xds.Event{}
}

func (f *fixture) status(node string) xds.Status {
	f.t.Helper()
	st, ok := f.Status(node)
	if !ok {
		f.t.Fatalf("%s is unknown", node)
	}
	return st
}

func nodeOf(id string) *corev3.Node { return &corev3.Node{Id: id} }

func names(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s%03d", prefix, i)
	}
	return out
}
