package linkstate

import (
	"slices"
	"time"

	"github.com/dmsc-mesh/dmsc"
)

const (
	// reduceAbove is the mean number of links per node above which flooding is
	// reduced: below it there is little to gain.
	reduceAbove = 8
	// doubt is how long the topology must have been quiet before covers are
	// computed. It is much longer than a record takes to reach everybody, so that
	// nodes have the same topology when they do.
	doubt = time.Second
)

// reduction is the part of the Instance that decides which links a record takes
// (see the package documentation, Flood reduction).
type reduction struct {
	nodes, links int // that announce themselves, and that they announce

	covers *covers   // nil: all links
	cross  bool      // this node passes on by both covers what comes by one
	due    time.Time // when covers are computed; zero = nothing has changed
}

// Flooding is how a node passes records on.
type Flooding uint8

// The ways of flooding.
const (
	FloodingFull    Flooding = iota // over all links: the network is sparse
	FloodingDoubt                   // over all links: it is dense, and the topology is in doubt
	FloodingReduced                 // over the links of two covers
)

func (f Flooding) String() string { return [...]string{"full", "full in doubt", "reduced"}[f] }

func (i *Instance) flooding() Flooding {
	switch {
	case i.reduction.covers == nil && i.reduction.due.IsZero():
		return FloodingFull
	case i.reduction.covers == nil || !i.coversUp():
		return FloodingDoubt
	}
	return FloodingReduced
}

// coversUp reports whether the control streams of our cover links are there. If
// one is not, both its ends flood fully.
func (i *Instance) coversUp() bool {
	for _, a := range i.order {
		if a.covers != coverNone && a.phase() < StateSynced {
			return false
		}
	}
	return true
}

// moveTopology takes note that a NodeLSA has changed (nil: none), before it is
// passed on. Whatever links come or go, covers have to be computed anew some
// time; if one of theirs is lost, they are no good until then.
func (i *Instance) moveTopology(k Key, was, is *record) {
	if k.Type != TypeNode || i.cfg.Role == dmsc.RoleObserver {
		return
	}
	red, links := &i.reduction, is.nodeLinks()
	nodes := red.nodes
	if was.nodeLSA() != nil {
		red.nodes--
	}
	if is.nodeLSA() != nil {
		red.nodes++
	}
	red.links += len(links) - len(was.nodeLinks())
	if red.nodes == nodes && slices.EqualFunc(was.nodeLinks(), links, sameLink) {
		return
	}
	if red.covers != nil && !red.covers.survive(k.Origin, links) {
		i.useCovers(nil, nil)
	}
	red.due = time.Time{}
	if red.dense() || red.covers != nil {
		red.due = i.now.Add(doubt)
	}
	i.stale = true
}

func sameLink(a, b Link) bool { return a.key() == b.key() }

// reduceFlooding computes the covers once the topology has been quiet. All nodes
// do so at about the same time, but not at the same moment: full flooding stands
// between the old covers and others, since whoever floods fully does what any
// cover asks for.
func (i *Instance) reduceFlooding() {
	due := &i.reduction.due
	if due.IsZero() || i.now.Before(*due) || i.starting {
		return
	}
	*due, i.stale = time.Time{}, true
	g := i.topology()
	var c *covers
	if g != nil {
		c = newCovers(g)
	}
	switch have := i.reduction.covers; {
	case have == nil || c == nil:
		i.useCovers(c, g)
	case !have.equal(c):
		i.useCovers(nil, nil)
		*due = i.now.Add(doubt)
	default:
		i.useCovers(c, g) // links outside the covers may be new
	}
}

func (r *reduction) dense() bool { return r.links > reduceAbove*r.nodes }

// topology builds the graph of the records, nil if it is sparse.
func (i *Instance) topology() *topology {
	if !i.reduction.dense() {
		return nil
	}
	nodes := make([]*LSA, 0, i.reduction.nodes)
	for id := range i.db.origins {
		if r := i.db.records[Key{Origin: id, Type: TypeNode}]; r.nodeLSA() != nil {
			nodes = append(nodes, r.LSA)
		}
	}
	return newTopology(nodes)
}

// useCovers makes c, computed on g, the covers in use.
func (i *Instance) useCovers(c *covers, g *topology) {
	i.reduction.covers, i.reduction.cross = c, false
	for _, a := range i.order {
		a.reduced, a.covers = false, coverNone
	}
	if c == nil {
		return
	}
	self, ok := slices.BinarySearch(c.nodes, i.cfg.Node)
	if !ok {
		return // nobody has our records yet
	}
	i.reduction.cross = c.cross[self]
	for _, arc := range g.of(int32(self)) {
		if a := i.links[LinkKey{g.nodes[arc.to], arc.id}]; a != nil {
			a.reduced = true
		}
	}
	for cover, tree := range c.trees {
		for l := range tree.at(int32(self)) {
			if a := i.links[LinkKey{c.nodes[l.a+l.b-int32(self)], l.id}]; a != nil {
				a.covers |= 1 << cover
			}
		}
	}
}

// passOn queues n for every neighbour that is to have it from us. What came by
// one cover takes that one; what came otherwise, like our own, takes both.
func (i *Instance) passOn(n news, reduced bool) {
	came := coverBoth
	if reduced && !i.reduction.cross && n.from != nil && n.from.follows() && n.from.covers != coverNone {
		came = n.from.covers
	}
	came &^= n.rec.passed
	n.rec.passed |= came
	for _, a := range i.order {
		var takes bool
		switch {
		case a == n.from:
		case reduced && a.follows():
			// A parallel link to the sender may belong to the other cover, which it
			// has not had.
			takes = a.covers&came != 0
		default:
			takes = (!n.again || !reduced) && (n.from == nil || a.Remote != n.from.Remote)
		}
		if takes {
			i.enqueue(a, n.rec, n.urgent)
		}
	}
}

// follows reports whether a carries new records only as the covers say.
func (a *adjacency) follows() bool { return a.reduced && a.phase() == StateSynced }

// repeated takes note of a record that we have and that a has brought once more.
// If it comes by a cover for the first time, it goes on by that cover all the
// same: the cover that has brought it before may be broken elsewhere.
func (i *Instance) repeated(a *adjacency, r *record) {
	if r.passed == coverBoth {
		return
	}
	if i.flooding() == FloodingReduced && (!a.follows() || a.covers&^r.passed == 0) {
		return
	}
	i.news = append(i.news, news{rec: r, urgent: r.urgent, from: a, again: true})
}
