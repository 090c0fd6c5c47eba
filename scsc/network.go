package scsc

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/spf"
)

// maxPaths bounds the equal-cost paths that are looked at per name.
const maxPaths = 16

// network is the LSDB in the form decisions need: nodes, two-way links and the
// owners of each name.
type network struct {
	nodes  map[dmsc.NodeID]*linkstate.NodeLSA
	owners map[dmsc.ServicePrefix][]owner // of prefixes and of functions
	names  []dmsc.ServicePrefix           // keys of owners, sorted
	graph  *spf.Graph                     // with the metrics that SGs and SRs use
	trees  map[dmsc.NodeID]*spf.Tree      // over graph

	algorithm linkstate.Algorithm // of the domain
	avoid     []string            // tags of links that are a last resort
}

// owner is one place where a name is delivered.
type owner struct {
	node       dmsc.NodeID
	instance   dmsc.ServicePrefix // what the node announces; of a function the instance below it
	metric     dmsc.Metric
	preference uint32
}

// route is one way a name may go from an ingress.
type route struct {
	nodes []dmsc.NodeID
	owner owner
}

func (r route) equal(s route) bool {
	return r.owner == s.owner && slices.Equal(r.nodes, s.nodes)
}

func newNetwork(records linkstate.Records) *network {
	n := &network{
		nodes:  make(map[dmsc.NodeID]*linkstate.NodeLSA),
		owners: make(map[dmsc.ServicePrefix][]owner),
		graph:  spf.NewGraph(),
		trees:  make(map[dmsc.NodeID]*spf.Tree),
	}
	announced := make(map[dmsc.ServicePrefix]bool)
	for r := range records.All() {
		if r.Tombstone {
			continue
		}
		switch c := r.Content.(type) {
		case *linkstate.NodeLSA:
			n.nodes[r.Origin] = c
		case *linkstate.PrefixLSA:
			for _, p := range c.Prefixes {
				if !p.Prefix.Reserved() {
					announced[p.Prefix] = true
					n.owners[p.Prefix] = append(n.owners[p.Prefix], owner{r.Origin, p.Prefix, p.Metric, p.Preference})
				}
			}
		}
	}
	n.algorithm, n.avoid = linkstate.Prevailing(maps.Values(n.nodes))
	for id, c := range n.nodes {
		n.graph.Set(id, n.lastResort(c), n.declared(c, func(l linkstate.Link) dmsc.Metric { return l.Metric }))
	}
	for _, p := range slices.Collect(maps.Keys(announced)) {
		// An announced prefix replaces the function route of that name.
		if f, ok := p.Function(); ok && !announced[f] {
			n.owners[f] = append(n.owners[f], n.owners[p]...)
		}
	}
	for _, o := range n.owners {
		slices.SortFunc(o, func(a, b owner) int {
			return cmp.Or(cmp.Compare(a.node, b.node), a.instance.Compare(b.instance))
		})
	}
	n.names = slices.SortedFunc(maps.Keys(n.owners), dmsc.ServicePrefix.Compare)
	return n
}

// lastResort reports whether passing through a node is a last resort, as in the
// RIB.
func (n *network) lastResort(c *linkstate.NodeLSA) bool {
	return !c.Transit || c.Algorithm != n.algorithm || !slices.Equal(c.Avoid, n.avoid)
}

func (n *network) declared(c *linkstate.NodeLSA, metric func(linkstate.Link) dmsc.Metric) []spf.Link {
	out := make([]spf.Link, len(c.Links))
	for i, l := range c.Links {
		out[i] = spf.Link{To: l.Remote, ID: l.ID, Metric: metric(l)}
		if slices.ContainsFunc(l.Tags, func(t string) bool { return slices.Contains(n.avoid, t) }) {
			out[i].Metric = max(out[i].Metric, 1).Add(dmsc.LastResort)
		}
	}
	return out
}

