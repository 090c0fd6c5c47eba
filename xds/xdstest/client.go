package xdstest

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/dmsc-mesh/dmsc/xds"
)

// patience bounds every wait of a client. It is only reached by a failing test.
const patience = 10 * time.Second

// Serve runs srv on an in-memory listener until the test ends.
func Serve(t testing.TB, srv *xds.Server) *grpc.ClientConn {
	t.Helper()
	lis := bufconn.Listen(1 << 20)
	g := grpc.NewServer(xds.ServerOptions()...)
	srv.Register(g)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = g.Serve(lis) // ends with Stop
	}()
	conn, err := grpc.NewClient("passthrough:///bufconn",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		g.Stop()
		<-done
	})
	return conn
}

// Client is one delta ADS stream. Its methods fail the test, and belong to the
// test's goroutine.
type Client struct {
	t      testing.TB
	node   string
	stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	cancel context.CancelFunc
	in     chan *Response
	fences int

	// Log has every response so far, fences excluded.
	Log []*Response
	// Held is what the client has accepted: type → name → version.
	Held map[xds.Type]map[string]string
}

// Response is one message of the server.
type Response struct {
	*discoveryv3.DeltaDiscoveryResponse
	Type xds.Type
}

// Names are the resources sent, in the order of the message.
func (r *Response) Names() []string {
	names := make([]string, len(r.GetResources()))
	for i, res := range r.GetResources() {
		names[i] = res.GetName()
	}
	return names
}

// String is "clusters +a +b -c", as Expect takes it.
func (r *Response) String() string {
	words := []string{r.Type.String()}
	for _, n := range r.Names() {
		words = append(words, "+"+n)
	}
	for _, n := range r.GetRemovedResources() {
		words = append(words, "-"+n)
	}
	return strings.Join(words, " ")
}

// Dial opens a stream for node, which ends with the test or with Close.
func Dial(t testing.TB, conn grpc.ClientConnInterface, node string) *Client {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	c := &Client{
		t: t, node: node, stream: stream, cancel: cancel,
		in:   make(chan *Response, 1024),
		Held: map[xds.Type]map[string]string{},
	}
	for typ := xds.Clusters; typ <= xds.Listeners; typ++ {
		c.Held[typ] = map[string]string{}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(c.in)
		for {
			m, err := stream.Recv()
			if err != nil {
				return
			}
			r := &Response{DeltaDiscoveryResponse: m}
			for typ := xds.Clusters; typ <= xds.Listeners; typ++ {
				if typ.URL() == m.GetTypeUrl() {
					r.Type = typ
				}
			}
			c.in <- r
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return c
}

// Close ends the stream.
func (c *Client) Close() { c.cancel() }

// Send writes a request as it is, with the node filled in.
func (c *Client) Send(r *discoveryv3.DeltaDiscoveryRequest) {
	c.t.Helper()
	r.Node = &corev3.Node{Id: c.node}
	if err := c.stream.Send(r); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// Subscribe asks for names; without any, the first time, for everything.
func (c *Client) Subscribe(typ xds.Type, names ...string) {
	c.t.Helper()
	c.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typ.URL(), ResourceNamesSubscribe: names})
}

// Resume is Subscribe on a new stream by a client that holds versions.
func (c *Client) Resume(typ xds.Type, held map[string]string, names ...string) {
	c.t.Helper()
	maps.Copy(c.Held[typ], held)
	c.Send(&discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: typ.URL(), ResourceNamesSubscribe: names, InitialResourceVersions: held,
	})
}

// Unsubscribe takes names back.
func (c *Client) Unsubscribe(typ xds.Type, names ...string) {
	c.t.Helper()
	c.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typ.URL(), ResourceNamesUnsubscribe: names})
}

// Ack accepts r.
func (c *Client) Ack(r *Response) {
	c.t.Helper()
	for _, res := range r.GetResources() {
		c.Held[r.Type][res.GetName()] = res.GetVersion()
	}
	for _, name := range r.GetRemovedResources() {
		delete(c.Held[r.Type], name)
	}
	c.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()})
}

// Nack refuses r in the given words.
func (c *Client) Nack(r *Response, words string) {
	c.t.Helper()
	c.Send(&discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce(),
		ErrorDetail: &status.Status{Code: 13, Message: words},
	})
}

