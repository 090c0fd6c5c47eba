package rib

import (
	"slices"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate/spf"
)

// The rule (RFC 5286 §6.1 for names with several owners). With S the root, E
// its one primary neighbour, N a candidate and D as in the package comment, all
// over the whole owner set:
//
//	loop-free:       D(N) < dist(N, S) + through(S)
//	node-protecting: D(N) < dist(N, E) + through(E)
//	downstream:      D(N) < D(S)
//
// where through(X) is D(X), plus dmsc.LastResort if X is a last resort and
// passes requests on instead of delivering them. N must be loop-free, and
// node-protecting or downstream as well; if E is the only owner there is no
// node left to protect, and loop-free suffices.
//
// Why it does not loop after one failure: D falls on every hop. From a
// node-protecting N it falls on a way that touches neither S nor E, so nobody
// on it has to repair anything. From a downstream N it never comes back to
// where D was D(S) or more, and where it meets another neighbour of a dead E,
// that one repairs by the same rule, from a lower D. Where the only owner
// itself has died, its neighbours may hand a request round until the via guard
// answers 508: there is nobody to reach.
//
// One case needs care. A last-resort owner with a prefix metric of its own may
// be nearer to other owners than to itself: others count it as an end, without
// LastResort, but it passes the request on. Then dist, which includes
// LastResort for those passed, is too long for the first two tests, and only
// downstream is safe. See uneven.

// The reasons for having no alternate, the later the closer it was.
const (
	noOtherLink = iota
	noneAvailable
	noneLoopFree
	noneProtecting
)

var noBackup = [...]string{
	noOtherLink:    "no other link",
	noneAvailable:  "other neighbours are held, last resort or cut off",
	noneLoopFree:   "no other neighbour is loop-free",
	noneProtecting: "no loop-free neighbour protects the next hop or is downstream",
}

// candidate is an acceptable alternate.
type candidate struct {
	arc      spf.Arc
	protects bool        // the node E, not only the link to it
	cost     dmsc.Metric // of the way by this neighbour
}

func (c *candidate) betterThan(o *candidate) bool {
	if o == nil || c.protects != o.protects {
		return o == nil || c.protects
	}
	return c.cost < o.cost
}

// alternate returns the best alternate for the owner set at distance dS, whose
// primary is the arc at a position among the root's, or says why there is none.
// Best is node-protecting, then cheapest, then first by (node id, link id).
func (e *Engine) alternate(owners []owner, dS dmsc.Metric, primary int) ([]NextHop, string) {
	arcs := e.graph.Arcs(e.tree.Root())
	var best *candidate
	reason := noOtherLink
	for i, a := range arcs {
		if i == primary {
			continue
		}
		c, why := e.judge(owners, dS, arcs[primary].To, a)
		switch {
		case c == nil:
			reason = max(reason, why)
		case c.betterThan(best):
			best = c
		}
	}
	if best == nil {
		return nil, noBackup[reason]
	}
	return []NextHop{{LinkKey: e.linkKey(best.arc), Weight: 1}}, ""
}

// judge tells whether the arc a is an acceptable alternate to the neighbour
// via, and if not, why.
func (e *Engine) judge(owners []owner, dS dmsc.Metric, via int32, a spf.Arc) (*candidate, int) {
	s, n := e.tree.Root(), a.To
	if slices.Contains(e.held, e.linkKey(a)) || e.graph.LastResort(n) && !owns(owners, n) {
		return nil, noneAvailable
	}
	t := e.treeOf(n)
	dN := nearest(t, owners)
	if dN == dmsc.Unreachable || e.graph.LastResort(n) && !delivers(owners, n, dN) {
		return nil, noneAvailable
	}
	c := &candidate{arc: a, cost: a.Metric.Add(dN)}
	downstream := dN < dS
	if e.uneven(owners) {
		if !downstream {
			return nil, noneProtecting
		}
		return c, 0
	}
	dE := nearest(e.treeOf(via), owners)
	c.protects = dN < t.Distance(via).Add(e.through(owners, via, dE))
	onlyOwner := len(owners) == 1 && owners[0].node == via
	switch {
	case dN >= t.Distance(s).Add(e.through(owners, s, dS)):
		return nil, noneLoopFree
	case !c.protects && !downstream && !onlyOwner:
		return nil, noneProtecting
	}
	return c, 0
}

// nearest is D of the root of t.
func nearest(t *spf.Tree, owners []owner) dmsc.Metric {
	d := dmsc.Unreachable
	for _, o := range owners {
		d = min(d, t.Distance(o.node).Add(o.metric))
	}
	return d
}

// through is the cost, from node on, of a request that comes by, where D(node)
// is d.
func (e *Engine) through(owners []owner, node int32, d dmsc.Metric) dmsc.Metric {
	if e.graph.LastResort(node) && !delivers(owners, node, d) {
		return d.Add(dmsc.LastResort)
	}
	return d
}

// delivers reports whether node, with D(node) = d, is an owner that delivers
// instead of passing on to a nearer one.
func delivers(owners []owner, node int32, d dmsc.Metric) bool {
	return slices.ContainsFunc(owners, func(o owner) bool { return o.node == node && o.metric == d })
}

func owns(owners []owner, node int32) bool {
	return slices.ContainsFunc(owners, func(o owner) bool { return o.node == node })
}

// uneven reports whether some last-resort owner may pass requests on. A link
// costs at least 1, so one whose metric is at most 1 above the best never does.
func (e *Engine) uneven(owners []owner) bool {
	for _, o := range owners {
		if o.metric > 1 && e.graph.LastResort(o.node) {
			return true
		}
	}
	return false
}
