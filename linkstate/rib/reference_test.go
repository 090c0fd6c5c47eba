package rib_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
)

// reference says what the rules mean, without speed: all pairs of distances
// (Floyd–Warshall with a cost per node), and every rule spelled out.
type reference struct {
	net  *network
	dist map[[2]dmsc.NodeID]uint64
}

const none = uint64(1) << 62

func newReference(net *network) *reference {
	ref := &reference{net: net, dist: map[[2]dmsc.NodeID]uint64{}}
	ids := net.ids()
	for _, a := range ids {
		for _, b := range ids {
			ref.dist[[2]dmsc.NodeID{a, b}] = none
			for _, l := range ref.arcs(a) {
				if l.Remote == b {
					ref.dist[[2]dmsc.NodeID{a, b}] = min(ref.dist[[2]dmsc.NodeID{a, b}], uint64(l.Metric))
				}
			}
		}
		ref.dist[[2]dmsc.NodeID{a, a}] = 0
	}
	for _, k := range ids {
		for _, a := range ids {
			for _, b := range ids {
				d := ref.d(a, k) + ref.lastResort(k) + ref.d(k, b)
				if a != k && b != k && d < ref.d(a, b) {
					ref.dist[[2]dmsc.NodeID{a, b}] = d
				}
			}
		}
	}
	return ref
}

func (ref *reference) d(a, b dmsc.NodeID) uint64 { return ref.dist[[2]dmsc.NodeID{a, b}] }

// arcs are the links that both ends declare, sorted by (node id, link id).
func (ref *reference) arcs(a dmsc.NodeID) []linkstate.Link {
	var arcs []linkstate.Link
	for _, l := range ref.net.nodes[a].Links {
		far := ref.net.nodes[l.Remote]
		if far != nil && slices.ContainsFunc(far.Links, func(back linkstate.Link) bool { return back.Remote == a && back.ID == l.ID }) {
			arcs = append(arcs, l)
		}
	}
	slices.SortFunc(arcs, func(a, b linkstate.Link) int {
		return strings.Compare(string(a.Remote)+"/"+string(a.ID), string(b.Remote)+"/"+string(b.ID))
	})
	return arcs
}

func (ref *reference) lastResort(n dmsc.NodeID) uint64 {
	most := 0
	for _, node := range ref.net.nodes {
		most += 1 - 2*int(node.Algorithm) // + 1 for each igp, - 1 for each delay
	}
	domain := linkstate.AlgorithmIGP
	if most < 0 {
		domain = linkstate.AlgorithmDelay
	}
	if node := ref.net.nodes[n]; node.Transit && node.Algorithm == domain {
		return 0
	}
	return uint64(dmsc.LastResort)
}

// claimed is one owner of a name.
type claimed struct {
	node     dmsc.NodeID
	metric   uint64
	weight   uint64
	instance string
}

// names returns the owners of every name at the best preference, as seen by
// root: without those it cannot reach.
func (ref *reference) names(root dmsc.NodeID) map[string][]claimed {
	type full struct {
		claimed
		preference uint32
	}
	all := map[string][]full{}
	for owner, prefixes := range ref.net.prefixes {
		for _, p := range prefixes {
			if ref.d(root, owner) < none {
				all[p.Prefix.String()] = append(all[p.Prefix.String()], full{
					claimed{owner, uint64(p.Metric), uint64(max(p.Weight, 1)), p.Prefix.String()}, p.Preference})
			}
		}
	}
	functions := map[string][]full{}
	for name, claims := range all {
		if i := strings.LastIndex(name, "/"); i > 0 && all[name[:i]] == nil {
			functions[name[:i]] = append(functions[name[:i]], claims...)
		}
	}
	for name, claims := range functions {
		all[name] = claims
	}
	for _, id := range ref.net.ids() {
		if id != root && ref.d(root, id) < none {
			all["dmsc/node/"+string(id)] = []full{{claimed{node: id, weight: 1}, 0}}
		}
	}
	best := map[string][]claimed{}
	for name, claims := range all {
		top := slices.MaxFunc(claims, func(a, b full) int { return int(a.preference) - int(b.preference) }).preference
		for _, c := range claims {
			if c.preference == top {
				best[name] = append(best[name], c.claimed)
			}
		}
	}
	return best
}

