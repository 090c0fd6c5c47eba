package main

import (
	"maps"
	"reflect"
	"runtime"
	"slices"
	"sync"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
)

// converged is how nodes reach the names that are asked about, before a change
// and after it. Of their RIBs, of which a thousand would not fit, it keeps what
// a way needs; the nodes that no way passes it never computes.
type converged struct {
	names         []string // sorted
	before, after func(dmsc.NodeID) *linkstate.View
	kind          linkstate.Change
	keys          []linkstate.Key // of the records that differ

	nodes map[dmsc.NodeID]*ways
	facts [][]rib.Entry // by name, see way
}

// ways are those of one node, by the index of the name.
type ways struct {
	before, after []way
	// pools are the instances of functions that the node delivers before.
	pools map[int][]*rib.Entry
}

// way is the entry of a RIB that answers a name, without what follows from the
// ways of the next hops: who delivers.
type way struct {
	group    *rib.Group // nil: the node itself delivers, or there is no way
	distance dmsc.Metric
	// fact counts, from 1, what owners say of the name: converged.facts has few
	// for all nodes. 0 is no way.
	fact uint32
}

func (w way) none() bool  { return w.fact == 0 }
func (w way) local() bool { return w.fact != 0 && w.group == nil }

// hops are the next hops; who delivers has none.
func (w way) hops() []rib.NextHop {
	if w.group == nil {
		return nil
	}
	return w.group.Primaries
}

// entry is the one that the way was made of.
func (n *converged) entry(name int, w way) *rib.Entry {
	e := n.facts[name][w.fact-1]
	e.Distance, e.Group, e.Local = w.distance, w.group, w.group == nil
	return &e
}

// converge computes the ways to names, from the gateways on.
func converge(c *changed, gateways []dmsc.NodeID, names []string) *converged {
	n := &converged{names: names, before: c.before.Views(), after: c.after.Views(), nodes: make(map[dmsc.NodeID]*ways), facts: make([][]rib.Entry, len(names))}
	n.kind, n.keys = differences(n.before(c.before.Nodes[0].ID).Records, n.after(c.after.Nodes[0].ID).Records)
	for wave := gateways; len(wave) > 0; {
		found := make(map[dmsc.NodeID]bool)
		n.compute(wave)
		for _, id := range wave {
			for _, side := range [][]way{n.nodes[id].before, n.nodes[id].after} {
				for _, w := range side {
					for _, h := range w.hops() {
						if n.nodes[h.Remote] == nil {
							found[h.Remote] = true
						}
					}
				}
			}
		}
		wave = slices.Sorted(maps.Keys(found))
	}
	return n
}

// differences are what an engine has to be told of two sets of records.
func differences(from, to linkstate.Records) (kind linkstate.Change, keys []linkstate.Key) {
	differ := func(k linkstate.Key) {
		keys = append(keys, k)
		if kind |= linkstate.ChangedTopology | linkstate.ChangedNeighbours; k.Type == linkstate.TypePrefix {
			kind |= linkstate.ChangedPrefixes
		}
	}
	for l := range from.All() {
		if !reflect.DeepEqual(l, to.Get(l.Key)) {
			differ(l.Key)
		}
	}
	for l := range to.All() {
		if from.Get(l.Key) == nil {
			differ(l.Key)
		}
	}
	return kind, keys
}

// compute makes the ways of nodes, on all processors.
func (n *converged) compute(ids []dmsc.NodeID) {
	work := make(chan dmsc.NodeID)
	var keep sync.Mutex
	var all sync.WaitGroup
	for range min(len(ids), runtime.GOMAXPROCS(0)) {
		all.Go(func() {
			for id := range work {
				engine := rib.New(id)
				r, _ := engine.Update(n.before(id), 0, nil)
				before := n.lookup(r)
				after, pools := before, pools(r, before)
				r, delta := engine.Update(n.after(id), n.kind, n.keys)
				if !delta.Empty() {
					after = n.lookup(r)
				}
				keep.Lock()
				w := &ways{before: n.keep(before), pools: pools}
				if w.after = w.before; !delta.Empty() {
					w.after = n.keep(after)
				}
				n.nodes[id] = w
				keep.Unlock()
			}
		})
	}
	for _, id := range ids {
		work <- id
	}
	close(work)
	all.Wait()
}

