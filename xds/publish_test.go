package xds_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/dmsc-mesh/dmsc/xds"
	"github.com/dmsc-mesh/dmsc/xds/xdstest"
)

// settled is a client that runs simple("a") as a whole.
func settled(t *testing.T, cfg xds.Config) (*fixture, *xdstest.Client) {
	t.Helper()
	f := serve(t, cfg)
	c := xdstest.Dial(t, xdstest.Serve(t, f.Server), "sg-1")
	version := f.publish("sg-1", simple("a"))
	c.Subscribe(xds.Clusters)
	c.ExpectAck(xds.Clusters, "+a")
	c.Subscribe(xds.Endpoints, "a")
	c.ExpectAck(xds.Endpoints, "+a")
	c.Subscribe(xds.Listeners)
	c.ExpectAck(xds.Listeners, "+in")
	c.Subscribe(xds.Routes, "table")
	c.ExpectAck(xds.Routes, "+table")
	if e := f.event(xds.Acked); e.Version != version {
		t.Fatalf("acked %s, want %s", e.Version, version)
	}
	return f, c
}

func TestMakeBeforeBreak(t *testing.T) {
	f, c := settled(t, xds.Config{})
	version := f.publish("sg-1", simple("b")) // a is gone, b is new

	added := c.Expect(xds.Clusters, "+b")
	c.ExpectNothing() // routes wait for the ACK
	c.Ack(added)
	c.ExpectNothing() // and for endpoints, though nobody has asked for them yet
	if st := f.status("sg-1"); st.Phase != xds.PhaseClusters || st.Converged {
		t.Errorf("status while warming: %+v", st)
	}
	c.Subscribe(xds.Endpoints, "b")
	warm := c.Expect(xds.Endpoints, "+b")
	c.ExpectNothing()
	c.Ack(warm)

	moved := c.Expect(xds.Routes, "+table")
	c.ExpectNothing() // a is still in use
	if st := f.status("sg-1"); st.Phase != xds.PhaseRoutes {
		t.Errorf("phase %s, want routes", st.Phase)
	}
	c.Ack(moved)

	gone := c.Expect(xds.Clusters, "-a")
	c.ExpectNothing()
	c.Ack(gone)
	c.ExpectAck(xds.Endpoints, "-a")
	if e := f.event(xds.Acked); e.Version != version {
		t.Errorf("acked %s, want %s", e.Version, version)
	}
	if st := f.status("sg-1"); !st.Converged || st.Phase != xds.PhaseLive || st.Acked != version {
		t.Errorf("status at the end: %+v", st)
	}
}

// Envoy 1.40 acknowledges clusters only when they are warm, so it asks for
// endpoints before that, and must be answered.
func TestEndpointsAskedForBeforeTheClusterIsAcked(t *testing.T) {
	f, c := settled(t, xds.Config{})
	f.publish("sg-1", simple("b", "a"))
	added := c.Expect(xds.Clusters, "+b")
	c.Subscribe(xds.Endpoints, "b")
	c.ExpectAck(xds.Endpoints, "+b")
	c.ExpectNothing()
	c.Ack(added)
	c.ExpectAck(xds.Routes, "+table")
	f.event(xds.Acked)
}

func TestChangedClusterGetsItsEndpointsAgain(t *testing.T) {
	f, c := settled(t, xds.Config{})
	set := simple("a")
	set.Clusters[0] = cluster("a", 1)
	f.publish("sg-1", set)
	changed := c.Expect(xds.Clusters, "+a")
	c.ExpectAck(xds.Endpoints, "+a") // same content: it ends the warming
	c.Ack(changed)
	f.event(xds.Acked)
	c.ExpectNothing()
}

func TestHealthOfExistingClustersWaitsForNothing(t *testing.T) {
	f, c := settled(t, xds.Config{})
	set := simple("b", "a")
	f.publish("sg-1", set)
	added := c.Expect(xds.Clusters, "+b")
	// The update hangs at its first gate; two health changes pass it, the
	// second before the first was acknowledged.
	for port := range 2 {
		set.Endpoints[1] = endpoints("a", 9000+port)
		f.publish("sg-1", set)
		c.Expect(xds.Endpoints, "+a")
	}
	c.Ack(added)
	c.Subscribe(xds.Endpoints, "b")
	c.ExpectAck(xds.Endpoints, "+b")
	c.ExpectAck(xds.Routes, "+table")
}

