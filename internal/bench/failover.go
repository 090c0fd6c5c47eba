package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/lab"
	"github.com/dmsc-mesh/dmsc/internal/topology"
)

// FailoverOptions says under which load things are broken.
type FailoverOptions struct {
	Options
	RPS int
	// Watch is how long the load is watched after a fault, and after its end.
	Watch time.Duration
	// Only names the faults to make; nil means all.
	Only []string
}

// The classes of service, which are the columns: what may be sent twice, and
// what may not. Both names are of pods behind sg-4, and asked for at sg-1.
var classes = []struct{ name, prefix string }{{"replay_safe", "b/4"}, {"once", "a/4"}}

// The nodes of Figure 2 that take part.
const (
	entrance dmsc.NodeID = "sg-1"
	broken   dmsc.NodeID = "sr-2" // its next hop towards sg-4; sr-1 is the alternate
)

// outage is a fault and its end.
type outage struct {
	name, end string
	safe      bool // nothing that may be sent twice shall be lost
	all       bool // nothing at all shall be lost
	begin     func(context.Context, *lab.Network) error
	heal      func(context.Context, *lab.Network) error
}

var outages = []outage{
	{
		name: "SIGKILL of the next hop's Envoy and agent", end: "both are started again", safe: true,
		begin: func(_ context.Context, n *lab.Network) error { return n.KillNode(broken) },
		heal:  func(ctx context.Context, n *lab.Network) error { return n.StartNode(ctx, broken) },
	},
	{
		name: "SIGKILL of the next hop's Envoy", end: "it is started again", safe: true,
		begin: func(_ context.Context, n *lab.Network) error { return killed(n.Node(broken).Envoy.Process) },
		heal:  func(ctx context.Context, n *lab.Network) error { return n.StartNode(ctx, broken) },
	},
	{
		name: "SIGSTOP of the next hop's Envoy and agent", end: "SIGCONT of both", safe: true,
		begin: func(_ context.Context, n *lab.Network) error {
			return errors.Join(n.Node(broken).Envoy.Pause(), n.Node(broken).Agent.Pause())
		},
		heal: func(_ context.Context, n *lab.Network) error {
			return errors.Join(n.Node(broken).Envoy.Resume(), n.Node(broken).Agent.Resume())
		},
	},
	{
		name: "SIGSTOP of the next hop's Envoy", end: "SIGCONT of it", safe: true,
		begin: func(_ context.Context, n *lab.Network) error { return n.Node(broken).Envoy.Pause() },
		heal:  func(_ context.Context, n *lab.Network) error { return n.Node(broken).Envoy.Resume() },
	},
	{
		name: "SIGKILL of the next hop's agent", end: "the agent is started again", safe: true, all: true,
		begin: func(_ context.Context, n *lab.Network) error { return killed(n.Node(broken).Agent.Process) },
		heal:  func(ctx context.Context, n *lab.Network) error { return n.StartNode(ctx, broken) },
	},
	{
		name: "SIGKILL of all control processes", end: "all are started again", safe: true, all: true,
		begin: func(_ context.Context, n *lab.Network) error {
			var all []*lab.Process
			for _, d := range control(n) {
				all = append(all, d.Process)
			}
			return killed(all...)
		},
		heal: func(_ context.Context, n *lab.Network) (err error) {
			for _, d := range control(n) {
				err = errors.Join(err, n.StartDaemon(d))
			}
			return err
		},
	},
}

// control are the SPA, the SCSC and all agents.
func control(n *lab.Network) []*lab.Daemon {
	all := []*lab.Daemon{n.SPA, n.SCSC}
	for _, id := range n.IDs() {
		all = append(all, n.Node(id).Agent)
	}
	return all
}

// killed ends processes at once, and returns when they have ended.
func killed(processes ...*lab.Process) (err error) {
	for _, p := range processes {
		err = errors.Join(err, p.Kill())
	}
	for _, p := range processes {
		<-p.Done()
	}
	return err
}

// Failover breaks the network of the draft's Figure 2 under load, each time a
// fresh one, and counts what a client loses and what its gateway sent again: by
// fault, its end, and the class of the service.
func Failover(ctx context.Context, o FailoverOptions) (*Comparison, error) {
	c := &Comparison{}
	for _, f := range outages {
		c.events = append(c.events, f.name, "… "+f.name+": "+f.end)
	}
	return c, o.each(func(dir string) error {
		for i, f := range outages {
			for j, class := range classes {
				if o.Only != nil && !slices.Contains(o.Only, f.name) {
					continue
				}
				o.say("%s, %s", f.name, class.name)
				b := &failover{FailoverOptions: o, outage: f, class: class.name, prefix: class.prefix, result: c}
				if err := b.run(ctx, filepath.Join(dir, fmt.Sprintf("%d%d", i, j))); err != nil {
					return fmt.Errorf("%s, %s: %w", f.name, class.name, err)
				}
			}
		}
		return nil
	})
}

