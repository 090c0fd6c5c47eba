package rib

import (
	"cmp"
	"slices"
	"strings"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/spf"
)

// topology is what the NodeLSAs say: the graph, and the shortest paths over it
// from the root and from each of its neighbours.
type topology struct {
	graph  *spf.Graph
	known  map[int32]*linkstate.NodeLSA
	stale  []int32 // nodes whose NodeLSA the graph does not follow yet
	votes  map[algorithm]int
	domain algorithm

	tree  spf.Tree
	near  map[int32]*spf.Tree // distances from each neighbour
	size  int                 // of the graph when the trees were last brought up to it
	exits []exit
	held  []linkstate.LinkKey
}

// exit is a link of the root with what the choice of an alternate asks of it.
type exit struct {
	spf.Arc
	held       bool
	lastResort bool      // the neighbour
	tree       *spf.Tree // of the neighbour
}

// algorithm is a metric algorithm as nodes announce it.
type algorithm struct {
	number linkstate.Algorithm
	avoid  string // tags, each with a zero byte behind it
}

func algorithmOf(n *linkstate.NodeLSA) algorithm {
	var avoid strings.Builder
	for _, tag := range n.Avoid {
		avoid.WriteString(tag)
		avoid.WriteByte(0)
	}
	return algorithm{n.Algorithm, avoid.String()}
}

// meets reports whether one of the tags is to be avoided.
func (a algorithm) meets(tags []string) bool {
	return a.avoid != "" && slices.ContainsFunc(tags, func(tag string) bool {
		return strings.HasPrefix(a.avoid, tag+"\x00") || strings.Contains(a.avoid, "\x00"+tag+"\x00")
	})
}

func newTopology() topology {
	return topology{
		graph: spf.NewGraph(),
		known: make(map[int32]*linkstate.NodeLSA),
		votes: make(map[algorithm]int),
		near:  make(map[int32]*spf.Tree),
	}
}

// readNode takes in what a node says of itself, nil if nothing any more.
func (e *Engine) readNode(id dmsc.NodeID, n *linkstate.NodeLSA) {
	i := e.graph.Index(id)
	was := e.known[i]
	if was == n {
		return
	}
	if was != nil {
		if a := algorithmOf(was); e.votes[a] > 1 {
			e.votes[a]--
		} else {
			delete(e.votes, a)
		}
		delete(e.known, i)
	}
	if n != nil {
		e.votes[algorithmOf(n)]++
		e.known[i] = n
	}
	e.stale = append(e.stale, i)
	if (was == nil) != (n == nil) && i != rootIndex {
		e.announceNode(i, n != nil)
	}
}

// prevailing is the domain's metric algorithm: what most nodes announce, the
// lower number if equal, then the first list of tags. It must not be each
// node's own: two neighbours that take each other for a last resort send
// requests to and fro, see testdata/algorithms.txt.
func (t *topology) prevailing() algorithm {
	var best algorithm
	for a, n := range t.votes {
		if cmp.Or(cmp.Compare(n, t.votes[best]), cmp.Compare(best.number, a.number), strings.Compare(best.avoid, a.avoid)) > 0 {
			best = a
		}
	}
	return best
}

// settleTopology brings the graph up to the NodeLSAs and the trees up to the
// graph, and has everything looked at again that depends on what has moved.
func (e *Engine) settleTopology(v *linkstate.View) {
	if domain := e.prevailing(); domain != e.domain {
		e.domain = domain
		for i := range e.known { // the graph is the same in any order
			e.stale = append(e.stale, i)
		}
	}
	for _, i := range e.stale {
		was := e.graph.LastResort(i)
		e.declare(i)
		if e.graph.LastResort(i) != was {
			e.reconsider(i)
			e.all = e.all || i == rootIndex
		}
	}
	e.stale = e.stale[:0]

	held := heldLinks(v)
	changes := e.graph.Take()
	if changes.Empty() && e.graph.Len() == e.size && slices.Equal(held, e.held) {
		return
	}
	e.held = held
	e.lookAround(changes)
	e.runSPF(changes)
	e.size = e.graph.Len()
}

// declare tells the graph what a node says of itself. Metrics of two algorithms
// do not compare, so who announces another one than the domain is avoided.
func (e *Engine) declare(i int32) {
	n := e.known[i]
	if n == nil {
		e.graph.Remove(e.graph.ID(i))
		return
	}
	links := make([]spf.Link, len(n.Links))
	for j, l := range n.Links {
		links[j] = spf.Link{To: l.Remote, ID: l.ID, Metric: l.Metric}
		if e.domain.meets(l.Tags) {
			links[j].Metric = max(l.Metric, 1).Add(dmsc.LastResort)
		}
	}
	e.graph.Set(e.graph.ID(i), !n.Transit || algorithmOf(n) != e.domain, links)
}

func (e *Engine) runSPF(changes spf.Changes) {
	if e.size == 0 {
		e.tree.Run(e.graph, rootIndex)
		e.lastRun.Kind = RunFull
		for i := range int32(e.graph.Len()) {
			e.moved(i)
			e.lastRun.Nodes++
		}
		return
	}
	moved, full := e.tree.Update(e.graph, changes)
	if !changes.Empty() {
		e.lastRun.Kind = RunIncremental
	}
	if full {
		e.lastRun.Kind = RunFull
	}
	e.lastRun.Nodes = len(moved)
	for _, i := range moved {
		e.moved(i)
	}
}

// lookAround brings what is known of the neighbours up to the graph. If the
// relation of the root to its neighbours is another one, all owner sets are
// looked at again; if that of two neighbours, the sets that one of them is the
// next hop for (see alternate.go for what the tests compare).
func (e *Engine) lookAround(changes spf.Changes) {
	arcs := e.graph.Arcs(rootIndex)
	exits := make([]exit, len(arcs))
	near := make(map[int32]*spf.Tree, len(e.near))
	var met []int32
	for i, a := range arcs {
		if near[a.To] == nil {
			near[a.To] = e.near[a.To]
		}
		if near[a.To] == nil && len(arcs) > 1 { // a single link has no alternate
			near[a.To] = &spf.Tree{DistancesOnly: true}
			met = append(met, a.To)
		}
		exits[i] = exit{a, slices.Contains(e.held, e.linkKey(a)), e.graph.LastResort(a.To), near[a.To]}
	}
	if !slices.Equal(exits, e.exits) {
		e.exits, e.all = exits, true
	}
	for i, t := range near {
		if t == nil || slices.Contains(met, i) {
			continue
		}
		moved, _ := t.Update(e.graph, changes)
		for _, n := range moved {
			e.reconsider(n)
			e.all = e.all || n == rootIndex
			if near[n] != nil {
				e.vias[n] = true
			}
		}
	}
	for _, i := range met {
		near[i].Run(e.graph, i)
	}
	e.near = near
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
