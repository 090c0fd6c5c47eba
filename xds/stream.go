package xds

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// stream serves one client. Its goroutine owns everything below the line; it
// alone sends, and decides what to send at the moment it can.
type stream struct {
	srv     *Server
	id      uint64
	dialect dialect
	serves  [numTypes]bool
	wake    chan struct{} // one pending poke is enough: the newest set counts
	written chan error
	evicted chan error   // see evict
	placed  bool         // guarded by srv.mu
	said    atomic.Int64 // size of the names it said; see names.go
	report  atomic.Pointer[report]

	// ---- run's goroutine only
	node       *node
	log        *slog.Logger
	since      time.Time
	want       *compiled // what this stream works towards; nil before the first Publish
	generation uint64
	subs       [numTypes]subscription
	warming    map[string]struct{}  // endpoints whose cluster was sent since they were accepted
	warmest    int                  // len(warming) at its largest
	unsent     bool                 // gates.unsent as it was last
	warmed     uint64               // of node.warming, looked at so far: see heat
	retained   map[string]*resource // see retain
	nonces     uint64
	timer      *time.Timer
	ticking    bool
	retryTimer *time.Timer // see retry.go
	retryWait  time.Duration
	retrying   bool
	sendTimer  *time.Timer
	weighed    int64 // said, when it was last looked at
	brought    int   // size of the names it came back with and that nobody knows
	strange    bool  // it has asked for a type that is not served
	inherited  [numTypes]map[string]*resource
	leaving    bool   // the time to leave it runs
	disowned   bool   // nothing is inherited any more
	live       string // version of the last set that was live as a whole
	types      [numTypes]progress
	lastNack   *Nack
	unheard    []refusal // see complain
}

func newStream(s *Server, d dialect, types [numTypes]bool) *stream {
	st := &stream{
		srv: s, dialect: d, serves: types, id: s.streams.Add(1),
		wake: make(chan struct{}, 1), written: make(chan error, 1), evicted: make(chan error, 1),
	}
	st.report.Store(&report{})
	return st
}

func (st *stream) servesAny(types [numTypes]bool) bool {
	for t, wanted := range types {
		if wanted && st.serves[t] {
			return true
		}
	}
	return false
}

// poke makes the stream look for a newer set.
func (st *stream) poke() {
	select {
	case st.wake <- struct{}{}:
	default:
	}
}

// run serves the stream until the client or the gRPC server ends it.
func (st *stream) run(ctx context.Context) error {
	requests := st.receive(ctx)
	r, err := st.greeting(ctx, requests)
	if r == nil {
		return err
	}
	st.since = time.Now()
	st.report.Store(&report{since: st.since, phase: PhaseUnpublished})
	st.log = st.srv.cfg.Log.With("node", r.node, "stream", st.id)
	st.timer, st.retryTimer, st.sendTimer = stopped(), stopped(), stopped()
	defer st.timer.Stop()
	defer st.retryTimer.Stop()
	inherited := stopped()
	defer inherited.Stop()

	var streams int
	if st.node, streams, err = st.srv.join(r.node, st); err != nil {
		st.log.Warn("stream refused", "err", err)
		return err
	}
	st.log.Info("xds stream up")
	st.srv.cfg.OnEvent(Event{Kind: Connected, Node: st.node.name, Stream: st.id, Streams: streams})
	defer func() {
		streams := st.srv.leave(st)
		st.log.Info("xds stream down")
		st.srv.cfg.OnEvent(Event{Kind: Disconnected, Node: st.node.name, Stream: st.id, Streams: streams})
	}()

	for {
		forced, waited := false, st.want == nil
		if r == nil {
			select {
			case <-ctx.Done():
				return nil
			case err := <-st.evicted:
				return err
			case next, ok := <-requests:
				if !ok {
					return nil
				}
				r = next
			case <-st.wake:
				st.sync()
				st.heat()
			case <-when(st.ticking, st.timer):
				st.ticking = false
				forced = true
			case <-when(st.retrying, st.retryTimer):
				st.retryNow()
			case <-when(st.leaving, inherited):
				st.leaving = false
				st.disown()
			}
		}
		if r != nil {
			if st.srv.cfg.Record != nil {
				st.record(Record{Request: r.message})
			}
			st.sync()
			st.heat()
			if err := st.handle(r); err != nil {
				return err
			}
			r = nil
		}
		if waited && st.want != nil { // from now on the client leaves what it came with
			inherited.Reset(st.srv.cfg.KeepInherited)
			st.leaving = true
		}
		g, err := st.flush(forced)
		if err != nil {
			return err
		}
		st.takeStock(&g)
	}
}

