package xds

import (
	"maps"
	"slices"
)

// window is how many unanswered responses of a type a client is sent. What
// comes due meanwhile is merged. Endpoints carry health, which shall not wait
// for the answer to older health. The clock opens the windows too.
var window = [numTypes]int{Clusters: 1, Endpoints: 4, Routes: 1, Listeners: 1}

// sendOrder is the order of types within one turn: make before break.
var sendOrder = [numTypes]Type{Clusters, Endpoints, Routes, Listeners}

// verdict says what to do with an item now.
type verdict uint8

const (
	hold  verdict = iota // nothing to do before the client or a Publish moves
	gated                // waits for another type; the clock runs
	send
)

// backlog sums up the subscribed items of one type.
type backlog struct {
	upserts  bool // the client has not accepted something it can be sent
	removals bool // it still has something it must not
	refused  bool // something is parked, or waits for something parked
	unsent   bool // something is due that no response carries yet
}

func (st *stream) backlog(t Type) (b backlog) {
	sub := &st.subs[t]
	if len(sub.todo) == 0 { // nearly always
		return b
	}
	for name, it := range sub.todo {
		if !sub.has(name) {
			continue
		}
		switch target := st.target(t, name); {
		case sub.absent(name, it, target):
		case it.parked(target) || target != nil && st.stuck(target):
			b.refused = true
		case target == nil:
			b.removals = true
		default:
			b.upserts = true
			b.unsent = b.unsent || it.nonce == "" || versionOf(it.sent) != target.version
		}
	}
	return b
}

// gates say what may be sent of the types that depend on others.
type gates struct {
	ready     bool           // clusters and their endpoints are accepted
	unsent    bool           // routes or listeners are due that no response carries yet
	removable [numTypes]bool // nothing uses the removed resources any more
	refused   [numTypes]bool // something may use them for as long as it is parked
	backlogs  [numTypes]backlog
}

// gates are computed from what is settled, never remembered: a newer set
// cannot meet a stale gate.
func (st *stream) gates() (g gates) {
	for t := range numTypes {
		g.backlogs[t] = st.backlog(t)
	}
	b := g.backlogs
	g.unsent = b[Routes].unsent || b[Listeners].unsent
	if st.serves != allTypes && st.heedsSiblings(b) {
		b, g.unsent = st.node.together(st, b)
	}
	g.ready = !b[Clusters].upserts && !st.isWarming()
	programmed := g.ready && !b[Routes].upserts && !b[Listeners].upserts

	g.refused[Routes] = b[Listeners].refused
	g.refused[Clusters] = b[Routes].refused || b[Listeners].refused
	g.refused[Endpoints] = b[Clusters].refused || g.refused[Clusters]

	g.removable[Listeners] = programmed
	g.removable[Routes] = programmed && !b[Listeners].removals
	g.removable[Clusters] = g.removable[Routes] && !b[Routes].removals
	g.removable[Endpoints] = g.removable[Clusters] && !b[Clusters].removals
	return g
}

// force opens what has been closed for too long.
func (g *gates) force(stage Phase) {
	switch stage {
	case PhaseRoutes:
		g.ready = true
	case PhaseRemovals:
		g.removable = [numTypes]bool{true, true, true, true}
	}
}

// isWarming: a cluster was sent, and its endpoints were not accepted since.
func (st *stream) isWarming() bool {
	if st.serves != allTypes {
		st.node.mu.Lock()
		defer st.node.mu.Unlock()
		return st.node.awaited(st.want)
	}
	for name := range st.warming {
		if st.want.types[Clusters].taken(ref{Endpoints, name}, func(string) bool { return true }) {
			return true
		}
	}
	return false
}

// stuck: r needs a resource that the client refused and has no older version
// of. Better the last good route than one to a cluster that is not there.
func (st *stream) stuck(r *resource) bool {
	if st.serves != allTypes {
		if len(r.refs) == 0 {
			return false
		}
		lacks := st.lacks()
		return len(lacks) > 0 && slices.ContainsFunc(r.refs, func(need ref) bool {
			_, lacking := slices.BinarySearch(lacks, need.name)
			return lacking && need.typ == Clusters
		})
	}
	for _, ref := range r.refs {
		sub := &st.subs[ref.typ]
		if it := sub.todo[ref.name]; ref.typ == Endpoints || it == nil || !it.parked(st.target(ref.typ, ref.name)) {
			continue
		}
		if h := sub.held(ref.name); h == nil || h.version == uncertain {
			return true
		}
	}
	return false
}

func (st *stream) judge(t Type, name string, it *item, g *gates, expired bool) verdict {
	sub, target := &st.subs[t], st.target(t, name)
	switch {
	case !sub.has(name), it.parked(target):
		return hold
	case it.nonce != "" && !it.force && versionOf(it.sent) == versionOf(target):
		return hold
	case target == nil:
		return st.judgeRemoval(t, name, g)
	case t == Clusters:
		return send
	case t == Endpoints:
		if !expired && st.clusterDue(name) {
			return gated
		}
		return send
	case st.stuck(target):
		return hold
	case g.ready, versionOf(sub.held(name)) == versionOf(target):
		return send
	}
	return gated
}

