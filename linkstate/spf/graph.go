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
	Link   int32 // index of the link id, see Graph.LinkID
	Metric dmsc.Metric
	Back   dmsc.Metric // of the other direction
}

// Graph holds nodes and the links they declare. It is not safe for concurrent
// use, nor are the Trees over it. A node keeps its index even when it is
// removed and comes back.
type Graph struct {
	index   map[dmsc.NodeID]int32
	nodes   []node
	hot     []hotNode // by the same index: all that a run looks at
	links   map[dmsc.LinkID]int32
	linkIDs []dmsc.LinkID

	dirty []int32 // nodes whose arcs no longer follow from the declarations
	log   Changes // since Take
	spare []Arc
	scratch
}

type node struct {
	id         dmsc.NodeID
	lastResort bool // as declared; hotNode has it as of the last settle
	dirty      bool
	declared   []declared // sorted by (id of to, link id), one per pair
}

type declared struct {
	to, link int32
	metric   dmsc.Metric
}

type hotNode struct {
	arcs       []Arc // those declared that the far end declares too
	lastResort bool
}

// NewGraph returns a Graph without nodes.
func NewGraph() *Graph {
	return &Graph{index: make(map[dmsc.NodeID]int32), links: make(map[dmsc.LinkID]int32), log: Changes{all: true}}
}

// Len is the number of indexes in use: every index is below it.
func (g *Graph) Len() int { return len(g.nodes) }

// Interned is the number of node and link ids that the Graph remembers, in use
// or not. It never falls: who feeds it changing ids for ever has to begin anew
// now and then.
func (g *Graph) Interned() int { return len(g.nodes) + len(g.linkIDs) }

// Index returns the index of a node, which need not have declared anything yet.
func (g *Graph) Index(id dmsc.NodeID) int32 {
	i, ok := g.index[id]
	if !ok {
		i = int32(len(g.nodes))
		g.index[id] = i
		g.nodes = append(g.nodes, node{id: id})
		g.hot = append(g.hot, hotNode{})
	}
	return i
}

// ID returns the node with an index.
func (g *Graph) ID(i int32) dmsc.NodeID { return g.nodes[i].id }

// LinkID returns the link id with an index.
func (g *Graph) LinkID(i int32) dmsc.LinkID { return g.linkIDs[i] }

func (g *Graph) linkIndex(id dmsc.LinkID) int32 {
	i, ok := g.links[id]
	if !ok {
		i = int32(len(g.linkIDs))
		g.links[id] = i
		g.linkIDs = append(g.linkIDs, id)
	}
	return i
}

// LastResort reports whether passing through the node costs dmsc.LastResort
// extra.
func (g *Graph) LastResort(i int32) bool { return g.nodes[i].lastResort }

// Arcs returns the usable links out of a node, sorted by (node id, link id). It
// is valid until the next Set or Remove.
func (g *Graph) Arcs(i int32) []Arc {
	g.settle()
	return g.hot[i].arcs
}

// Set replaces what a node declares and reports whether that is any different
// from before. Links to the node itself are ignored; of two with the same far
// end and id the lower metric counts.
func (g *Graph) Set(id dmsc.NodeID, lastResort bool, links []Link) bool {
	i := g.Index(id)
	next := make([]declared, 0, len(links))
	for _, l := range links {
		if l.To != id && l.Metric != dmsc.Unreachable {
			// A link for nothing would allow cycles without cost, on which equal
			// paths never end.
			next = append(next, declared{g.Index(l.To), g.linkIndex(l.ID), max(l.Metric, 1)})
		}
	}
	slices.SortFunc(next, func(a, b declared) int {
		return cmp.Or(g.compare(a.to, a.link, b.to, b.link), cmp.Compare(a.metric, b.metric))
	})
	next = slices.CompactFunc(next, func(a, b declared) bool { return a.to == b.to && a.link == b.link })

	n := &g.nodes[i]
	if n.lastResort == lastResort && slices.Equal(n.declared, next) {
		return false
	}
	g.touch(i)
	g.touchChanged(n.declared, next)
	n.lastResort, n.declared = lastResort, next
	return true
}

// Remove makes a node declare nothing and reports whether it did before.
func (g *Graph) Remove(id dmsc.NodeID) bool { return g.Set(id, false, nil) }

// compare orders arcs by the ids of their far node and link.
func (g *Graph) compare(to, link, otherTo, otherLink int32) int {
	switch {
	case to != otherTo:
		return cmp.Compare(g.nodes[to].id, g.nodes[otherTo].id)
	case link != otherLink:
		return cmp.Compare(g.linkIDs[link], g.linkIDs[otherLink])
	}
	return 0
}

func (g *Graph) touch(i int32) {
	if n := &g.nodes[i]; !n.dirty {
		n.dirty = true
		g.dirty = append(g.dirty, i)
	}
}

// touchChanged touches the far ends of what differs between two sorted lists.
func (g *Graph) touchChanged(old, next []declared) {
	order := func(a, b *declared) int { return g.compare(a.to, a.link, b.to, b.link) }
	merge(old, next, order, func(was, is *declared) {
		switch {
		case is == nil:
			g.touch(was.to)
		case was == nil || was.metric != is.metric:
			g.touch(is.to)
		}
	})
}

// merge walks two sorted lists and visits each key once, with nil for the list
// that lacks it.
func merge[T any](old, next []T, order func(a, b *T) int, visit func(was, is *T)) {
	for len(old) > 0 || len(next) > 0 {
		switch {
		case len(next) == 0 || len(old) > 0 && order(&old[0], &next[0]) < 0:
			visit(&old[0], nil)
			old = old[1:]
		case len(old) == 0 || order(&next[0], &old[0]) < 0:
			visit(nil, &next[0])
			next = next[1:]
		default:
			visit(&old[0], &next[0])
			old, next = old[1:], next[1:]
		}
	}
}

// settle repeats the two-way check where declarations have changed and logs
// what became of the arcs.
func (g *Graph) settle() {
	for _, i := range g.dirty {
		g.nodes[i].dirty = false
		g.spare = g.spare[:0]
		for _, d := range g.nodes[i].declared {
			if back := g.declares(d.to, i, d.link); back != dmsc.Unreachable {
				g.spare = append(g.spare, Arc{d.to, d.link, d.metric, back})
			}
		}
		h := &g.hot[i]
		g.record(i, h.arcs, g.spare, h.lastResort, g.nodes[i].lastResort)
		h.arcs = append(h.arcs[:0], g.spare...)
		h.lastResort = g.nodes[i].lastResort
	}
	g.dirty = g.dirty[:0]
}

// declares returns the metric that a node declares for a link to another,
// Unreachable if it declares none.
func (g *Graph) declares(from, to, link int32) dmsc.Metric {
	list := g.nodes[from].declared
	if len(list) <= 8 { // most are: no string needs to be compared
		for _, d := range list {
			if d.to == to && d.link == link {
				return d.metric
			}
		}
		return dmsc.Unreachable
	}
	i, found := slices.BinarySearchFunc(list, to, func(d declared, to int32) int {
		return g.compare(d.to, d.link, to, link)
	})
	if !found {
		return dmsc.Unreachable
	}
	return list[i].metric
}
