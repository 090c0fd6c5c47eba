package xds_test

// The rules of Envoy's xDS protocol document, one test each
// (docs/root/api-docs/xds_protocol.rst).

import (
	"context"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/dmsc-mesh/dmsc/xds"
	"github.com/dmsc-mesh/dmsc/xds/xdstest"
)

// in is a client of sg-1 in front of a server that published set.
func in(t *testing.T, set xds.Set) (*fixture, *xdstest.Client) {
	t.Helper()
	f := serve(t, xds.Config{})
	c := xdstest.Dial(t, xdstest.Serve(t, f.Server), "sg-1")
	f.publish("sg-1", set)
	return f, c
}

func TestUnknownNameIsAnsweredAsRemoved(t *testing.T) {
	_, c := in(t, simple("a"))
	c.Subscribe(xds.Endpoints, "a", "nowhere")
	c.ExpectAck(xds.Endpoints, "+a", "-nowhere")
	c.ExpectNothing()
}

func TestAbsentNameIsAnsweredWhenItAppears(t *testing.T) {
	f, c := in(t, simple("a"))
	c.Subscribe(xds.Endpoints, "b")
	c.ExpectAck(xds.Endpoints, "-b")
	f.publish("sg-1", simple("a", "b"))
	c.ExpectAck(xds.Endpoints, "+b")
	c.ExpectNothing()
}

func TestResubscribingToAHeldNameResends(t *testing.T) {
	_, c := in(t, simple("a", "b"))
	c.Subscribe(xds.Endpoints, "a", "b")
	c.ExpectAck(xds.Endpoints, "+a", "+b")
	c.Subscribe(xds.Endpoints, "a")
	c.ExpectAck(xds.Endpoints, "+a")
	c.ExpectNothing()
}

func TestRemovedAndAddedAgainIsSentAgain(t *testing.T) {
	f, c := in(t, simple("a", "b"))
	c.Subscribe(xds.Clusters)
	c.Subscribe(xds.Endpoints, "a", "b")
	c.ExpectAck(xds.Clusters, "+a", "+b")
	c.ExpectAck(xds.Endpoints, "+a", "+b")
	c.ExpectNothing()
	f.publish("sg-1", simple("a"))
	c.ExpectAck(xds.Clusters, "-b")
	c.ExpectAck(xds.Endpoints, "-b")
	f.publish("sg-1", simple("a", "b"))
	c.ExpectAck(xds.Clusters, "+b")
	c.ExpectAck(xds.Endpoints, "+b")
	c.ExpectNothing()
}

func TestUnsubscribedNameIsNotSentAndForgotten(t *testing.T) {
	f, c := in(t, simple("a", "b"))
	c.Subscribe(xds.Endpoints, "a", "b")
	c.ExpectAck(xds.Endpoints, "+a", "+b")
	c.Unsubscribe(xds.Endpoints, "b", "phantom")
	c.ExpectNothing()
	set := simple("a", "b")
	set.Endpoints[1] = endpoints("b", 9090)
	f.publish("sg-1", set)
	c.ExpectNothing()
	c.Subscribe(xds.Endpoints, "b")
	c.ExpectAck(xds.Endpoints, "+b")
}

func TestFirstEmptyRequestIsAWildcardForClustersAndListenersOnly(t *testing.T) {
	_, c := in(t, simple("a"))
	c.Subscribe(xds.Endpoints)
	c.Subscribe(xds.Routes)
	c.ExpectNothing()
	c.Subscribe(xds.Clusters)
	c.ExpectAck(xds.Clusters, "+a")
	c.Subscribe(xds.Endpoints, "a")
	c.ExpectAck(xds.Endpoints, "+a")
	c.Subscribe(xds.Listeners)
	c.ExpectAck(xds.Listeners, "+in")
}

// "Once the client does explicitly subscribe to a resource name …, this legacy
// semantic is no longer available."
func TestLegacyWildcardEndsAtTheFirstName(t *testing.T) {
	f, c := in(t, simple("a", "b"))
	c.Subscribe(xds.Clusters, "a")
	c.ExpectAck(xds.Clusters, "+a")
	c.Unsubscribe(xds.Clusters, "a")
	c.Subscribe(xds.Clusters) // means nothing now
	c.ExpectNothing()
	f.publish("sg-1", simple("a", "b", "c"))
	c.ExpectNothing()
}

// The document's own example of an incremental client.
func TestNamesMayBeAddedToAWildcard(t *testing.T) {
	f, c := in(t, simple("a"))
	c.Subscribe(xds.Clusters)
	c.ExpectAck(xds.Clusters, "+a")
	c.Subscribe(xds.Endpoints, "a", "b")
	c.ExpectAck(xds.Endpoints, "+a", "-b")
	c.Subscribe(xds.Clusters, "b") // continues "*"
	c.ExpectAck(xds.Clusters, "-b")
	c.Unsubscribe(xds.Clusters, "*") // leaves b
	c.ExpectNothing()
	f.publish("sg-1", simple("a", "b", "c"))
	c.ExpectAck(xds.Clusters, "+b")
	c.ExpectAck(xds.Endpoints, "+b")
	c.Unsubscribe(xds.Clusters, "b") // leaves nothing
	c.ExpectNothing()
	f.publish("sg-1", simple("a", "b", "c", "d"))
	c.ExpectNothing()
}

