package rib

import (
	"maps"
	"slices"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/spf"
)

// Engine computes one node's RIB again and again and keeps what does not
// change between two computations. Its results follow from the View alone. It
// is not safe for concurrent use; the RIBs it returns are.
type Engine struct {
	root      dmsc.NodeID
	maxGroups int
	last      *RIB
	lastRun   Run

	// Read from the records, valid until the topology changes.
	graph *spf.Graph
	known map[dmsc.NodeID]*linkstate.LSA // the live NodeLSA of each node

	// Follow from the graph.
	run   int // number of the last SPF
	tree  spf.Tree
	near  map[int32]*nearTree
	nodes []nodeEntry

	// Follow from the graph and the held links.
	held   []linkstate.LinkKey
	paths  map[string]*path // by owner set
	groups map[string]*Group
}

// nearTree is the shortest paths of a neighbour, up to date if run is the
// Engine's.
type nearTree struct {
	spf.Tree
	run int
}

type nodeEntry struct {
	name  dmsc.ServicePrefix
	index int32
}

// New returns an Engine for the RIBs of one node.
func New(root dmsc.NodeID) *Engine {
	return &Engine{
		root:      root,
		maxGroups: MaxGroups,
		graph:     spf.NewGraph(),
		known:     make(map[dmsc.NodeID]*linkstate.LSA),
		near:      make(map[int32]*nearTree),
		paths:     make(map[string]*path),
		groups:    make(map[string]*Group),
	}
}

// Compute returns the RIB of v.Node.
func Compute(v *linkstate.View) *RIB {
	r, _ := New(v.Node).Update(v, 0, nil)
	return r
}

// Update returns the RIB for v and how it differs from the last one: the very
// same RIB and an empty Delta if it does not. ch and keys are what changed since
// the last call: every record that was installed, replaced or removed
// (linkstate.Ready.Records). The first call needs neither and computes
// everything.
func (e *Engine) Update(v *linkstate.View, ch linkstate.Change, keys []linkstate.Key) (*RIB, Delta) {
	last := e.last
	r := e.update(v, ch)
	if r == last {
		e.lastRun = Run{}
		return r, Delta{}
	}
	d := Diff(last, r)
	e.lastRun = Run{Kind: RunFull, Entries: d.Len()}
	return r, d
}

func (e *Engine) update(v *linkstate.View, ch linkstate.Change) *RIB {
	if e.last == nil || ch&linkstate.ChangedTopology != 0 {
		if e.readTopology(v) || e.last == nil {
			e.runSPF()
			e.forgetPaths()
		}
	}
	if held := heldLinks(v); !slices.Equal(held, e.held) {
		e.held = held
		e.forgetPaths()
	}
	if e.last != nil && len(e.paths) > 2*e.last.Len()+1024 {
		e.forgetPaths() // mostly owner sets that are gone, or weighed otherwise
	}
	r := e.compute(v)
	if e.last == nil || !equal(e.last, r) {
		e.last = r
	}
	return e.last
}

func (e *Engine) forgetPaths() {
	clear(e.paths)
	clear(e.groups)
}

// readTopology brings the graph up to date with the NodeLSAs of v and reports
// whether that changed it.
func (e *Engine) readTopology(v *linkstate.View) bool {
	if e.graph.Len() > 2*len(e.known)+1024 {
		// Mostly nodes that are gone: their indexes are never given to others.
		e.graph = spf.NewGraph()
		clear(e.known)
		clear(e.near)
	}
	live := make(map[dmsc.NodeID]*linkstate.LSA, len(e.known))
	for l := range v.Records.All() {
		if _, ok := l.Content.(*linkstate.NodeLSA); ok && !l.Tombstone {
			live[l.Origin] = l
		}
	}
	algorithm := prevailing(live)
	before := e.graph.Len()
	changed := false
	for id, l := range live {
		n := l.Content.(*linkstate.NodeLSA)
		links := make([]spf.Link, len(n.Links))
		for i, l := range n.Links {
			links[i] = spf.Link{To: l.Remote, ID: l.ID, Metric: l.Metric}
		}
		// Metrics of two algorithms do not compare, so who announces another one
		// than the domain is avoided.
		lastResort := !n.Transit || n.Algorithm != algorithm
		changed = e.graph.Set(id, lastResort, links) || changed
	}
	for id := range e.known {
		if live[id] == nil {
			changed = e.graph.Remove(id) || changed
		}
	}
	e.graph.Index(e.root) // though it may not have announced itself yet
	changed = changed || len(live) != len(e.known) || e.graph.Len() != before
	e.known = live
	return changed
}

// prevailing is the domain's metric algorithm: what most nodes announce, the
// lower number if equal. It must not be each node's own: two neighbours that
// take each other for a last resort send requests to and fro, see
// testdata/algorithms.txt.
func prevailing(live map[dmsc.NodeID]*linkstate.LSA) linkstate.Algorithm {
	votes := make(map[linkstate.Algorithm]int)
	for _, l := range live {
		votes[l.Content.(*linkstate.NodeLSA).Algorithm]++
	}
	var best linkstate.Algorithm
	for a, n := range votes {
		if n > votes[best] || n == votes[best] && a < best {
			best = a
		}
	}
	return best
}

func (e *Engine) runSPF() {
	e.run++
	e.tree.Run(e.graph, e.graph.Index(e.root))
	e.nodes = e.nodes[:0]
	for _, id := range slices.Sorted(maps.Keys(e.known)) {
		i := e.graph.Index(id)
		if i == e.tree.Root() || !e.tree.Reachable(i) {
			continue
		}
		name, err := dmsc.ParsePrefix("dmsc/node/" + string(id))
		if err != nil {
			continue // an id outside the grammar has no name to be asked by
		}
		e.nodes = append(e.nodes, nodeEntry{name, i})
	}
}

// treeOf returns the shortest paths from a neighbour.
func (e *Engine) treeOf(node int32) *spf.Tree {
	t := e.near[node]
	if t == nil {
		t = &nearTree{}
		e.near[node] = t
	}
	if t.run != e.run {
		t.run = e.run
		t.Run(e.graph, node)
	}
	return &t.Tree
}

func (e *Engine) linkKey(a spf.Arc) linkstate.LinkKey {
	return linkstate.LinkKey{Remote: e.graph.ID(a.To), ID: a.ID}
}

// heldLinks are the links to neighbours that restart. After a restart of this
// node they are not: it has to compute what its Envoy still holds.
func heldLinks(v *linkstate.View) []linkstate.LinkKey {
	var held []linkstate.LinkKey
	for _, a := range v.Adjacencies {
		if a.State == linkstate.StateHeld && !a.Resumed {
			held = append(held, a.LinkKey)
		}
	}
	return held
}

// compute makes the RIB from the records and the paths.
func (e *Engine) compute(v *linkstate.View) *RIB {
	r := &RIB{Node: e.root}
	for _, n := range e.nodes {
		p := e.path([]owner{{node: n.index, weight: 1}})
		r.entries = append(r.entries, &Entry{
			Prefix: n.name, Kind: Node, Distance: p.distance,
			Egress: p.egress, Group: p.group, NoBackup: p.noBackup,
		})
	}
	for _, claims := range byName(e.claims(v)) {
		r.entries = append(r.entries, e.route(claims))
	}
	slices.SortFunc(r.entries, comparePrefix)
	r.collectGroups(e.maxGroups)
	return r
}