// potential is D(x).
func (ref *reference) potential(x dmsc.NodeID, owners []claimed) uint64 {
	d := none
	for _, o := range owners {
		d = min(d, ref.d(x, o.node)+o.metric)
	}
	return d
}

func (ref *reference) delivers(x dmsc.NodeID, owners []claimed) bool {
	return slices.ContainsFunc(owners, func(o claimed) bool { return o.node == x && o.metric == ref.potential(x, owners) })
}

// through is what a request pays from x on when it comes by.
func (ref *reference) through(x dmsc.NodeID, owners []claimed) uint64 {
	if ref.delivers(x, owners) {
		return ref.potential(x, owners)
	}
	return ref.potential(x, owners) + ref.lastResort(x)
}

// acceptable tells whether the link to n is an alternate to the primary
// neighbour e, and whether it protects the node.
func (ref *reference) acceptable(root, e, n dmsc.NodeID, owners []claimed) (ok, protects bool) {
	dn := ref.potential(n, owners)
	if dn >= none || ref.lastResort(n) > 0 && !ref.delivers(n, owners) {
		return false, false
	}
	downstream := dn < ref.potential(root, owners)
	lowest := slices.MinFunc(owners, func(a, b claimed) int { return int(a.metric) - int(b.metric) }).metric
	for _, o := range owners {
		own := none
		for _, p := range owners {
			if p.node == o.node {
				own = min(own, p.metric)
			}
		}
		if ref.lastResort(o.node) > 0 && own > lowest+1 {
			return downstream, false
		}
	}
	loopFree := dn < ref.d(n, root)+ref.through(root, owners)
	protects = dn < ref.d(n, e)+ref.through(e, owners)
	onlyOwner := !slices.ContainsFunc(owners, func(o claimed) bool { return o.node != e })
	return loopFree && (protects || downstream || onlyOwner), protects
}

