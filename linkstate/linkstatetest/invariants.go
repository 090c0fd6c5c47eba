package linkstatetest

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

// Violation says which rule does not hold, and how.
type Violation struct {
	Rule string `json:"rule"` // one of the Rule constants, or a rule of the caller
	Text string `json:"text"`
}

func (v *Violation) Error() string { return v.Rule + ": " + v.Text }

// The rules. The first two hold at any time, the others in a network at rest.
const (
	// No agent goes back to an older version of a record, in particular to one
	// older than a tombstone, before the end of its life.
	RuleOrder = "record_went_back"
	// No agent forgets a record before the end of its life.
	RuleDropped = "record_dropped"

	// Start-up has ended wherever there is a neighbour to learn from.
	RuleStarting = "still_starting"
	// Each adjacency is where its link, its Envoys and the drain let it be, and
	// nothing waits to be sent.
	RuleAdjacency = "adjacency_not_at_rest"
	// A node announces its adjacencies and its prefixes, and no others.
	RuleAnnounced = "records_not_true"
	// Nodes with a chain of control streams between them hold the same records.
	RuleEqual = "databases_differ"
	// No record outlives its end of life.
	RuleExpired = "record_outlived"
	// Nobody has changed a record in place.
	RuleImmutable = "record_changed_in_place"
)

// watch compares the records that a turn has changed with what this life of the
// agent has held.
func (n *Network) watch(nd *node, changed []linkstate.Key) {
	if len(changed) == 0 {
		return
	}
	records := nd.inst.View().Records
	for _, k := range changed {
		was, is := nd.held[k], records.Get(k)
		if was != nil && was.NotAfter.After(n.now) {
			switch {
			case is == nil:
				n.violated(RuleDropped, "%s dropped %s %s before its end of life", nd.id, k, was.Order)
			case is.Order.Compare(was.Order) < 0:
				n.violated(RuleOrder, "%s replaced %s %s (tombstone %t) by the older %s", nd.id, k, was.Order, was.Tombstone, is.Order)
			}
		}
		nd.held[k] = is
	}
}

func (n *Network) violated(rule, format string, args ...any) {
	if n.OnViolation != nil {
		n.OnViolation(Violation{rule, fmt.Sprintf(format, args...)})
	}
}

// Rest lets time pass until the network is at rest: whatever can be agreed on
// over the links and nodes that live is agreed on and true. Parts of a network
// rest each for itself. It returns what still does not hold after limit.
//
// A rest may take as long as the longest of hold, lease and damping; a refresh
// that is just on its way only delays it.
func (n *Network) Rest(limit time.Duration) *Violation {
	end := n.now.Add(limit)
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		n.Run(wait)
		v := n.unrest()
		if v == nil || !n.now.Before(end) || n.stopped() {
			return v
		}
	}
}

func (n *Network) unrest() *Violation {
	for _, nd := range n.nodes {
		if nd.inst == nil {
			continue
		}
		if v := n.settled(nd); v != nil {
			return v
		}
	}
	for _, part := range n.Parts() {
		if v := n.agreed(part); v != nil {
			return v
		}
	}
	return nil
}

// speaks reports whether the control stream of a link can be there.
func (n *Network) speaks(lk *link) bool {
	return lk.control && n.node(lk.a).inst != nil && n.node(lk.b).inst != nil
}

// Carries reports whether a link that has been left alone carries requests:
// both nodes live and serve a FIB, its streams and its data path are intact,
// and neither end has taken it out of service.
func (n *Network) Carries(a, b dmsc.NodeID, id dmsc.LinkID) bool {
	lk := n.link(a, b, id)
	return n.wants(n.node(lk.a), lk) && n.wants(n.node(lk.b), lk)
}

// wants reports whether a node at rest advertises a link.
func (n *Network) wants(nd *node, lk *link) bool {
	return n.speaks(lk) && lk.data && n.node(lk.a).fib && n.node(lk.b).fib &&
		nd.inst.View().Drain != linkstate.DrainRemoved
}

