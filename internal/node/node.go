package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	dmscv1 "github.com/dmsc-mesh/dmsc/api/dmsc/v1"
	"github.com/dmsc-mesh/dmsc/internal/admin"
	"github.com/dmsc-mesh/dmsc/internal/config"
	"github.com/dmsc-mesh/dmsc/internal/measure"
	"github.com/dmsc-mesh/dmsc/internal/serve"
	"github.com/dmsc-mesh/dmsc/internal/watch"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/peering"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	"github.com/dmsc-mesh/dmsc/scsc"
	"github.com/dmsc-mesh/dmsc/spa"
	"github.com/dmsc-mesh/dmsc/translator"
	"github.com/dmsc-mesh/dmsc/xds"
)

// publishLimit is when a node that found no complete LSDB after its start
// gives its Envoy what it has (design §4, State file).
const publishLimit = 5 * time.Second

// Node is one SG or SR agent.
type Node struct {
	cfg  *config.Node
	base *slog.Logger // without the node, for parts that name it themselves
	log  *slog.Logger
	dead chan struct{} // closed when the loop has ended

	// stopping is closed when Run is told to stop.
	stopping <-chan struct{}
	events   chan event
	sessions atomic.Uint64
	picture  atomic.Pointer[picture]
	rows     *lsdbTable
	metrics  *metrics
	timeline timeline
	// handed is what was last given to n.envoy, for trace.
	handed  atomic.Pointer[publication]
	pinning sync.Mutex // one order to roll back or to resume at a time

	// The edges.
	listeners   listeners
	state       *stateFile
	recording   *os.File // of the xDS streams, nil without
	peers       *peering.Peers
	envoy       *xds.Server
	documents   *watch.Watcher // nil without a folder
	outside     translator.OutsideListener
	certificate *watch.Watcher // of outside, nil without
	prober      *measure.Prober
	detector    *measure.Detector
	spa         *spa.Client
	scsc        *scsc.Client // nil without an SCSC
	// What wakes watchSelf and countTraffic.
	kickSelf, kickTraffic chan struct{}
	published             chan int // names, see giveBack
	dumping               sync.Mutex

	// What follows belongs to the loop alone.
	started    time.Time
	instance   *linkstate.Instance
	registry   *registry
	overlay    scsc.Overlay
	engine     *rib.Engine
	rib        *rib.RIB
	translator translator.Translator
	loop       loopState
}

type listeners struct{ api, xds, peering, health, control net.Listener }

// New opens the state file and every listener, so that what is wrong with them
// is said before anything runs.
func New(cfg *config.Node, log *slog.Logger) (_ *Node, err error) {
	n := &Node{
		cfg: cfg, base: log, log: log.With("node", string(cfg.Node)), dead: make(chan struct{}), events: make(chan event, 4096),
		registry: newRegistry(), engine: rib.New(cfg.Node),
		rows: newLSDBTable(), metrics: newMetrics(), published: make(chan int, 1),
	}
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	if err := check(cfg); err != nil {
		return nil, err
	}
	for _, l := range []struct {
		what, addr string
		at         *net.Listener
	}{
		{"api", cfg.Listen.API, &n.listeners.api},
		{"xds", cfg.Listen.XDS, &n.listeners.xds},
		{"peering", cfg.Listen.Peering, &n.listeners.peering},
		{"health", cfg.Listen.Health, &n.listeners.health},
	} {
		if *l.at, err = serve.Listen(l.addr); err != nil {
			return nil, fmt.Errorf("listen.%s: %w", l.what, err)
		}
	}
	now := time.Now()
	n.timeline.note(now, Moment{Step: StepStarted})
	var s saved
	if n.state, s, err = openState(cfg.StateDir, now, log); err != nil {
		return nil, err
	}
	if err = n.loadDocuments(s.Documents); err != nil {
		return nil, fmt.Errorf("documents: %w", err)
	}
	if err = n.openOutside(now); err != nil {
		return nil, err
	}
	if err = n.listenControl(); err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	n.instance, err = linkstate.New(linkstate.Config{
		Node: cfg.Node, Domain: cfg.Domain, Role: cfg.Role, Transit: cfg.Transit, Algorithm: cfg.Algorithm, Avoid: cfg.AvoidTags,
		Incarnation: s.Incarnation, Heard: s.heard(), Encode: peering.Encode, Seed: s.Incarnation,
	}, now)
	if err != nil {
		return nil, fmt.Errorf("link state: %w", err)
	}
	n.started = now
	n.loop.incarnation, n.loop.drain = s.Incarnation, s.Drain
	if cfg.RecordXDS != "" {
		if n.recording, err = os.OpenFile(cfg.RecordXDS, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
			return nil, fmt.Errorf("record_xds: %w", err)
		}
	}
	n.wire()
	n.restorePin(s.Pin)
	n.loop.restored = n.registry.restore(s, now, n.sessionID)
	if left := s.PoliciesUntil.Sub(now); left > 0 {
		s.Policies.TTL = left
		n.overlay.Apply(now, s.Policies)
		n.loop.policySet, n.loop.unverified = s.Policies, true
	}
	return n, nil
}

