package ribtest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
)

// none is the distance to what cannot be reached.
const none = uint64(1) << 62

// Reference knows the routes of every node of one link-state database.
type Reference struct {
	ids      []dmsc.NodeID // sorted
	index    map[dmsc.NodeID]int
	nodes    map[dmsc.NodeID]*linkstate.NodeLSA
	prefixes map[dmsc.NodeID][]linkstate.Prefix
	arcs     map[dmsc.NodeID][]linkstate.Link
	passing  []uint64 // what it costs to pass a node
	dist     [][]uint64
}

// NewReference computes all distances between the nodes of some records.
func NewReference(records linkstate.Records) *Reference {
	ref := &Reference{
		index: map[dmsc.NodeID]int{}, nodes: map[dmsc.NodeID]*linkstate.NodeLSA{},
		prefixes: map[dmsc.NodeID][]linkstate.Prefix{}, arcs: map[dmsc.NodeID][]linkstate.Link{},
	}
	for l := range records.All() {
		switch c := l.Content.(type) {
		case *linkstate.NodeLSA:
			ref.index[l.Origin] = len(ref.ids)
			ref.ids = append(ref.ids, l.Origin)
			ref.nodes[l.Origin] = c
		case *linkstate.PrefixLSA:
			ref.prefixes[l.Origin] = append(ref.prefixes[l.Origin], c.Prefixes...)
		}
	}
	domain := ref.prevailing()
	for _, a := range ref.ids {
		ref.arcs[a] = ref.twoWay(a)
		for i, l := range ref.arcs[a] {
			if slices.ContainsFunc(l.Tags, func(tag string) bool { return slices.Contains(domain.Avoid, tag) }) {
				ref.arcs[a][i].Metric += dmsc.LastResort
			}
		}
		var passing uint64
		if !ref.nodes[a].Transit || compareAlgorithms(ref.nodes[a], domain) != 0 {
			passing = uint64(dmsc.LastResort)
		}
		ref.passing = append(ref.passing, passing)
	}
	ref.measure()
	return ref
}

// prevailing returns a node with the algorithm and the tags to avoid that most
// nodes announce, of equals those that come first.
func (ref *Reference) prevailing() *linkstate.NodeLSA {
	best, most := &linkstate.NodeLSA{}, 0
	for _, n := range ref.nodes {
		votes := 0
		for _, m := range ref.nodes {
			if compareAlgorithms(n, m) == 0 {
				votes++
			}
		}
		if votes > most || votes == most && compareAlgorithms(n, best) < 0 {
			best, most = n, votes
		}
	}
	return best
}

func compareAlgorithms(n, m *linkstate.NodeLSA) int {
	return cmp.Or(cmp.Compare(n.Algorithm, m.Algorithm), slices.Compare(n.Avoid, m.Avoid))
}

// twoWay returns the links of a that both ends declare, sorted by (node id,
// link id).
func (ref *Reference) twoWay(a dmsc.NodeID) []linkstate.Link {
	var arcs []linkstate.Link
	for _, l := range ref.nodes[a].Links {
		far := ref.nodes[l.Remote]
		if far != nil && slices.ContainsFunc(far.Links, func(back linkstate.Link) bool { return back.Remote == a && back.ID == l.ID }) {
			arcs = append(arcs, l)
		}
	}
	slices.SortFunc(arcs, func(a, b linkstate.Link) int {
		return strings.Compare(string(a.Remote)+"/"+string(a.ID), string(b.Remote)+"/"+string(b.ID))
	})
	return arcs
}

// measure is Floyd–Warshall.
func (ref *Reference) measure() {
	n := len(ref.ids)
	ref.dist = make([][]uint64, n)
	for a := range n {
		ref.dist[a] = slices.Repeat([]uint64{none}, n)
		for _, l := range ref.arcs[ref.ids[a]] {
			b := ref.index[l.Remote]
			ref.dist[a][b] = min(ref.dist[a][b], uint64(l.Metric))
		}
		ref.dist[a][a] = 0
	}
	for k := range n {
		for a := range n {
			there := ref.dist[a][k] + ref.passing[k]
			if a == k || there >= none {
				continue
			}
			for b, onward := range ref.dist[k] {
				if b != k && there+onward < ref.dist[a][b] {
					ref.dist[a][b] = there + onward
				}
			}
		}
	}
}