func TestNewestSetWins(t *testing.T) {
	f, c := settled(t, xds.Config{})
	f.publish("sg-1", simple("b"))
	added := c.Expect(xds.Clusters, "+b")
	for i := range 200 { // more than the log holds
		f.publish("sg-1", simple("b", fmt.Sprintf("x%d", i), "a"))
	}
	version := f.publish("sg-1", simple("b", "c", "a"))
	c.ExpectNothing()
	c.Ack(added)
	c.ExpectAck(xds.Clusters, "+c") // of the 200, nothing
	c.Subscribe(xds.Endpoints, "b", "c")
	c.ExpectAck(xds.Endpoints, "+b", "+c")
	c.ExpectAck(xds.Routes, "+table")
	if e := f.event(xds.Acked); e.Version != version {
		t.Errorf("acked %s, want only the newest, %s", e.Version, version)
	}
	c.ExpectNothing()
}

func TestWaitIsBoundedByTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, c := settled(t, xds.Config{GateTimeout: 2 * time.Second})
		f.publish("sg-1", simple("b"))
		c.Expect(xds.Clusters, "+b") // never answered
		start := time.Now()
		c.ExpectAck(xds.Routes, "+table")
		if waited := time.Since(start); waited != 2*time.Second {
			t.Errorf("routes came after %s, want 2s", waited)
		}
		c.ExpectAck(xds.Clusters, "-a") // the next wait has the same bound
		if waited := time.Since(start); waited != 4*time.Second {
			t.Errorf("removals came after %s, want 4s", waited)
		}
		if st := f.status("sg-1"); st.Converged {
			t.Error("converged without an ACK")
		}
	})
}

func TestEndpointsNobodyAsksForHoldUpAnUpdateOnlyOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, c := settled(t, xds.Config{GateTimeout: 2 * time.Second})
		f.publish("sg-1", simple("b"))
		c.ExpectAck(xds.Clusters, "+b")
		start := time.Now()
		c.ExpectAck(xds.Routes, "+table")
		if waited := time.Since(start); waited != 2*time.Second {
			t.Errorf("routes came after %s, want 2s", waited)
		}
		c.ExpectAck(xds.Clusters, "-a")
		c.ExpectAck(xds.Endpoints, "-a")
		if waited := time.Since(start); waited != 2*time.Second {
			t.Errorf("removals came after %s, want 2s", waited)
		}
	})
}

func TestANewerSetDoesNotRestartTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, c := settled(t, xds.Config{GateTimeout: 2 * time.Second})
		f.publish("sg-1", simple("b", "a"))
		c.Expect(xds.Clusters, "+b")
		start := time.Now()
		for i := range 3 {
			time.Sleep(500 * time.Millisecond) // the bubble's clock
			f.publish("sg-1", simple("b", "a", fmt.Sprint("x", i)))
		}
		c.Expect(xds.Clusters, "+x2") // x0 and x1 were never sent
		c.Expect(xds.Routes, "+table")
		if waited := time.Since(start); waited != 2*time.Second {
			t.Errorf("routes came after %s, want 2s", waited)
		}
	})
}

func TestRestartedServerWithTheSameContentSendsNothing(t *testing.T) {
	_, before := settled(t, xds.Config{})
	before.Close()

	f := serve(t, xds.Config{})
	c := xdstest.Dial(t, xdstest.Serve(t, f.Server), "sg-1")
	// The client is back before the agent knows anything.
	c.Resume(xds.Clusters, before.Held[xds.Clusters])
	c.Resume(xds.Endpoints, before.Held[xds.Endpoints], "a")
	c.Resume(xds.Listeners, before.Held[xds.Listeners])
	c.Resume(xds.Routes, before.Held[xds.Routes], "table")
	version := f.publish("sg-1", simple("a"))
	c.ExpectNothing()
	if e := f.event(xds.Acked); e.Version != version {
		t.Errorf("acked %s, want %s", e.Version, version)
	}
	// What it brought along counts as held, so a change is ordered as ever.
	f.publish("sg-1", simple("b"))
	c.ExpectAck(xds.Clusters, "+b")
	c.ExpectNothing()
}

