package xds_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"github.com/dmsc-mesh/dmsc/xds"
	"github.com/dmsc-mesh/dmsc/xds/xdstest"
)

// A client that misbehaves is alone in its suffering: each test has a second
// client, for which a change takes no time by the bubble's clock.

// rogue is a stream on a connection of its own, without any manners.
func rogue(t *testing.T, srv *xds.Server) deltaClient {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(xdstest.Serve(t, srv)).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

// unharmed publishes a change to sg-1 and sees it accepted at once.
func unharmed(t *testing.T, f *fixture, c *xdstest.Client, port int) {
	t.Helper()
	start := time.Now()
	set := simple("a")
	set.Endpoints[0] = endpoints("a", port)
	version := f.publish("sg-1", set)
	c.ExpectAck(xds.Endpoints, "+a")
	for {
		if e := <-f.events; e.Node == "sg-1" {
			if e.Kind != xds.Acked || e.Version != version {
				t.Errorf("event %+v", e)
			}
			break
		}
	}
	if waited := time.Since(start); waited != 0 {
		t.Errorf("another client waited %v for a change", waited)
	}
}

func code(t *testing.T, stream deltaClient) codes.Code {
	t.Helper()
	for {
		if _, err := stream.Recv(); err != nil {
			t.Log(err)
			return status.Code(err)
		}
	}
}

func TestOfTooManyStreamsOfANodeTheOneThatAcceptsNothingGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, c := settled(t, xds.Config{MaxStreamsPerNode: 3})
		hello := &discoveryv3.DeltaDiscoveryRequest{Node: nodeOf("sg-1"), TypeUrl: xds.Clusters.URL()}
		var foes []deltaClient
		for range 5 {
			foe := rogue(t, f.Server)
			if err := foe.Send(hello); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			foes = append(foes, foe)
		}
		for _, foe := range foes[:3] {
			if got := code(t, foe); got != codes.ResourceExhausted {
				t.Errorf("got %s", got)
			}
			f.event(xds.Disconnected)
		}
		if st := f.status("sg-1"); st.Streams != 3 || !st.Converged {
			t.Errorf("%+v", st)
		}
		unharmed(t, f, c, 9000)
		again := dial(t, f) // the Envoy comes back
		again.Subscribe(xds.Clusters)
		again.ExpectAck(xds.Clusters, "+a")
	})
}

func TestStrangersTakeNoPlaceOfANode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, c := settled(t, xds.Config{MaxStrangers: 4, MaxStreams: 2})
		var strangers []deltaClient
		for i := range 10 {
			s := rogue(t, f.Server)
			if i%2 == 0 { // the others say nothing
				err := s.Send(&discoveryv3.DeltaDiscoveryRequest{Node: nodeOf(fmt.Sprint("stranger-", i)), TypeUrl: xds.Clusters.URL()})
				if err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
			strangers = append(strangers, s)
		}
		for i, s := range strangers[:6] {
			if got := code(t, s); got != codes.ResourceExhausted {
				t.Errorf("got %s", got)
			}
			if i%2 == 0 {
				f.event(xds.Disconnected)
			}
		}
		unharmed(t, f, c, 9000)
		second := dial(t, f) // a stranger until it speaks
		second.Subscribe(xds.Clusters)
		second.ExpectAck(xds.Clusters, "+a")
		f.publish("stranger-8", simple("a")) // known from now on, and no stranger
		for range 4 {
			rogue(t, f.Server)
			synctest.Wait()
		}
		if st := f.status("stranger-8"); st.Streams != 1 {
			t.Errorf("%+v", st)
		}
	})
}

// Of strangers that come and stay, ten thousand cost what one thousand cost:
// those that have a place.
func TestStrangersCostABoundedAmountOfMemory(t *testing.T) {
	const few, strangers, bound = 1_000, 10_000, 4 << 20
	srv := xds.New(xds.Config{MaxStrangers: 16}) // fewer than one connection may have streams, 32
	var conns [4]*grpc.ClientConn
	for i := range conns {
		conns[i] = xdstest.Serve(t, srv)
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	var clients sync.WaitGroup
	defer func() { cancel(); clients.Wait() }()
	var before uint64
	for i := range strangers {
		if i == few {
			before = heap()
		}
		stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conns[i%len(conns)]).DeltaAggregatedResources(ctx)
		if err != nil {
			t.Fatalf("stranger %d finds the streams of its connection taken: %v", i, err)
		}
		if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{
			Node: nodeOf(fmt.Sprint("stranger-", i)), TypeUrl: xds.Clusters.URL(), ResourceNamesSubscribe: names("a-name-of-some-length-", 100),
		}); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		clients.Go(func() { _, _ = stream.Recv() }) // until it has to give way
	}
	grown := int64(heap()) - int64(before)
	t.Logf("the process has grown by %d KiB", grown>>10)
	if grown > bound {
		t.Errorf("the process has grown by %d KiB, more than %d KiB", grown>>10, bound>>10)
	}
}

