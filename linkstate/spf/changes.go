package spf

import "github.com/dmsc-mesh/dmsc"

// Changes tells how a Graph came from one state to another, for Tree.Update.
type Changes struct {
	arcs []arcChange
	all  bool // too much to list
}

// arcChange is an arc that cost something else before: Unreachable if it was
// not there. What it costs now the Graph knows.
type arcChange struct {
	from, to   int32
	metric     dmsc.Metric
	lastResort bool // passing through from was one
}

// Empty reports whether no arc has changed.
func (c Changes) Empty() bool { return !c.all && len(c.arcs) == 0 }

// Take returns what has happened to the arcs since the last Take. It is valid
// until the next change of the Graph.
func (g *Graph) Take() Changes {
	g.settle()
	taken := g.log
	g.log = Changes{arcs: g.log.arcs[:0]}
	return taken
}

// record notes the difference between two sorted lists of arcs out of a node.
// Once there are more than it would pay to repair, none are kept.
func (g *Graph) record(from int32, old, next []Arc, wasLast, isLast bool) {
	if g.log.all {
		return
	}
	order := func(a, b *Arc) int { return g.compare(a.To, a.Link, b.To, b.Link) }
	merge(old, next, order, func(was, is *Arc) {
		switch {
		case was == nil:
			g.log.arcs = append(g.log.arcs, arcChange{from, is.To, dmsc.Unreachable, wasLast})
		case is == nil || was.Metric != is.Metric || wasLast != isLast:
			g.log.arcs = append(g.log.arcs, arcChange{from, was.To, was.Metric, wasLast})
		}
	})
	if len(g.log.arcs) > worthRepair(len(g.nodes)) {
		g.log = Changes{arcs: g.log.arcs[:0], all: true}
	}
}
