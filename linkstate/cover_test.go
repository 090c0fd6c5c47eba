package linkstate

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/dmsc-mesh/dmsc"
)

// A mesh is a test network: links by the positions of their ends.
type mesh struct {
	name  string
	nodes int
	links [][2]int // twice the same: parallel
}

func (m *mesh) link(a, b int) { m.links = append(m.links, [2]int{a, b}) }

func fatTree(k int) mesh {
	m, half := mesh{name: fmt.Sprintf("fat tree k=%d", k), nodes: k*k/4 + k*k}, k/2
	for pod := range k {
		for agg := range half {
			a := half*half + pod*k + agg
			for n := range half {
				m.link(agg*half+n, a)             // core
				m.link(a, half*half+pod*k+half+n) // edge
			}
		}
	}
	return m
}

func clique(n int) mesh {
	m := mesh{name: fmt.Sprintf("clique %d", n), nodes: n}
	for a := range n {
		for b := range a {
			m.link(a, b)
		}
	}
	return m
}

func meshNode(n int) dmsc.NodeID { return dmsc.NodeID(fmt.Sprintf("n%05d", n)) }

// records are the NodeLSAs of m.
func (m mesh) records() []*LSA {
	contents := make([]NodeLSA, m.nodes)
	copies := make(map[[2]int]int)
	for _, l := range m.links {
		pair := [2]int{min(l[0], l[1]), max(l[0], l[1])}
		id := dmsc.LinkID(fmt.Sprint(copies[pair]))
		copies[pair]++
		for k := range l {
			contents[l[k]].Links = append(contents[l[k]].Links, Link{Remote: meshNode(l[1-k]), ID: id, Metric: 10})
		}
	}
	var out []*LSA
	for n := range contents {
		slices.SortFunc(contents[n].Links, func(a, b Link) int {
			return LinkKey{a.Remote, a.ID}.Compare(LinkKey{b.Remote, b.ID})
		})
		out = append(out, &LSA{Key: Key{Origin: meshNode(n), Type: TypeNode}, Content: &contents[n]})
	}
	return out
}

// random is a connected network of a mean degree; parallel links occur.
func random(n, degree int, r *rand.Rand) mesh {
	m := mesh{name: fmt.Sprintf("random %d degree %d", n, degree), nodes: n}
	for a := 1; a < n; a++ {
		m.link(a, r.IntN(a))
	}
	for len(m.links) < n*degree/2 {
		if a, b := r.IntN(n), r.IntN(n); a != b {
			m.link(a, b)
		}
	}
	return m
}

func barbell() mesh {
	m := mesh{name: "cliques with bridges, one twice", nodes: 30, links: [][2]int{{3, 14}, {14, 3}, {15, 25}}}
	for k := range 3 {
		for a := range 10 {
			for b := range a {
				m.link(10*k+a, 10*k+b)
			}
		}
	}
	return m
}

// meshes yields shapes of all kinds: dense and sparse, with bridges, blocks that
// share a node, parallel links and more than one part.
func meshes(seeds int) iter.Seq[mesh] {
	return func(yield func(mesh) bool) {
		fixed := []mesh{fatTree(4), fatTree(8), fatTree(12), clique(2), clique(3), clique(10), {name: "one node", nodes: 1}}
		chain := mesh{name: "cliques that share a node", nodes: 5*9 + 1}
		for k := range 5 {
			for a := range 10 {
				for b := range a {
					chain.link(9*k+a, 9*k+b)
				}
			}
		}
		for _, m := range append(fixed, chain, barbell()) {
			if !yield(m) {
				return
			}
		}
		for seed := range uint64(seeds) {
			r := rand.New(rand.NewPCG(seed, 1))
			n := 2 + r.IntN(40)
			m := random(n, 2+r.IntN(12), r)
			if r.IntN(4) == 0 { // grid with extra links
				side := 2 + r.IntN(6)
				m = mesh{nodes: side * side}
				for v := range m.nodes {
					if v%side > 0 {
						m.link(v, v-1)
					}
					if v >= side {
						m.link(v, v-side)
					}
				}
				for range r.IntN(2 * m.nodes) {
					if a, b := r.IntN(m.nodes), r.IntN(m.nodes); a != b {
						m.link(a, b)
					}
				}
			}
			for range r.IntN(3) { // trees and islands
				m.nodes++
				if r.IntN(3) > 0 {
					m.link(m.nodes-1, r.IntN(m.nodes-1))
				}
			}
			m.name = fmt.Sprintf("seed %d", seed)
			if !yield(m) {
				return
			}
		}
	}
}

// A spread is the way of one record over the covers, one hop at a time, by the
// rules of passOn. What is lost takes no copies.
type spread struct {
	*covers
	links  [][]coverArc
	passed []Covers
	got    []bool
	copies int
	hops   int
}

type coverArc struct {
	coverLink
	to int32
	Covers
}

func newSpread(c *covers) *spread {
	s := &spread{covers: c, links: make([][]coverArc, len(c.nodes)), passed: make([]Covers, len(c.nodes)), got: make([]bool, len(c.nodes))}
	of := make(map[coverLink]Covers)
	for k, tree := range c.trees {
		for _, l := range tree {
			of[l] |= 1 << k
		}
	}
	for l, covers := range of {
		s.links[l.a] = append(s.links[l.a], coverArc{l, l.b, covers})
		s.links[l.b] = append(s.links[l.b], coverArc{l, l.a, covers})
	}
	return s
}

