package xds_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/dmsc-mesh/dmsc/xds"
	"github.com/dmsc-mesh/dmsc/xds/xdstest"
)

// sotw is a state-of-the-world client, as thin as can be.
type sotw struct {
	t      *testing.T
	stream discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesClient
}

func dialSotW(t *testing.T, srv *xds.Server) sotw {
	t.Helper()
	conn := xdstest.Serve(t, srv)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return sotw{t, stream}
}

func (c sotw) ask(typ xds.Type, answers *discoveryv3.DiscoveryResponse, names ...string) {
	c.t.Helper()
	if err := c.stream.Send(&discoveryv3.DiscoveryRequest{
		Node: nodeOf("sg-1"), TypeUrl: typ.URL(), ResourceNames: names,
		VersionInfo: answers.GetVersionInfo(), ResponseNonce: answers.GetNonce(),
	}); err != nil {
		c.t.Fatal(err)
	}
}

func (c sotw) expect(typ xds.Type, names ...string) *discoveryv3.DiscoveryResponse {
	c.t.Helper()
	r, err := c.stream.Recv()
	if err != nil {
		c.t.Fatal(err)
	}
	var got []string
	for _, res := range r.GetResources() {
		m, err := res.UnmarshalNew()
		if err != nil {
			c.t.Fatal(err)
		}
		got = append(got, nameOf(m))
	}
	if r.GetTypeUrl() != typ.URL() || !slices.Equal(got, names) {
		c.t.Fatalf("got %s %v, want %s %v", r.GetTypeUrl(), got, typ, names)
	}
	return r
}

func nameOf(m proto.Message) string {
	switch m := m.(type) {
	case interface{ GetClusterName() string }:
		return m.GetClusterName()
	case interface{ GetName() string }:
		return m.GetName()
	}
	return ""
}

// start brings a client to run simple("a"), and returns its last response of
// each type.
func (c sotw) start() (last [4]*discoveryv3.DiscoveryResponse) {
	c.t.Helper()
	c.ask(xds.Clusters, nil)
	last[xds.Clusters] = c.expect(xds.Clusters, "a")
	c.ask(xds.Endpoints, nil, "a")
	last[xds.Endpoints] = c.expect(xds.Endpoints, "a")
	c.ask(xds.Endpoints, last[xds.Endpoints], "a")
	c.ask(xds.Clusters, last[xds.Clusters])
	c.ask(xds.Listeners, nil)
	last[xds.Listeners] = c.expect(xds.Listeners, "in")
	c.ask(xds.Listeners, last[xds.Listeners])
	c.ask(xds.Routes, nil, "table")
	last[xds.Routes] = c.expect(xds.Routes, "table")
	c.ask(xds.Routes, last[xds.Routes], "table")
	return last
}

func TestSotWMakeBeforeBreak(t *testing.T) {
	f := serve(t, xds.Config{})
	version := f.publish("sg-1", simple("a"))
	c := dialSotW(t, f.Server)
	c.start()
	f.expect(xds.Acked, version)

	version = f.publish("sg-1", simple("b"))
	both := c.expect(xds.Clusters, "a", "b") // all clusters, the old one still among them
	c.ask(xds.Endpoints, nil, "a", "b")      // without a nonce: stale, and ignored
	c.ask(xds.Clusters, both)
	c.ask(xds.Endpoints, &discoveryv3.DiscoveryResponse{Nonce: "2"}, "a", "b")
	warm := c.expect(xds.Endpoints, "b") // endpoints may be sent one by one
	c.ask(xds.Endpoints, warm, "a", "b")
	moved := c.expect(xds.Routes, "table")
	c.ask(xds.Routes, moved, "table")
	last := c.expect(xds.Clusters, "b")
	c.ask(xds.Clusters, last)
	f.expect(xds.Acked, version)
	if want := f.status("sg-1").Types[xds.Clusters].Wanted; last.GetVersionInfo() != want || both.GetVersionInfo() == want {
		t.Errorf("versions: both %s, last %s, wanted %s", both.GetVersionInfo(), last.GetVersionInfo(), want)
	}
}

func TestSotWRefusalIsNotAnsweredByResending(t *testing.T) {
	f := serve(t, xds.Config{})
	f.publish("sg-1", simple("a"))
	c := dialSotW(t, f.Server)
	c.start()
	f.event(xds.Acked)
	bad := simple("a")
	bad.Routes[0].VirtualHosts[0].Name = "bad"
	f.publish("sg-1", bad)
	r := c.expect(xds.Routes, "table")
	if err := c.stream.Send(&discoveryv3.DiscoveryRequest{
		TypeUrl: xds.Routes.URL(), ResourceNames: []string{"table"}, ResponseNonce: r.GetNonce(),
		ErrorDetail: &status.Status{Message: "no"},
	}); err != nil {
		t.Fatal(err)
	}
	if e := f.event(xds.Nacked); !strings.Contains(e.Nack.Message, "no") {
		t.Errorf("nack %+v", e.Nack)
	}
	good := simple("a")
	good.Routes[0].VirtualHosts[0].Name = "good"
	f.publish("sg-1", good)
	healed := c.expect(xds.Routes, "table") // the very next response
	if healed.GetVersionInfo() == r.GetVersionInfo() {
		t.Error("the refused version was sent again")
	}
}

func TestSotWClientThatReturnsAtTheWantedVersionIsNotSentClusters(t *testing.T) {
	f := serve(t, xds.Config{})
	f.publish("sg-1", simple("a"))
	held := dialSotW(t, f.Server).start()
	c := dialSotW(t, f.Server)
	c.ask(xds.Clusters, &discoveryv3.DiscoveryResponse{VersionInfo: held[xds.Clusters].GetVersionInfo()})
	c.ask(xds.Endpoints, nil, "a")
	c.expect(xds.Endpoints, "a") // may be another selection of names: sent
}

func TestSotWLegacyWildcardEndsAtTheFirstName(t *testing.T) {
	f := serve(t, xds.Config{})
	f.publish("sg-1", simple("a", "b"))
	c := dialSotW(t, f.Server)
	c.ask(xds.Clusters, nil)
	r := c.expect(xds.Clusters, "a", "b")
	c.ask(xds.Clusters, r, "*", "a") // continues "*"
	r = c.expect(xds.Clusters, "a", "b")
	c.ask(xds.Clusters, r, "a") // leaves "*"
	c.ask(xds.Clusters, r)      // leaves a: nothing is subscribed now
	f.publish("sg-1", simple("a", "b", "c"))
	c.ask(xds.Endpoints, nil, "c")
	c.expect(xds.Endpoints, "c")
}