func TestStreamsAreBoundedInAll(t *testing.T) {
	f := serve(t, xds.Config{MaxStreams: 1})
	c := dial(t, f)
	f.publish("sg-1", simple("a"))
	c.Subscribe(xds.Clusters)
	c.ExpectAck(xds.Clusters, "+a")
	second := rogue(t, f.Server)
	if err := second.Send(&discoveryv3.DeltaDiscoveryRequest{Node: nodeOf("sg-1"), TypeUrl: xds.Clusters.URL()}); err != nil {
		t.Fatal(err)
	}
	if got := code(t, second); got != codes.ResourceExhausted {
		t.Errorf("got %s", got)
	}
	c.Subscribe(xds.Endpoints, "a")
	c.ExpectAck(xds.Endpoints, "+a")
}

func TestAClientThatNeverReadsLosesItsStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, c := settled(t, xds.Config{SendTimeout: 10 * time.Second, GateTimeout: time.Second})
		slow := rogue(t, f.Server)
		if err := slow.Send(&discoveryv3.DeltaDiscoveryRequest{Node: nodeOf("slow"), TypeUrl: xds.Clusters.URL()}); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		// More than its window takes; the clock sends more and more of it.
		big := simple(names("a-cluster-with-a-long-name-to-fill-the-window-", 900)...)
		for rev := range 5 {
			for i := range big.Clusters {
				big.Clusters[i] = cluster(big.Clusters[i].GetName(), rev)
			}
			f.publish("slow", big)
			unharmed(t, f, c, 9000+rev)
			time.Sleep(2 * time.Second)
		}
		e := f.event(xds.Disconnected)
		if waited := time.Since(start); e.Node != "slow" || waited < 10*time.Second || waited > 20*time.Second {
			t.Errorf("%+v after %v", e, waited)
		}
		if got := code(t, slow); got != codes.DeadlineExceeded {
			t.Errorf("got %s", got)
		}
	})
}

// What a client has not read is kept by gRPC, which ends a stream only when its
// client has read the rest of it: a place that is free again would cost memory
// each time it is taken.
func TestWhatAClientHasNotReadGoesWithItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, c := settled(t, xds.Config{MaxStreamsPerNode: 2})
		unread := &discoveryv3.DeltaDiscoveryRequest{ // the answer is more than its window takes
			Node: nodeOf("sg-1"), TypeUrl: xds.Endpoints.URL(), ResourceNamesSubscribe: names("a-name-that-nobody-has-heard-of-", 5000),
		}
		var foes []*grpc.ClientConn
		for range 3 {
			conn := xdstest.Serve(t, f.Server)
			foe, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := foe.Send(unread); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			foes = append(foes, conn)
		}
		time.Sleep(2 * time.Second)
		for i, conn := range foes {
			if ended := conn.GetState() != connectivity.Ready; ended != (i < 2) {
				t.Errorf("connection %d of 3, of which the last has a place: ended %t", i+1, ended)
			}
		}
		for range 2 {
			f.event(xds.Disconnected)
		}
		unharmed(t, f, c, 9000)
	})
}

func TestAClientThatSaysNothingLosesItsStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, c := settled(t, xds.Config{SendTimeout: 10 * time.Second})
		silent, start := rogue(t, f.Server), time.Now()
		if got := code(t, silent); got != codes.DeadlineExceeded || time.Since(start) != 10*time.Second {
			t.Errorf("got %s after %v", got, time.Since(start))
		}
		unharmed(t, f, c, 9000)
	})
}

