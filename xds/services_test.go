package xds_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	clusterservicev3 "github.com/envoyproxy/go-control-plane/envoy/service/cluster/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	endpointservicev3 "github.com/envoyproxy/go-control-plane/envoy/service/endpoint/v3"
	listenerservicev3 "github.com/envoyproxy/go-control-plane/envoy/service/listener/v3"
	routeservicev3 "github.com/envoyproxy/go-control-plane/envoy/service/route/v3"
	"google.golang.org/grpc"

	"github.com/dmsc-mesh/dmsc/xds"
	"github.com/dmsc-mesh/dmsc/xds/xdstest"
)

type (
	deltaClient = grpc.BidiStreamingClient[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]
	wholeClient = grpc.BidiStreamingClient[discoveryv3.DiscoveryRequest, discoveryv3.DiscoveryResponse]
)

// typed is a client without ADS: one delta stream for each type.
type typed struct {
	t       *testing.T
	streams [4]deltaClient
}

func dialTyped(t *testing.T, conn grpc.ClientConnInterface) *typed {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute) // of a bubble
	t.Cleanup(cancel)
	c := &typed{t: t}
	var errs [4]error
	c.streams[xds.Clusters], errs[0] = clusterservicev3.NewClusterDiscoveryServiceClient(conn).DeltaClusters(ctx)
	c.streams[xds.Endpoints], errs[1] = endpointservicev3.NewEndpointDiscoveryServiceClient(conn).DeltaEndpoints(ctx)
	c.streams[xds.Routes], errs[2] = routeservicev3.NewRouteDiscoveryServiceClient(conn).DeltaRoutes(ctx)
	c.streams[xds.Listeners], errs[3] = listenerservicev3.NewListenerDiscoveryServiceClient(conn).DeltaListeners(ctx)
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// ask sends a request; such a stream need not name its type.
func (c *typed) ask(typ xds.Type, r *discoveryv3.DeltaDiscoveryRequest) {
	c.t.Helper()
	r.Node = nodeOf("sg-1")
	if err := c.streams[typ].Send(r); err != nil {
		c.t.Fatal(err)
	}
}

func (c *typed) subscribe(typ xds.Type, names ...string) {
	c.t.Helper()
	c.ask(typ, &discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: names})
}

func (c *typed) expectAck(typ xds.Type, want ...string) {
	c.t.Helper()
	c.ask(typ, &discoveryv3.DeltaDiscoveryRequest{ResponseNonce: c.expect(typ, want...)})
}

// expect waits for the next response of a type, and returns its nonce.
func (c *typed) expect(typ xds.Type, want ...string) (nonce string) {
	c.t.Helper()
	m, err := c.streams[typ].Recv()
	if err != nil {
		c.t.Fatal(err)
	}
	r := &xdstest.Response{DeltaDiscoveryResponse: m, Type: typ}
	if got := r.String(); m.GetTypeUrl() != typ.URL() || got != fmt.Sprint((&xdstest.Response{Type: typ}).String(), list(want)) {
		c.t.Fatalf("got %s, want %s%s", got, typ, list(want))
	}
	return m.GetNonce()
}

func list(words []string) (out string) {
	for _, w := range words {
		out += " " + w
	}
	return out
}

func TestStreamsOfOneTypeEach(t *testing.T) {
	f := serve(t, xds.Config{})
	c := dialTyped(t, xdstest.Serve(t, f.Server))
	version := f.publish("sg-1", simple("a"))
	c.subscribe(xds.Clusters)
	c.expectAck(xds.Clusters, "+a")
	c.subscribe(xds.Endpoints, "a", "nowhere")
	c.expectAck(xds.Endpoints, "+a", "-nowhere")
	c.subscribe(xds.Listeners)
	c.expectAck(xds.Listeners, "+in")
	if st := f.status("sg-1"); st.Converged || st.Acked == version {
		t.Errorf("without routes: %+v", st)
	}
	c.subscribe(xds.Routes, "table")
	c.expectAck(xds.Routes, "+table")
	if e := f.event(xds.Acked); e.Version != version { // all four together
		t.Errorf("acked %+v", e)
	}
	st := f.status("sg-1")
	if !st.Converged || st.Streams != 4 || st.Phase != xds.PhaseLive {
		t.Errorf("status %+v", st)
	}
	for typ, s := range st.Types {
		if s.Acked != s.Wanted || s.Wanted == "" {
			t.Errorf("%s: %+v", xds.Type(typ), s)
		}
	}
	set := simple("a")
	set.Endpoints[0] = endpoints("a", 9000)
	version = f.publish("sg-1", set)
	c.expectAck(xds.Endpoints, "+a")
	if e := f.event(xds.Acked); e.Version != version {
		t.Errorf("acked %+v", e)
	}
}

func TestAStreamOfOneTypeServesNoOther(t *testing.T) {
	f := serve(t, xds.Config{})
	c := dialTyped(t, xdstest.Serve(t, f.Server))
	f.publish("sg-1", simple("a"))
	c.ask(xds.Clusters, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.Listeners.URL()})
	c.subscribe(xds.Clusters)
	c.expectAck(xds.Clusters, "+a") // and no listeners before
}

func TestStateOfTheWorldStreamsOfOneTypeEach(t *testing.T) {
	f := serve(t, xds.Config{})
	conn := xdstest.Serve(t, f.Server)
	version := f.publish("sg-1", simple("a"))
	var streams [4]wholeClient
	var errs [4]error
	streams[xds.Clusters], errs[0] = clusterservicev3.NewClusterDiscoveryServiceClient(conn).StreamClusters(t.Context())
	streams[xds.Endpoints], errs[1] = endpointservicev3.NewEndpointDiscoveryServiceClient(conn).StreamEndpoints(t.Context())
	streams[xds.Routes], errs[2] = routeservicev3.NewRouteDiscoveryServiceClient(conn).StreamRoutes(t.Context())
	streams[xds.Listeners], errs[3] = listenerservicev3.NewListenerDiscoveryServiceClient(conn).StreamListeners(t.Context())
	asked := [4][]string{xds.Endpoints: {"a"}, xds.Routes: {"table"}} // the others: everything
	given := [4]int{}
	for typ, names := range asked {
		if errs[typ] != nil {
			t.Fatal(errs[typ])
		}
		ask := func(answers *discoveryv3.DiscoveryResponse) {
			if err := streams[typ].Send(&discoveryv3.DiscoveryRequest{
				Node: nodeOf("sg-1"), ResourceNames: names,
				VersionInfo: answers.GetVersionInfo(), ResponseNonce: answers.GetNonce(),
			}); err != nil {
				t.Fatal(err)
			}
		}
		ask(nil)
		r, err := streams[typ].Recv()
		if err != nil {
			t.Fatal(err)
		}
		for _, res := range r.GetResources() {
			if res.GetTypeUrl() == xds.Type(typ).URL() {
				given[typ]++
			}
		}
		ask(r)
	}
	if given != [4]int{1, 1, 1, 1} {
		t.Errorf("resources by type: %v", given)
	}
	if e := f.event(xds.Acked); e.Version != version {
		t.Errorf("acked %+v", e)
	}
}
