package spf

import (
	"slices"

	"github.com/dmsc-mesh/dmsc"
)

// repair is one incremental run, after Ramalingam and Reps, "An incremental
// algorithm for a generalization of the shortest-path problem" (J. Algorithms
// 21, 1996), for any number of changed arcs at once and with sets of first
// hops. It looks only at nodes that move and at their neighbours.
//
// Call an arc u→v tight if dist(u) + cost = dist(v): it is the end of a shortest
// path to v. Costs are at least 1, so a tight arc always leads to a greater
// distance, and whoever works in the order of distances has dealt with all
// predecessors of a node before the node.
//
//  1. lose: nodes that have lost their last support. Suspects are the heads of
//     changed arcs that were tight, in the order of their old distance. A suspect
//     that still has an arc from a node that has not lost, at no more than its
//     old distance, keeps that as an upper bound; otherwise it has lost, and the
//     heads of its tight arcs become suspects.
//  2. gain: Dijkstra over what may have a new distance. Those that have lost
//     start from the best arc out of the rest, heads of changed arcs from theirs;
//     everything else holds a length that some path still has, so that
//     distances are right when the queue is empty.
//  3. rejoin: the first hops of a node are the union over the tight arcs that
//     end there. That can only have changed where the node itself, the tail of an
//     arc that is or was tight, or the arc has changed: those are computed anew
//     in the order of the new distance, and where a set comes out different the
//     heads of the tight arcs follow. Every set is thus computed after those it
//     is made of, as in a full run.
type repair struct {
	t *Tree
	g *Graph
	*scratch
}

// scratch is the memory of runs; the trees over a Graph share it.
type scratch struct {
	queue radixHeap
	mark  []uint8 // per node; all zero between two runs
	dirt  []int32 // nodes with a mark
	logs  []former
	sets  []uint64 // former sets of first hops, one per entry of reset
	reset []int32
	moved []int32

	dist []dmsc.Metric // spare arrays, for comparisons
	hops []uint64
}

// former is the distance that a node had before the repair.
type former struct {
	node int32
	dist dmsc.Metric
}

const (
	suspected uint8 = 1 << iota // has been in the queue of lose
	lost                        // no support is left
	logged                      // former distance is in logs
	queued                      // has been in the queue of rejoin
	counted                     // is in moved
)

// worthRepair is how many nodes of n may move before a full run is faster.
func worthRepair(n int) int { return n/8 + 16 }

// run repairs the tree and collects the nodes that have moved. If it gives up,
// the tree is as it was.
func (r *repair) run(changed []arcChange) bool {
	r.mark = extend(r.mark, len(r.g.nodes), 0)
	r.dirt, r.logs, r.sets, r.reset = r.dirt[:0], r.logs[:0], r.sets[:0], r.reset[:0]
	done := r.lose(changed) && r.gain(changed) && r.rejoin(changed)
	if done {
		r.collect()
	} else {
		r.undo()
	}
	for _, n := range r.dirt {
		r.mark[n] = 0
	}
	return done
}

// set sets bits in the mark of a node and reports whether the first was unset.
func (r *repair) set(n int32, bit uint8) bool {
	if r.mark[n] == 0 {
		r.dirt = append(r.dirt, n)
	}
	was := r.mark[n]&bit != 0
	r.mark[n] |= bit
	return !was
}

// cost of an arc as seen from the root, which passes through itself for
// nothing.
func (r *repair) cost(from int32, m dmsc.Metric, lastResort bool) dmsc.Metric {
	if lastResort && from != r.t.root {
		return m.Add(dmsc.LastResort)
	}
	return m
}

func (r *repair) wasTight(c arcChange) bool {
	d := r.t.dist[c.from].Add(r.cost(c.from, c.metric, c.lastResort))
	return d == r.t.dist[c.to] && d != dmsc.Unreachable
}

func (r *repair) lose(changed []arcChange) bool {
	dist := r.t.dist
	r.queue.reset()
	suspect := func(n int32) {
		if n != r.t.root && r.set(n, suspected) {
			r.queue.push(item{dist[n], n})
		}
	}
	for _, c := range changed {
		if r.wasTight(c) {
			suspect(c.to)
		}
	}
	for r.queue.len > 0 {
		v := r.queue.pop().node
		if r.supported(v) {
			continue
		}
		r.set(v, lost)
		if !r.note(v) {
			return false
		}
		h := &r.g.hot[v]
		through := r.cost(v, dist[v], h.lastResort)
		for _, a := range h.arcs {
			if d := through.Add(a.Metric); d == dist[a.To] && d != dmsc.Unreachable {
				suspect(a.To)
			}
		}
	}
	for _, f := range r.logs {
		dist[f.node] = dmsc.Unreachable
	}
	return true
}