func TestAFloodOfRequestsIsReadAtItsPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, c := settled(t, xds.Config{})
		flood, start := rogue(t, f.Server), time.Now()
		done := make(chan time.Duration)
		go func() {
			for range 40_000 {
				if err := flood.Send(&discoveryv3.DeltaDiscoveryRequest{
					Node: nodeOf("flood"), TypeUrl: xds.Clusters.URL(), ResponseNonce: "a lie",
				}); err != nil {
					break
				}
			}
			done <- time.Since(start)
		}()
		for i := range 5 {
			unharmed(t, f, c, 9000+i)
			time.Sleep(time.Second)
		}
		// 10 000 at once, then 1 000 a second, but for what fits into a window,
		// whose size gRPC estimates.
		if took := <-done; took < 10*time.Second || took > 30*time.Second {
			t.Errorf("40 000 requests were taken in %v", took)
		}
	})
}

func TestAnEnvoyThatStartsIsNoFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, start := serve(t, xds.Config{}), time.Now()
		c := dial(t, f)
		all := names("c", 900)
		f.publish("sg-1", simple(all...))
		c.Subscribe(xds.Clusters)
		c.Ack(c.Recv())
		for _, name := range all { // one by one
			c.Subscribe(xds.Endpoints, name)
		}
		for len(c.Held[xds.Endpoints]) < len(all) {
			c.Ack(c.Recv())
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("it waited %v", took)
		}
	})
}

func TestTooManyNamesAreRefusedBeforeTheyAreLookedAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, c := settled(t, xds.Config{})
		held := map[string]string{}
		for _, name := range names("x", 100_001) {
			held[name] = "1"
		}
		for what, request := range map[string]*discoveryv3.DeltaDiscoveryRequest{
			"a million names":      {ResourceNamesSubscribe: names("a-name-", 1_000_000)},
			"names to leave":       {ResourceNamesUnsubscribe: names("a", 100_001)},
			"a hundred thousand":   {ResourceNamesSubscribe: names("a", 100_001)},
			"versions it may hold": {InitialResourceVersions: held},
		} {
			stream := rogue(t, f.Server)
			request.Node, request.TypeUrl = nodeOf("greedy"), xds.Endpoints.URL()
			if err := stream.Send(request); err != nil {
				t.Fatal(err)
			}
			if got := code(t, stream); got != codes.ResourceExhausted {
				t.Errorf("%s: got %s", what, got)
			}
		}
		unharmed(t, f, c, 9000)
	})
}

// Whoever lies about what it holds and has accepted is given what follows from
// that, and nobody else is.
func TestLiesAboutVersionsAndNoncesHarmTheLiarOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, c := settled(t, xds.Config{})
		liar := dial(t, f) // of the same node
		liar.Resume(xds.Clusters, map[string]string{"a": "no such version", "b": "nor such a name"})
		liar.Expect(xds.Clusters, "+a")
		for _, nonce := range []string{"0", "2", "99", "-1", "a", strings.Repeat("9", 1000)} {
			liar.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.Clusters.URL(), ResponseNonce: nonce})
			liar.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.Listeners.URL(), ResponseNonce: nonce})
		}
		synctest.Wait()
		if r := liar.TryRecv(); r != nil && r.Type != xds.Listeners {
			t.Errorf("an ACK of nothing is answered with %s", r)
		}
		unharmed(t, f, c, 9000)
	})
}

func TestANackKeepsNoMoreWordsThanAPersonReads(t *testing.T) {
	f, c := settled(t, xds.Config{})
	bad := simple("a")
	bad.Clusters[0] = cluster("a", 1)
	f.publish("sg-1", bad)
	c.Nack(c.Expect(xds.Clusters, "+a"), "a: "+strings.Repeat("no ", 1e6))
	if e := f.event(xds.Nacked); len(e.Nack.Message) > 16<<10 {
		t.Errorf("%d bytes", len(e.Nack.Message))
	}
}

func TestANodeIDHasABound(t *testing.T) {
	f := serve(t, xds.Config{})
	stream := rogue(t, f.Server)
	if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: nodeOf(strings.Repeat("x", 257)), TypeUrl: xds.Clusters.URL()}); err != nil {
		t.Fatal(err)
	}
	if got := code(t, stream); got != codes.InvalidArgument {
		t.Errorf("got %s", got)
	}
}

func TestUnknownTypesAreLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		srv := xds.New(xds.Config{Log: slog.New(slog.NewTextHandler(&out, nil))})
		c := xdstest.Dial(t, xdstest.Serve(t, srv), "sg-1")
		for i := range 100 {
			c.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: fmt.Sprint("type.googleapis.com/", i)})
		}
		synctest.Wait()
		if n := strings.Count(out.String(), "not served"); n != 1 {
			t.Errorf("%d lines", n)
		}
	})
}
