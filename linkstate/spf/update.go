package spf

import (
	"math/bits"
	"slices"

	"github.com/dmsc-mesh/dmsc"
)

// Update brings the Tree up to the changes of its Graph since its last Run or
// Update, and returns the nodes whose distance or first hops are different now,
// in no order, and whether it took a full run. The slice is valid until the
// next Update of any Tree over g.
//
// A change far away is repaired in time proportional to what it moves. When
// that is more than a part of the network, or the root has other arcs than
// before (which gives the first hops new positions), a full run is faster, and
// Update does that.
func (t *Tree) Update(g *Graph, c Changes) (moved []int32, full bool) {
	g.moved = g.moved[:0]
	arcs := g.hot[t.root].arcs
	if !c.all && (t.DistancesOnly || slices.EqualFunc(t.arcs, arcs, identical)) {
		t.dist = extend(t.dist, len(g.nodes), dmsc.Unreachable)
		t.hops = extend(t.hops, len(g.nodes)*t.words, 0)
		t.arcs = append(t.arcs[:0], arcs...)
		r := repair{t: t, g: g, scratch: &g.scratch}
		if r.run(c.arcs) {
			return g.moved, false
		}
	}
	t.rerun(g)
	return g.moved, true
}

func identical(a, b Arc) bool { return a.To == b.To && a.Link == b.Link }

// rerun is Run from the same root, and a comparison.
func (t *Tree) rerun(g *Graph) {
	s := &g.scratch
	t.dist, s.dist = s.dist, t.dist
	if !t.DistancesOnly {
		t.hops, s.hops = s.hops, t.hops
	}
	arcs, words := slices.Clone(t.arcs), t.words
	t.Run(g, t.root)
	s.dist = extend(s.dist, len(t.dist), dmsc.Unreachable)
	s.hops = extend(s.hops, len(t.dist)*words, 0)
	same := t.renumbering(arcs)
	for i := range t.dist {
		if t.dist[i] != s.dist[i] || !same(s.hops[i*words:(i+1)*words], t.set(int32(i))) {
			s.moved = append(s.moved, int32(i))
		}
	}
}

// renumbering returns a function that compares a set of first hops by their
// positions in former, the arcs of the root before, with one of now.
func (t *Tree) renumbering(former []Arc) func(was, is []uint64) bool {
	if slices.EqualFunc(former, t.arcs, identical) {
		return slices.Equal[[]uint64]
	}
	now := make([]int, len(former)) // position in t.arcs, or -1
	for i, a := range former {
		now[i] = slices.IndexFunc(t.arcs, func(b Arc) bool { return identical(a, b) })
	}
	renumbered := make([]uint64, t.words)
	return func(was, is []uint64) bool {
		clear(renumbered)
		for w, set := range was {
			for ; set != 0; set &= set - 1 {
				i := now[w*64+bits.TrailingZeros64(set)]
				if i < 0 {
					return false
				}
				renumbered[i/64] |= 1 << (i % 64)
			}
		}
		return slices.Equal(renumbered, is)
	}
}

func extend[T any](s []T, n int, with T) []T {
	for len(s) < n {
		s = append(s, with)
	}
	return s
}