// ingresses are the SGs, sorted: requests enter nowhere else.
func (n *network) ingresses() []dmsc.NodeID {
	var out []dmsc.NodeID
	for id, c := range n.nodes {
		if c.Role == dmsc.RoleSG {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

// local reports whether the ingress delivers the name itself, as in its RIB: it
// owns it and no other owner is nearer. Then the name never leaves.
func (n *network) local(ingress dmsc.NodeID, name dmsc.ServicePrefix) bool {
	own := func(o owner) bool { return o.node == ingress }
	return slices.ContainsFunc(n.owners[name], own) &&
		slices.ContainsFunc(n.spfRoutes(ingress, name), func(r route) bool { return own(r.owner) })
}

func (n *network) tree(root dmsc.NodeID) *spf.Tree {
	t := n.trees[root]
	if t == nil {
		t = new(spf.Tree)
		t.Run(n.graph, n.graph.Index(root))
		n.trees[root] = t
	}
	return t
}

// eligible are the owners that may serve a name at an ingress: of the reachable
// ones those of the best preference, as in the RIB, and drained ones only if
// there are no others.
func (n *network) eligible(ingress dmsc.NodeID, name dmsc.ServicePrefix) []owner {
	t := n.tree(ingress)
	var out []owner
	for _, o := range n.owners[name] {
		if _, known := n.nodes[o.node]; !known || !t.Reachable(n.graph.Index(o.node)) {
			continue
		}
		if len(out) > 0 && o.preference != out[0].preference {
			if o.preference < out[0].preference {
				continue
			}
			out = out[:0]
		}
		out = append(out, o)
	}
	drained := func(o owner) bool { return o.metric >= dmsc.LastResort }
	if !slices.ContainsFunc(out, func(o owner) bool { return !drained(o) }) {
		return out
	}
	return slices.DeleteFunc(out, drained)
}

// spfRoutes are the ways a name goes without any policy: the shortest paths to
// the nearest eligible owners, all of equal cost, sorted.
func (n *network) spfRoutes(ingress dmsc.NodeID, name dmsc.ServicePrefix) []route {
	t := n.tree(ingress)
	best := dmsc.Unreachable
	var nearest []owner
	for _, o := range n.eligible(ingress, name) {
		d := t.Distance(n.graph.Index(o.node)).Add(o.metric)
		if d < best {
			best, nearest = d, nearest[:0]
		}
		if d == best && d != dmsc.Unreachable {
			nearest = append(nearest, o)
		}
	}
	var out []route
	for _, o := range nearest {
		for _, nodes := range shortestPaths(n.graph, t, o.node, maxPaths-len(out)) {
			out = append(out, route{nodes, o})
		}
	}
	return out
}

// shortestPaths lists up to limit of the node paths of equal cost from the
// root of t to a node, in the order of their nodes read from the far end.
func shortestPaths(g *spf.Graph, t *spf.Tree, to dmsc.NodeID, limit int) [][]dmsc.NodeID {
	var out [][]dmsc.NodeID
	var walk func(at int32, behind []dmsc.NodeID)
	walk = func(at int32, behind []dmsc.NodeID) {
		path := append(slices.Clone(behind), g.ID(at))
		if at == t.Root() {
			slices.Reverse(path)
			out = append(out, path)
			return
		}
		var before int32 = -1
		for _, a := range g.Arcs(at) { // two-way, so predecessors are among them
			if len(out) >= limit {
				return
			}
			if a.To != before && precedes(g, t, a.To, at) {
				walk(a.To, path)
			}
			before = a.To
		}
	}
	if limit > 0 && t.Reachable(g.Index(to)) {
		walk(g.Index(to), nil)
	}
	return out
}

// precedes reports whether u → v is the last step of a shortest path to v.
func precedes(g *spf.Graph, t *spf.Tree, u, v int32) bool {
	through := t.Distance(u)
	if u != t.Root() && g.LastResort(u) {
		through = through.Add(dmsc.LastResort)
	}
	for _, a := range g.Arcs(u) {
		if d := through.Add(a.Metric); a.To == v && d == t.Distance(v) && d != dmsc.Unreachable {
			return true
		}
	}
	return false
}

// supports reports whether every step of a path is a two-way link and the
// egress owns the instance.
func (n *network) supports(r route) bool {
	if !slices.ContainsFunc(n.owners[r.owner.instance], func(o owner) bool {
		return o.node == r.owner.node && o.instance == r.owner.instance
	}) {
		return false
	}
	for i := range len(r.nodes) - 1 {
		if len(n.links(r.nodes[i], r.nodes[i+1])) == 0 {
			return false
		}
	}
	return true
}

// links are the two-way links from one node to another.
func (n *network) links(from, to dmsc.NodeID) []linkstate.Link {
	c, far := n.nodes[from], n.nodes[to]
	if c == nil || far == nil {
		return nil
	}
	var out []linkstate.Link
	for _, l := range c.Links {
		if l.Remote == to && slices.ContainsFunc(far.Links, func(b linkstate.Link) bool {
			return b.Remote == from && b.ID == l.ID
		}) {
			out = append(out, l)
		}
	}
	return out
}

// Bounds of a link's delay where paths are compared. Above the upper one a
// detour over a last-resort node would look better than the link.
const (
	unknownDelay = time.Millisecond
	maxDelay     = 10 * time.Second
)

// hop is the quality of one step of a path. A path cannot tell parallel links
// apart, so the better of them counts. A link that nobody measures has its
// announced delay, or 1 ms; known is then false.
func (c *Center) hop(now time.Time, from, to dmsc.NodeID) (q Quality, at time.Time, known bool) {
	for i, l := range c.net.links(from, to) {
		lq, lat, ok := c.reports.link(now, c.cfg.Stale, from, linkstate.LinkKey{Remote: l.Remote, ID: l.ID}, l.Capacity)
		if !ok {
			lq = Quality{Delay: cmp.Or(l.Delay, unknownDelay), Available: Unlimited, Uncertain: true}
		}
		if i == 0 || ok && !known || ok == known && lq.Delay < q.Delay {
			q, at, known = lq, lat, ok
		}
	}
	return q, at, known
}

// quality composes a route out of its links and the service at its egress
// (design §8). oldest is the arrival of the link report that is behind all
// others; known is false as soon as one part is unknown.
func (c *Center) quality(now time.Time, r route) (q Quality, oldest time.Time, known bool) {
	q, known = none, true
	for i := range len(r.nodes) - 1 {
		h, at, ok := c.hop(now, r.nodes[i], r.nodes[i+1])
		q = q.Then(h)
		known = known && ok
		if i == 0 || at.Before(oldest) {
			oldest = at
		}
	}
	s, _, ok := c.reports.service(now, c.cfg.Stale, r.owner.node, r.owner.instance)
	return q.Then(s), oldest, known && ok
}
