package xds_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	endpointservicev3 "github.com/envoyproxy/go-control-plane/envoy/service/endpoint/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"

	"github.com/dmsc-mesh/dmsc/xds"
	"github.com/dmsc-mesh/dmsc/xds/xdstest"
)

// started is a client without ADS that runs simple("a").
func started(t *testing.T, f *fixture) (c *typed, conn grpc.ClientConnInterface) {
	t.Helper()
	conn = xdstest.Serve(t, f.Server)
	c = dialTyped(t, conn)
	version := f.publish("sg-1", simple("a"))
	c.subscribe(xds.Clusters)
	c.expectAck(xds.Clusters, "+a")
	c.subscribe(xds.Endpoints, "a")
	c.expectAck(xds.Endpoints, "+a")
	c.subscribe(xds.Listeners)
	c.expectAck(xds.Listeners, "+in")
	c.subscribe(xds.Routes, "table")
	c.expectAck(xds.Routes, "+table")
	if e := f.event(xds.Acked); e.Version != version {
		t.Fatalf("acked %+v", e)
	}
	return c, conn
}

// another is a further stream of endpoints, as Envoy has one for each cluster.
func another(t *testing.T, conn grpc.ClientConnInterface) *typed {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	t.Cleanup(cancel)
	str, err := endpointservicev3.NewEndpointDiscoveryServiceClient(conn).DeltaEndpoints(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return &typed{t: t, streams: [4]deltaClient{xds.Endpoints: str}}
}

// clocked says when the last response of each type was sent, on the clock of a
// bubble.
type clocked struct {
	mu    sync.Mutex
	start time.Time
	at    [4]time.Time
}

func (c *clocked) record(r xds.Record) {
	if m, ok := r.Response.(*discoveryv3.DeltaDiscoveryResponse); ok {
		c.mu.Lock()
		defer c.mu.Unlock()
		for typ := range c.at {
			if xds.Type(typ).URL() == m.GetTypeUrl() {
				c.at[typ] = r.Time
			}
		}
	}
}

func (c *clocked) begin() { c.start = time.Now() }

func (c *clocked) expect(t *testing.T, typ xds.Type, want time.Duration) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if got := c.at[typ].Sub(c.start); got != want {
		t.Errorf("%s were sent after %v, want %v", typ, got, want)
	}
}

// Each stream waits for what the others have to do first: the route for the
// cluster and its endpoints, the removal for the route.
func TestStreamsOfOneTypeKeepTheOrderTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log clocked
		f := serve(t, xds.Config{GateTimeout: time.Hour, Record: log.record})
		c, conn := started(t, f)
		log.begin()
		version := f.publish("sg-1", simple("b"))
		nonce := c.expect(xds.Clusters, "+b")
		log.expect(t, xds.Clusters, 0)

		time.Sleep(time.Second)
		c.ask(xds.Clusters, &discoveryv3.DeltaDiscoveryRequest{ResponseNonce: nonce})
		time.Sleep(time.Second)
		b := another(t, conn)
		b.subscribe(xds.Endpoints, "b")
		nonce = b.expect(xds.Endpoints, "+b")
		time.Sleep(time.Second)
		b.ask(xds.Endpoints, &discoveryv3.DeltaDiscoveryRequest{ResponseNonce: nonce})
		nonce = c.expect(xds.Routes, "+table")
		log.expect(t, xds.Routes, 3*time.Second)

		time.Sleep(time.Second)
		c.ask(xds.Routes, &discoveryv3.DeltaDiscoveryRequest{ResponseNonce: nonce})
		nonce = c.expect(xds.Clusters, "-a")
		log.expect(t, xds.Clusters, 4*time.Second)
		time.Sleep(time.Second)
		if st := f.status("sg-1"); st.Converged || st.Acked == version || st.Phase == xds.PhaseLive {
			t.Errorf("before the removal is accepted: %+v", st)
		}
		c.ask(xds.Clusters, &discoveryv3.DeltaDiscoveryRequest{ResponseNonce: nonce})
		c.expectAck(xds.Endpoints, "-a")
		log.expect(t, xds.Endpoints, 5*time.Second)
		if e := f.event(xds.Acked); e.Version != version {
			t.Errorf("acked %+v", e)
		}
		if st := f.status("sg-1"); !st.Converged || st.Streams != 5 {
			t.Errorf("status %+v", st)
		}
	})
}

// What another stream runs of a type does not wait: health is not gated.
func TestEndpointsOfStreamsOfOneTypeWaitForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log clocked
		f := serve(t, xds.Config{GateTimeout: time.Hour, Record: log.record})
		c, _ := started(t, f)
		f.publish("sg-1", simple("a", "b"))
		c.expect(xds.Clusters, "+b") // and says nothing
		time.Sleep(time.Second)
		log.begin()
		set := simple("a", "b")
		set.Endpoints[0] = endpoints("a", 9000)
		f.publish("sg-1", set)
		c.expectAck(xds.Endpoints, "+a")
		log.expect(t, xds.Endpoints, 0)
	})
}

