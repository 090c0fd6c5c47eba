package peering

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

// speaker is a node with the real core on its loop; its data paths are always
// alive.
type speaker struct {
	peers  *Peers
	events chan linkstate.Event
	view   atomic.Pointer[linkstate.View]
	addr   string
}

func speak(t *testing.T, node dmsc.NodeID, role dmsc.Role, links ...linkstate.LinkConfig) *speaker {
	t.Helper()
	s := &speaker{events: make(chan linkstate.Event, 100)}
	ctx, cancel := context.WithCancel(context.Background())
	log := slog.New(slog.NewTextHandler(t.Output(), nil)).With("node", node)
	s.peers = New(Config{Log: log, Node: node, Domain: "lab", Deliver: func(ev linkstate.Event) {
		select {
		case s.events <- ev:
		case <-ctx.Done():
		}
	}})
	core, err := linkstate.New(linkstate.Config{Node: node, Domain: "lab", Role: role, Incarnation: 1, Encode: Encode, Seed: 1}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	server := grpc.NewServer(ServerOptions()...)
	s.peers.Register(server)
	var running sync.WaitGroup
	running.Go(func() { _ = server.Serve(l) })
	running.Go(func() { _ = s.peers.Run(ctx) })
	core.Step(time.Now(), linkstate.SetLinks{Links: links})
	running.Go(func() {
		for {
			s.turn(core, log)
			select {
			case ev := <-s.events:
				if up, ok := ev.(linkstate.StreamUp); ok && role == dmsc.RoleObserver {
					links = append(links, linkstate.LinkConfig{LinkKey: up.Link, Metric: 1})
					core.Step(time.Now(), linkstate.SetLinks{Links: links})
				}
				core.Step(time.Now(), ev)
			case <-time.After(time.Until(core.Deadline())):
				core.Tick(time.Now())
			case <-ctx.Done():
				return
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		server.Stop()
		running.Wait()
	})
	return s
}

func (s *speaker) turn(core *linkstate.Instance, log *slog.Logger) {
	for {
		ready := core.Ready()
		s.peers.Send(ready.Messages)
		s.peers.Reset(ready.Reset)
		for _, a := range ready.Alarms {
			log.Warn("alarm", "code", a.Code, "text", a.Text)
		}
		s.view.Store(core.View())
		if len(ready.Probe) == 0 {
			return
		}
		for _, k := range ready.Probe {
			core.Step(time.Now(), linkstate.Probed{Link: k, OK: true, Peer: k.Remote, RTT: time.Millisecond})
		}
	}
}

// await polls the published view, as any reader of a node does.
func (s *speaker) await(t *testing.T, what string, ok func(*linkstate.View) bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if v := s.view.Load(); v != nil && ok(v) {
			return
		}
	}
	v := s.view.Load()
	for _, a := range v.Adjacencies {
		t.Logf("%v %v since %v", a, a.State, a.Since)
	}
	for r := range v.Records.All() {
		t.Logf("%+v: %+v", r.Key, r.Content)
	}
	t.Fatalf("%s never came: %+v", what, v)
}

func TestTwoCoresAndAnObserverAgreeOverTheWire(t *testing.T) {
	link := func(remote dmsc.NodeID) linkstate.LinkConfig {
		return linkstate.LinkConfig{LinkKey: key(remote), Metric: 10, Fabric: "127.0.0.1:15901"}
	}
	sg := speak(t, "sg-1", dmsc.RoleSG, link("sr-1"))
	sr := speak(t, "sr-1", dmsc.RoleSR, link("sg-1"))
	center := speak(t, "center", dmsc.RoleObserver)
	sr.peers.SetLinks([]Link{{Key: key("sg-1")}})
	sg.peers.SetLinks([]Link{{Key: key("sr-1"), Address: sr.addr}})
	center.peers.Observe([]string{sg.addr, sr.addr})
	sg.events <- linkstate.SetPrefixes{Prefixes: []linkstate.Prefix{{Prefix: dmsc.MustParsePrefix("a/1"), Protocol: dmsc.GRPC}}}

	complete := func(v *linkstate.View) bool {
		links, prefixes := 0, 0
		for r := range v.Records.All() {
			switch c := r.Content.(type) {
			case *linkstate.NodeLSA:
				links += len(c.Links)
			case *linkstate.PrefixLSA:
				prefixes += len(c.Prefixes)
			}
		}
		return links == 2 && prefixes == 1
	}
	began := time.Now()
	for _, s := range []*speaker{sg, sr, center} {
		s.await(t, "the whole database", complete)
	}
	t.Logf("three databases equal after %v", time.Since(began))

	// The control stream alone is lost: the link is held, and comes back.
	full := map[*speaker]time.Time{}
	isFull := func(s *speaker) func(*linkstate.View) bool {
		return func(v *linkstate.View) bool {
			a := v.Adjacencies[len(v.Adjacencies)-1] // after the observer's
			if a.State != linkstate.StateFull || a.Since.Equal(full[s]) || !complete(v) {
				return false
			}
			full[s] = a.Since
			return true
		}
	}
	sg.await(t, "the adjacency", isFull(sg))
	sr.await(t, "the adjacency", isFull(sr))
	sg.peers.Reset([]linkstate.LinkKey{key("sr-1")})
	sg.await(t, "the adjacency anew", isFull(sg))
	sr.await(t, "the adjacency anew", isFull(sr))
}
