package xds

import "slices"

// Streams of one type each that share a node.id are taken for those of one
// Envoy, and keep the order of an update together: each tells in its report
// what it has left to do, and one that waits is woken when another has moved.
// Of clusters and listeners an Envoy has one stream, of endpoints one for each
// cluster and of routes one for each table.

// siblings are the streams of one type that count. Of clusters and listeners
// that is one: see voice. It needs n.mu.
func (n *node) siblings(t Type) []*stream {
	var all []*stream
	for _, st := range n.streams {
		switch {
		case st.serves != only(t):
		case len(all) == 0 || t == Endpoints || t == Routes:
			all = append(all, st)
		case st.report.Load().accepted() > all[0].report.Load().accepted():
			all[0] = st
		}
	}
	return all
}

// heedsSiblings: something of this stream may have to wait for another. Of
// hundreds that are there for one cluster's endpoints each, nearly none has.
func (st *stream) heedsSiblings(b [numTypes]backlog) bool {
	if st.serves == only(Endpoints) {
		return b[Endpoints].removals
	}
	return len(st.subs[slices.Index(st.serves[:], true)].todo) > 0
}

// together adds what the siblings have left to do to what st has. One that has
// not looked at the wanted set yet, or is not there, has everything to do; the
// clock bounds that.
func (n *node) together(st *stream, b [numTypes]backlog) (sum [numTypes]backlog, unsent bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for t, all := range st.want.types {
		siblings := n.siblings(Type(t))
		if len(siblings) == 0 && len(all.byName) > 0 && Type(t) != Endpoints {
			sum[t].upserts, sum[t].removals = true, true
		}
		for _, other := range siblings {
			its := b[t]
			if rep := other.report.Load(); other != st {
				its = rep.backlogs[t]
				if rep.want != st.want {
					its = backlog{upserts: true, removals: true, unsent: true}
				}
			}
			sum[t].upserts = sum[t].upserts || its.upserts
			sum[t].removals = sum[t].removals || its.removals
			sum[t].refused = sum[t].refused || its.refused
			unsent = unsent || its.unsent && (Type(t) == Routes || Type(t) == Listeners)
		}
	}
	return sum, unsent
}

// confer stores what the stream tells its siblings, and wakes those who wait
// for it.
func (st *stream) confer(last, now *report, g *gates) {
	now.backlogs, now.asks = g.backlogs, st.asked(last.asks)
	now.waiting = len(st.subs[slices.Index(st.serves[:], true)].todo) > 0
	if st.serves[Clusters] && st.want != nil {
		now.lacks = st.lacks()
	}
	st.report.Store(now)
	if now.waiting && !last.waiting {
		st.poke()
	}
	if now.want != last.want || now.backlogs != last.backlogs || !slices.Equal(now.lacks, last.lacks) {
		st.node.wakeWaiting(st)
	}
}

// wakeWaiting lets the siblings that wait look again. A stream that begins to
// wait looks once more by itself, so that neither misses the other.
func (n *node) wakeWaiting(st *stream) {
	for _, other := range n.all() {
		if other != st && other.serves != allTypes && other.report.Load().waiting {
			other.poke()
		}
	}
}

// warm files that the clusters that take these endpoints were sent, and wakes
// the streams that have given them to the client before: it waits for them anew.
func (n *node) warm(endpoints string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.warming == nil {
		n.warming = map[string]uint64{}
	}
	n.warmed++
	n.warming[endpoints] = n.warmed
	for _, other := range n.siblings(Endpoints) {
		if _, asked := slices.BinarySearch(other.report.Load().asks, endpoints); asked {
			other.poke()
		}
	}
}

// cool ends the wait for these endpoints; "" for all.
func (n *node) cool(endpoints string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if delete(n.warming, endpoints); endpoints == "" || len(n.warming) == 0 {
		n.warming = nil
	}
}

// awaited are the endpoints that clusters of c wait for. It needs n.mu.
func (n *node) awaited(c *compiled) bool {
	for name := range n.warming {
		if c.types[Clusters].taken(ref{Endpoints, name}, func(string) bool { return true }) {
			return true
		}
	}
	return false
}

// heat makes the endpoints due that a cluster waits for since this stream has
// looked last.
func (st *stream) heat() {
	if st.serves != only(Endpoints) {
		return
	}
	st.node.mu.Lock()
	since := st.warmed
	st.warmed = st.node.warmed
	var anew []string
	if st.warmed > since {
		for name, at := range st.node.warming {
			if at > since && st.subs[Endpoints].has(name) {
				anew = append(anew, name)
			}
		}
	}
	st.node.mu.Unlock()
	for _, name := range anew {
		st.subs[Endpoints].demand(name)
	}
}

// lacks are the clusters that the client refused and has no older version of.
func (st *stream) lacks() (names []string) {
	if st.serves[Clusters] {
		for name, it := range st.subs[Clusters].todo {
			h := st.subs[Clusters].held(name)
			if it.parked(st.target(Clusters, name)) && (h == nil || h.version == uncertain) {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return names
	}
	st.node.mu.Lock()
	defer st.node.mu.Unlock()
	for _, other := range st.node.siblings(Clusters) {
		names = other.report.Load().lacks
	}
	return names
}

// asked are the names of a stream of one type, sorted; nil for a wildcard, and
// for streams of all types, which nobody asks for them.
func (st *stream) asked(before []string) []string {
	if st.serves == allTypes {
		return nil
	}
	sub := &st.subs[slices.Index(st.serves[:], true)]
	switch {
	case sub.wildcard:
		return nil
	case sub.changed || before == nil:
		sub.changed = false
		return append([]string{}, slices.Sorted(sub.names.all())...)
	}
	return before
}

// gives: a client of streams of one type gets this name by this one.
func (st *stream) gives(name string) bool {
	asks := st.report.Load().asks
	return asks == nil || slices.Contains(asks, name)
}

// announce reports, once, that the node's streams together run every resource
// of c.
func (n *node) announce(c *compiled) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.announced == c.version || n.awaited(c) {
		return false
	}
	for _, st := range n.streams { // nearly always one has not, and the rest is work
		if rep := st.report.Load(); st.serves == only(Endpoints) && (rep.want != c || rep.phase != PhaseLive) {
			return false
		}
	}
	var asks [numTypes][]string
	var wildcard [numTypes]bool
	for t, all := range c.types {
		siblings := n.siblings(Type(t))
		if len(all.byName) > 0 && len(siblings) == 0 {
			return false
		}
		for _, st := range siblings {
			rep := st.report.Load()
			if rep.want != c || rep.phase != PhaseLive {
				return false
			}
			asks[t] = append(asks[t], rep.asks...)
			wildcard[t] = wildcard[t] || rep.asks == nil
		}
		slices.Sort(asks[t])
	}
	has := func(t Type) func(string) bool {
		return func(name string) bool {
			_, found := slices.BinarySearch(asks[t], name)
			return found || wildcard[t] && !c.types[t].onDemand[name]
		}
	}
	for taker, taken := range map[Type]Type{Clusters: Endpoints, Listeners: Routes} {
		for _, name := range c.types[taken].names {
			if !has(taken)(name) && c.types[taker].taken(ref{taken, name}, has(taker)) {
				return false // the client is going to ask for it
			}
		}
	}
	n.announced = c.version
	return true
}
