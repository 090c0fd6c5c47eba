package spf

import (
	"iter"
	"math/bits"

	"github.com/dmsc-mesh/dmsc"
)

// Tree holds the shortest paths from one root. The zero value is ready for
// Run; both Run and Update may be called again and again and then reuse its
// memory.
type Tree struct {
	// DistancesOnly makes a Tree without first hops: 4 bytes per node.
	DistancesOnly bool

	root  int32
	arcs  []Arc // out of the root
	dist  []dmsc.Metric
	hops  []uint64 // per node a set of positions in arcs, words long
	words int
}

// Run computes the shortest paths from root over g as it is now (Dijkstra, with
// all paths of equal cost). Passing through a last-resort node other than the
// root costs dmsc.LastResort extra; ending there does not. What costs
// dmsc.Unreachable or more is not reachable. The result is valid until the next
// change of g.
func (t *Tree) Run(g *Graph, root int32) {
	g.settle()
	t.root, t.arcs = root, append(t.arcs[:0], g.hot[root].arcs...)
	t.words = 0
	if !t.DistancesOnly {
		t.words = (len(t.arcs) + 63) / 64
	}
	t.dist = resize(t.dist, len(g.nodes))
	t.hops = resize(t.hops, len(g.nodes)*t.words)
	for i := range t.dist {
		t.dist[i] = dmsc.Unreachable
	}
	clear(t.hops)
	queue := &g.queue
	queue.reset()

	t.dist[root] = 0
	for i, a := range t.arcs {
		if a.Metric > t.dist[a.To] {
			continue
		}
		if a.Metric < t.dist[a.To] {
			t.dist[a.To] = a.Metric
			clear(t.set(a.To))
			queue.push(item{a.Metric, a.To})
		}
		t.add(a.To, i)
	}
	for queue.len > 0 {
		it := queue.pop()
		if it.dist != t.dist[it.node] {
			continue // reached by a shorter path since it was pushed
		}
		t.relax(g, it.node)
	}
}

// relax offers the paths that go on from u. Metrics are at least 1, so every
// predecessor on an equally short path is relaxed before its successor is
// popped, and the successor's set of first hops is complete by then.
func (t *Tree) relax(g *Graph, u int32) {
	n := &g.hot[u]
	through := t.dist[u]
	if n.lastResort {
		through = through.Add(dmsc.LastResort)
	}
	for _, a := range n.arcs {
		d := through.Add(a.Metric)
		switch old := t.dist[a.To]; {
		case d < old:
			t.dist[a.To] = d
			copy(t.set(a.To), t.set(u))
			g.queue.push(item{d, a.To})
		case d == old && d != dmsc.Unreachable:
			t.join(a.To, u)
		}
	}
}

// Root is the node that Run started from.
func (t *Tree) Root() int32 { return t.root }

// Distance is the cost from the root to n, dmsc.Unreachable if there is no path.
func (t *Tree) Distance(n int32) dmsc.Metric { return t.dist[n] }

// Reachable reports whether there is a path to n.
func (t *Tree) Reachable(n int32) bool { return t.dist[n] != dmsc.Unreachable }

// FirstHops yields the first arcs of all shortest paths to n with their
// positions in Graph.Arcs of the root, in that order: sorted by (node id, link
// id). The root and what cannot be reached have none.
func (t *Tree) FirstHops(n int32) iter.Seq2[int, Arc] {
	return func(yield func(int, Arc) bool) {
		for w, set := range t.set(n) {
			for ; set != 0; set &= set - 1 {
				i := w*64 + bits.TrailingZeros64(set)
				if !yield(i, t.arcs[i]) {
					return
				}
			}
		}
	}
}

// set is the set of first hops of n.
func (t *Tree) set(n int32) []uint64 {
	return t.hops[int(n)*t.words : (int(n)+1)*t.words]
}

// add puts the root's arc at position i into the set of n.
func (t *Tree) add(n int32, i int) {
	if t.words > 0 {
		t.set(n)[i/64] |= 1 << (i % 64)
	}
}

// join puts the first hops of from into the set of n.
func (t *Tree) join(n, from int32) {
	set := t.set(n)
	for w, bits := range t.set(from) {
		set[w] |= bits
	}
}

func resize[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}
