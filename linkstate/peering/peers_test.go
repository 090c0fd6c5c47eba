package peering

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/dmsc-mesh/dmsc"
	dmscv1 "github.com/dmsc-mesh/dmsc/api/dmsc/v1"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

func TestMain(m *testing.M) {
	if addr := os.Getenv("PEERING_TEST_NODE"); addr != "" {
		neighbourProcess(addr)
		return
	}
	goleak.VerifyTestMain(m)
}

// end is one node under test: its Peers on a real port, and what was delivered.
type end struct {
	*Peers
	t      *testing.T
	node   dmsc.NodeID
	addr   string
	events chan linkstate.Event
}

func start(t *testing.T, node dmsc.NodeID, change ...func(*Config)) *end {
	t.Helper()
	e := &end{t: t, node: node, events: make(chan linkstate.Event, 4096)}
	ctx, cancel := context.WithCancel(context.Background())
	cfg := Config{Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Node: node, Domain: "lab", Deliver: func(ev linkstate.Event) {
		select {
		case e.events <- ev:
		case <-ctx.Done():
		}
	}}
	for _, f := range change {
		f(&cfg)
	}
	e.Peers = New(cfg)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e.addr = l.Addr().String()
	server := grpc.NewServer(ServerOptions()...)
	e.Register(server)
	var running sync.WaitGroup
	running.Go(func() { _ = server.Serve(l) })
	running.Go(func() { _ = e.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		server.Stop()
		running.Wait()
	})
	return e
}

// next returns the next event, which must be of type E.
func next[E linkstate.Event](e *end) E {
	e.t.Helper()
	select {
	case ev := <-e.events:
		if got, ok := ev.(E); ok {
			return got
		}
		e.t.Fatalf("%s: got %#v, want %T", e.node, ev, *new(E))
	case <-time.After(10 * time.Second):
		e.t.Fatalf("%s: waited in vain for %T", e.node, *new(E))
	}
	panic("unreachable")
}

func (e *end) say(remote dmsc.NodeID, m ...linkstate.Message) {
	for _, m := range m {
		e.Send([]linkstate.Envelope{{Link: key(remote), Message: m}})
	}
}

func (e *end) hello() *linkstate.Hello {
	return &linkstate.Hello{Domain: "lab", Node: e.node, Role: dmsc.RoleSR, Link: "0", Session: 1}
}

func key(remote dmsc.NodeID) linkstate.LinkKey { return linkstate.LinkKey{Remote: remote, ID: "0"} }

// pair returns a and b with their stream up and both hellos exchanged.
func pair(t *testing.T) (a, b *end) {
	a, b = start(t, "a"), start(t, "b")
	b.SetLinks([]Link{{Key: key("a")}})
	a.SetLinks([]Link{{Key: key("b"), Address: b.addr}})
	introduce(a, b)
	return a, b
}

func introduce(a, b *end) {
	a.t.Helper()
	if up := next[linkstate.StreamUp](a); up.Link != key(b.node) || up.Observer {
		a.t.Fatalf("up %+v", up)
	}
	a.say(b.node, a.hello())
	next[linkstate.StreamUp](b)
	if h, ok := next[linkstate.Received](b).Message.(*linkstate.Hello); !ok || h.Node != a.node {
		a.t.Fatalf("first message is %+v", h)
	}
	b.say(a.node, b.hello())
	next[linkstate.Received](a)
}

func TestMessagesArriveInOrderBothWays(t *testing.T) {
	a, b := pair(t)
	for i := range uint64(500) {
		a.say("b", &linkstate.LSAck{Seq: i})
		b.say("a", &linkstate.LSAck{Seq: i})
	}
	for i := range uint64(500) {
		for _, e := range []*end{a, b} {
			if m := next[linkstate.Received](e).Message; m.(*linkstate.LSAck).Seq != i {
				t.Fatalf("%s got %+v, want %d", e.node, m, i)
			}
		}
	}
}