func TestClientThatReturnsWithOlderContentGetsTheDifferenceInOrder(t *testing.T) {
	_, before := settled(t, xds.Config{})
	before.Close()
	f := serve(t, xds.Config{})
	c := xdstest.Dial(t, xdstest.Serve(t, f.Server), "sg-1")
	f.publish("sg-1", simple("b"))
	c.Resume(xds.Clusters, before.Held[xds.Clusters])
	c.Resume(xds.Endpoints, before.Held[xds.Endpoints], "a")
	c.Resume(xds.Listeners, before.Held[xds.Listeners])
	c.Resume(xds.Routes, before.Held[xds.Routes], "table")
	c.ExpectAck(xds.Clusters, "+b")
	c.ExpectNothing()
	c.Subscribe(xds.Endpoints, "b")
	c.ExpectAck(xds.Endpoints, "+b")
	c.ExpectAck(xds.Routes, "+table")
	c.ExpectAck(xds.Clusters, "-a")
	c.ExpectAck(xds.Endpoints, "-a")
	f.event(xds.Acked)
}

func TestSlowClientDelaysNobody(t *testing.T) {
	f := serve(t, xds.Config{})
	conn := xdstest.Serve(t, f.Server)
	// A stream that is never read, with more to say than its windows take.
	big := simple(names("a-cluster-with-a-long-name-to-fill-the-window-", 900)...)
	slow, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := slow.Send(&discoveryv3.DeltaDiscoveryRequest{Node: nodeOf("slow"), TypeUrl: xds.Clusters.URL()}); err != nil {
		t.Fatal(err)
	}
	c := xdstest.Dial(t, xdstest.Serve(t, f.Server), "sg-1")
	for rev := range 50 {
		for i := range big.Clusters {
			big.Clusters[i] = cluster(big.Clusters[i].GetName(), rev)
		}
		f.publish("slow", big)
	}
	f.publish("sg-1", simple("a"))
	c.Subscribe(xds.Clusters)
	c.ExpectAck(xds.Clusters, "+a")
	c.Subscribe(xds.Endpoints, "a")
	c.ExpectAck(xds.Endpoints, "+a")
}

func TestInvalidSetIsRefusedWholeAndTheLastGoodOneStays(t *testing.T) {
	f, c := settled(t, xds.Config{})
	good := f.status("sg-1").Wanted
	for want, breakIt := range map[string]func(*xds.Set){
		`clusters a: invalid Cluster.ConnectTimeout`:                          func(s *xds.Set) { s.Clusters[0].ConnectTimeout.Seconds = -1 },
		`clusters a: refers to endpoints "a", which the set does not have`:    func(s *xds.Set) { s.Endpoints = nil },
		`routes table: refers to clusters "z", which the set does not have`:   func(s *xds.Set) { s.Routes[0] = route("table", "z") },
		`listeners in: refers to routes "table", which the set does not have`: func(s *xds.Set) { s.Routes = nil },
		`clusters a: defined twice`:                                           func(s *xds.Set) { s.Clusters = append(s.Clusters, cluster("a", 1)) },
		`a resource has the name ""`:                                          func(s *xds.Set) { s.Clusters = append(s.Clusters, &clusterv3.Cluster{}) },
		`domain "a/1" is in the virtual hosts one and two`: func(s *xds.Set) {
			s.Routes[0].VirtualHosts = []*routev3.VirtualHost{
				{Name: "one", Domains: []string{"A/1"}}, {Name: "two", Domains: []string{"a/1"}},
			}
		},
	} {
		set := simple("a")
		breakIt(&set)
		if _, err := f.Publish("sg-1", set); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v\nwant one with %s", err, want)
		}
	}
	c.ExpectNothing()
	if st := f.status("sg-1"); st.Wanted != good || !st.Converged {
		t.Errorf("status: %+v", st)
	}
}

func TestClustersOfTheBootstrapMayBeReferredTo(t *testing.T) {
	set := simple("a")
	set.Routes[0] = route("table", "static")
	set.Static = []string{"static"}
	if _, err := serve(t, xds.Config{}).Publish("sg-1", set); err != nil {
		t.Error(err)
	}
}