// supported reports whether a path to v is left that is no longer than before.
func (r *repair) supported(v int32) bool {
	for _, a := range r.g.hot[v].arcs { // two-way, so predecessors are among them
		if r.mark[a.To]&lost == 0 && r.reach(a) <= r.t.dist[v] {
			return true
		}
	}
	return false
}

// reach is the length of the path that ends with the other direction of an arc.
func (r *repair) reach(a Arc) dmsc.Metric {
	return r.t.dist[a.To].Add(r.cost(a.To, a.Back, r.g.hot[a.To].lastResort))
}

// note keeps the distance of a node, once, and reports whether the repair still
// pays.
func (r *repair) note(n int32) bool {
	if r.set(n, logged) {
		r.logs = append(r.logs, former{n, r.t.dist[n]})
	}
	return len(r.logs) <= worthRepair(len(r.g.nodes))
}

func (r *repair) gain(changed []arcChange) bool {
	dist := r.t.dist
	r.queue.reset()
	better := func(n int32, d dmsc.Metric) bool {
		if d >= dist[n] {
			return true
		}
		ok := r.note(n)
		dist[n] = d
		r.queue.push(item{d, n})
		return ok
	}
	enter := func(n int32) bool {
		d := dist[n]
		for _, a := range r.g.hot[n].arcs {
			d = min(d, r.reach(a))
		}
		return better(n, d)
	}
	for _, f := range r.logs { // so far only those that have lost
		if !enter(f.node) {
			return false
		}
	}
	for _, c := range changed {
		if c.to != r.t.root && !enter(c.to) {
			return false
		}
	}
	for r.queue.len > 0 {
		it := r.queue.pop()
		if it.dist != dist[it.node] {
			continue
		}
		h := &r.g.hot[it.node]
		through := r.cost(it.node, it.dist, h.lastResort)
		for _, a := range h.arcs {
			if !better(a.To, through.Add(a.Metric)) {
				return false
			}
		}
	}
	return true
}

func (r *repair) rejoin(changed []arcChange) bool {
	if r.t.words == 0 {
		return true
	}
	dist := r.t.dist
	r.queue.reset()
	suspect := func(n int32) {
		if n != r.t.root && r.set(n, queued) {
			r.queue.push(item{dist[n], n})
		}
	}
	for _, c := range changed {
		suspect(c.to)
	}
	for _, f := range r.logs {
		if dist[f.node] == f.dist {
			continue
		}
		suspect(f.node)
		h := &r.g.hot[f.node]
		was, is := r.cost(f.node, f.dist, h.lastResort), r.cost(f.node, dist[f.node], h.lastResort)
		for _, a := range h.arcs {
			if was.Add(a.Metric) == dist[a.To] || is.Add(a.Metric) == dist[a.To] {
				suspect(a.To)
			}
		}
	}
	for r.queue.len > 0 {
		v := r.queue.pop().node
		if !r.recompute(v) {
			continue
		}
		if len(r.reset) > worthRepair(len(r.g.nodes)) {
			return false
		}
		h := &r.g.hot[v]
		through := r.cost(v, dist[v], h.lastResort)
		for _, a := range h.arcs {
			if d := through.Add(a.Metric); d == dist[a.To] && d != dmsc.Unreachable {
				suspect(a.To)
			}
		}
	}
	return true
}

// recompute makes the set of first hops of v out of those of its predecessors
// and reports whether it has changed.
func (r *repair) recompute(v int32) bool {
	t, words := r.t, r.t.words
	set := t.set(v)
	r.sets = append(r.sets, set...)
	clear(set)
	if t.dist[v] != dmsc.Unreachable {
		for _, a := range r.g.hot[v].arcs {
			if a.To != t.root && r.reach(a) == t.dist[v] {
				t.join(v, a.To)
			}
		}
		for i, a := range t.arcs {
			if a.To == v && a.Metric == t.dist[v] {
				t.add(v, i)
			}
		}
	}
	if slices.Equal(set, r.sets[len(r.sets)-words:]) {
		r.sets = r.sets[:len(r.sets)-words]
		return false
	}
	r.reset = append(r.reset, v)
	return true
}

// collect fills moved.
func (r *repair) collect() {
	for _, f := range r.logs {
		if r.t.dist[f.node] != f.dist && r.set(f.node, counted) {
			r.moved = append(r.moved, f.node)
		}
	}
	for _, n := range r.reset {
		if r.set(n, counted) {
			r.moved = append(r.moved, n)
		}
	}
}

// undo gives every node back what it had.
func (r *repair) undo() {
	for _, f := range r.logs {
		r.t.dist[f.node] = f.dist
	}
	for i, n := range r.reset {
		copy(r.t.set(n), r.sets[i*r.t.words:])
	}
}
