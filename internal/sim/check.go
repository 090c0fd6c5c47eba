package sim

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate/linkstatetest"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	"github.com/dmsc-mesh/dmsc/linkstate/rib/ribtest"
)

// The rules of this package, besides those of linkstatetest.
const (
	// A RIB is what the slow reference computes from the same records: owners,
	// next hops, weights, alternates and distances.
	RuleNextHops = "next_hops_differ_from_reference"
	// An Engine was told of every change: a new one has nothing else to say.
	RuleStale = "engine_not_up_to_date"
	// Envoy has what was computed last.
	RuleProgrammed = "fib_not_programmed"
	// No request comes by a node twice, whichever equal next hops it takes.
	RuleLoop = "loop"
	// A name that a reachable node announces is delivered from everywhere.
	RuleBlackHole = "black_hole"
	// No name is routed that no reachable node announces.
	RuleUnowned = "entry_without_owner"
	// The engine does not panic.
	RulePanic = "panic"
	// The script is one that can be played.
	RuleScript = "script"
)

// Checks counts what the rests have looked at, so that a simulation that proves
// nothing is seen.
type Checks struct {
	Rests      int `json:"rests"`
	Parts      int `json:"parts"` // of more than one node
	RIBs       int `json:"ribs"`
	Entries    int `json:"entries"`
	Alternates int `json:"alternates"`
	Walks      int `json:"walks"`
}

// lateGoodNews is how long a node may keep good news to itself (design §4).
const lateGoodNews = 20 * time.Millisecond

const (
	// longestWay is longer than a message is on its way.
	longestWay = 100 * time.Millisecond
	// secondRest is how long a network gets that has moved again.
	secondRest = 4 * time.Minute
	// looks is how often it may.
	looks = 20
)

// atRest checks what is built on the databases, which agree.
func (n *network) atRest() *linkstatetest.Violation {
	// The last change is in every Envoy then, unless a hold or a damping has just
	// ended and there is another.
	settled := longestWay + 2*(n.computing()+programming+lateGoodNews)
	for range looks {
		start := n.Now()
		n.Run(settled)
		if !n.busy.After(start) || n.Stop() {
			break
		}
		if v := n.Rest(secondRest); v != nil {
			return v
		}
	}
	n.checks.Rests++
	for _, part := range n.Parts() {
		if v := n.computed(part); v != nil {
			return v
		}
	}
	for _, domain := range n.domains() {
		if v := n.forwarded(domain); v != nil {
			return v
		}
	}
	n.plan()
	return nil
}

func broken(rule, format string, args ...any) *linkstatetest.Violation {
	return &linkstatetest.Violation{Rule: rule, Text: fmt.Sprintf(format, args...)}
}

// computed compares the RIBs of nodes that agree on the records.
func (n *network) computed(part []dmsc.NodeID) *linkstatetest.Violation {
	if len(part) > 1 {
		n.checks.Parts++
	}
	var ref *ribtest.Reference
	for _, id := range part {
		if n.Stop() {
			return nil
		}
		nd, v := n.node(id), n.Instance(id).View()
		if nd.rib == nil {
			continue // nothing was ever announced or linked here
		}
		if ref == nil {
			ref = ribtest.NewReference(v.Records)
		}
		got := nd.rib.String()
		if want := rib.Compute(v).String(); got != want {
			return broken(RuleStale, "the engine of %s has\n%sa new one\n%s%s", id, got, want, linkstatetest.Describe(v))
		}
		// Above the group limit a RIB is coarser than the reference on purpose.
		if want := ref.Text(v); !nd.rib.GroupCap && ribtest.Text(nd.rib) != want {
			return broken(RuleNextHops, "%s computes\n%sthe reference\n%s%s", id, ribtest.Text(nd.rib), want, linkstatetest.Describe(v))
		}
		if nd.ready && n.Forwards(id) && nd.fib != nd.rib {
			return broken(RuleProgrammed, "the Envoy of %s does not have the last RIB", id)
		}
		n.checks.RIBs++
		n.checks.Entries += nd.rib.Len()
		for en := range nd.rib.All() {
			if en.Group != nil {
				n.checks.Alternates += len(en.Group.Backup)
			}
		}
	}
	return nil
}

