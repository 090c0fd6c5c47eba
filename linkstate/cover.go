package linkstate

import (
	"cmp"
	"iter"
	"slices"

	"github.com/dmsc-mesh/dmsc"
)

// Covers is a set of covers: 1, 2 or both.
type Covers uint8

const (
	coverOne Covers = 1 << iota
	coverTwo
	coverNone Covers = 0
	coverBoth        = coverOne | coverTwo
)

func (c Covers) String() string { return [...]string{"-", "1", "2", "1+2"}[c&coverBoth] }

// covers are two spanning trees of every connected part of a topology, over
// which a record is passed on instead of over all links. They follow from an
// order of the nodes in which every node has a neighbour below and one above it
// (an st-numbering): in cover 1 the parent of a node is below it, in cover 2
// above. So the way from a node down to the lowest and the way up to the highest
// share no other node and no link (independent trees: Itai and Rodeh 1988; RFC
// 7811 computes its red and blue trees like this), and
//
//	whatever single node or link is lost, every node that is still connected
//	has its way to the lowest or its way to the highest.
//
// The lowest and the highest are neighbours, and what reaches the highest by
// one cover goes on by both (crosses). Where the loss of one node parts the
// network there is no such order; each block (what no such node parts) has one
// of its own, whose lowest is the node it hangs on.
type covers struct {
	nodes []dmsc.NodeID // sorted
	trees [2]tree
	cross []bool // per node: what comes by one cover goes on by both
}

// tree is one cover, sorted.
type tree []coverLink

type coverLink struct {
	a, b int32 // a < b
	id   dmsc.LinkID
}

// at yields the links of node n.
func (t tree) at(n int32) iter.Seq[coverLink] {
	return func(yield func(coverLink) bool) {
		for _, l := range t {
			if (l.a == n || l.b == n) && !yield(l) {
				return
			}
		}
	}
}

func (c *covers) equal(d *covers) bool {
	return slices.Equal(c.nodes, d.nodes) && slices.Equal(c.trees[0], d.trees[0]) && slices.Equal(c.trees[1], d.trees[1])
}

// survive reports whether the covers use only links at node id that are among
// those given.
func (c *covers) survive(id dmsc.NodeID, links []Link) bool {
	n, ok := slices.BinarySearch(c.nodes, id)
	if !ok {
		return true
	}
	for _, t := range c.trees {
		for l := range t.at(int32(n)) {
			if !hasLink(links, LinkKey{c.nodes[l.a+l.b-int32(n)], l.id}) {
				return false
			}
		}
	}
	return true
}

// newCovers computes the covers of g.
func newCovers(g *topology) *covers {
	n := len(g.nodes)
	c := &chooser{
		order: newOrder(g), lower: make([]int32, n), depth: make([]int32, n),
		reserved: slices.Repeat([]int32{none}, n), second: slices.Repeat([]int32{none}, n),
	}
	for cover := range c.up {
		c.up[cover], c.inner[cover] = slices.Repeat([]int32{none}, n), make([]bool, n)
	}
	c.reserve()
	for _, v := range c.sequence {
		c.choose(v, 0)
	}
	clear(c.depth)
	for _, v := range slices.Backward(c.sequence) {
		c.choose(v, 1)
	}
	return c.covers()
}

// chooser picks the links of the covers along a finished order.
type chooser struct {
	*order
	lower []int32 // number of neighbours below in the block, those that reserve the node aside
	// reserved is a neighbour above, the link to which cover 1 leaves to cover 2
	// if it can. second is the same for the lowest node of a block, by its highest.
	reserved, second []int32

	depth []int32    // in the cover that is being chosen
	up    [2][]int32 // arc to the parent; of the highest in cover 2, the lowest's arc to second
	inner [2][]bool  // is a parent
}

// neighbours calls f with every neighbour of v within its block and the first
// arc to it.
func (c *chooser) neighbours(v int32, f func(u, k int32)) {
	top := c.block[v]
	for k := c.first[v]; k < c.first[v+1]; {
		u, first := c.arcs[k].to, k
		for k++; k < c.first[v+1] && c.arcs[k].to == u; k++ {
		}
		if c.block[u] == top || u == c.root[top] {
			f(u, first)
		}
	}
}