func TestUnsubscribingANameUnderAWildcardIsAnswered(t *testing.T) {
	_, c := in(t, simple("a", "b"))
	c.Subscribe(xds.Clusters, "*", "a", "gone")
	c.ExpectAck(xds.Clusters, "+a", "+b", "-gone")
	c.Unsubscribe(xds.Clusters, "a", "gone", "b") // b was never named: ignored
	c.ExpectAck(xds.Clusters, "+a", "-gone")
	c.ExpectNothing()
}

func TestSubscriptionWithAStaleNonceIsHonouredAndIsNoAck(t *testing.T) {
	f, c := in(t, simple("a", "b"))
	c.Subscribe(xds.Endpoints, "a")
	first := c.Expect(xds.Endpoints, "+a")
	c.Send(&discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: xds.Endpoints.URL(), ResponseNonce: "older", ResourceNamesSubscribe: []string{"b"},
	})
	c.ExpectAck(xds.Endpoints, "+b")
	c.ExpectNothing()
	if ts := f.status("sg-1").Types[xds.Endpoints]; ts.Acked != "" {
		t.Errorf("a request with a foreign nonce passed for an ACK: %+v", ts)
	}
	c.Ack(first)
	c.ExpectNothing()
	if ts := f.status("sg-1").Types[xds.Endpoints]; ts.Acked != ts.Wanted {
		t.Errorf("after the ACK: %+v", ts)
	}
}

func TestSubscriptionWithoutANonceIsNoAck(t *testing.T) {
	f, c := in(t, simple("a"))
	c.Subscribe(xds.Clusters)
	r := c.Expect(xds.Clusters, "+a")
	c.Subscribe(xds.Clusters, "a")
	c.ExpectNothing() // one unanswered response is enough
	if ts := f.status("sg-1").Types[xds.Clusters]; ts.Acked != "" {
		t.Errorf("acked: %+v", ts)
	}
	c.Ack(r)
	c.ExpectAck(xds.Clusters, "+a")
}

func TestEqualContentIsNotSentAgain(t *testing.T) {
	f, c := in(t, simple("a"))
	c.Subscribe(xds.Clusters)
	c.ExpectAck(xds.Clusters, "+a")
	first := f.publish("sg-1", simple("a"))
	if again := f.publish("sg-1", simple("a")); again != first {
		t.Errorf("versions of equal sets: %s and %s", first, again)
	}
	c.ExpectNothing()
}

func TestNothingIsSentBeforeTheFirstPublish(t *testing.T) {
	f := serve(t, xds.Config{})
	c := xdstest.Dial(t, xdstest.Serve(t, f.Server), "sg-1")
	c.Resume(xds.Clusters, map[string]string{"old": "1"})
	c.Subscribe(xds.Endpoints, "old")
	c.Subscribe(xds.Listeners)
	// The first response is one to the set: the old cluster was not taken away
	// before there was something in its place.
	f.publish("sg-1", simple("a"))
	c.ExpectAck(xds.Clusters, "+a")
	c.Subscribe(xds.Endpoints, "a")
	for c.Held[xds.Endpoints]["a"] == "" {
		c.Ack(c.Recv())
	}
	c.ExpectAck(xds.Listeners, "+in")
}

func TestATypeThatIsNotServedDisturbsNothing(t *testing.T) {
	const runtime = "type.googleapis.com/envoy.service.runtime.v3.Runtime"
	f := serve(t, xds.Config{})
	f.publish("sg-1", simple("a"))
	for dialect, request := range map[xdstest.Dialect]proto.Message{
		xdstest.Delta: &discoveryv3.DeltaDiscoveryRequest{TypeUrl: runtime},
		xdstest.SotW:  &discoveryv3.DiscoveryRequest{TypeUrl: runtime},
	} {
		c := xdstest.DialAs(t, xdstest.Serve(t, f.Server), dialect, "sg-1")
		c.Send(request)
		c.Subscribe(xds.Clusters)
		c.ExpectAck(xds.Clusters, "+a")
	}
}

func TestAClientThatAsksForTooMuchLosesItsStream(t *testing.T) {
	f := serve(t, xds.Config{MaxNames: 10})
	conn := xdstest.Serve(t, f.Server)
	f.publish("sg-1", simple("a"))
	c := xdstest.Dial(t, conn, "sg-1")
	for _, dialect := range []xdstest.Dialect{xdstest.Delta, xdstest.SotW} {
		greedy, err := xdstest.Open(conn, dialect, "sg-1")
		if err != nil {
			t.Fatal(err)
		}
		if err := greedy.Send(xdstest.Request{Type: xds.Endpoints, Subscribe: names("e", 11), Names: names("e", 11)}); err != nil {
			t.Fatal(err)
		}
		if r, ok := <-greedy.In; ok {
			t.Errorf("%s: got %s, want the end of the stream", dialect, r)
		}
		if code := status.Code(greedy.Err()); code != codes.ResourceExhausted {
			t.Errorf("%s: got %s, want ResourceExhausted", dialect, code)
		}
		greedy.End()
	}
	c.Subscribe(xds.Endpoints, "a")
	c.ExpectAck(xds.Endpoints, "+a")
}

func TestAClientWithoutANodeIDIsRefused(t *testing.T) {
	f := serve(t, xds.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(xdstest.Serve(t, f.Server)).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.Clusters.URL()}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.InvalidArgument {
		t.Errorf("got %v, want InvalidArgument", err)
	}
}
