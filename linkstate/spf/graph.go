package spf

import (
	"cmp"
	"slices"

	"github.com/dmsc-mesh/dmsc"
)

// Link is one direction of a link as its near end declares it.
type Link struct {
	To     dmsc.NodeID
	ID     dmsc.LinkID
	Metric dmsc.Metric // 0 counts as 1, Unreachable as not declared
}

// Arc is one usable direction of a link: both ends declare it.
type Arc struct {
	To     int32 // index of the far node
	Metric dmsc.Metric
	ID     dmsc.LinkID
}

// Graph holds nodes and the links they declare. It is not safe for concurrent
// use. A node keeps its index even when it is removed and comes back.
type Graph struct {
	index map[dmsc.NodeID]int32
	nodes []node
	dirty []int32 // nodes whose arcs no longer follow from the declarations
}

type node struct {
	id         dmsc.NodeID
	lastResort bool
	dirty      bool
	declared   []Arc // sorted by (id of To, ID), one per pair
	arcs       []Arc // those of declared that the far end declares too
}

// NewGraph returns a Graph without nodes.
func NewGraph() *Graph { return &Graph{index: make(map[dmsc.NodeID]int32)} }

// Len is the number of indexes in use: every index is below it.
func (g *Graph) Len() int { return len(g.nodes) }

// Index returns the index of a node, which need not have declared anything yet.
func (g *Graph) Index(id dmsc.NodeID) int32 {
	i, ok := g.index[id]
	if !ok {
		i = int32(len(g.nodes))
		g.index[id] = i
		g.nodes = append(g.nodes, node{id: id})
	}
	return i
}

// ID returns the node with an index.
func (g *Graph) ID(i int32) dmsc.NodeID { return g.nodes[i].id }

// LastResort reports whether passing through the node costs dmsc.LastResort
// extra.
func (g *Graph) LastResort(i int32) bool { return g.nodes[i].lastResort }

// Arcs returns the usable links out of a node, sorted by (node id, link id). It
// is valid until the next Set or Remove.
func (g *Graph) Arcs(i int32) []Arc {
	g.settle()
	return g.nodes[i].arcs
}

// Set replaces what a node declares and reports whether that is any different
// from before. Links to the node itself are ignored; of two with the same far
// end and id the lower metric counts.
func (g *Graph) Set(id dmsc.NodeID, lastResort bool, links []Link) bool {
	i := g.Index(id)
	declared := make([]Arc, 0, len(links))
	for _, l := range links {
		if l.To != id && l.Metric != dmsc.Unreachable {
			// A link for nothing would allow cycles without cost, on which equal
			// paths never end.
			declared = append(declared, Arc{To: g.Index(l.To), ID: l.ID, Metric: max(l.Metric, 1)})
		}
	}
	slices.SortFunc(declared, func(a, b Arc) int {
		return cmp.Or(g.compare(a, b.To, b.ID), cmp.Compare(a.Metric, b.Metric))
	})
	declared = slices.CompactFunc(declared, func(a, b Arc) bool { return a.To == b.To && a.ID == b.ID })

	n := &g.nodes[i]
	if n.lastResort == lastResort && slices.Equal(n.declared, declared) {
		return false
	}
	g.touch(i)
	g.touchFarEnds(n.declared)
	g.touchFarEnds(declared)
	n.lastResort, n.declared = lastResort, declared
	return true
}

// Remove makes a node declare nothing and reports whether it did before.
func (g *Graph) Remove(id dmsc.NodeID) bool { return g.Set(id, false, nil) }

// compare orders an arc against the key (to, id).
func (g *Graph) compare(a Arc, to int32, id dmsc.LinkID) int {
	if a.To != to {
		return cmp.Compare(g.nodes[a.To].id, g.nodes[to].id)
	}
	return cmp.Compare(a.ID, id)
}

func (g *Graph) touch(i int32) {
	if n := &g.nodes[i]; !n.dirty {
		n.dirty = true
		g.dirty = append(g.dirty, i)
	}
}

func (g *Graph) touchFarEnds(arcs []Arc) {
	for _, a := range arcs {
		g.touch(a.To)
	}
}

// settle repeats the two-way check where declarations have changed.
func (g *Graph) settle() {
	for _, i := range g.dirty {
		n := &g.nodes[i]
		n.dirty = false
		n.arcs = n.arcs[:0]
		for _, a := range n.declared {
			if g.declares(a.To, i, a.ID) {
				n.arcs = append(n.arcs, a)
			}
		}
	}
	g.dirty = g.dirty[:0]
}

func (g *Graph) declares(from, to int32, id dmsc.LinkID) bool {
	_, found := slices.BinarySearchFunc(g.nodes[from].declared, id, func(a Arc, id dmsc.LinkID) int {
		return g.compare(a, to, id)
	})
	return found
}