func (st *stream) judgeRemoval(t Type, name string, g *gates) verdict {
	switch {
	case st.subs[t].held(name) == nil:
		return send // it asked, and there is nothing; or nothing can use it yet
	case g.refused[t]:
		return hold
	case g.removable[t]:
		return send
	}
	return gated
}

// clusterDue: a cluster that takes these endpoints is about to be sent, and none
// that was sent waits for them.
func (st *stream) clusterDue(endpoints string) bool {
	if _, warming := st.warming[endpoints]; warming {
		return false
	}
	sub := &st.subs[Clusters]
	return st.want.types[Clusters].taken(ref{Endpoints, endpoints}, func(name string) bool {
		it := sub.todo[name]
		return it != nil && (it.nonce == "" || it.sent == nil) && sub.has(name) && !it.parked(st.target(Clusters, name))
	})
}

// flush sends everything that may be sent now, and returns the gates as they are
// then. If something is gated it starts the clock; expired is that clock having
// run out.
func (st *stream) flush(expired bool) (g gates, err error) {
	if st.want == nil {
		return g, nil
	}
	g = st.gates()
	moved := st.serves != allTypes && st.unsent && !g.unsent
	if st.unsent = g.unsent; moved {
		st.ticking = false // from now on it is the answer to them that is waited for
	}
	var forced Phase
	if expired {
		forced = st.giveUpWaiting(&g, moved)
		g = st.gates()
	}
	waiting := false
	for _, t := range sendOrder {
		sub := &st.subs[t]
		if len(sub.todo) == 0 {
			continue
		}
		now := g
		now.force(forced)
		var due []sent
		for name, it := range sub.todo {
			switch st.judge(t, name, it, &now, expired) {
			case send:
				due = append(due, sent{name, st.target(t, name)})
			case gated:
				waiting = true
			}
		}
		if len(due) == 0 {
			continue
		}
		if len(sub.inflight) >= window[t] && !expired {
			waiting = true
			continue
		}
		if err := st.send(t, due); err != nil {
			return g, err
		}
		g = st.gates()
	}
	st.clock(waiting)
	return g, nil
}

// giveUpWaiting says what the update goes on without: first the way for
// routes and listeners is opened, and only in a later round the one for
// removals.
func (st *stream) giveUpWaiting(g *gates, moved bool) (forced Phase) {
	forced = PhaseRemovals
	if moved || g.unsent && (!g.ready || st.serves != allTypes) {
		forced = PhaseRoutes
	}
	st.log.Warn("envoy has not confirmed in time: going on", "version", st.want.version,
		"phase", string(forced), "warming", slices.Sorted(maps.Keys(st.warming)), "timeout", st.srv.cfg.GateTimeout)
	st.warming = nil
	if st.serves != allTypes {
		st.node.cool("")
		st.node.wakeWaiting(st)
	}
	return forced
}

// mark puts the items of resp in flight. What was refused before may be tried
// again after something else: the client's answer may be another one then.
func (s *subscription) mark(resp *response) {
	for _, it := range resp.items {
		*s.todo[it.name] = item{nonce: resp.nonce, sent: it.resource}
	}
	s.inflight = append(s.inflight, resp)
	s.nonce = resp.nonce
}

// warm notes that a cluster waits for these endpoints, or no longer.
func (st *stream) warm(endpoints string, waits bool) {
	switch {
	case st.serves != allTypes && waits:
		st.node.warm(endpoints)
	case st.serves != allTypes:
		st.node.cool(endpoints)
	case !waits:
		if delete(st.warming, endpoints); len(st.warming) == 0 && st.warmest > smallMap {
			st.warming, st.warmest = nil, 0
		}
	case st.warming == nil:
		st.warming = map[string]struct{}{}
		fallthrough
	default:
		st.warming[endpoints] = struct{}{}
		st.warmest = max(st.warmest, len(st.warming))
	}
}

// follow files what follows from sending a new or changed cluster: it waits for
// endpoints, even if the client holds them already. They are sent behind the
// cluster and not after its ACK, because Envoy withholds the ACK of clusters
// until they are warm.
func (st *stream) follow(cluster *resource) {
	for _, ref := range cluster.refs {
		st.warm(ref.name, true)
		if sub := &st.subs[Endpoints]; sub.has(ref.name) {
			sub.demand(ref.name)
		}
	}
}

// carry adds to resp what earlier responses said and nobody has answered: left
// out of a whole response, it would be removed.
func (s *subscription) carry(resp *response) {
	for _, earlier := range s.inflight {
		for _, it := range earlier.items {
			newer := slices.ContainsFunc(resp.items, func(other sent) bool { return other.name == it.name })
			if i := s.todo[it.name]; !newer && i != nil && i.nonce == earlier.nonce {
				resp.items = append(resp.items, it)
			}
		}
	}
}

// full is all of a type that the client has once it accepts resp: the form of
// the state-of-the-world dialect.
func (s *subscription) full(resp *response) []sent {
	all := maps.Collect(s.everything())
	for _, it := range resp.items {
		all[it.name] = it.resource
	}
	var list []sent
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if r := all[name]; r != nil && r.wire != nil {
			list = append(list, sent{name, r})
		}
	}
	return list
}