// line prints the way from root to a name like Entry.String, without reasons.
func (ref *reference) line(root dmsc.NodeID, name string, owners []claimed) string {
	distance := ref.potential(root, owners)
	local := ref.delivers(root, owners)
	var egress, instances []string
	weights := map[string]uint64{}
	neighbour := map[string]dmsc.NodeID{}
	for _, o := range owners {
		if ref.d(root, o.node)+o.metric != distance || local && o.node != root {
			continue
		}
		egress = append(egress, string(o.node))
		instances = append(instances, o.instance)
		for _, l := range ref.arcs(root) {
			rest := uint64(0)
			if l.Remote != o.node {
				rest = ref.lastResort(l.Remote) + ref.d(l.Remote, o.node)
			}
			if uint64(l.Metric)+rest == ref.d(root, o.node) {
				key := linkstate.LinkKey{Remote: l.Remote, ID: l.ID}.String()
				weights[key] += o.weight
				neighbour[key] = l.Remote
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
		var divisor uint64
		for _, w := range weights {
			for d := w; ; d-- {
				if w%d == 0 && (divisor == 0 || divisor%d == 0) {
					divisor = d
					break
				}
			}
		}
		var hops []string
		for _, key := range slices.Sorted(maps.Keys(weights)) {
			if w := weights[key]; w != divisor {
				key += fmt.Sprintf("*%d", w/divisor)
			}
			hops = append(hops, key)
		}
		out += " via " + strings.Join(hops, " + ")
		if len(hops) == 1 {
			out += ref.backup(root, hops[0], neighbour[hops[0]], owners)
		}
		out += fmt.Sprintf(" metric %d egress %s", distance, strings.Join(egress, " "))
	}
	if function {
		out += " instances " + strings.Join(instances, " ")
	}
	return out
}

func (ref *reference) backup(root dmsc.NodeID, primary string, e dmsc.NodeID, owners []claimed) string {
	best, bestCost, bestProtects := "", none, false
	for _, l := range ref.arcs(root) {
		key := linkstate.LinkKey{Remote: l.Remote, ID: l.ID}
		ok, protects := ref.acceptable(root, e, l.Remote, owners)
		if !ok || key.String() == primary || slices.Contains(ref.net.held, key) {
			continue
		}
		cost := uint64(l.Metric) + ref.potential(l.Remote, owners)
		if best == "" || protects && !bestProtects || protects == bestProtects && cost < bestCost {
			best, bestCost, bestProtects = " ~ "+key.String(), cost, protects
		}
	}
	return best
}

func (ref *reference) rib(root dmsc.NodeID) string {
	var lines []string
	for name, owners := range ref.names(root) {
		lines = append(lines, ref.line(root, name, owners)+"\n")
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// withoutReasons is r as the reference prints it.
func withoutReasons(r *rib.RIB) string {
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

func TestRIBEqualsReference(t *testing.T) {
	backups := 0
	for seed := range uint64(1500) {
		r := rand.New(rand.NewPCG(seed, 1))
		net := randomNetwork(r)
		ids := net.ids()
		root := ids[r.IntN(len(ids))]
		for _, l := range net.nodes[root].Links {
			if r.IntN(6) == 0 {
				net.held = append(net.held, linkstate.LinkKey{Remote: l.Remote, ID: l.ID})
			}
		}
		got, want := withoutReasons(rib.Compute(net.view(root))), newReference(net).rib(root)
		if got != want {
			t.Fatalf("seed %d, root %s:\n%s\ngot\n%s\nwant\n%s", seed, root, net, got, want)
		}
		backups += strings.Count(got, "~")
	}
	if backups < 1000 {
		t.Errorf("only %d alternates: the networks prove little", backups)
	}
}

// What an Engine says after any changes is what a new one says.
func TestEngineEqualsCompute(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 2))
		net := randomNetwork(r)
		root := net.ids()[0]
		e := rib.New(root)
		e.Update(net.view(root), 0)
		for step := range 10 {
			var change linkstate.Change
			ids := net.ids()
			other := ids[r.IntN(len(ids))]
			switch r.IntN(6) {
			case 0: // another metric
				change = linkstate.ChangedTopology
				for i := range net.nodes[other].Links {
					net.nodes[other].Links[i].Metric = dmsc.Metric(1 + r.IntN(9))
				}
			case 1:
				change = linkstate.ChangedTopology
				net.nodes[other].Transit = !net.nodes[other].Transit
				net.nodes[other].Algorithm = linkstate.Algorithm(r.IntN(2))
			case 2: // a node goes, with its prefixes or without
				if other == root {
					continue
				}
				change = linkstate.ChangedTopology
				delete(net.nodes, other)
				if r.IntN(2) == 0 {
					change |= linkstate.ChangedPrefixes
					delete(net.prefixes, other)
				}
			case 3: // a node comes
				change = linkstate.ChangedTopology
				id := dmsc.NodeID(fmt.Sprintf("sr-%d", 20+step))
				net.link(id, other, "0", 1, 1)
			case 4:
				change = linkstate.ChangedPrefixes
				p := linkstate.Prefix{Prefix: dmsc.MustParsePrefix(fmt.Sprintf("new/%d", r.IntN(5))), Metric: dmsc.Metric(step)}
				net.prefixes[other] = append(net.prefixes[other], p)
			case 5:
				change = linkstate.ChangedNeighbours
				net.held = nil
				for _, l := range net.nodes[root].Links {
					if r.IntN(3) == 0 {
						net.held = append(net.held, linkstate.LinkKey{Remote: l.Remote, ID: l.ID})
					}
				}
			}
			got, want := e.Update(net.view(root), change), rib.Compute(net.view(root))
			if got.String() != want.String() {
				t.Fatalf("seed %d, step %d, change %b:\n%s\nwant\n%s", seed, step, change, got, want)
			}
			if again := e.Update(net.view(root), change); again != got {
				t.Fatalf("seed %d, step %d: another RIB though nothing differs", seed, step)
			}
		}
	}
}

// New metrics, k times the old, give the same RIB at k times the distance.
func TestScalingLaw(t *testing.T) {
	const k = 7
	for seed := range uint64(500) {
		net := randomNetwork(rand.New(rand.NewPCG(seed, 3)))
		for _, node := range net.nodes {
			node.Transit, node.Algorithm = true, 0 // dmsc.LastResort does not scale
		}
		root := net.ids()[0]
		before := rib.Compute(net.view(root))
		for _, node := range net.nodes {
			for i := range node.Links {
				node.Links[i].Metric *= k
			}
		}
		for _, prefixes := range net.prefixes {
			for i := range prefixes {
				prefixes[i].Metric *= k
			}
		}
		after := rib.Compute(net.view(root))
		for i, en := range before.Entries {
			scaled := *en
			scaled.Distance *= k
			if got := after.Entries[i]; got.String() != scaled.String() {
				t.Fatalf("seed %d: %s, want %s", seed, got, &scaled)
			}
		}
	}
}

// Lookup finds what a scan over all entries finds.
func TestLookupEqualsScan(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 4))
		net := randomNetwork(r)
		table := rib.Compute(net.view(net.ids()[0]))
		for range 200 {
			var segs []string
			for range 1 + r.IntN(4) {
				segs = append(segs, []string{"a", "b", "c", "d", "1", "2", "x", "y", "A", "aa", "", "dmsc", "node", "sr-1"}[r.IntN(14)])
			}
			name := strings.Join(segs, "/")
			var want *rib.Entry
			for _, en := range table.Entries {
				p, low := en.Prefix.String(), strings.ToLower(name)
				if (low == p || en.Kind != rib.Function && strings.HasPrefix(low, p+"/")) &&
					(want == nil || len(p) > len(want.Prefix.String())) {
					want = en
				}
			}
			if got := table.Lookup(name); got != want {
				t.Fatalf("seed %d: %q is answered by %v, want %v", seed, name, got, want)
			}
		}
	}
}

