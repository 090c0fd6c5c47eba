package linkstate

import "slices"

// order is an st-numbering of the blocks of a topology. Nodes are placed ear by
// ear: a path of new nodes between two that are placed goes between them. Ears
// follow a tree of shortest paths, which keeps them short.
type order struct {
	*topology
	sequence []int32 // the nodes in order, one connected part after another
	at       []int32 // position in it
	block    []int32 // of a node, named by the highest node of the block; of the lowest of a connected part: itself
	root     []int32 // of a block, by its name: the lowest node, which belongs to another block; else none

	// The tree of shortest paths.
	parent []int32    // none at its root
	bfs    []int32    // its nodes, nearest first
	childs [][2]int32 // a node's children are bfs[childs[0]:childs[1]]
	anchor []int32    // first placed node on the way to the root, itself if placed

	queue  []int32 // nodes whose arcs may be part of an ear
	queued []bool
	label  []uint64 // grows along the list of placed nodes
	after  []int32  // next in the list
	head   int32    // first in the list
}

const (
	none   = -1
	unseen = -2
)

func newOrder(g *topology) *order {
	n := len(g.nodes)
	o := &order{
		topology: g, at: make([]int32, n), block: slices.Repeat([]int32{none}, n), root: slices.Repeat([]int32{none}, n),
		parent: slices.Repeat([]int32{unseen}, n), childs: make([][2]int32, n), anchor: make([]int32, n),
		queued: make([]bool, n), label: make([]uint64, n), after: make([]int32, n),
	}
	for v := range int32(n) {
		if o.parent[v] == unseen {
			o.placeAll(o.hub(v))
		}
	}
	return o
}

// hub finds the node with the most links in the connected part of n.
func (o *order) hub(n int32) int32 {
	best, seen := n, []int32{n}
	o.parent[n] = none
	for k := 0; k < len(seen); k++ {
		if len(o.of(seen[k])) > len(o.of(best)) || len(o.of(seen[k])) == len(o.of(best)) && seen[k] < best {
			best = seen[k]
		}
		for _, a := range o.of(seen[k]) {
			if o.parent[a.to] == unseen {
				o.parent[a.to] = none
				seen = append(seen, a.to)
			}
		}
	}
	return best
}

// placeAll orders the connected part of s, which becomes the lowest.
func (o *order) placeAll(s int32) {
	o.anchor[s] = s
	from := len(o.bfs)
	o.bfs = append(o.bfs, s)
	for k := from; k < len(o.bfs); k++ {
		n, children := o.bfs[k], int32(len(o.bfs))
		for _, a := range o.of(n) {
			if o.parent[a.to] == none && a.to != s {
				o.parent[a.to], o.anchor[a.to] = n, s
				o.bfs = append(o.bfs, a.to)
			}
		}
		o.childs[n] = [2]int32{children, int32(len(o.bfs))}
	}
	o.head, o.after[s], o.block[s] = s, none, s
	for _, top := range o.bfs[from+1:] {
		if o.block[top] != none {
			continue
		}
		// The first block, or one that hangs on a node placed in another.
		o.root[top] = o.parent[top]
		o.place(o.root[top], []int32{top}, top)
		for len(o.queue) > 0 {
			x := o.queue[0]
			o.queue, o.queued[x] = o.queue[1:], false
			for _, a := range o.of(x) {
				if o.anchor[x] != o.anchor[a.to] && (o.block[x] == none || o.block[a.to] == none) {
					o.placeEar(x, a.to, top)
				}
			}
		}
	}
	for v := s; v != none; v = o.after[v] {
		o.at[v] = int32(len(o.sequence))
		o.sequence = append(o.sequence, v)
	}
}

// placeEar places the path from the anchor of x over x and y to the anchor of y.
func (o *order) placeEar(x, y, block int32) {
	if o.label[o.anchor[x]] > o.label[o.anchor[y]] {
		x, y = y, x
	}
	low := o.anchor[x]
	var ear []int32
	for ; o.block[x] == none; x = o.parent[x] {
		ear = append(ear, x)
	}
	slices.Reverse(ear)
	for ; o.block[y] == none; y = o.parent[y] {
		ear = append(ear, y)
	}
	o.place(low, ear, block)
}

// place puts nodes into the order, just above low.
func (o *order) place(low int32, nodes []int32, block int32) {
	for _, n := range nodes {
		o.insert(low, n)
		o.block[n] = block
		low = n
	}
	for _, n := range nodes {
		o.anchorAt(n, n)
	}
}

// anchorAt makes a the anchor of n and of what hangs on n and is not placed.
func (o *order) anchorAt(n, a int32) {
	o.anchor[n] = a
	if !o.queued[n] {
		o.queue, o.queued[n] = append(o.queue, n), true
	}
	for _, c := range o.bfs[o.childs[n][0]:o.childs[n][1]] {
		if o.block[c] == none {
			o.anchorAt(c, a)
		}
	}
}

// insert puts n into the list after low.
func (o *order) insert(low, n int32) {
	limit := func() uint64 {
		if o.after[low] == none {
			return 1 << 63
		}
		return o.label[o.after[low]]
	}
	if limit()-o.label[low] < 2 {
		at, step := uint64(0), uint64(1<<63)/uint64(len(o.nodes)+1)
		for k := o.head; k != none; k = o.after[k] {
			o.label[k] = at
			at += step
		}
	}
	o.label[n] = o.label[low] + (limit()-o.label[low])/2
	o.after[n], o.after[low] = o.after[low], n
}