func (n *converged) lookup(r *rib.RIB) []*rib.Entry {
	out := make([]*rib.Entry, len(n.names))
	for i, name := range n.names {
		out[i] = r.Lookup(name)
	}
	return out
}

func pools(r *rib.RIB, entries []*rib.Entry) map[int][]*rib.Entry {
	pools := make(map[int][]*rib.Entry)
	for i, e := range entries {
		if e != nil && e.Local {
			for _, p := range e.Instances {
				pools[i] = append(pools[i], r.Lookup(p.String()))
			}
		}
	}
	return pools
}

// keep makes the ways of the entries that a RIB has for the names.
func (n *converged) keep(entries []*rib.Entry) []way {
	out := make([]way, len(entries))
	for i, e := range entries {
		if e != nil {
			out[i] = way{group: e.Group, distance: e.Distance, fact: n.fact(i, e)}
		}
	}
	return out
}

func (n *converged) fact(name int, e *rib.Entry) uint32 {
	i := slices.IndexFunc(n.facts[name], func(f rib.Entry) bool {
		return f.Prefix == e.Prefix && f.Kind == e.Kind && f.Protocol == e.Protocol && f.ReplaySafe == e.ReplaySafe && slices.Equal(f.Instances, e.Instances)
	})
	if i < 0 {
		i = len(n.facts[name])
		n.facts[name] = append(n.facts[name], rib.Entry{Prefix: e.Prefix, Kind: e.Kind, Protocol: e.Protocol, ReplaySafe: e.ReplaySafe, Instances: e.Instances})
	}
	return uint32(i + 1)
}

// at are the ways of a node that may be beside all ways: an alternate's.
func (n *converged) at(id dmsc.NodeID) *ways {
	if n.nodes[id] == nil {
		n.compute([]dmsc.NodeID{id})
	}
	return n.nodes[id]
}

// moved reports whether requests for a name take other ways from a node on, or
// could: some node on the way has other next hops. known is of the same name.
func (n *converged) moved(id dmsc.NodeID, name int, known map[dmsc.NodeID]bool) bool {
	if m, done := known[id]; done {
		return m
	}
	known[id] = false
	before, after := n.nodes[id].before[name], n.nodes[id].after[name]
	moved := before.none() != after.none() || before.local() != after.local() || !slices.EqualFunc(before.hops(), after.hops(), sameLink)
	for _, h := range before.hops() {
		moved = moved || n.moved(h.Remote, name, known)
	}
	known[id] = moved
	return moved
}

func sameLink(a, b rib.NextHop) bool { return a.LinkKey == b.LinkKey }

// count is the number of ways from a node along next hops; counted has those of
// other nodes to the same name.
func count(ways func(dmsc.NodeID) way, at dmsc.NodeID, counted map[dmsc.NodeID]int) int {
	n, done := counted[at]
	if done {
		return n
	}
	w := ways(at)
	if w.local() {
		n = 1
	}
	for _, h := range w.hops() {
		n += count(ways, h.Remote, counted)
	}
	counted[at] = n
	return n
}

// egress is who delivers what goes from a node along next hops, sorted.
func egress(ways func(dmsc.NodeID) way, from dmsc.NodeID) []dmsc.NodeID {
	found := []dmsc.NodeID{}
	seen := map[dmsc.NodeID]bool{from: true}
	for todo := []dmsc.NodeID{from}; len(todo) > 0; todo = todo[1:] {
		w := ways(todo[0])
		if w.local() {
			found = append(found, todo[0])
		}
		for _, h := range w.hops() {
			if !seen[h.Remote] {
				seen[h.Remote] = true
				todo = append(todo, h.Remote)
			}
		}
	}
	slices.Sort(found)
	return found
}