func (n *Node) close() {
	for _, l := range []net.Listener{n.listeners.api, n.listeners.xds, n.listeners.peering, n.listeners.health, n.listeners.control} {
		if l != nil {
			l.Close()
		}
	}
	if n.state != nil {
		n.state.db.Close()
	}
	if n.recording != nil {
		n.recording.Close()
	}
}

// sessionID numbers announcement sessions.
func (n *Node) sessionID() uint64 { return n.sessions.Add(1) }

// post hands an event to the loop. It waits while the loop is busy, and fails
// when ctx or the loop ends.
func (n *Node) post(ctx context.Context, ev event) error {
	select {
	case n.events <- ev:
		return nil
	case <-n.dead:
		return context.Canceled
	case <-ctx.Done():
		return ctx.Err()
	}
}

// deliver is post for callbacks that have no context of their own.
func (n *Node) deliver(ev event) { _ = n.post(context.Background(), ev) }

// Run serves until ctx ends. On the way out it leaves Envoy and the neighbours
// as they are: a restart is hitless.
func (n *Node) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	n.stopping = ctx.Done()

	// Nothing of ours is left running when Run returns.
	limits := append(peering.ServerOptions(), grpc.WaitForHandlers(true))
	api := grpc.NewServer(limits...)
	dmscv1.RegisterAnnouncementServiceServer(api, &announcements{node: n})
	peer := grpc.NewServer(limits...)
	n.peers.Register(peer)
	ads := grpc.NewServer(xds.ServerOptions()...)
	n.envoy.Register(ads)
	for _, s := range []*grpc.Server{api, peer} {
		healthpb.RegisterHealthServer(s, health.NewServer())
		reflection.Register(s)
	}
	g.Go(func() error { return serve.GRPC(ctx, "api", api, n.listeners.api) })
	g.Go(func() error { return serve.GRPC(ctx, "peering", peer, n.listeners.peering) })
	g.Go(func() error { return serve.GRPC(ctx, "xds", ads, n.listeners.xds) })

	g.Go(func() error { return admin.Serve(ctx, n.listeners.health, n.adminConfig()) })
	g.Go(func() error { return n.serveControl(ctx) })
	g.Go(func() error { return n.state.run(ctx) })
	g.Go(func() error { return n.peers.Run(ctx) })
	g.Go(func() error { return n.prober.Run(ctx) })
	g.Go(func() error { return n.detector.Run(ctx) })
	g.Go(func() error { return n.watchSelf(ctx) })
	g.Go(func() error { return n.countTraffic(ctx) })
	g.Go(func() error { return giveBack(ctx, n.published, trim) })
	g.Go(func() error { return n.spa.Run(ctx) })
	if n.documents != nil {
		g.Go(func() error { return n.watchDocuments(ctx) })
	}
	if n.certificate != nil {
		first := n.loop.outside
		g.Go(func() error { return n.watchCertificate(ctx, first) })
	}
	if n.scsc != nil {
		g.Go(func() error { return n.scsc.Run(ctx) })
	}
	n.log.Info("node is up", "role", n.cfg.Role.String(), "api", n.listeners.api.Addr().String(),
		"peering", n.listeners.peering.Addr().String(), "xds", n.listeners.xds.Addr().String(),
		"health", n.listeners.health.Addr().String(), "incarnation", n.loop.incarnation)
	g.Go(func() error { return n.runLoop(ctx) }) // from here on the loop owns its state

	err := g.Wait()
	n.close()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// runLoop is the one owner of the node's state.
func (n *Node) runLoop(ctx context.Context) error {
	defer close(n.dead)
	n.begin(time.Now())
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case ev := <-n.events:
			now := time.Now()
			ev.apply(n, now)
			// Settle once per batch: what came in meanwhile is looked at together.
			for range len(n.events) {
				(<-n.events).apply(n, now)
			}
		case <-timer.C:
		case <-ctx.Done():
			return nil
		}
		now := time.Now()
		n.tick(now)
		n.settle(now)
		if d := n.deadline(now); !d.IsZero() {
			timer.Reset(max(d.Sub(now), 0))
		} else {
			timer.Stop()
		}
	}
}

// deadline is when the loop has to wake up by itself.
func (n *Node) deadline(now time.Time) time.Time {
	d := n.instance.Deadline()
	wakeUps := []time.Time{n.registry.deadline(now), n.overlay.Deadline(), n.loop.nextReport, n.loop.stallAt}
	if now.Before(n.loop.restless) {
		wakeUps = append(wakeUps, n.loop.restless) // nothing is published before
	} else {
		wakeUps = append(wakeUps, n.loop.publishAt)
		if len(n.loop.retired) > 0 {
			wakeUps = append(wakeUps, n.loop.retired[0].until)
		}
	}
	for _, t := range wakeUps {
		if !t.IsZero() && (d.IsZero() || t.Before(d)) {
			d = t
		}
	}
	return d
}