// reserve sets a link up aside for every node: to a node that has another way
// down, if there is one, and then the highest.
func (c *chooser) reserve() {
	nodes := int32(len(c.nodes))
	for v := range nodes {
		c.neighbours(v, func(u, _ int32) {
			if c.at[u] < c.at[v] {
				c.lower[v]++
			}
		})
	}
	better := func(u, than int32) bool {
		if than == none {
			return true
		}
		return cmp.Or(cmp.Compare(min(c.lower[u], 2), min(c.lower[than], 2)), cmp.Compare(c.at[u], c.at[than])) > 0
	}
	for v := range nodes {
		for _, a := range c.of(v) {
			// Cover 1 has the link from the lowest to the highest already.
			if top := c.block[a.to]; c.root[top] == v && (c.second[top] == none || c.second[top] == top || a.to != top && better(a.to, c.second[top])) {
				c.second[top] = a.to
			}
		}
	}
	for _, v := range c.second {
		if v != none {
			c.lower[v]--
		}
	}
	for _, v := range slices.Backward(c.sequence) {
		c.neighbours(v, func(u, _ int32) {
			if c.at[u] > c.at[v] && better(u, c.reserved[v]) {
				c.reserved[v] = u
			}
		})
		if u := c.reserved[v]; u != none {
			c.lower[u]--
		}
	}
}

// choose picks the parent of v in a cover: the nearest to the cover's root, but
// if possible by a link that the other cover does not use; of equals one that is
// a parent already and, in cover 2, none in cover 1.
func (c *chooser) choose(v int32, cover int) {
	top := c.block[v]
	root := c.root[top]
	switch {
	case root == none: // the lowest of a connected part
		return
	case v == top:
		c.chooseTop(v, cover)
		return
	}
	best, parent := ^uint64(0), int32(none)
	c.neighbours(v, func(u, k int32) {
		if (c.at[u] < c.at[v]) != (cover == 0) {
			return
		}
		shared, outer, far := uint64(0), uint64(0), c.at[u]
		if cover == 0 {
			if c.block[u] == top && c.reserved[u] == v || u == root && c.second[top] == v {
				shared = 1
			}
		} else {
			far = int32(len(c.nodes)) - far
			if c.arcs[c.up[0][u]].to == v {
				shared = 1
			}
			if c.inner[0][u] {
				outer = 1
			}
		}
		if !c.inner[cover][u] {
			outer += 2
		}
		if rank := shared<<63 | uint64(c.depth[u])<<34 | outer<<32 | uint64(far); rank < best {
			best, c.up[cover][v], parent = rank, k, u
		}
	})
	c.depth[v] = c.depth[parent] + 1
	c.inner[cover][parent] = true
}

// chooseTop joins the highest node of a block with the lowest: in cover 1 by the
// link between them, in cover 2 by another of the lowest, if it has one.
func (c *chooser) chooseTop(top int32, cover int) {
	root := c.root[top]
	if cover == 0 {
		c.depth[top], c.up[0][top], c.inner[0][root] = c.depth[root]+1, c.arcTo(top, root), true
		return
	}
	second := c.second[top]
	k := c.arcTo(root, second)
	if c.arcs[c.up[0][second]].to == root && k+1 < c.first[root+1] && c.arcs[k+1].to == second {
		k++
	}
	c.up[1][top], c.inner[1][second] = k, true
}

func (c *chooser) arcTo(from, to int32) int32 {
	n, _ := slices.BinarySearchFunc(c.of(from), to, func(a arc, to int32) int { return cmp.Compare(a.to, to) })
	return c.first[from] + int32(n)
}

func (c *chooser) covers() *covers {
	out := &covers{nodes: c.nodes, cross: make([]bool, len(c.nodes))}
	for cover := range out.trees {
		for v, k := range c.up[cover] {
			if k == none {
				continue
			}
			near := int32(v)
			if cover == 1 && near == c.block[v] {
				near = c.root[v]
			}
			a := c.arcs[k]
			out.trees[cover] = append(out.trees[cover], coverLink{min(near, a.to), max(near, a.to), a.id})
		}
		slices.SortFunc(out.trees[cover], coverLink.compare)
	}
	for v, root := range c.root { // those that have one are the highest of a block
		out.cross[v] = root != none
	}
	for one, two := out.trees[0], out.trees[1]; len(one) > 0 && len(two) > 0; {
		d := one[0].compare(two[0])
		if d == 0 { // both covers use this link
			out.cross[one[0].a], out.cross[one[0].b] = true, true
		}
		if d <= 0 {
			one = one[1:]
		}
		if d >= 0 {
			two = two[1:]
		}
	}
	return out
}

func (l coverLink) compare(m coverLink) int {
	return cmp.Or(cmp.Compare(l.a, m.a), cmp.Compare(l.b, m.b), cmp.Compare(l.id, m.id))
}
