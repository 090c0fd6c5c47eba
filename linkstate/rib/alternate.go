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

// reason tells why there is no alternate.
type reason uint8

// The reasons for having no alternate, the later the closer it was.
const (
	noReason reason = iota
	noOtherLink
	noneAvailable
	noneLoopFree
	noneProtecting
	tooManyGroups
)

var noBackup = [...]string{
	noReason:       "",
	noOtherLink:    "no other link",
	noneAvailable:  "other neighbours are held, last resort or cut off",
	noneLoopFree:   "no other neighbour is loop-free",
	noneProtecting: "no loop-free neighbour protects the next hop or is downstream",
	tooManyGroups:  "more groups than the limit",
}

// candidate is an acceptable alternate.
type candidate struct {
	exit     *exit
	protects bool        // the node E, not only the link to it
	cost     dmsc.Metric // of the way by this neighbour
}

func (c *candidate) betterThan(o *candidate) bool {
	if o.exit == nil || c.protects != o.protects {
		return o.exit == nil || c.protects
	}
	return c.cost < o.cost
}

// alternate returns the exit of the best alternate for the owner set at distance
// dS, whose primary is the exit at a position, or says why there is none. Best
// is node-protecting, then cheapest, then first by (node id, link id).
func (e *Engine) alternate(owners []owner, dS dmsc.Metric, primary int) (*exit, reason) {
	var best candidate
	why := noOtherLink
	if len(e.exits) == 1 {
		return nil, why
	}
	j := judge{
		Engine: e, owners: owners, via: &e.exits[primary], dS: dS, uneven: e.uneven(owners),
		throughS: e.through(owners, rootIndex, dS),
		onlyVia:  len(owners) == 1 && owners[0].node == e.exits[primary].To,
	}
	j.throughE = e.through(owners, j.via.To, nearest(j.via.tree, owners))
	for i := range e.exits {
		if i == primary {
			continue
		}
		c, no := j.candidate(&e.exits[i])
		switch {
		case c.exit == nil:
			why = max(why, no)
		case c.betterThan(&best):
			best = c
		}
	}
	return best.exit, why
}

// judge is what the candidates for an owner set have in common.
type judge struct {
	*Engine
	owners             []owner
	via                *exit // to E
	dS                 dmsc.Metric
	throughS, throughE dmsc.Metric
	uneven, onlyVia    bool
}

// candidate tells whether an exit is an acceptable alternate, and if not, why.
func (j *judge) candidate(x *exit) (candidate, reason) {
	n := x.To
	if x.held || x.lastResort && !owns(j.owners, n) {
		return candidate{}, noneAvailable
	}
	dN := nearest(x.tree, j.owners)
	if dN == dmsc.Unreachable || x.lastResort && !delivers(j.owners, n, dN) {
		return candidate{}, noneAvailable
	}
	c := candidate{exit: x, cost: x.Metric.Add(dN)}
	downstream := dN < j.dS
	if j.uneven {
		if !downstream {
			return candidate{}, noneProtecting
		}
		return c, 0
	}
	c.protects = dN < x.tree.Distance(j.via.To).Add(j.throughE)
	switch {
	case dN >= x.tree.Distance(rootIndex).Add(j.throughS):
		return candidate{}, noneLoopFree
	case !c.protects && !downstream && !j.onlyVia:
		return candidate{}, noneProtecting
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
