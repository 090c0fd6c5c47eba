// Package observer joins a flooding domain as a receive-only member: it holds
// the same link-state database as the nodes and originates nothing. The SCSC
// sees the network through it (design §8).
//
//	o, err := observer.New(observer.Config{Node: "scsc", Domain: "lab", Addresses: addrs, OnView: server.UpdateLSDB})
//	err = o.Run(ctx)
//
// With two or more addresses the view survives the loss of a node.
package observer

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/peering"
)

// Config says whom to observe.
type Config struct {
	Node      dmsc.NodeID // of the observer itself
	Domain    string
	Addresses []string // peering listeners, host:port
	// OnView gets the database whenever its topology or prefixes have changed.
	// It is called on the loop and must not block.
	OnView func(*linkstate.View)
	Log    *slog.Logger
}

// Observer is one observer.
type Observer struct {
	cfg      Config
	peers    *peering.Peers
	events   chan linkstate.Event
	done     chan struct{}
	instance *linkstate.Instance
	links    []linkstate.LinkConfig // met so far
}

// New returns an Observer that dials nobody yet.
func New(cfg Config) (*Observer, error) {
	now := time.Now()
	instance, err := linkstate.New(linkstate.Config{
		Node: cfg.Node, Domain: cfg.Domain, Role: dmsc.RoleObserver,
		Incarnation: uint64(max(now.Unix(), 1)), Encode: peering.Encode, Seed: uint64(now.UnixNano()),
	}, now)
	if err != nil {
		return nil, fmt.Errorf("observe: %w", err)
	}
	o := &Observer{cfg: cfg, events: make(chan linkstate.Event, 64), done: make(chan struct{}), instance: instance}
	o.peers = peering.New(peering.Config{Log: cfg.Log, Node: cfg.Node, Domain: cfg.Domain, Deliver: func(ev linkstate.Event) {
		select {
		case o.events <- ev:
		case <-o.done:
		}
	}})
	o.peers.Observe(cfg.Addresses)
	return o, nil
}

// Run observes until ctx ends.
func (o *Observer) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return o.peers.Run(ctx) })
	g.Go(func() error {
		defer close(o.done)
		timer := time.NewTimer(0)
		defer timer.Stop()
		for {
			select {
			case ev := <-o.events:
				o.step(ev)
				// A view for all that came in meanwhile: a full database arrives in
				// hundreds of messages.
				for range len(o.events) {
					o.step(<-o.events)
				}
			case <-timer.C:
			case <-ctx.Done():
				return nil
			}
			now := time.Now()
			o.instance.Tick(now)
			o.carryOut(o.instance.Ready())
			if d := o.instance.Deadline(); !d.IsZero() {
				timer.Reset(max(d.Sub(now), 0))
			}
		}
	})
	return g.Wait()
}

// step takes an event in. A node answers under a name that only its stream
// tells, so its link is configured when it is met.
func (o *Observer) step(ev linkstate.Event) {
	now := time.Now()
	if up, ok := ev.(linkstate.StreamUp); ok && !slices.ContainsFunc(o.links, func(l linkstate.LinkConfig) bool { return l.LinkKey == up.Link }) {
		o.links = append(o.links, linkstate.LinkConfig{LinkKey: up.Link, Metric: 1})
		o.instance.Step(now, linkstate.SetLinks{Links: slices.Clone(o.links)})
	}
	o.instance.Step(now, ev)
}

func (o *Observer) carryOut(rd linkstate.Ready) {
	o.peers.Send(rd.Messages)
	o.peers.Reset(rd.Reset)
	for _, a := range rd.Alarms {
		o.cfg.Log.Warn("alarm", "code", a.Code, "err", a.Text)
	}
	if rd.Changed&(linkstate.ChangedTopology|linkstate.ChangedPrefixes) != 0 {
		o.cfg.OnView(o.instance.View())
	}
}
