package xds_test

// Clients that others wrote.

import (
	"context"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	clientv3 "github.com/envoyproxy/go-control-plane/pkg/client/sotw/v3"
	stockv3 "github.com/envoyproxy/go-control-plane/pkg/test/resource/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	grpcxds "google.golang.org/grpc/xds"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/dmsc-mesh/dmsc/xds"
	"github.com/dmsc-mesh/dmsc/xds/xdstest"
)

// go-control-plane's own client fetches, accepts and refuses snapshots that its
// own test package generates.
func TestGoControlPlanesClientIsServed(t *testing.T) {
	f := serve(t, xds.Config{})
	f.publish("sg-1", snapshot("one", 3))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := clientv3.NewADSClient(ctx, nodeOf("sg-1"), xds.Clusters.URL())
	if err := c.InitConnect(xdstest.Serve(t, f.Server)); err != nil {
		t.Fatal(err)
	}
	fetch := func(want ...string) {
		t.Helper()
		r, err := c.Fetch()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, res := range r.Resources {
			m := &clusterv3.Cluster{}
			if err := res.UnmarshalTo(m); err != nil {
				t.Fatal(err)
			}
			got = append(got, m.GetName())
		}
		if !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	fetch("cluster-one-0", "cluster-one-1", "cluster-one-2")
	ok(c.Ack())

	f.publish("sg-1", snapshot("two", 1))
	fetch("cluster-one-0", "cluster-one-1", "cluster-one-2", "cluster-two-0") // before anything goes
	ok(c.Nack("cluster-two-0 is bad"))
	if e := f.await(xds.Nacked); !slices.Equal(e.Nack.Resources, []string{"cluster-two-0"}) {
		t.Errorf("nack %+v", e.Nack)
	}
	fetch() // nothing that this client asked for uses the others, and two was never taken
	ok(c.Ack())
	f.publish("sg-1", snapshot("three", 1))
	fetch("cluster-three-0")
	ok(c.Ack())
}

// snapshot is one of go-control-plane's generated ones.
func snapshot(version string, clusters int) xds.Set {
	s := (&stockv3.TestSnapshot{
		Xds: stockv3.Ads, Version: version, UpstreamPort: 8080, BasePort: 9000, NumClusters: clusters, NumHTTPListeners: 2, NumTCPListeners: 1,
	}).Generate()
	return xds.Set{
		Clusters: all[*clusterv3.Cluster](s, xds.Clusters), Endpoints: all[*endpointv3.ClusterLoadAssignment](s, xds.Endpoints),
		Routes: all[*routev3.RouteConfiguration](s, xds.Routes), Listeners: all[*listenerv3.Listener](s, xds.Listeners),
	}
}

func all[M any](s *cachev3.Snapshot, typ xds.Type) (out []M) {
	for _, m := range s.GetResources(typ.URL()) {
		out = append(out, m.(M))
	}
	return out
}

// await waits for an event of a kind and lets others pass.
func (f *fixture) await(kind xds.EventKind) xds.Event {
	f.t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		select {
		case e := <-f.events:
			if e.Kind == kind {
				return e
			}
		case <-timeout:
			f.t.Fatalf("no event %s", kind)
		}
	}
}

// grpc-go speaks state of the world, asks for everything by name, and checks
// resources by itself: a second dialect in every sense. Its RPCs go where the
// published set says, also while it refuses a part of one.
func TestGRPCClientIsServed(t *testing.T) {
	f := serve(t, xds.Config{})
	blue, green := healthServer(t), healthServer(t)
	f.publish("grpc-1", grpcSet(blue, clusterv3.Cluster_ROUND_ROBIN))

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(grpc.WaitForHandlers(true))
	f.Register(g)
	done := make(chan struct{})
	go func() { defer close(done); _ = g.Serve(l) }()
	defer func() { g.Stop(); <-done }()

	builder, err := grpcxds.NewXDSResolverWithConfigForTesting(fmt.Appendf(nil, `{
		"xds_servers": [{"server_uri": %q, "channel_creds": [{"type": "insecure"}], "server_features": ["xds_v3"]}],
		"node": {"id": "grpc-1"}
	}`, "passthrough:///"+l.Addr().String()))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("xds:///svc", grpc.WithResolvers(builder), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	call := func() int {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var p peer.Peer
		if _, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{}, grpc.Peer(&p), grpc.WaitForReady(true)); err != nil {
			t.Fatal(err)
		}
		return p.Addr.(*net.TCPAddr).Port
	}
	reaches := func(port int) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); call() != port; {
			if time.Now().After(deadline) {
				t.Fatalf("RPCs do not go to %d", port)
			}
		}
	}
	reaches(blue)
	f.publish("grpc-1", grpcSet(green, clusterv3.Cluster_ROUND_ROBIN))
	reaches(green)
	f.await(xds.Acked)

	// Envoy takes this policy, grpc-go does not know it.
	f.publish("grpc-1", grpcSet(blue, clusterv3.Cluster_MAGLEV))
	if e := f.await(xds.Nacked); e.Nack.Type != xds.Clusters || !slices.Equal(e.Nack.Resources, []string{"backend"}) {
		t.Errorf("nack %+v", e.Nack)
	}
	st := f.status("grpc-1")
	if st.Converged || st.LastNack == nil || !slices.Equal(st.Types[xds.Clusters].Rejected, []string{"backend"}) {
		t.Errorf("status %+v", st)
	}
	reaches(blue) // endpoints are not the cluster
	red := healthServer(t)
	healed := f.publish("grpc-1", grpcSet(red, clusterv3.Cluster_ROUND_ROBIN))
	reaches(red)
	for f.await(xds.Acked).Version != healed { // those of before may still be in the queue
	}
	st = f.status("grpc-1")
	if !st.Converged || st.Acked != healed || st.Types[xds.Clusters].Rejected != nil || st.LastNack == nil || !slices.Equal(st.LastNack.Resources, []string{"backend"}) {
		t.Errorf("status after healing %+v", st)
	}
}

// grpcSet sends the RPCs of xds:///svc to a port.
func grpcSet(port int, policy clusterv3.Cluster_LbPolicy) xds.Set {
	c := cluster("backend", 0)
	c.LbPolicy = policy
	e := endpoints("backend", port)
	e.Endpoints[0].Locality = &corev3.Locality{Region: "here"}
	e.Endpoints[0].LoadBalancingWeight = wrapperspb.UInt32(1)
	return xds.Set{
		Clusters:  []*clusterv3.Cluster{c},
		Endpoints: []*endpointv3.ClusterLoadAssignment{e},
		Routes:    []*routev3.RouteConfiguration{route("table", "backend")},
		Listeners: []*listenerv3.Listener{{
			Name: "svc",
			ApiListener: &listenerv3.ApiListener{ApiListener: pack(&hcmv3.HttpConnectionManager{
				StatPrefix:     "svc",
				RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{ConfigSource: ads, RouteConfigName: "table"}},
				HttpFilters: []*hcmv3.HttpFilter{{
					Name:       "router",
					ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(&routerv3.Router{})},
				}},
			})},
		}},
	}
}

func healthServer(t *testing.T) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(grpc.WaitForHandlers(true))
	healthv1.RegisterHealthServer(g, health.NewServer())
	done := make(chan struct{})
	go func() { defer close(done); _ = g.Serve(l) }()
	t.Cleanup(func() { g.Stop(); <-done })
	return l.Addr().(*net.TCPAddr).Port
}