// Recv returns the next response.
func (c *Client) Recv() *Response {
	c.t.Helper()
	select {
	case r, ok := <-c.in:
		if !ok {
			c.t.Fatalf("the server ended the stream; so far: %v", c.Log)
		}
		if dup := duplicate(r); dup != "" {
			c.t.Fatalf("response %s has %s twice", r, dup)
		}
		if !r.fence() {
			c.Log = append(c.Log, r)
		}
		return r
	case <-time.After(patience):
		c.t.Fatalf("no response; so far: %v", c.Log)
	}
	return nil
}

func duplicate(r *Response) string {
	seen := map[string]bool{}
	for _, name := range append(r.Names(), r.GetRemovedResources()...) {
		if seen[name] {
			return name
		}
		seen[name] = true
	}
	return ""
}

// Expect receives one response and compares it: Expect(Clusters, "+a", "-b").
func (c *Client) Expect(typ xds.Type, items ...string) *Response {
	c.t.Helper()
	want := strings.Join(append([]string{typ.String()}, items...), " ")
	r := c.Recv()
	if r.String() != want {
		c.t.Fatalf("got %q, want %q; before: %v", r, want, c.Log[:len(c.Log)-1])
	}
	return r
}

// ExpectAck is Expect and Ack.
func (c *Client) ExpectAck(typ xds.Type, items ...string) *Response {
	c.t.Helper()
	r := c.Expect(typ, items...)
	c.Ack(r)
	return r
}

const fence = "xdstest/fence/"

func (r *Response) fence() bool {
	return len(r.GetRemovedResources()) == 1 && strings.HasPrefix(r.GetRemovedResources()[0], fence)
}

// ExpectNothing proves that the server has nothing to say. It needs a server
// that has published something, and no four unanswered endpoint responses.
func (c *Client) ExpectNothing() {
	c.t.Helper()
	if got := c.Drain(); len(got) > 0 {
		c.t.Fatalf("got %v, want nothing", got)
	}
}

// Drain returns what the server sends because of everything that happened
// before the call, without answering it. The end is proved by asking twice for
// endpoints that do not exist: the answer to the second question comes after
// everything the server sent in the turn of the first.
func (c *Client) Drain() (got []*Response) {
	c.t.Helper()
	for range 2 {
		c.fences++
		name := fmt.Sprint(fence, c.fences)
		c.Subscribe(xds.Endpoints, name)
		for {
			r := c.Recv()
			if r.fence() && r.GetRemovedResources()[0] == name {
				c.Send(&discoveryv3.DeltaDiscoveryRequest{
					TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce(), ResourceNamesUnsubscribe: []string{name},
				})
				break
			}
			got = append(got, r)
		}
	}
	return got
}

// TryRecv returns the next response if it has arrived. In a synctest bubble,
// after synctest.Wait, nil means that the server has nothing to say.
func (c *Client) TryRecv() *Response {
	select {
	case r, ok := <-c.in:
		if ok {
			c.Log = append(c.Log, r)
			return r
		}
	default:
	}
	return nil
}

// Follow answers as an Envoy that accepts everything, until an event comes,
// which it returns.
func (c *Client) Follow(until <-chan xds.Event) xds.Event {
	c.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case e := <-until:
			return e
		case r, ok := <-c.in:
			if !ok {
				c.t.Fatalf("the server ended the stream; so far: %v", c.Log)
			}
			c.Log = append(c.Log, r)
			c.Ack(r)
			for typ, names := range asksFor(c.t, r) {
				slices.Sort(names)
				c.Subscribe(typ, names...)
			}
		case <-timeout:
			c.t.Fatalf("no event; so far: %v", c.Log)
		}
	}
}

// asksFor is what an Envoy subscribes to because of a response.
func asksFor(t testing.TB, r *Response) map[xds.Type][]string {
	t.Helper()
	asks := map[xds.Type][]string{}
	for _, res := range r.GetResources() {
		m, err := res.GetResource().UnmarshalNew()
		if err != nil {
			t.Fatalf("%s: %v", res.GetName(), err)
		}
		switch m := m.(type) {
		case *clusterv3.Cluster:
			if m.GetType() == clusterv3.Cluster_EDS {
				asks[xds.Endpoints] = append(asks[xds.Endpoints], m.GetName())
			}
		case *listenerv3.Listener:
			for _, chain := range m.GetFilterChains() {
				for _, f := range chain.GetFilters() {
					hcm := &hcmv3.HttpConnectionManager{}
					if f.GetTypedConfig().UnmarshalTo(hcm) == nil && hcm.GetRds() != nil {
						asks[xds.Routes] = append(asks[xds.Routes], hcm.GetRds().GetRouteConfigName())
					}
				}
			}
		}
	}
	return asks
}