// A delta applied to the old RIB gives the new one.
func TestDiffLeadsFromOldToNew(t *testing.T) {
	for seed := range uint64(300) {
		from := randomNetwork(rand.New(rand.NewPCG(seed, 5)))
		to := randomNetwork(rand.New(rand.NewPCG(seed, 6)))
		a, b := rib.Compute(from.view(from.ids()[0])), rib.Compute(to.view(to.ids()[0]))
		d := rib.Diff(a, b)
		lines := map[string]string{}
		groups := map[string]bool{}
		for _, en := range a.Entries {
			lines[en.Prefix.String()] = fmt.Sprint(en, en.Protocol, en.ReplaySafe)
		}
		for _, en := range d.Removed {
			delete(lines, en.Prefix.String())
		}
		for _, en := range slices.Concat(d.Added, d.Changed) {
			lines[en.Prefix.String()] = fmt.Sprint(en, en.Protocol, en.ReplaySafe)
		}
		for _, g := range a.Groups {
			groups[g.Name] = true
		}
		for _, g := range d.GroupsRemoved {
			delete(groups, g.Name)
		}
		for _, g := range d.GroupsAdded {
			groups[g.Name] = true
		}
		if len(lines) != len(b.Entries) || len(groups) != len(b.Groups) {
			t.Fatalf("seed %d: %d entries and %d groups, want %d and %d", seed, len(lines), len(groups), len(b.Entries), len(b.Groups))
		}
		for _, en := range b.Entries {
			if got, want := lines[en.Prefix.String()], fmt.Sprint(en, en.Protocol, en.ReplaySafe); got != want {
				t.Fatalf("seed %d: %s, want %s", seed, got, want)
			}
		}
		for _, g := range b.Groups {
			if !groups[g.Name] {
				t.Fatalf("seed %d: group %s is missing", seed, g.Name)
			}
		}
		if !rib.Diff(b, b).Empty() || len(rib.Diff(nil, b).Added) != len(b.Entries) {
			t.Fatalf("seed %d: diff with itself or nothing", seed)
		}
	}
}
