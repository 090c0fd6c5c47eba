package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/topology"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/peering"
)

// The nodes of the benchmark of a full sync.
const (
	fresh  dmsc.NodeID = "fresh"  // the real process; it dials, for its name is lower
	holder dmsc.NodeID = "holder" // its neighbour, which has the database
	beyond dmsc.NodeID = "n00000" // the corner of the grid behind the holder
)

const benchDomain = "bench"

// grid is the network behind the holder: nodes in a square, each with its own
// prefixes and links to the right and below.
func grid(nodes, prefixes int) *topology.Topology {
	t := &topology.Topology{Name: "grid"}
	name := func(i int) dmsc.NodeID { return dmsc.NodeID(fmt.Sprintf("n%05d", i)) }
	side := 1
	for side*side < nodes {
		side++
	}
	link := func(a, b dmsc.NodeID) {
		t.Links = append(t.Links, topology.Link{A: a, B: b, ID: "0", Metric: 10, ReverseMetric: 10})
	}
	link(beyond, holder)
	for i := range nodes {
		t.Nodes = append(t.Nodes, topology.Node{ID: name(i), Role: dmsc.RoleSR, Transit: true})
		if i%side < side-1 && i+1 < nodes {
			link(name(i), name(i+1))
		}
		if i+side < nodes {
			link(name(i), name(i+side))
		}
		pod := topology.Pod{Name: string(name(i)), Gateway: name(i)}
		for p := range prefixes {
			prefix := dmsc.MustParsePrefix(fmt.Sprintf("f%d/%05d", p, i))
			pod.Services = append(pod.Services, topology.Service{Prefix: prefix, Weight: 1})
		}
		t.Pods = append(t.Pods, pod)
	}
	return t
}

// records are what such a network floods.
func records(t *topology.Topology) (out []*linkstate.LSA) {
	until := time.Now().Add(linkstate.MaxLifetime - time.Minute)
	for r := range t.View(beyond).Records.All() {
		l := *r
		l.Body, l.NotAfter = peering.Encode(l.Content), until
		out = append(out, &l)
	}
	return out
}

// database is a node with a full database: the engine and the streams of any
// node, with a data path that is said to be alive. What it knows it has heard
// from a neighbour that is not there.
type database struct {
	core   *linkstate.Instance
	peers  *peering.Peers
	events chan linkstate.Event
	seq    uint64 // of the updates from beyond
}

func keyOf(node dmsc.NodeID) linkstate.LinkKey { return linkstate.LinkKey{Remote: node, ID: "0"} }

// hold fills a database. fabric is the holder's data address.
func hold(known []*linkstate.LSA, fabric string) (*database, error) {
	now := time.Now()
	core, err := linkstate.New(linkstate.Config{
		Node: holder, Domain: benchDomain, Role: dmsc.RoleSR, Transit: true, Incarnation: 1, Encode: peering.Encode, Seed: 1,
	}, now)
	if err != nil {
		return nil, err
	}
	d := &database{core: core, events: make(chan linkstate.Event, 1024)}
	core.Step(now, linkstate.SetLinks{Links: []linkstate.LinkConfig{
		{LinkKey: keyOf(fresh), Metric: 10, Fabric: fabric}, {LinkKey: keyOf(beyond), Metric: 10},
	}})
	core.Step(now, linkstate.StreamUp{Link: keyOf(beyond)})
	d.turn()
	const some = 1000 // records in one update
	for len(known) > 0 {
		n := min(some, len(known))
		d.hear(&linkstate.LSUpdate{Seq: d.next(), Records: known[:n]})
		known = known[n:]
	}
	d.hear(&linkstate.Digest{Sums: make([]uint64, linkstate.Ranges), Synced: true})
	core.Step(now, linkstate.Probed{Link: keyOf(beyond), OK: true, Peer: beyond, RTT: time.Millisecond})
	d.turn()
	for _, a := range core.View().Adjacencies {
		if a.Remote == beyond && a.State != linkstate.StateFull {
			return nil, fmt.Errorf("the database cannot be filled: its link is %s", a.State)
		}
	}
	return d, nil
}

func (d *database) next() uint64 { d.seq++; return d.seq }

func (d *database) hear(m linkstate.Message) {
	d.core.Step(time.Now(), linkstate.Received{Link: keyOf(beyond), Message: m})
	d.turn()
}

// turn carries out what the engine wants, and answers for beyond.
func (d *database) turn() {
	for {
		rd := d.core.Ready()
		var out []linkstate.Envelope
		for _, m := range rd.Messages {
			if m.Link != keyOf(beyond) {
				out = append(out, m)
				continue
			}
			switch m := m.Message.(type) {
			case *linkstate.Hello:
				d.step(beyond, &linkstate.Hello{
					Domain: benchDomain, Node: beyond, Role: dmsc.RoleSR, Link: "0", Algorithm: linkstate.AlgorithmIGP,
					Session: 1, Seen: m.Session, Incarnation: 1, Fabric: "127.0.0.1:1", DataPlane: true, Class: m.Class,
				})
			case *linkstate.LSUpdate:
				d.step(beyond, &linkstate.LSAck{Seq: m.Seq})
			}
		}
		if d.peers != nil {
			d.peers.Send(out)
		}
		for _, k := range rd.Probe {
			d.core.Step(time.Now(), linkstate.Probed{Link: k, OK: true, Peer: k.Remote, RTT: time.Millisecond})
		}
		if len(rd.Messages) == 0 && len(rd.Probe) == 0 {
			return
		}
	}
}

func (d *database) step(from dmsc.NodeID, m linkstate.Message) {
	d.core.Step(time.Now(), linkstate.Received{Link: keyOf(from), Message: m})
}

// serve lets the fresh node in, at l, until ctx ends.
func (d *database) serve(ctx context.Context, l net.Listener) error {
	d.peers = peering.New(peering.Config{
		Log: slog.New(slog.DiscardHandler), Node: holder, Domain: benchDomain,
		Deliver: func(ev linkstate.Event) {
			select {
			case d.events <- ev:
			case <-ctx.Done():
			}
		},
	})
	d.peers.SetLinks([]peering.Link{{Key: keyOf(fresh)}})
	server := grpc.NewServer(peering.ServerOptions()...)
	d.peers.Register(server)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.peers.Run(ctx) })
	g.Go(func() error {
		if err := server.Serve(l); err != nil && ctx.Err() == nil {
			return err
		}
		return nil
	})
	g.Go(func() error {
		defer server.Stop()
		for {
			select {
			case ev := <-d.events:
				d.core.Step(time.Now(), ev)
			case <-time.After(time.Until(d.core.Deadline())):
				d.core.Tick(time.Now())
			case <-ctx.Done():
				return nil
			}
			d.turn()
		}
	})
	return g.Wait()
}

// answering serves what a probe asks of an Envoy, and a load of a pod: who it is.
func answering(ctx context.Context, l net.Listener, who func(*http.Request) dmsc.NodeID) error {
	server := &http.Server{
		Protocols: new(http.Protocols), ReadHeaderTimeout: time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			id := string(who(r))
			w.Header().Set("dmsc-node", id)
			w.Header().Set("x-echo-pod", id)
		}),
	}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// standIn is what an Envoy beside the fresh node would answer.
func standIn(r *http.Request) dmsc.NodeID {
	if strings.HasPrefix(r.URL.Path, "/"+string(holder)) {
		return holder
	}
	return fresh
}