// settled compares a node with what is true of it.
func (n *Network) settled(nd *node) *Violation {
	v := nd.inst.View()
	if nd.config.Role == dmsc.RoleObserver {
		return nil
	}
	alone := len(nd.links) > 0
	advertised := map[linkstate.LinkKey]bool{}
	for _, lk := range nd.links {
		alone = alone && !n.speaks(lk)
		key := lk.key(nd.id)
		at, ok := slices.BinarySearchFunc(v.Adjacencies, key, func(a linkstate.Adjacency, k linkstate.LinkKey) int { return a.LinkKey.Compare(k) })
		if !ok {
			continue // to an observer, or refused
		}
		a, want := v.Adjacencies[at], linkstate.StateDown
		switch {
		case n.wants(nd, lk):
			want, advertised[key] = linkstate.StateFull, true
		case n.speaks(lk):
			want = linkstate.StateSynced
		}
		if a.State != want || a.Pending > 0 {
			return &Violation{RuleAdjacency, fmt.Sprintf("%s>%s is %s with %d records pending, it should be %s:\n%s", nd.id, key, a.State, a.Pending, want, Describe(v))}
		}
	}
	if !v.Synced && !alone {
		return &Violation{RuleStarting, fmt.Sprintf("%s is still starting:\n%s", nd.id, Describe(v))}
	}
	announced := map[dmsc.ServicePrefix]bool{}
	for _, p := range nd.prefixes {
		announced[p.Prefix] = true
	}
	return n.truthful(nd, v, advertised, announced)
}

// truthful compares a node's own records with what is true. They are the
// smallest keys from its NodeLSA on.
func (n *Network) truthful(nd *node, v *linkstate.View, links map[linkstate.LinkKey]bool, prefixes map[dmsc.ServicePrefix]bool) *Violation {
	wrong := func(what string) *Violation {
		return &Violation{RuleAnnounced, fmt.Sprintf("%s %s:\n%s", nd.id, what, Describe(v))}
	}
	for l := range v.Records.All() {
		if l.Origin != nd.id {
			continue
		}
		switch c := l.Content.(type) {
		case *linkstate.NodeLSA:
			for _, k := range c.Links {
				key := linkstate.LinkKey{Remote: k.Remote, ID: k.ID}
				if !links[key] {
					return wrong(fmt.Sprintf("announces the link %s", key))
				}
				delete(links, key)
			}
		case *linkstate.PrefixLSA:
			for _, p := range c.Prefixes {
				if !prefixes[p.Prefix] {
					return wrong(fmt.Sprintf("announces the prefix %s", p.Prefix))
				}
				delete(prefixes, p.Prefix)
			}
		}
	}
	if len(links)+len(prefixes) > 0 {
		return wrong(fmt.Sprintf("does not announce %d links and %d prefixes that it should", len(links), len(prefixes)))
	}
	return nil
}

// Parts returns the living agents by the streams between them: two nodes are in
// one part if a chain of streams joins them. Observers are in none.
func (n *Network) Parts() [][]dmsc.NodeID {
	var parts [][]dmsc.NodeID
	seen := map[*node]bool{}
	for _, nd := range n.nodes {
		if nd.inst == nil || seen[nd] || nd.config.Role == dmsc.RoleObserver {
			continue
		}
		seen[nd] = true
		var part []dmsc.NodeID
		for queue := []*node{nd}; len(queue) > 0; queue = queue[1:] {
			part = append(part, queue[0].id)
			for _, lk := range queue[0].links {
				far := n.node(lk.key(queue[0].id).Remote)
				if !seen[far] && n.speaks(lk) && far.config.Role != dmsc.RoleObserver {
					seen[far] = true
					queue = append(queue, far)
				}
			}
		}
		slices.Sort(part)
		parts = append(parts, part)
	}
	slices.SortFunc(parts, func(a, b []dmsc.NodeID) int { return cmp.Compare(a[0], b[0]) })
	return parts
}

// agreed compares the databases of a part.
func (n *Network) agreed(part []dmsc.NodeID) *Violation {
	first := slices.Collect(n.Instance(part[0]).View().Records.All())
	for _, l := range first {
		if !l.NotAfter.After(n.now) {
			return &Violation{RuleExpired, fmt.Sprintf("%s holds %s %s after its end of life", part[0], l.Key, l.Order)}
		}
		if l.Content != nil && !bytes.Equal(Encode(l.Content), l.Body) {
			return &Violation{RuleImmutable, fmt.Sprintf("the content of %s %s is no longer its body %s", l.Key, l.Order, l.Body)}
		}
	}
	for _, id := range part[1:] {
		v := n.Instance(id).View()
		i := 0
		same := v.Records.Len() == len(first)
		for l := range v.Records.All() {
			if !same {
				break
			}
			f := first[i]
			same = l == f || l.Key == f.Key && l.Order == f.Order && l.Tombstone == f.Tombstone && l.NotAfter.Equal(f.NotAfter) && bytes.Equal(l.Body, f.Body)
			i++
		}
		if !same {
			return &Violation{RuleEqual, fmt.Sprintf("%s and %s hold different records:\n%s:\n%s%s:\n%s", part[0], id,
				part[0], Describe(n.Instance(part[0]).View()), id, Describe(v))}
		}
	}
	return nil
}