// Between a stream's coming up and our hello, the core can only have sent what
// it meant for the stream before.
func TestNothingIsSentBeforeTheHello(t *testing.T) {
	a, b := start(t, "a"), start(t, "b")
	b.SetLinks([]Link{{Key: key("a")}})
	a.SetLinks([]Link{{Key: key("b"), Address: b.addr}})
	next[linkstate.StreamUp](a)
	a.say("b", &linkstate.LSAck{Seq: 99}, a.hello(), &linkstate.LSAck{Seq: 1})
	next[linkstate.StreamUp](b)
	if _, ok := next[linkstate.Received](b).Message.(*linkstate.Hello); !ok {
		t.Fatal("first message is no hello")
	}
	if m := next[linkstate.Received](b).Message.(*linkstate.LSAck); m.Seq != 1 {
		t.Fatalf("got %+v", m)
	}
}

// Something else has shown that the neighbour is back: its first answer to a
// probe. Without it, a link among many would be dialled seconds later.
func TestRedialEndsTheWait(t *testing.T) {
	p := New(Config{})
	for i := range 5000 { // others that wait, for 10 s each
		p.waiting[target{address: fmt.Sprint(i)}] = nil
	}
	link := target{key: linkstate.LinkKey{Remote: "sr-2", ID: "0"}, address: "127.0.0.1:1"}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.pause(ctx, link, time.Millisecond)
	}()
	for waits := false; !waits; { // it is not known when pause has begun
		p.mu.Lock()
		waits = p.waiting[link] != nil
		p.mu.Unlock()
	}
	p.Redial(linkstate.LinkKey{Remote: "sr-1", ID: "0"}) // another one
	select {
	case <-done:
		t.Fatal("one of 5000 links is dialled again after a millisecond, or by the word for another one")
	case <-time.After(20 * time.Millisecond):
	}
	p.Redial(link.key)
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("Redial did not end the wait")
	}
	if p.waiting[link] != nil {
		t.Error("the link still waits")
	}
}

func TestResetDialsAnew(t *testing.T) {
	for _, resets := range []string{"a", "b"} {
		t.Run("by "+resets, func(t *testing.T) {
			a, b := pair(t)
			if resets == "a" {
				a.Reset([]linkstate.LinkKey{key("b")})
			} else {
				b.Reset([]linkstate.LinkKey{key("a")})
			}
			next[linkstate.StreamDown](a)
			next[linkstate.StreamDown](b)
			introduce(a, b)
		})
	}
}

func TestRemovedLinkGoesDown(t *testing.T) {
	a, b := pair(t)
	a.SetLinks(nil)
	next[linkstate.StreamDown](a)
	next[linkstate.StreamDown](b)
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.sessions) != 0 {
		t.Errorf("still up: %v", a.sessions)
	}
}

func TestObserverNeedsNoLink(t *testing.T) {
	sg, center := start(t, "sg-1"), start(t, "center")
	center.Observe([]string{sg.addr})
	up := next[linkstate.StreamUp](center)
	if up.Link != (linkstate.LinkKey{Remote: "sg-1", ID: ObserverLink}) || up.Observer {
		t.Fatalf("up %+v", up)
	}
	h := center.hello()
	h.Role, h.Link = dmsc.RoleObserver, up.Link.ID
	center.Send([]linkstate.Envelope{{Link: up.Link, Message: h}})
	up = next[linkstate.StreamUp](sg)
	if up.Link != (linkstate.LinkKey{Remote: "center", ID: ObserverLink}) || !up.Observer {
		t.Fatalf("up %+v", up)
	}
	next[linkstate.Received](sg)
	center.Observe(nil)
	next[linkstate.StreamDown](sg)
	next[linkstate.StreamDown](center)
}

func TestAddressOfAnotherNodeNeverComesUp(t *testing.T) {
	a, b, c := start(t, "a"), start(t, "b"), start(t, "c")
	c.SetLinks([]Link{{Key: key("a")}})
	a.SetLinks([]Link{{Key: key("b"), Address: c.addr}})
	b.SetLinks([]Link{{Key: key("a")}})
	a.SetLinks([]Link{{Key: key("b"), Address: b.addr}}) // corrected
	introduce(a, b)
	if len(c.events) != 0 {
		t.Errorf("c heard of it: %#v", <-c.events)
	}
}