// sync turns to the newest set.
func (st *stream) sync() {
	want, generation, changes, complete := st.node.since(st.generation)
	if generation == st.generation {
		return
	}
	last := st.want
	st.want, st.generation = want, generation
	if !complete && last != nil {
		changes = diff(last, want)
	}
	if last == nil {
		for t := range numTypes {
			st.touchAll(t)
		}
		return
	}
	for _, c := range changes {
		if c.typ == Endpoints {
			st.retain(last, c.name)
		}
	}
	for _, c := range changes {
		st.touch(c.typ, c.name)
		st.touchNeeds(last.get(c.typ, c.name))
		st.touchNeeds(want.get(c.typ, c.name))
	}
}

// target is what the client shall hold under a name now; nil = nothing.
func (st *stream) target(t Type, name string) *resource {
	r := st.want.get(t, name)
	switch {
	case r != nil && t == Clusters && st.want.types[t].onDemand[name] && !st.subs[t].names.has(name):
		return nil
	case r != nil:
		return r
	case st.inheritedAs(t, name) != nil:
		return st.inheritedAs(t, name)
	case t == Endpoints:
		return st.retained[name]
	}
	return nil
}

// retain keeps endpoints that the wanted set no longer has for as long as the
// client has their cluster: it is in use until the last removals, and Envoy
// may just be warming it, which would otherwise never end.
func (st *stream) retain(last *compiled, name string) {
	if r := last.get(Endpoints, name); r != nil && st.want.get(Endpoints, name) == nil && st.hasClusterOf(name) {
		if st.retained == nil {
			st.retained = map[string]*resource{}
		}
		st.retained[name] = r
	} else if st.want.get(Endpoints, name) != nil {
		delete(st.retained, name)
	}
}

// release lets go of the endpoints retained for clusters that are gone.
func (st *stream) release() {
	for name := range st.retained {
		if !st.hasClusterOf(name) {
			delete(st.retained, name)
			st.touch(Endpoints, name)
		}
	}
}

// hasClusterOf: the client may have a cluster with these endpoints.
func (st *stream) hasClusterOf(endpoints string) bool {
	sub, wanted := &st.subs[Clusters], ref{Endpoints, endpoints}
	takes := func(r *resource) bool { return r != nil && slices.Contains(r.refs, wanted) }
	if sub.base.taken(wanted, func(name string) bool { return takes(sub.held(name)) }) {
		return true
	}
	for _, r := range sub.except {
		if takes(r) {
			return true
		}
	}
	for _, resp := range sub.inflight {
		if slices.ContainsFunc(resp.items, func(it sent) bool { return takes(it.resource) }) {
			return true
		}
	}
	return false
}

// send writes one response. A dialect that cannot express it (the removal of
// endpoints in state-of-the-world) has nothing to wait for either.
func (st *stream) send(t Type, due []sent) error {
	slices.SortFunc(due, func(a, b sent) int { return strings.Compare(a.name, b.name) })
	st.nonces++
	resp := &response{nonce: strconv.FormatUint(st.nonces, 10), items: due}
	sub := &st.subs[t]
	frame := st.dialect.encode(t, resp, sub, st.want.types[t].version)
	newest := sub.nonce
	sub.mark(resp)
	if t == Clusters {
		for _, it := range due {
			if it.resource != nil && versionOf(sub.held(it.name)) != it.version {
				st.follow(it.resource)
			}
		}
	}
	if frame == nil {
		sub.nonce = newest
		sub.inflight = sub.inflight[:len(sub.inflight)-1]
		st.acked(t, resp)
		return nil // only endpoints and routes come here
	}
	if st.srv.cfg.Record != nil {
		st.record(Record{Response: frame.message()})
	}
	return st.write(frame)
}