// d is the distance between two nodes.
func (ref *Reference) d(a, b dmsc.NodeID) uint64 {
	i, ok := ref.index[a]
	j, okay := ref.index[b]
	switch {
	case a == b:
		return 0
	case !ok || !okay:
		return none
	}
	return ref.dist[i][j]
}

func (ref *Reference) lastResort(n dmsc.NodeID) uint64 {
	if i, ok := ref.index[n]; ok {
		return ref.passing[i]
	}
	return 0
}

// Arcs returns the links of a node that both ends declare, sorted.
func (ref *Reference) Arcs(a dmsc.NodeID) []linkstate.Link { return ref.arcs[a] }

// Owner is one owner of a name.
type Owner struct {
	Node     dmsc.NodeID
	metric   uint64
	weight   uint64
	instance string
}

// Names returns the owners of every name at the best preference, as seen by
// root: without those it cannot reach.
func (ref *Reference) Names(root dmsc.NodeID) map[string][]Owner {
	type full struct {
		Owner
		preference uint32
	}
	all := map[string][]full{}
	for owner, prefixes := range ref.prefixes {
		if ref.d(root, owner) >= none {
			continue
		}
		for _, p := range prefixes {
			all[p.Prefix.String()] = append(all[p.Prefix.String()], full{
				Owner{owner, uint64(p.Metric), uint64(max(p.Weight, 1)), p.Prefix.String()}, p.Preference})
		}
	}
	functions := map[string][]full{}
	for name, claims := range all {
		if i := strings.LastIndex(name, "/"); i > 0 && all[name[:i]] == nil {
			functions[name[:i]] = append(functions[name[:i]], claims...)
		}
	}
	maps.Copy(all, functions)
	for _, id := range ref.ids {
		if id != root && ref.d(root, id) < none {
			all["dmsc/node/"+string(id)] = []full{{Owner{Node: id, weight: 1}, 0}}
		}
	}
	best := make(map[string][]Owner, len(all))
	for name, claims := range all {
		top := slices.MaxFunc(claims, func(a, b full) int { return cmp.Compare(a.preference, b.preference) }).preference
		for _, c := range claims {
			if c.preference == top {
				best[name] = append(best[name], c.Owner)
			}
		}
	}
	return best
}

// potential is D(x).
func (ref *Reference) potential(x dmsc.NodeID, owners []Owner) uint64 {
	d := none
	for _, o := range owners {
		d = min(d, ref.d(x, o.Node)+o.metric)
	}
	return d
}

func (ref *Reference) delivers(x dmsc.NodeID, owners []Owner) bool {
	return slices.ContainsFunc(owners, func(o Owner) bool { return o.Node == x && o.metric == ref.potential(x, owners) })
}

// through is what a request pays from x on when it comes by.
func (ref *Reference) through(x dmsc.NodeID, owners []Owner) uint64 {
	if ref.delivers(x, owners) {
		return ref.potential(x, owners)
	}
	return ref.potential(x, owners) + ref.lastResort(x)
}

// Acceptable tells whether the link to n is an alternate of root to the primary
// neighbour e, and whether it protects the node.
func (ref *Reference) Acceptable(root, e, n dmsc.NodeID, owners []Owner) (ok, protects bool) {
	dn := ref.potential(n, owners)
	if dn >= none || ref.lastResort(n) > 0 && !ref.delivers(n, owners) {
		return false, false
	}
	downstream := dn < ref.potential(root, owners)
	lowest := slices.MinFunc(owners, func(a, b Owner) int { return cmp.Compare(a.metric, b.metric) }).metric
	for _, o := range owners {
		own := none
		for _, p := range owners {
			if p.Node == o.Node {
				own = min(own, p.metric)
			}
		}
		if ref.lastResort(o.Node) > 0 && own > lowest+1 {
			return downstream, false
		}
	}
	loopFree := dn < ref.d(n, root)+ref.through(root, owners)
	protects = dn < ref.d(n, e)+ref.through(e, owners)
	onlyOwner := !slices.ContainsFunc(owners, func(o Owner) bool { return o.Node != e })
	return loopFree && (protects || downstream || onlyOwner), protects
}

