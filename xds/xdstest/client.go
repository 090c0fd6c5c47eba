package xdstest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

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

// Client is one ADS client that says what its test tells it to. Its methods
// fail the test, and belong to the test's goroutine.
type Client struct {
	t      testing.TB
	stream *Stream
	fences int
	subs   map[xds.Type]*world // state of the world only

	// Log has every response so far, fences excluded.
	Log []*Response
	// Held is what the client has accepted: type → name → version. In the
	// state-of-the-world dialect that is the version of the whole type.
	Held map[xds.Type]map[string]string
}

// world is what a state-of-the-world request repeats each time.
type world struct {
	names          []string
	nonce, version string
}

// Dial opens a delta stream for node, which ends with the test or with Close.
func Dial(t testing.TB, conn grpc.ClientConnInterface, node string) *Client {
	t.Helper()
	return DialAs(t, conn, Delta, node)
}

// DialAs is Dial in the given dialect.
func DialAs(t testing.TB, conn grpc.ClientConnInterface, dialect Dialect, node string) *Client {
	t.Helper()
	stream, err := Open(conn, dialect, node)
	if err != nil {
		t.Fatal(err)
	}
	c := &Client{t: t, stream: stream, Held: map[xds.Type]map[string]string{}, subs: map[xds.Type]*world{}}
	for typ := xds.Clusters; typ <= xds.Listeners; typ++ {
		c.Held[typ], c.subs[typ] = map[string]string{}, &world{}
	}
	t.Cleanup(stream.End)
	return c
}

// Dialect is what the client speaks.
func (c *Client) Dialect() Dialect { return c.stream.Dialect }

// Close ends the stream.
func (c *Client) Close() { c.stream.cancel() }

// Send writes a request as it is.
func (c *Client) Send(r proto.Message) {
	c.t.Helper()
	if err := c.stream.SendMessage(r); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

func (c *Client) say(r Request) {
	c.t.Helper()
	if w := c.subs[r.Type]; c.stream.Dialect == SotW {
		w.names = slices.DeleteFunc(w.names, func(name string) bool { return slices.Contains(r.Unsubscribe, name) })
		for _, name := range r.Subscribe {
			if !slices.Contains(w.names, name) {
				w.names = append(w.names, name)
			}
		}
		r.Nonce, r.Names, r.Version = cmp.Or(r.Nonce, w.nonce), w.names, w.version
	}
	if err := c.stream.Send(r); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// Subscribe asks for names; without any, the first time, for everything.
func (c *Client) Subscribe(typ xds.Type, names ...string) {
	c.t.Helper()
	c.say(Request{Type: typ, Subscribe: names})
}

// Resume is Subscribe on a new stream by a client that holds versions.
func (c *Client) Resume(typ xds.Type, held map[string]string, names ...string) {
	c.t.Helper()
	maps.Copy(c.Held[typ], held)
	for _, version := range held {
		c.subs[typ].version = version
	}
	c.say(Request{Type: typ, Subscribe: names, Initial: held})
}

// Unsubscribe takes names back.
func (c *Client) Unsubscribe(typ xds.Type, names ...string) {
	c.t.Helper()
	c.say(Request{Type: typ, Unsubscribe: names})
}

// Ack accepts r.
func (c *Client) Ack(r *Response) {
	c.t.Helper()
	whole := c.stream.Dialect == SotW && (r.Type == xds.Clusters || r.Type == xds.Listeners)
	if whole {
		clear(c.Held[r.Type])
	}
	for _, res := range r.GetResources() {
		c.Held[r.Type][res.GetName()] = cmp.Or(res.GetVersion(), r.GetSystemVersionInfo())
	}
	for _, name := range r.GetRemovedResources() {
		delete(c.Held[r.Type], name)
	}
	w := c.subs[r.Type]
	w.nonce, w.version = r.GetNonce(), r.GetSystemVersionInfo()
	c.say(Request{Type: r.Type, Nonce: r.GetNonce()})
}

// Nack refuses r in the given words.
func (c *Client) Nack(r *Response, words string) {
	c.t.Helper()
	c.subs[r.Type].nonce = r.GetNonce()
	c.say(Request{Type: r.Type, Nonce: r.GetNonce(), Refused: true, Words: words})
}

// Recv returns the next response.
func (c *Client) Recv() *Response {
	c.t.Helper()
	select {
	case r, ok := <-c.stream.In:
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

// ExpectNothing proves that the server has nothing to say. A delta client
// needs a server that has published something, and no four unanswered endpoint
// responses; a state-of-the-world client needs a synctest bubble.
func (c *Client) ExpectNothing() {
	c.t.Helper()
	if c.stream.Dialect == SotW {
		synctest.Wait()
		if r := c.TryRecv(); r != nil {
			c.t.Fatalf("got %s, want nothing", r)
		}
		return
	}
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
	r, _ := c.stream.Next()
	if r != nil {
		c.Log = append(c.Log, r)
	}
	return r
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
		case r, ok := <-c.stream.In:
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