// stranger is a client that says what no Peers would.
func stranger(t *testing.T, e *end) dmscv1.LinkStateService_PeerClient {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+e.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	stream, err := dmscv1.NewLinkStateServiceClient(conn).Peer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

func sayRaw(t *testing.T, stream dmscv1.LinkStateService_PeerClient, m *dmscv1.PeerMessage) {
	t.Helper()
	if err := stream.Send(&dmscv1.PeerRequest{Message: m}); err != nil {
		t.Fatal(err)
	}
}

func TestStrangersAreRefused(t *testing.T) {
	b := start(t, "b")
	b.SetLinks([]Link{{Key: key("a")}})
	for name, c := range map[string]struct {
		hello func(*linkstate.Hello)
		code  codes.Code
		words string
	}{
		"another domain":          {func(h *linkstate.Hello) { h.Domain = "prod" }, codes.PermissionDenied, `domain "prod"`},
		"unknown link":            {func(h *linkstate.Hello) { h.Link = "7" }, codes.PermissionDenied, "not configured"},
		"unknown node":            {func(h *linkstate.Hello) { h.Node = "aa" }, codes.PermissionDenied, "not configured"},
		"wrong side dials":        {func(h *linkstate.Hello) { h.Node = "c" }, codes.PermissionDenied, "dialled by b"},
		"our own name":            {func(h *linkstate.Hello) { h.Node = "b" }, codes.PermissionDenied, "name of this node"},
		"observer on a link":      {func(h *linkstate.Hello) { h.Role = dmsc.RoleObserver }, codes.PermissionDenied, "no observer's"},
		"malformed hello":         {func(h *linkstate.Hello) { h.Session = 0 }, codes.InvalidArgument, "session"},
		"name for an address":     {func(h *linkstate.Hello) { h.Fabric = "envoy:15901" }, codes.InvalidArgument, "IP:port"},
		"something else at first": {nil, codes.InvalidArgument, "no hello"},
	} {
		t.Run(name, func(t *testing.T) {
			stream := stranger(t, b)
			var first linkstate.Message = &linkstate.LSAck{}
			if c.hello != nil {
				h := &linkstate.Hello{Domain: "lab", Node: "a", Role: dmsc.RoleSR, Link: "0", Session: 1}
				c.hello(h)
				first = h
			}
			sayRaw(t, stream, encodeMessage(first))
			_, err := stream.Recv()
			if s, _ := status.FromError(err); s.Code() != c.code || !strings.Contains(s.Message(), c.words) {
				t.Errorf("got %v, want %v with %q", err, c.code, c.words)
			}
		})
	}
	if len(b.events) != 0 {
		t.Errorf("the core heard of it: %#v", <-b.events)
	}
	if n := b.Stats().Refused; n != 9 {
		t.Errorf("%d refused, want 9", n)
	}
}

func TestWhatIsNotUnderstoodLeavesTheAdjacency(t *testing.T) {
	b := start(t, "b")
	b.SetLinks([]Link{{Key: key("a")}})
	stream := stranger(t, b)
	hello := &linkstate.Hello{Domain: "lab", Node: "a", Role: dmsc.RoleSR, Link: "0", Session: 1}
	sayRaw(t, stream, encodeMessage(hello))
	next[linkstate.StreamUp](b)
	next[linkstate.Received](b)

	malformed, nameless := record("a", 0, &linkstate.NodeLSA{Role: dmsc.RoleSG}), record("A", 0, nil)
	malformed.Body = []byte{0xff}
	unknown := record("a", 1, nil)
	unknown.Type, unknown.Body = 77, []byte("future")
	another := *hello
	another.Node = "aa"
	sayRaw(t, stream, &dmscv1.PeerMessage{}) // a kind of the future reads as none
	sayRaw(t, stream, encodeMessage(&another))
	sayRaw(t, stream, encodeMessage(&linkstate.LSUpdate{Seq: 1, Records: []*linkstate.LSA{malformed, nameless, unknown}}))

	u := next[linkstate.Received](b).Message.(*linkstate.LSUpdate)
	if u.Seq != 1 || len(u.Records) != 2 || u.Records[0].Content != nil || u.Records[0].Body[0] != 0xff ||
		u.Records[1].Type != 77 || u.Records[1].Content != nil || string(u.Records[1].Body) != "future" {
		t.Errorf("got %+v", u)
	}
	want := Stats{Sessions: 1, UnknownMessages: 1, MalformedMessages: 1, MalformedRecords: 2}
	if got := b.Stats(); got != want {
		t.Errorf("stats %+v, want %+v", got, want)
	}
}

func TestOversizedMessageCostsOneStreamOnly(t *testing.T) {
	a, b := pair(t)
	huge := record("a", 0, nil)
	huge.Type, huge.Body = 77, make([]byte, MaxMessage)
	a.say("b", &linkstate.LSUpdate{Seq: 1, Records: []*linkstate.LSA{huge}})
	next[linkstate.StreamDown](b)
	next[linkstate.StreamDown](a)
	introduce(a, b)
	if n := b.Stats().OversizedMessages; n != 1 {
		t.Errorf("%d counted, want 1", n)
	}
}

func TestSecondStreamReplacesTheFirst(t *testing.T) {
	b := start(t, "b")
	b.SetLinks([]Link{{Key: key("a")}})
	hello := encodeMessage(&linkstate.Hello{Domain: "lab", Node: "a", Role: dmsc.RoleSR, Link: "0", Session: 1})
	first, second := stranger(t, b), stranger(t, b)
	sayRaw(t, first, hello)
	next[linkstate.StreamUp](b)
	next[linkstate.Received](b)
	sayRaw(t, second, hello)
	next[linkstate.StreamDown](b)
	next[linkstate.StreamUp](b)
	next[linkstate.Received](b)
	if _, err := first.Recv(); status.Code(err) != codes.Aborted {
		t.Errorf("first stream ended with %v", err)
	}
	b.say("a", b.hello())
	if r, err := second.Recv(); err != nil || r.GetMessage().GetHello().GetNode() != "b" {
		t.Errorf("second stream got %v, %v", r, err)
	}
}

// A neighbour that reads nothing fills its own outbox and nobody else's, and
// Send never waits for it.
func TestSlowNeighbourDelaysNobody(t *testing.T) {
	a := start(t, "a", func(c *Config) { c.Outbox = 64 })
	release := make(chan struct{})
	b := start(t, "b", func(c *Config) {
		deliver := c.Deliver
		c.Deliver = func(ev linkstate.Event) {
			if r, ok := ev.(linkstate.Received); ok {
				if _, ok := r.Message.(*linkstate.LSUpdate); ok {
					<-release
				}
			}
			deliver(ev)
		}
	})
	c := start(t, "c")
	t.Cleanup(func() { close(release) }) // runs first
	b.SetLinks([]Link{{Key: key("a")}})
	c.SetLinks([]Link{{Key: key("a")}})
	a.SetLinks([]Link{{Key: key("b"), Address: b.addr}})
	introduce(a, b)
	a.SetLinks([]Link{{Key: key("b"), Address: b.addr}, {Key: key("c"), Address: c.addr}})
	introduce(a, c)

	bulk := record("a", 0, nil)
	bulk.Type, bulk.Body = 77, make([]byte, 60<<10)
	sent := 0
	for a.Stats().Overflows == 0 {
		if sent++; sent > 10_000 {
			t.Fatal("the outbox never filled")
		}
		a.say("b", &linkstate.LSUpdate{Seq: uint64(sent), Records: []*linkstate.LSA{bulk}})
	}
	a.say("c", &linkstate.LSAck{Seq: 42})
	if m := next[linkstate.Received](c).Message.(*linkstate.LSAck); m.Seq != 42 {
		t.Errorf("c got %+v", m)
	}
	if down := next[linkstate.StreamDown](a); down.Link != key("b") {
		t.Errorf("down %+v", down)
	}
}

// neighbourProcess is node "a", which dials the test's node "b", in a process
// that can be killed.
func neighbourProcess(addr string) {
	var p *Peers
	p = New(Config{Log: slog.New(slog.DiscardHandler), Node: "a", Domain: "lab", Deliver: func(ev linkstate.Event) {
		if _, ok := ev.(linkstate.StreamUp); ok {
			p.Send([]linkstate.Envelope{{Link: key("b"), Message: &linkstate.Hello{Domain: "lab", Node: "a", Role: dmsc.RoleSR, Link: "0", Session: 1}}})
		}
	}})
	p.SetLinks([]Link{{Key: key("b"), Address: addr}})
	go func() { _ = p.Run(context.Background()) }()
	_, _ = io.Copy(io.Discard, os.Stdin) // ends with the test
}

func TestKilledNeighbourIsNoticedAtOnce(t *testing.T) {
	b := start(t, "b")
	b.SetLinks([]Link{{Key: key("a")}})
	var worst time.Duration
	for range 5 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "PEERING_TEST_NODE="+b.addr)
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		next[linkstate.StreamUp](b)
		next[linkstate.Received](b)
		killed := time.Now()
		_ = cmd.Process.Kill()
		next[linkstate.StreamDown](b)
		worst = max(worst, time.Since(killed))
		_ = stdin.Close()
		_ = cmd.Wait()
	}
	t.Logf("worst of 5: SIGKILL to StreamDown %v", worst)
	if worst > 500*time.Millisecond { // 1–3 ms on an idle machine
		t.Errorf("took %v", worst)
	}
}

