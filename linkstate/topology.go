package linkstate

import (
	"cmp"
	"slices"

	"github.com/dmsc-mesh/dmsc"
)

// A topology is the graph of the NodeLSAs as integers: the links that both ends
// advertise. Nodes are numbered in the order of their names and arcs sorted by
// (far end, link id), so whoever holds the same records has the same topology.
type topology struct {
	nodes []dmsc.NodeID
	first []int32 // arcs of node n are arcs[first[n]:first[n+1]]
	arcs  []arc
}

type arc struct {
	to int32
	id dmsc.LinkID
}

// newTopology reads the live NodeLSAs among records, which may come in any
// order, one per origin.
func newTopology(records []*LSA) *topology {
	slices.SortFunc(records, func(a, b *LSA) int { return cmp.Compare(a.Origin, b.Origin) })
	g := &topology{nodes: make([]dmsc.NodeID, len(records)), first: make([]int32, 1, len(records)+1)}
	links := 0
	for n, l := range records {
		g.nodes[n] = l.Origin
		links += len(l.Content.(*NodeLSA).Links)
	}
	g.arcs = make([]arc, 0, links)
	for n, l := range records {
		at := 0 // links are sorted by far end, so it is seldom far to the next
		for _, k := range l.Content.(*NodeLSA).Links {
			if at < len(g.nodes) && g.nodes[at] != k.Remote {
				at = g.seek(at, k.Remote)
			}
			if at < len(g.nodes) && g.nodes[at] == k.Remote && at != n {
				g.arcs = append(g.arcs, arc{int32(at), k.ID})
			}
		}
		mine := g.arcs[g.first[n]:]
		if !slices.IsSortedFunc(mine, arc.compare) {
			slices.SortFunc(mine, arc.compare)
		}
		g.arcs = g.arcs[:int(g.first[n])+len(slices.Compact(mine))]
		g.first = append(g.first, int32(len(g.arcs)))
	}
	g.keepTwoWay()
	return g
}

// seek returns the position of id, or where it would be: it doubles its steps
// from at.
func (g *topology) seek(at int, id dmsc.NodeID) int {
	if g.nodes[at] > id {
		at = 0 // a broken origin that does not sort
	}
	end := at + 1
	for step := 1; end < len(g.nodes) && g.nodes[end] < id; step *= 2 {
		at, end = end, end+step
	}
	n, _ := slices.BinarySearch(g.nodes[at:min(end+1, len(g.nodes))], id)
	return at + n
}

func (a arc) compare(b arc) int { return cmp.Or(cmp.Compare(a.to, b.to), cmp.Compare(a.id, b.id)) }

// keepTwoWay drops the arcs whose far end does not advertise the link. It walks
// the far ends in the order of the near ones, so that one cursor per node finds
// the counterparts.
func (g *topology) keepTwoWay() {
	cursor := slices.Clone(g.first)
	keep := make([]bool, len(g.arcs))
	for n := range g.nodes {
		for k := g.first[n]; k < g.first[n+1]; k++ {
			a, back := g.arcs[k], arc{int32(n), g.arcs[k].id}
			c := cursor[a.to]
			for c < g.first[a.to+1] && g.arcs[c].compare(back) < 0 {
				c++
			}
			cursor[a.to] = c
			keep[k] = c < g.first[a.to+1] && g.arcs[c] == back
		}
	}
	out, k := int32(0), int32(0)
	for n := range g.nodes {
		for end := g.first[n+1]; k < end; k++ {
			if keep[k] {
				g.arcs[out] = g.arcs[k]
				out++
			}
		}
		g.first[n+1] = out
	}
	g.arcs = g.arcs[:out]
}

func (g *topology) of(n int32) []arc { return g.arcs[g.first[n]:g.first[n+1]] }