// failover is one outage under the load of one class.
type failover struct {
	FailoverOptions
	outage
	class, prefix string
	result        *Comparison
	net           *lab.Network
	load          *lab.Runner
}

func (b *failover) run(ctx context.Context, dir string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, startLimit+2*b.Watch+2*faultLimit)
	defer cancel()
	b.net, err = lab.Start(ctx, lab.Options{Topology: topology.Figure2(), Unrecorded: true, Dir: dir, Binary: b.Binary, Envoy: b.Envoy})
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	defer func() { err = errors.Join(err, b.net.Close()) }()
	if err := b.net.WaitConverged(ctx); err != nil {
		return err
	}
	b.load = lab.Load{Address: b.net.Node(entrance).Ingress, RPS: b.RPS, Header: http.Header{"Dmsc-Service-Prefix": {b.prefix}}}.Start()
	defer b.load.Stop()
	if err := b.calm(ctx); err != nil {
		return err
	}
	steps := []step{{event: b.name, do: b.begin}, {event: "… " + b.name + ": " + b.end, do: b.heal}}
	for i := range steps {
		if err := b.make(ctx, &steps[i]); err != nil {
			return err
		}
	}
	if err := b.net.WaitConverged(ctx); err != nil {
		return err
	}
	r := b.load.Stop()
	for _, s := range steps {
		b.record(s, r.Between(s.at.Add(-underway), s.until.Add(-underway)))
	}
	return nil
}

// step is the fault or its end.
type step struct {
	event     string
	do        func(context.Context, *lab.Network) error
	at, until time.Time
	retries   uint64
}

// underway is longer than a request takes when nothing is broken: those that
// were sent so long before a fault are counted with it.
const underway = 50 * time.Millisecond

// calm waits until half a second's requests have been answered well.
func (b *failover) calm(ctx context.Context) error {
	began := time.Now()
	return lab.Until(ctx, "the load does not run well", func(context.Context) error {
		got := b.load.Since(began)
		if len(got) < b.RPS/2+1 {
			return fmt.Errorf("%d answers", len(got))
		}
		for _, r := range got {
			if !r.OK() {
				began = r.End()
				return errors.New(r.String())
			}
		}
		return nil
	})
}

// make takes a step and lets the load run on for a while.
func (b *failover) make(ctx context.Context, s *step) error {
	before, err := b.retries(ctx)
	if err != nil {
		return err
	}
	s.at = time.Now()
	if err := s.do(ctx, b.net); err != nil {
		return err
	}
	select {
	case <-time.After(time.Until(s.at.Add(b.Watch))):
	case <-ctx.Done():
		return ctx.Err()
	}
	s.until = time.Now()
	after, err := b.retries(ctx)
	s.retries = after - before
	return err
}

func (b *failover) record(s step, r lab.Report) {
	const what = "lost requests"
	switch {
	case b.all:
		b.result.target(s.event, what, "", "", 0)
	case b.safe:
		b.result.target(s.event, what, "", classes[0].name, 0)
	}
	add := func(what, unit string, v float64) { b.result.add(s.event, what, unit, b.class, v) }
	add("requests", "", float64(r.Sent))
	add(what, "", float64(len(r.Lost)))
	add("longest gap between answers", "ms", milliseconds(r.Gap))
	add("slowest answer", "ms", milliseconds(r.Max))
	add("sent again by the ingress", "", float64(s.retries))
	for _, lost := range r.Lost[:min(3, len(r.Lost))] {
		b.say("  lost, sent %v after: %s", lost.Start.Sub(s.at).Round(time.Millisecond), lost)
	}
}

// retries is how often the Envoy of the entrance has sent a request again.
func (b *failover) retries(ctx context.Context) (n uint64, err error) {
	counters, err := b.net.Node(entrance).Envoy.Counters(ctx, `^cluster\..*upstream_rq_retry$`)
	for name, v := range counters {
		if strings.HasSuffix(name, ".upstream_rq_retry") {
			n += v
		}
	}
	return n, err
}
