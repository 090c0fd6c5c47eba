package scsc

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/spf"
	"github.com/dmsc-mesh/dmsc/scsc/policy"
)

// candidate is one instance with the fastest path to it.
type candidate struct {
	route
	quality Quality
	cost    dmsc.Metric // predicted delay in µs, 1 µs per hop and last resorts included
	healthy bool
}

// candidates ranks the owners of a name at an ingress by predicted delay
// (Dijkstra over measured delays, draft §5(4)). The edges from each owner to a
// virtual sink that stands for the service cost the service's own delay, so the
// first candidate is the best pair of instance and path. Last-resort nodes cost
// more than any path without them; instances that report themselves unhealthy
// come last.
//
// Links that avoid names are taken out.
func (c *Center) candidates(now time.Time, ingress dmsc.NodeID, name dmsc.ServicePrefix, avoid unfit) []candidate {
	g, t := c.delayTree(now, ingress, avoid)

	var out []candidate
	for _, o := range c.net.eligible(ingress, name) {
		// One path is enough: among equal ones the order of node ids decides.
		for _, nodes := range shortestPaths(g, t, o.node, 1) {
			if len(nodes) < 2 || len(nodes) > MaxPathNodes {
				continue
			}
			r := route{nodes, o}
			q, _, _ := c.quality(now, r)
			s, healthy, _ := c.reports.service(now, c.cfg.Stale, o.node, o.instance)
			cost := t.Distance(g.Index(o.node)).Add(micros(s.Delay))
			out = append(out, candidate{r, q, cost, healthy})
		}
	}
	slices.SortStableFunc(out, func(a, b candidate) int { // owners are sorted
		if a.healthy != b.healthy {
			if a.healthy {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.cost, b.cost)
	})
	return out
}

// delayTrees are the shortest paths by measured delay, computed as they are
// asked for, and good for as long as nothing new is measured: one Tick.
type delayTrees struct {
	graphs map[unfit]*spf.Graph
	trees  map[delayRoot]*spf.Tree
}

type delayRoot struct {
	avoid   unfit
	ingress dmsc.NodeID
}

func newDelayTrees() delayTrees {
	return delayTrees{make(map[unfit]*spf.Graph), make(map[delayRoot]*spf.Tree)}
}

func (c *Center) delayTree(now time.Time, ingress dmsc.NodeID, avoid unfit) (*spf.Graph, *spf.Tree) {
	g := c.delays.graphs[avoid]
	if g == nil {
		g = c.delayGraph(now, avoid)
		c.delays.graphs[avoid] = g
	}
	k := delayRoot{avoid, ingress}
	t := c.delays.trees[k]
	if t == nil {
		t = new(spf.Tree)
		t.Run(g, g.Index(ingress))
		c.delays.trees[k] = t
	}
	return g, t
}

// delayGraph is the network with measured delays in µs as metrics, plus 1 µs
// per hop: strictly positive, and of equal delays fewer hops win.
func (c *Center) delayGraph(now time.Time, avoid unfit) *spf.Graph {
	g := spf.NewGraph()
	for id, n := range c.net.nodes {
		g.Set(id, c.net.lastResort(n), c.net.declared(n, func(l linkstate.Link) dmsc.Metric {
			q, _, known := c.reports.link(now, c.cfg.Stale, id, linkstate.LinkKey{Remote: l.Remote, ID: l.ID}, l.Capacity)
			if !known {
				q.Delay = cmp.Or(l.Delay, unknownDelay)
			}
			if avoid.link(q) {
				return dmsc.Unreachable
			}
			return micros(q.Delay) + 1
		}))
	}
	return g
}

// unfit tells which links alone make a path violate a rule; the zero value
// none. Delay is left out: its sum is what counts, and Dijkstra minimises that.
type unfit struct {
	rule *policy.QoSPolicy
	full bool // who flees from a full path needs a link that is known to have room
}

func (u unfit) link(q Quality) bool {
	if u.rule == nil {
		return false
	}
	part := u.rule.Thresholds
	part.Delay = nil
	return len(breaches(part, q)) > 0 || u.full && q.Uncertain
}

func micros(d time.Duration) dmsc.Metric {
	return dmsc.Metric(min(d, maxDelay).Microseconds())
}

// choose returns the first candidate that is worth leaving a path of this
// quality for, and the candidates in words. The links that violate the rule by
// themselves are avoided if that leaves a better way.
func (c *Center) choose(now time.Time, ingress dmsc.NodeID, name dmsc.ServicePrefix, rule *policy.QoSPolicy, from Quality) (candidate, []string, bool) {
	var words []string
	seen := make(map[string]bool)
	full := len(breaches(policy.Thresholds{Bandwidth: rule.Thresholds.Bandwidth}, from)) > 0
	for _, avoid := range []unfit{{rule, full}, {}} {
		for _, cand := range c.candidates(now, ingress, name, avoid) {
			text := describe(cand)
			if seen[text] {
				continue
			}
			seen[text] = true
			if cand.healthy && better(rule.Thresholds, from, cand.quality) {
				return cand, append(words, text+": chosen"), true
			}
			words = append(words, text+": not better by 10 % and 1 ms")
		}
	}
	return candidate{}, words, false
}

func describe(c candidate) string {
	s := fmt.Sprintf("%s by %s: %s", c.owner.instance, pathString(c.nodes), describeQuality(c.quality))
	if c.cost >= dmsc.LastResort {
		s += ", through a last-resort node"
	}
	if !c.healthy {
		s += ", reports itself unhealthy"
	}
	return s
}

func describeQuality(q Quality) string {
	s := fmt.Sprintf("delay %v, jitter %v, loss %.2f%%", round(q.Delay), round(q.Jitter), 100*q.Loss)
	switch {
	case q.Available == Unlimited:
		return s + ", bandwidth unknown"
	case q.Uncertain:
		return s + ", at most " + bitrate(q.Available) + " available"
	}
	return s + ", " + bitrate(q.Available) + " available"
}