// domain is living nodes with living links between them.
type domain struct {
	nodes  []dmsc.NodeID
	owners map[string][]dmsc.NodeID // of every name that is to be served
}

// domains returns what the faults have left, as known from outside.
func (n *network) domains() []domain {
	var domains []domain
	seen := map[dmsc.NodeID]bool{}
	for _, id := range n.Nodes() {
		if seen[id] || n.Instance(id) == nil || !n.Forwards(id) || !n.node(id).ready {
			continue
		}
		seen[id] = true
		d := domain{nodes: []dmsc.NodeID{id}, owners: map[string][]dmsc.NodeID{}}
		for i := 0; i < len(d.nodes); i++ {
			for _, l := range n.Links(d.nodes[i]) {
				if !seen[l.Remote] && n.Carries(d.nodes[i], l.Remote, l.ID) {
					seen[l.Remote] = true
					d.nodes = append(d.nodes, l.Remote)
				}
			}
		}
		slices.Sort(d.nodes)
		for _, id := range d.nodes {
			for _, p := range n.Announced(id) {
				d.owners[p.Prefix.String()] = append(d.owners[p.Prefix.String()], id)
			}
			d.owners["dmsc/node/"+string(id)] = []dmsc.NodeID{id}
		}
		for _, id := range d.nodes {
			for _, p := range n.Announced(id) {
				if f, ok := p.Prefix.Function(); ok && d.owners[f.String()] == nil {
					d.owners[f.String()] = []dmsc.NodeID{} // a pool: owned, but by no announcement
				}
			}
		}
		domains = append(domains, d)
	}
	return domains
}

// forwarded walks from every node of a domain to every name of it.
func (n *network) forwarded(d domain) *linkstatetest.Violation {
	for _, name := range slices.Sorted(maps.Keys(d.owners)) {
		if n.Stop() {
			return nil
		}
		w := walker{network: n, name: name, state: map[dmsc.NodeID]walked{}}
		for _, from := range d.nodes {
			n.checks.Walks++
			if v := w.visit(from); v != nil {
				return v
			}
		}
	}
	for _, id := range d.nodes {
		nd := n.node(id)
		if nd.fib == nil {
			continue
		}
		for en := range nd.fib.All() {
			if _, ok := d.owners[en.Prefix.String()]; !ok {
				return broken(RuleUnowned, "%s has %s, which no reachable node announces", id, en)
			}
		}
	}
	return nil
}

// walker follows a name along all next hops, and nobody has to repair anything.
type walker struct {
	*network
	name  string
	state map[dmsc.NodeID]walked
}

type walked uint8

const (
	onTheWay walked = 1 + iota
	done
)

func (w *walker) visit(at dmsc.NodeID) *linkstatetest.Violation {
	switch w.state[at] {
	case onTheWay:
		return broken(RuleLoop, "%s comes by %s twice: %s", w.name, at, w.lookup(at, w.name))
	case done:
		return nil
	}
	w.state[at] = onTheWay
	if w.name != "dmsc/node/"+string(at) {
		en := w.lookup(at, w.name)
		if en == nil || !en.Local && len(en.Group.Primaries) == 0 {
			return broken(RuleBlackHole, "%s ends at %s, which does not know it", w.name, at)
		}
		if !en.Local {
			for _, hop := range en.Group.Primaries {
				if !w.connects(at, hop) {
					return broken(RuleBlackHole, "%s is sent over the dead link %s>%s", w.name, at, hop)
				}
				if v := w.visit(hop.Remote); v != nil {
					return v
				}
			}
		}
	}
	w.state[at] = done
	return nil
}
