package featuretests

import (
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/config"
	"github.com/dmsc-mesh/dmsc/internal/observer"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/scsc"
	"github.com/dmsc-mesh/dmsc/scsc/policy"
)

// centre is a real SCSC with its observer.
type centre struct {
	*scsc.Server
	stop func()

	mu     sync.Mutex
	events []scsc.Event
	view   *linkstate.View
}

// withSCSC gives a network that does not run yet an SCSC. It judges a/1
// by one limit: a delay of 20 ms one way.
func (n *network) withSCSC(ttl time.Duration, observe ...dmsc.NodeID) {
	n.t.Helper()
	n.scsc = &centre{}
	address := n.port()
	var seen []string
	for _, id := range observe {
		seen = append(seen, n.nodes[id].cfg.Listen.Peering)
	}
	for _, a := range n.nodes {
		a.cfg.SCSC = config.Centres{Addresses: []string{address}}
	}
	n.scsc.start(n, address, ttl, seen)
}

func (c *centre) start(n *network, address string, ttl time.Duration, seen []string) {
	n.t.Helper()
	var err error
	c.Server, err = scsc.NewServer(scsc.ServerConfig{
		Domain: "test", Logger: n.log, Step: 10 * time.Millisecond,
		Center: scsc.Config{Term: 1, TTL: ttl, WarmUp: -1, Interval: 200 * time.Millisecond, WatchInterval: 100 * time.Millisecond},
		Rules: []policy.QoSPolicy{{
			Name: "quick", Selector: dmsc.MustParsePrefix("a/1"), Trigger: policy.Trigger{Samples: 1, Of: 1}, HoldDown: time.Hour,
			Thresholds: policy.Thresholds{Delay: &policy.Limit[time.Duration]{Enter: 20 * time.Millisecond, Clear: 10 * time.Millisecond}},
		}},
		OnEvent: func(e scsc.Event) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.events = append(c.events, e)
		},
	})
	if err != nil {
		n.t.Fatal(err)
	}
	o, err := observer.New(observer.Config{Node: "scsc", Domain: "test", Addresses: seen, Log: n.log, OnView: func(v *linkstate.View) {
		c.mu.Lock()
		c.view = v
		c.mu.Unlock()
		c.UpdateLSDB(v)
	}})
	if err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, run := range []func(context.Context) error{c.Run, o.Run} {
		running.Go(func() {
			if err := run(ctx); err != nil {
				n.t.Error(err)
			}
		})
	}
	stop := serve(n.t, address, func(g *grpc.Server) { c.Register(g) })
	c.stop = sync.OnceFunc(func() {
		cancel()
		stop()
		running.Wait()
	})
	n.t.Cleanup(c.stop)
}

// happened reports whether the SCSC has seen an event of a kind at a node.
func (c *centre) happened(kind string, at dmsc.NodeID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.events, func(e scsc.Event) bool { return e.Kind == kind && e.Node == at })
}

// lsdb is the observer's database, nil before it has one.
func (c *centre) lsdb() *linkstate.View {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.view
}