// A changed cluster warms until endpoints come behind it, on whatever stream,
// and what refers to it waits for that.
func TestAChangedClusterGetsItsEndpointsAgainByTheirOwnStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := serve(t, xds.Config{GateTimeout: time.Hour})
		c, _ := started(t, f)
		set := simple("a")
		set.Clusters[0] = cluster("a", 1)
		version := f.publish("sg-1", set)
		c.expectAck(xds.Clusters, "+a")
		nonce := c.expect(xds.Endpoints, "+a")
		synctest.Wait()
		if st := f.status("sg-1"); st.Acked == version {
			t.Errorf("while the cluster warms: %+v", st)
		}
		c.ask(xds.Endpoints, &discoveryv3.DeltaDiscoveryRequest{ResponseNonce: nonce})
		if e := f.event(xds.Acked); e.Version != version {
			t.Errorf("acked %+v", e)
		}
	})
}

// A client that never opens one of the streams gets all the same, by the clock:
// a route after one wait, a removal after another.
func TestAStreamThatIsMissingIsWaitedForByTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log clocked
		f := serve(t, xds.Config{GateTimeout: 2 * time.Second, Record: log.record})
		c := dialTyped(t, xdstest.Serve(t, f.Server))
		f.publish("sg-1", simple("a"))
		c.subscribe(xds.Clusters)
		c.expectAck(xds.Clusters, "+a")
		log.begin()
		c.subscribe(xds.Routes, "table")
		c.expectAck(xds.Routes, "+table")
		log.expect(t, xds.Routes, 2*time.Second)
		log.begin()
		f.publish("sg-1", simple("b"))
		c.expectAck(xds.Clusters, "+b")
		c.expectAck(xds.Routes, "+table")
		log.expect(t, xds.Routes, 2*time.Second)
		c.expectAck(xds.Clusters, "-a")
		log.expect(t, xds.Clusters, 4*time.Second)
	})
}

// Each stream is heard, and a route waits with the cluster that was refused on
// another one.
func TestRefusalsOnStreamsOfOneTypeAreOneState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log clocked
		f := serve(t, xds.Config{GateTimeout: time.Second, Record: log.record})
		c, conn := started(t, f)
		two := simple("a", "b")
		f.publish("sg-1", two)
		c.expectAck(xds.Clusters, "+b")
		b := another(t, conn)
		b.subscribe(xds.Endpoints, "b")
		b.refuse(xds.Endpoints, b.expect(xds.Endpoints, "+b"), "b has no such host")
		e := f.await(xds.Nacked)
		if e.Nack.Type != xds.Endpoints || !slices.Equal(e.Nack.Resources, []string{"b"}) {
			t.Errorf("nack %+v", e.Nack)
		}
		synctest.Wait()
		st := f.status("sg-1")
		if st.Phase != xds.PhaseRejected || !slices.Equal(st.Types[xds.Endpoints].Rejected, []string{"b"}) || st.Converged {
			t.Errorf("status %+v", st)
		}
		two.Endpoints[1] = endpoints("b", 9000)
		healed := f.publish("sg-1", two)
		b.expectAck(xds.Endpoints, "+b")
		if e := f.event(xds.Acked); e.Version != healed {
			t.Errorf("acked %+v", e)
		}

		f.publish("sg-1", simple("c", "a", "b")) // the route leads to c
		b.expectAck(xds.Endpoints, "+b")
		c.refuse(xds.Clusters, c.expect(xds.Clusters, "+c"), "c is bad")
		f.await(xds.Nacked)
		sent := log.at[xds.Routes]
		time.Sleep(time.Minute)
		if log.at[xds.Routes] != sent {
			t.Error("the clock has sent a route to a cluster that is not there")
		}
		good := simple("c", "a", "b")
		good.Clusters[0] = cluster("c", 1)
		healed = f.publish("sg-1", good)
		c.expectAck(xds.Clusters, "+c")
		third := another(t, conn)
		third.subscribe(xds.Endpoints, "c")
		third.expectAck(xds.Endpoints, "+c")
		c.expectAck(xds.Routes, "+table")
		f.expect(xds.Acked, healed)
	})
}

func (c *typed) refuse(typ xds.Type, nonce, words string) {
	c.t.Helper()
	c.ask(typ, &discoveryv3.DeltaDiscoveryRequest{ResponseNonce: nonce, ErrorDetail: &status.Status{Message: words}})
}