func TestDisconnectIsReported(t *testing.T) {
	f, c := settled(t, xds.Config{})
	c.Close()
	if e := f.event(xds.Disconnected); e.Node != "sg-1" || e.Streams != 0 {
		t.Errorf("event %+v", e)
	}
	if st := f.status("sg-1"); st.Connected || st.Converged || st.Acked != st.Wanted {
		t.Errorf("status %+v", st)
	}
}

func TestANodeThatWasNeverPublishedToIsForgotten(t *testing.T) {
	events := make(chan xds.Event, 2)
	srv := xds.New(xds.Config{OnEvent: func(e xds.Event) { events <- e }})
	c := xdstest.Dial(t, xdstest.Serve(t, srv), "stranger")
	c.Subscribe(xds.Clusters)
	if e := <-events; e.Kind != xds.Connected || e.Node != "stranger" || e.Streams != 1 {
		t.Errorf("event %+v", e)
	}
	c.Close()
	if e := <-events; e.Kind != xds.Disconnected || e.Streams != 0 {
		t.Errorf("event %+v", e)
	}
	if st, ok := srv.Status("stranger"); ok {
		t.Errorf("still known: %+v", st)
	}
}

func TestFollowRunsWhatIsPublished(t *testing.T) {
	f := serve(t, xds.Config{})
	c := xdstest.Dial(t, xdstest.Serve(t, f.Server), "sg-1")
	c.Subscribe(xds.Clusters)
	c.Subscribe(xds.Listeners)
	version := f.publish("sg-1", simple(names("c", 100)...))
	if e := c.Follow(f.events); e.Kind != xds.Acked || e.Version != version {
		t.Errorf("event %+v", e)
	}
}

// A client that never answers for a cluster is told of newer clusters all the
// same, and that the first one is gone. It takes the GateTimeout: until then the
// answer may come, because the cluster keeps its endpoints to warm with.
func TestAClusterThatDoesNotWarmIsTakenBackWhenTheClockHasRunOut(t *testing.T) {
	const timeout = 100 * time.Millisecond
	f, c := settled(t, xds.Config{GateTimeout: timeout})
	begun := time.Now()
	f.publish("sg-1", simple("a", "b"))
	first := c.Expect(xds.Clusters, "+b")
	version := f.publish("sg-1", simple("a", "c"))
	second := c.Expect(xds.Clusters, "+c", "-b")
	if waited := time.Since(begun); waited < timeout {
		t.Errorf("the next response came after %s, without an answer to the one before", waited)
	}
	c.Ack(first)
	c.Ack(second)
	c.Subscribe(xds.Endpoints, "c")
	c.ExpectAck(xds.Endpoints, "+c")
	if e := f.event(xds.Acked); e.Version != version {
		t.Errorf("acked %s, want %s", e.Version, version)
	}
}

// The generated checks pass by what is packed into an Any.
func TestAPackedConfigurationOutsideItsConstraintsIsRefused(t *testing.T) {
	set := simple("a")
	set.Clusters[0].TypedExtensionProtocolOptions = map[string]*anypb.Any{"x": pack(&corev3.SocketAddress{})}
	if err := set.Validate(); err == nil || !strings.Contains(err.Error(), "clusters a: invalid SocketAddress.Address") {
		t.Errorf("got %v", err)
	}
}

// One node after another is often given the very same messages. What is said of
// them beside counts too.
func TestTheSameMessagesAreNotTheSameSet(t *testing.T) {
	s := xds.New(xds.Config{})
	set := simple("a", "b")
	all, err := s.Publish("sg-1", set)
	if err != nil {
		t.Fatal(err)
	}
	set.OnDemand = []string{"b"}
	if some, err := s.Publish("sg-2", set); err != nil || some == all {
		t.Errorf("published %s with b on demand, %s without, error %v", some, all, err)
	}
	set = simple("c")
	set.Clusters, set.Endpoints, set.Static = nil, nil, []string{"c"}
	if _, err := s.Publish("sg-1", set); err != nil {
		t.Fatal(err)
	}
	set.Static = nil
	if _, err := s.Publish("sg-2", set); err == nil {
		t.Error("a route to a cluster that nobody has is published")
	}
}
