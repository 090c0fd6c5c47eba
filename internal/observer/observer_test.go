package observer_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/lab"
	"github.com/dmsc-mesh/dmsc/internal/observer"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/peering"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// single is a node without neighbours that announces prefixes and can be
// observed.
type single struct {
	events chan linkstate.Event
	stop   func()
}

func start(t *testing.T, id dmsc.NodeID, address string, incarnation uint64) *single {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	instance, err := linkstate.New(linkstate.Config{
		Node: id, Domain: "test", Role: dmsc.RoleSG, Incarnation: incarnation, Encode: peering.Encode, Seed: 1,
	}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n := &single{events: make(chan linkstate.Event, 64)}
	peers := peering.New(peering.Config{Log: log, Node: id, Domain: "test", Deliver: func(ev linkstate.Event) {
		select {
		case n.events <- ev:
		case <-ctx.Done():
		}
	}})
	g := grpc.NewServer(append(peering.ServerOptions(), grpc.WaitForHandlers(true))...)
	peers.Register(g)
	var running sync.WaitGroup
	running.Go(func() { _ = g.Serve(l) }) // ends with Stop
	running.Go(func() { _ = peers.Run(ctx) })
	running.Go(func() {
		timer := time.NewTimer(0)
		defer timer.Stop()
		for {
			select {
			case ev := <-n.events:
				instance.Step(time.Now(), ev)
			case <-timer.C:
			case <-ctx.Done():
				return
			}
			instance.Tick(time.Now())
			rd := instance.Ready()
			peers.Send(rd.Messages)
			peers.Reset(rd.Reset)
			if d := instance.Deadline(); !d.IsZero() {
				timer.Reset(max(time.Until(d), 0))
			}
		}
	})
	n.stop = sync.OnceFunc(func() {
		cancel()
		g.Stop()
		running.Wait()
	})
	t.Cleanup(n.stop)
	return n
}

func (n *single) announce(prefixes ...string) {
	ev := linkstate.SetPrefixes{}
	for _, p := range prefixes {
		ev.Prefixes = append(ev.Prefixes, linkstate.Prefix{Prefix: dmsc.MustParsePrefix(p), Weight: 1})
	}
	n.events <- ev
}

// observe returns the views of an observer until the test ends.
func observe(t *testing.T, addresses ...string) <-chan *linkstate.View {
	t.Helper()
	views := make(chan *linkstate.View, 1024)
	o, err := observer.New(observer.Config{
		Node: "scsc", Domain: "test", Addresses: addresses, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		OnView: func(v *linkstate.View) { views <- v },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- o.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run returns %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("Run goes on")
		}
	})
	return views
}

// until reads views until one has these prefixes, "node prefix".
func until(t *testing.T, views <-chan *linkstate.View, want ...string) {
	t.Helper()
	timeout := time.After(10 * time.Second)
	last := "no view came"
	for {
		select {
		case v := <-views:
			var got []string
			for r := range v.Records.All() {
				if p, ok := r.Content.(*linkstate.PrefixLSA); ok {
					for _, e := range p.Prefixes {
						got = append(got, fmt.Sprintf("%s %s", r.Key.Origin, e.Prefix))
					}
				}
			}
			slices.Sort(got)
			if slices.Equal(got, want) {
				return
			}
			last = fmt.Sprintf("the last view has %q", got)
		case <-timeout:
			t.Fatalf("want a view with %q: %s", want, last)
		}
	}
}

func address(t *testing.T) string {
	t.Helper()
	p, err := lab.HoldPort()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p.Addr()
}

func TestEveryChangeArrivesAsAView(t *testing.T) {
	at := address(t)
	n := start(t, "sg-1", at, 1)
	n.announce("a/1")
	views := observe(t, at)
	until(t, views, "sg-1 a/1")
	n.announce("a/1", "b/1")
	until(t, views, "sg-1 a/1", "sg-1 b/1")
	n.announce("b/1")
	until(t, views, "sg-1 b/1")
}

// Which node answers at an address only its stream tells, and it may be another
// one next time.
func TestWhatIsLostIsKeptAndWhatComesBackIsTakenIn(t *testing.T) {
	at1, at2 := address(t), address(t)
	views := observe(t, at1, at2) // before anybody is there
	first := start(t, "sg-1", at1, 1)
	first.announce("a/1")
	until(t, views, "sg-1 a/1")
	first.stop()
	second := start(t, "sg-2", at2, 1)
	second.announce("b/1")
	until(t, views, "sg-1 a/1", "sg-2 b/1") // a record lives as long as it lives
	again := start(t, "sg-1", at1, 2)
	again.announce("a/1", "c/1")
	until(t, views, "sg-1 a/1", "sg-1 c/1", "sg-2 b/1")
}

func TestABadNameIsSaid(t *testing.T) {
	_, err := observer.New(observer.Config{Node: "No Name", Domain: "test", Log: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.HasPrefix(err.Error(), "observe: link state of node") {
		t.Errorf("New returns %v", err)
	}
}