// clock starts, or stops, the time an update may wait. A newer set does not
// start it anew: the wait of the whole is what is bounded.
func (st *stream) clock(waiting bool) {
	switch {
	case waiting && !st.ticking:
		st.timer.Reset(st.srv.cfg.GateTimeout)
	case !waiting && st.ticking:
		st.timer.Stop()
	}
	st.ticking = waiting
}

// takeStock publishes where the stream stands, and reports a set that has
// become live.
func (st *stream) takeStock(g *gates) {
	phase := PhaseUnpublished
	var rejected *[numTypes][]string
	if st.want != nil {
		phase = st.phase(g)
		for t := range numTypes {
			if names := st.progress(t); names != nil {
				if rejected == nil {
					rejected = new([numTypes][]string)
				}
				rejected[t] = names
			}
			st.rebase(t)
		}
	}
	if phase == PhaseLive {
		st.unheard = nil
	}
	news := phase == PhaseLive && st.live != st.want.version
	if news {
		st.live = st.want.version
	}
	last := st.report.Load()
	now := &report{
		want: st.want, since: st.since, acked: st.live, phase: phase, types: st.types, rejected: rejected, lastNack: st.lastNack,
	}
	if st.serves != allTypes {
		st.confer(last, now, g)
		news = phase == PhaseLive && st.node.announce(st.want)
	} else {
		st.report.Store(now)
	}
	st.complain()
	if news {
		st.log.Debug("envoy runs the published set", "version", st.want.version)
		st.emit(Event{Kind: Acked, Version: st.want.version})
	}
}

func (st *stream) phase(g *gates) Phase {
	open := func(t Type) bool {
		for name, it := range st.subs[t].todo {
			if !st.subs[t].absent(name, it, st.target(t, name)) {
				return true
			}
		}
		return false
	}
	b := g.backlogs
	switch {
	case b[Clusters].upserts || b[Endpoints].upserts || st.serves == allTypes && !g.ready:
		return PhaseClusters
	case b[Routes].upserts || b[Listeners].upserts:
		return PhaseRoutes
	case b[Clusters].refused || b[Endpoints].refused || b[Routes].refused || b[Listeners].refused:
		return PhaseRejected
	case b[Clusters].removals || b[Endpoints].removals || b[Routes].removals || b[Listeners].removals:
		return PhaseRemovals
	case open(Clusters) || open(Endpoints): // the client has not asked yet
		return PhaseClusters
	case open(Routes) || open(Listeners):
		return PhaseRoutes
	}
	return PhaseLive
}

// progress brings what was sent and accepted of a type up to date, and returns
// what is parked, sorted.
func (st *stream) progress(t Type) (rejected []string) {
	sub := &st.subs[t]
	sent, acked := sub.asked, sub.asked
	for name, it := range sub.todo {
		target := st.target(t, name)
		if sub.absent(name, it, target) {
			continue
		}
		acked = false
		if it.nonce == "" || versionOf(it.sent) != versionOf(target) {
			sent = false
		}
		if it.parked(target) {
			rejected = append(rejected, name)
		}
	}
	slices.Sort(rejected)
	if sent {
		st.types[t].sent = st.want.types[t]
	}
	if acked {
		st.types[t].acked = st.want.types[t]
	}
	return rejected
}

func (st *stream) emit(e Event) {
	e.Node, e.Stream = st.node.name, st.id
	e.Streams = st.node.count()
	st.srv.cfg.OnEvent(e)
}

func (st *stream) record(r Record) {
	r.Time, r.Node, r.Stream = time.Now(), st.node.name, st.id
	st.srv.cfg.Record(r)
}
