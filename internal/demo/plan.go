package demo

import (
	"cmp"
	"slices"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/topology"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
)

// plan is what the story is told about: one name asked for at one ingress, and
// what on its way can be lost or slowed with a way around it.
type plan struct {
	ingress dmsc.NodeID
	prefix  dmsc.ServicePrefix
	egress  dmsc.NodeID
	safe    bool          // the service is replay_safe
	path    []dmsc.NodeID // by plain SPF, both ends included
	victim  dmsc.NodeID   // a router on the path; "" when none can be lost
	// repaired: the node before the victim has an alternate around it, so that
	// its loss needs nobody to compute anything.
	repaired bool
	slow     [2]dmsc.NodeID // a link on the path; zero when there is no way around any
}

// choose picks the best story a topology has to tell: what repairs the loss of
// a router by itself first, then what can lose one at all, then what can avoid a link, then replay-safe services, then names that
// cross a link at all, then the lowest names. Without pods there is none.
func choose(t *topology.Topology) (plan, bool) {
	ribs := compute(t)
	var plans []plan
	for _, n := range t.Nodes {
		if n.Role != dmsc.RoleSG || ribs[n.ID] == nil {
			continue
		}
		for e := range ribs[n.ID].All() {
			if e.Kind != rib.Announced {
				continue
			}
			plans = append(plans, planFor(t, ribs, n.ID, e))
		}
	}
	if len(plans) == 0 {
		return plan{}, false
	}
	slices.SortStableFunc(plans, func(a, b plan) int { return cmp.Compare(b.score(), a.score()) })
	return plans[0], true
}

// score is higher for a plan with more to tell.
func (p plan) score() int {
	s := 0
	for i, good := range []bool{len(p.path) > 1, p.safe, p.slow != [2]dmsc.NodeID{}, p.victim != "", p.repaired} {
		if good {
			s += 1 << i
		}
	}
	return s
}

func planFor(t *topology.Topology, ribs map[dmsc.NodeID]*rib.RIB, ingress dmsc.NodeID, e *rib.Entry) plan {
	p := plan{ingress: ingress, prefix: e.Prefix, safe: e.ReplaySafe}
	p.path = walk(ribs, ingress, e.Prefix)
	p.egress = p.path[len(p.path)-1]
	reaches := func(rest *topology.Topology) bool {
		found := rib.Compute(rest.View(ingress)).Lookup(e.Prefix.String())
		// A pod of the ingress itself is no other way through the network.
		return found != nil && !found.Local && found.Distance < dmsc.LastResort
	}
	for i, n := range p.path[min(1, len(p.path)-1) : len(p.path)-1] {
		if p.victim == "" && !ribs[p.path[0]].Lookup(e.Prefix.String()).Group.ECMP() && reaches(without(t, func(l topology.Link) bool { return l.A == n || l.B == n })) {
			p.victim = n
			p.repaired = repairs(ribs, p.path[i], e.Prefix, n)
		}
	}
	for i := range p.path[:len(p.path)-1] {
		a, b := p.path[i], p.path[i+1]
		if p.slow == [2]dmsc.NodeID{} && reaches(without(t, func(l topology.Link) bool { return joins(l, a, b) })) {
			p.slow = [2]dmsc.NodeID{a, b}
		}
	}
	return p
}

// repairs reports whether a node's alternate for a name leads around a victim.
func repairs(ribs map[dmsc.NodeID]*rib.RIB, at dmsc.NodeID, name dmsc.ServicePrefix, victim dmsc.NodeID) bool {
	group := ribs[at].Lookup(name.String()).Group
	return len(group.Backup) > 0 && !slices.Contains(walk(ribs, group.Backup[0].Remote, name), victim)
}

// joins reports whether l is a link between a and b.
func joins(l topology.Link, a, b dmsc.NodeID) bool {
	return l.A == a && l.B == b || l.A == b && l.B == a
}

// without is the topology less some links.
func without(t *topology.Topology, gone func(topology.Link) bool) *topology.Topology {
	rest := *t
	rest.Links = slices.DeleteFunc(slices.Clone(t.Links), gone)
	return &rest
}

func compute(t *topology.Topology) map[dmsc.NodeID]*rib.RIB {
	out := map[dmsc.NodeID]*rib.RIB{}
	for _, n := range t.Nodes {
		out[n.ID] = rib.Compute(t.View(n.ID))
	}
	return out
}

// walk follows the first next hop of each node until one delivers.
func walk(ribs map[dmsc.NodeID]*rib.RIB, from dmsc.NodeID, prefix dmsc.ServicePrefix) []dmsc.NodeID {
	path := []dmsc.NodeID{from}
	for len(path) <= len(ribs) {
		e := ribs[path[len(path)-1]].Lookup(prefix.String())
		if e == nil || e.Local {
			break
		}
		path = append(path, e.Group.Primaries[0].Remote)
	}
	return path
}

// delay is what the links of a path take by themselves, one way.
func delay(t *topology.Topology, path []dmsc.NodeID) (sum time.Duration) {
	for i := 1; i < len(path); i++ {
		for _, l := range t.Links {
			if joins(l, path[i-1], path[i]) {
				sum += l.Delay
				break
			}
		}
	}
	return sum
}