func (s *spread) run(origin int32, lost func(coverLink) bool) {
	clear(s.passed)
	clear(s.got)
	s.copies, s.hops = 0, 0
	var wire []coverArc
	pass := func(from coverLink, n int32, came Covers) {
		if s.cross[n] {
			came = coverBoth
		}
		done := s.passed[n]
		s.passed[n] |= came
		for _, a := range s.links[n] {
			if a.coverLink != from && a.Covers&came&^done != 0 && a.Covers&done == 0 {
				s.copies++
				if !lost(a.coverLink) {
					wire = append(wire, a)
				}
			}
		}
	}
	s.got[origin] = true
	pass(coverLink{}, origin, coverBoth)
	for hop := 1; len(wire) > 0; hop++ {
		now := wire
		wire = nil
		for _, l := range now {
			if !s.got[l.to] {
				s.got[l.to], s.hops = true, hop
			}
			pass(l.coverLink, l.to, l.Covers)
		}
	}
}

// reachable finds what is connected with origin, and how far the farthest is.
func reachable(g *topology, origin int32, lost func(coverLink) bool) (got []bool, hops int) {
	got = make([]bool, len(g.nodes))
	got[origin] = true
	for now := []int32{origin}; ; hops++ {
		var next []int32
		for _, v := range now {
			for _, a := range g.of(v) {
				if !got[a.to] && !lost(coverLink{min(v, a.to), max(v, a.to), a.id}) {
					got[a.to] = true
					next = append(next, a.to)
				}
			}
		}
		if len(next) == 0 {
			return got, hops
		}
		now = next
	}
}

func nothing(coverLink) bool { return false }

// TestEveryConnectedNodeHearsDespiteAnySingleLoss is the guarantee at covers:
// every origin, every single node and every single link lost; and it takes two
// copies per node, and two more where blocks meet.
func TestEveryConnectedNodeHearsDespiteAnySingleLoss(t *testing.T) {
	for m := range meshes(100) {
		g := newTopology(m.records())
		s, o := newSpread(newCovers(g)), newOrder(g)
		try := func(origin int32, what string, lost func(coverLink) bool) {
			want, _ := reachable(g, origin, lost)
			if s.run(origin, lost); !slices.Equal(s.got, want) {
				t.Fatalf("%s: from %d with %s lost: reached %v, connected %v\ncovers %v", m.name, origin, what, s.got, want, s.trees)
			}
		}
		step := int32(1 + len(g.nodes)/50)
		for origin := int32(0); int(origin) < len(g.nodes); origin += step {
			try(origin, "nothing", nothing)
			blocks := 0
			for _, r := range o.root {
				if r != none {
					blocks++
				}
			}
			if len(g.arcs) > reduceAbove*len(g.nodes) && s.copies > 2*(len(g.nodes)+blocks-1) {
				t.Fatalf("%s: %d copies for %d nodes in %d blocks", m.name, s.copies, len(g.nodes), blocks)
			}
			for v := int32(0); int(v) < len(g.nodes); v += step {
				if v != origin {
					try(origin, fmt.Sprintf("node %d", v), func(l coverLink) bool { return l.a == v || l.b == v })
				}
			}
			for _, tree := range s.trees {
				for k := 0; k < len(tree); k += int(step) {
					try(origin, fmt.Sprintf("link %v", tree[k]), func(l coverLink) bool { return l == tree[k] })
				}
			}
		}
	}
}

func TestCoversAreSpanningTrees(t *testing.T) {
	for m := range meshes(1000) {
		g := newTopology(m.records())
		for k, tree := range newCovers(g).trees {
			group := make([]int32, len(g.nodes))
			for v := range group {
				group[v] = int32(v)
			}
			for _, l := range tree {
				if a, b := group[l.a], group[l.b]; a == b {
					t.Fatalf("%s: cover %d has a cycle with %v", m.name, k+1, l)
				} else {
					for v := range group {
						if group[v] == a {
							group[v] = b
						}
					}
				}
				if _, ok := slices.BinarySearchFunc(g.of(l.a), arc{l.b, l.id}, arc.compare); !ok {
					t.Fatalf("%s: cover %d has the link %v, which does not exist", m.name, k+1, l)
				}
			}
			for v := range group {
				got, _ := reachable(g, int32(v), nothing)
				for u := range got {
					if got[u] != (group[u] == group[v]) {
						t.Fatalf("%s: cover %d does not span %d and %d", m.name, k+1, v, u)
					}
				}
			}
		}
	}
}

func BenchmarkCovers(b *testing.B) {
	for _, k := range []int{28, 88} {
		m := fatTree(k)
		records := m.records()
		b.Run(m.name+"/topology", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				newTopology(slices.Clone(records))
			}
		})
		b.Run(m.name+"/covers", func(b *testing.B) {
			b.ReportAllocs()
			g := newTopology(slices.Clone(records))
			for b.Loop() {
				newCovers(g)
			}
		})
	}
}