func TestRunReportsEveryStreamDownBeforeItReturns(t *testing.T) {
	events := make(chan linkstate.Event, 100)
	center := New(Config{Log: slog.New(slog.DiscardHandler), Node: "center", Domain: "lab", Deliver: func(ev linkstate.Event) { events <- ev }})
	var addresses []string
	for i := range 5 {
		addresses = append(addresses, start(t, dmsc.NodeID(fmt.Sprintf("sg-%d", i))).addr)
	}
	center.Observe(addresses)
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan struct{})
	go func() { _ = center.Run(ctx); close(stopped) }()
	for range addresses {
		if _, ok := (<-events).(linkstate.StreamUp); !ok {
			t.Fatal("something before the StreamUp")
		}
	}
	cancel()
	<-stopped
	close(events)
	down := 0
	for ev := range events {
		if _, ok := ev.(linkstate.StreamDown); ok {
			down++
		}
	}
	if down != len(addresses) {
		t.Errorf("%d streams reported down, want %d", down, len(addresses))
	}
}

func TestNothingOfALaterStreamComesBeforeTheStreamDown(t *testing.T) {
	early := make(chan struct{}, 1)
	var down sync.Mutex // held while a StreamDown is being delivered
	a := start(t, "a")
	b := start(t, "b", func(c *Config) {
		deliver := c.Deliver
		c.Deliver = func(ev linkstate.Event) {
			switch ev.(type) {
			case linkstate.StreamDown:
				down.Lock()
				defer down.Unlock()
				select { // the loop is busy, and meanwhile the neighbour dials again
				case <-early:
					t.Error("the next StreamUp came before the StreamDown")
				case <-time.After(100 * time.Millisecond):
				}
			case linkstate.StreamUp:
				if !down.TryLock() {
					early <- struct{}{}
				} else {
					down.Unlock()
				}
			}
			deliver(ev)
		}
	})
	b.SetLinks([]Link{{Key: key("a")}})
	a.SetLinks([]Link{{Key: key("b"), Address: b.addr}})
	introduce(a, b)
	a.Reset([]linkstate.LinkKey{key("b")})
	next[linkstate.StreamDown](a)
	next[linkstate.StreamUp](a)
	a.say("b", a.hello())
	next[linkstate.StreamDown](b)
	next[linkstate.StreamUp](b)
	next[linkstate.Received](b)
}
