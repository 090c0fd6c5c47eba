package rib

import (
	"cmp"
	"encoding/binary"
	"iter"
	"maps"
	"slices"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

// claim says that a reachable node owns a name: a prefix it announces, or the
// function of one.
type claim struct {
	name   dmsc.ServicePrefix
	owner  int32
	prefix *linkstate.Prefix
}

// claims returns the claims of all reachable owners, sorted by name.
func (e *Engine) claims(v *linkstate.View) []claim {
	var claims []claim
	announced := make(map[dmsc.ServicePrefix]bool)
	for l := range v.Records.All() {
		content, ok := l.Content.(*linkstate.PrefixLSA)
		if !ok || l.Tombstone || l.Origin != e.root && e.known[l.Origin] == nil {
			continue
		}
		owner := e.graph.Index(l.Origin)
		for i := range content.Prefixes {
			p := &content.Prefixes[i]
			if p.Prefix.IsZero() || p.Prefix.Reserved() ||
				e.tree.Distance(owner).Add(p.Metric) == dmsc.Unreachable {
				continue
			}
			claims = append(claims, claim{p.Prefix, owner, p})
			announced[p.Prefix] = true
		}
	}
	for _, c := range claims {
		if f, ok := c.name.Function(); ok && !announced[f] {
			claims = append(claims, claim{f, c.owner, c.prefix})
		}
	}
	slices.SortFunc(claims, func(a, b claim) int {
		return cmp.Or(a.name.Compare(b.name), cmp.Compare(a.owner, b.owner), a.prefix.Prefix.Compare(b.prefix.Prefix))
	})
	return claims
}

// byName yields the claims of each name.
func byName(claims []claim) iter.Seq2[dmsc.ServicePrefix, []claim] {
	return func(yield func(dmsc.ServicePrefix, []claim) bool) {
		for len(claims) > 0 {
			n := 1
			for n < len(claims) && claims[n].name == claims[0].name {
				n++
			}
			if !yield(claims[0].name, claims[:n]) {
				return
			}
			claims = claims[n:]
		}
	}
}

// route makes the entry of one name from all its claims. Only those of the
// best preference are considered.
func (e *Engine) route(claims []claim) *Entry {
	first := claims[0]
	entry := &Entry{Prefix: first.name, Protocol: first.prefix.Protocol, ReplaySafe: true}
	if first.prefix.Prefix != first.name {
		entry.Kind = Function
	}
	var preference uint32
	for _, c := range claims {
		preference = max(preference, c.prefix.Preference)
		// Of what all owners say and not only the chosen ones, so that all nodes
		// agree: safe only if all are, and HTTP before TCP.
		entry.ReplaySafe = entry.ReplaySafe && c.prefix.ReplaySafe
		entry.Protocol = min(entry.Protocol, c.prefix.Protocol)
	}
	claims = slices.DeleteFunc(slices.Clone(claims), func(c claim) bool { return c.prefix.Preference != preference })

	// Comparisons of D(X) between nodes do not change when all metrics are
	// lowered alike, so owner sets are cached that way.
	base := dmsc.Unreachable
	for _, c := range claims {
		base = min(base, c.prefix.Metric)
	}
	p := e.path(ownersOf(claims, base))
	entry.Distance = p.distance.Add(base)
	entry.Egress, entry.Local, entry.Group, entry.NoBackup = p.egress, p.local, p.group, p.noBackup
	if entry.Kind == Function {
		for _, c := range claims {
			if (!p.local || c.owner == e.tree.Root()) && e.tree.Distance(c.owner).Add(c.prefix.Metric) == entry.Distance {
				entry.Instances = append(entry.Instances, c.prefix.Prefix)
			}
		}
		slices.SortFunc(entry.Instances, dmsc.ServicePrefix.Compare)
		entry.Instances = slices.Compact(entry.Instances)
	}
	return entry
}

// owner is a node of an owner set: the nodes that own a name at the best
// preference.
type owner struct {
	node   int32
	metric dmsc.Metric // of the best of its claims, above the best of the set
	weight uint64      // of its claims with that metric, together
}

// ownersOf merges the claims, sorted by owner, of each node. base is the lowest
// metric among them.
func ownersOf(claims []claim, base dmsc.Metric) []owner {
	var owners []owner
	for _, c := range claims {
		o := owner{c.owner, c.prefix.Metric - base, uint64(max(c.prefix.Weight, 1))}
		if n := len(owners); n == 0 || owners[n-1].node != o.node || owners[n-1].metric == o.metric {
			if n > 0 && owners[n-1].node == o.node {
				owners[n-1].weight += o.weight
			} else {
				owners = append(owners, o)
			}
		} else if o.metric < owners[n-1].metric {
			owners[n-1] = o
		}
	}
	if len(owners) == 1 {
		owners[0].weight = 1 // no share to speak of: same set as without weights
	}
	return owners
}

// path is the way to an owner set.
type path struct {
	distance dmsc.Metric
	egress   []dmsc.NodeID
	local    bool
	group    *Group
	noBackup string
}

// path returns the way to a reachable owner set, from the cache if it can.
func (e *Engine) path(owners []owner) *path {
	key := make([]byte, 0, 64)
	for _, o := range owners {
		key = binary.BigEndian.AppendUint32(key, uint32(o.node))
		key = binary.BigEndian.AppendUint32(key, uint32(o.metric))
		key = binary.BigEndian.AppendUint64(key, o.weight)
	}
	p := e.paths[string(key)]
	if p == nil {
		p = e.findPath(owners)
		e.paths[string(key)] = p
	}
	return p
}

func (e *Engine) findPath(owners []owner) *path {
	p := &path{distance: nearest(&e.tree, owners)}
	weights := make(map[int]uint64) // by position among the root's arcs
	for _, o := range owners {
		if e.tree.Distance(o.node).Add(o.metric) != p.distance {
			continue
		}
		if o.node == e.tree.Root() {
			return &path{distance: p.distance, egress: []dmsc.NodeID{e.root}, local: true}
		}
		p.egress = append(p.egress, e.graph.ID(o.node))
		for i := range e.tree.FirstHops(o.node) {
			weights[i] += o.weight
		}
	}
	slices.Sort(p.egress)

	positions := slices.Sorted(maps.Keys(weights)) // hence by (node id, link id)
	arcs := e.graph.Arcs(e.tree.Root())
	primaries := make([]NextHop, len(positions))
	for i, w := range shares(positions, weights) {
		primaries[i] = NextHop{LinkKey: e.linkKey(arcs[positions[i]]), Weight: w}
	}
	var backup []NextHop
	if len(primaries) == 1 {
		backup, p.noBackup = e.alternate(owners, p.distance, positions[0])
	}
	p.group = e.intern(primaries, backup)
	return p
}

// shares reduces weights to their smallest form, each at least 1 and at most
// 65536, so that Envoy's sums do not overflow.
func shares(positions []int, weights map[int]uint64) []uint32 {
	var divisor, largest uint64
	for _, i := range positions {
		divisor = gcd(weights[i], divisor)
		largest = max(largest, weights[i])
	}
	shift := 0
	for largest/divisor>>shift > 1<<16 {
		shift++
	}
	out := make([]uint32, len(positions))
	for i, pos := range positions {
		out[i] = uint32(max(weights[pos]/divisor>>shift, 1))
	}
	return out
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