// line prints the way from root to a name like rib.Entry.String, without
// reasons.
func (ref *Reference) line(root dmsc.NodeID, held []linkstate.LinkKey, name string, owners []Owner) string {
	distance := ref.potential(root, owners)
	local := ref.delivers(root, owners)
	var egress, instances []string
	weights := map[linkstate.LinkKey]uint64{}
	for _, o := range owners {
		if ref.d(root, o.Node)+o.metric != distance || local && o.Node != root {
			continue
		}
		egress = append(egress, string(o.Node))
		instances = append(instances, o.instance)
		for _, l := range ref.arcs[root] {
			rest := uint64(0)
			if l.Remote != o.Node {
				rest = ref.lastResort(l.Remote) + ref.d(l.Remote, o.Node)
			}
			if uint64(l.Metric)+rest == ref.d(root, o.Node) {
				weights[linkstate.LinkKey{Remote: l.Remote, ID: l.ID}] += o.weight
			}
		}
	}
	slices.Sort(egress)
	egress = slices.Compact(egress)
	slices.Sort(instances)
	instances = slices.Compact(instances)

	function := !strings.HasPrefix(name, "dmsc/") && instances[0] != name
	out := name
	if function {
		out += " function"
	}
	if local {
		out += " local"
		if distance > 0 {
			out += fmt.Sprintf(" metric %d", distance)
		}
	} else {
		var hops []string
		shares := reduced(weights)
		for _, key := range slices.SortedFunc(maps.Keys(shares), linkstate.LinkKey.Compare) {
			hop := key.String()
			if shares[key] != 1 {
				hop += fmt.Sprintf("*%d", shares[key])
			}
			hops = append(hops, hop)
		}
		out += " via " + strings.Join(hops, " + ")
		if len(hops) == 1 {
			for primary := range weights {
				out += ref.backup(root, held, primary, owners)
			}
		}
		out += fmt.Sprintf(" metric %d egress %s", distance, strings.Join(egress, " "))
	}
	if function {
		out += " instances " + strings.Join(instances, " ")
	}
	return out
}

// reduced divides weights by what divides them all.
func reduced(weights map[linkstate.LinkKey]uint64) map[linkstate.LinkKey]uint64 {
	var divisor uint64
	for _, w := range weights {
		for d := w; divisor != 1; d-- {
			if w%d == 0 && divisor%d == 0 {
				divisor = d
				break
			}
		}
	}
	out := map[linkstate.LinkKey]uint64{}
	for k, w := range weights {
		out[k] = w / divisor
	}
	return out
}

func (ref *Reference) backup(root dmsc.NodeID, held []linkstate.LinkKey, primary linkstate.LinkKey, owners []Owner) string {
	best, bestCost, bestProtects := "", none, false
	for _, l := range ref.arcs[root] {
		key := linkstate.LinkKey{Remote: l.Remote, ID: l.ID}
		ok, protects := ref.Acceptable(root, primary.Remote, l.Remote, owners)
		if !ok || key == primary || slices.Contains(held, key) {
			continue
		}
		cost := uint64(l.Metric) + ref.potential(l.Remote, owners)
		if best == "" || protects && !bestProtects || protects == bestProtects && cost < bestCost {
			best, bestCost, bestProtects = " ~ "+key.String(), cost, protects
		}
	}
	return best
}

// Text prints the RIB of v.Node, whose records are those of the Reference.
func (ref *Reference) Text(v *linkstate.View) string {
	var held []linkstate.LinkKey
	for _, a := range v.Adjacencies {
		if a.State == linkstate.StateHeld && !a.Resumed {
			held = append(held, a.LinkKey)
		}
	}
	var lines []string
	for name, owners := range ref.Names(v.Node) {
		lines = append(lines, ref.line(v.Node, held, name, owners)+"\n")
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// Text prints r as a Reference does: without the reasons why an entry has no
// alternate.
func Text(r *rib.RIB) string {
	var lines []string
	for line := range strings.Lines(r.String()) {
		if i := strings.Index(line, " (no backup"); i > 0 {
			line = line[:i] + "\n"
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}
