package scsc

import (
	"maps"
	"slices"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/scsc/policy"
)

// sets returns the sets that differ from what their node was sent last, that
// were not sent in this session, or whose heartbeat is due.
func (c *Center) sets(now time.Time) []NodeSet {
	wanted := c.wanted()
	var out []NodeSet
	var generation uint64
	for _, node := range slices.Sorted(maps.Keys(c.peers)) {
		p := c.peers[node]
		changed := p.set.Term == 0 || !slices.EqualFunc(p.set.Policies, wanted[node], Policy.equal)
		if changed {
			if generation == 0 {
				c.generation++ // one for all that change together
				generation = c.generation
			}
			p.set = PolicySet{Term: c.cfg.Term, Generation: generation, Policies: wanted[node], TTL: c.cfg.TTL}
		}
		if changed || p.sent.IsZero() || now.Sub(p.sent) >= c.cfg.Heartbeat {
			p.sent = now
			out = append(out, NodeSet{node, p.set})
		}
	}
	return out
}

// wanted lists the policies of each node: of what is in force every node of the
// path has it, of what is being prepared every node but the ingress.
func (c *Center) wanted() map[dmsc.NodeID][]Policy {
	out := make(map[dmsc.NodeID][]Policy)
	for _, k := range c.keys() {
		s := c.steered[k]
		if s.active != nil {
			for _, n := range s.active.route.nodes {
				out[n] = append(out[n], s.active.policy)
			}
		}
		if s.next != nil {
			for _, n := range s.next.route.nodes[1:] {
				out[n] = append(out[n], s.next.policy)
			}
		}
	}
	return out
}

// planAll returns the plans that differ from what their node has.
func (c *Center) planAll(now time.Time) []NodePlan {
	watched := make(map[dmsc.NodeID]bool)
	suspects := make(map[dmsc.NodeID]map[string]bool)
	suspect := func(node dmsc.NodeID, what string) {
		if suspects[node] == nil {
			suspects[node] = make(map[string]bool)
		}
		suspects[node][what] = true
	}
	for _, k := range c.keys() {
		s := c.steered[k]
		for _, r := range s.inUse() {
			bad := len(c.tracker(keyOf(s.rule, r)).bad) > 0
			for i, n := range r.nodes {
				watched[n] = true
				if bad && i > 0 {
					for _, l := range c.net.links(r.nodes[i-1], n) {
						suspect(n, linkstate.LinkKey{Remote: r.nodes[i-1], ID: l.ID}.String())
						suspect(r.nodes[i-1], linkstate.LinkKey{Remote: n, ID: l.ID}.String())
					}
				}
			}
			if bad {
				suspect(r.owner.node, r.owner.instance.String())
			}
		}
		c.warnCapacity(now, s.rule, s.inUse())
	}

	var out []NodePlan
	for _, node := range slices.Sorted(maps.Keys(c.peers)) {
		plan := Plan{Interval: c.cfg.Interval, SuspectInterval: c.cfg.WatchInterval, Suspects: slices.Sorted(maps.Keys(suspects[node]))}
		if watched[node] {
			plan.Interval = c.cfg.WatchInterval
		}
		p := c.peers[node]
		changed := !p.plan.equal(plan)
		if changed || p.plan.Generation == 0 {
			c.plans++
			plan.Generation = c.plans
			p.plan = plan
		}
		if changed || !p.listed {
			p.listed = true
			out = append(out, NodePlan{node, p.plan})
		}
	}
	return out
}

// warnCapacity says once per rule and set of links that a bandwidth rule cannot
// judge them.
func (c *Center) warnCapacity(now time.Time, rule *policy.QoSPolicy, routes []route) {
	if rule.Thresholds.Bandwidth == nil {
		return
	}
	unknown := make(map[string]bool)
	for _, r := range routes {
		for i := range len(r.nodes) - 1 {
			if q, _, known := c.hop(now, r.nodes[i], r.nodes[i+1]); known && q.Uncertain {
				unknown[string(r.nodes[i])+"-"+string(r.nodes[i+1])] = true
			}
		}
	}
	if err := policy.CapacityWarning(rule, slices.Sorted(maps.Keys(unknown))); err != nil && !c.warned[err.Error()] {
		c.warned[err.Error()] = true
		c.event(now, "warning", "", "", err.Error())
	}
}
