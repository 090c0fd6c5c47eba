package rib

import (
	"cmp"
	"slices"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

// claims is what the PrefixLSAs say: who owns which name.
type claims struct {
	names   map[dmsc.ServicePrefix]*name
	owners  []ownedBy // by node
	dirty   []*name   // whose entry may have to be another one
	scratch []claim
}

// name is a service prefix that somebody claims, or the function of one. There
// are as many as entries: it fills 96 bytes.
type name struct {
	prefix dmsc.ServicePrefix
	claims []claim // of the name itself, by any owner, reachable or not
	// The names directly below that have claims. With one more segment than
	// this, they make it a function unless a reachable owner announces it. One
	// that has lost its last claim stays until this name is settled.
	below []*name

	fact  *fact // nil while there is no entry
	was   *fact // when it became dirty
	set   *ownerSet
	place int32 // in set.names

	kind   Kind // Node, or Announced; which names are functions is in the fact
	listed bool // in below of the name above
	dirty  bool
}

// claim says that a node announces a prefix.
type claim struct {
	owner  int32
	prefix *linkstate.Prefix
}

// ownedBy is what one node announces.
type ownedBy struct {
	buckets  []bucket
	itself   *name       // dmsc/node/<id>
	greatest dmsc.Metric // no claim has a higher metric
	distance dmsc.Metric // as the names were told last
	sets     []*ownerSet // that contain the node
}

type bucket struct {
	fragment uint32
	content  *linkstate.PrefixLSA
}

func newClaims() claims { return claims{names: make(map[dmsc.ServicePrefix]*name)} }

// owner returns what a node announces.
func (e *Engine) owner(i int32) *ownedBy {
	for int(i) >= len(e.owners) {
		e.owners = append(e.owners, ownedBy{distance: dmsc.Unreachable})
	}
	return &e.owners[i]
}

// readPrefixes takes in one bucket of a node's prefixes, nil if it is gone.
func (e *Engine) readPrefixes(owner int32, fragment uint32, content *linkstate.PrefixLSA) {
	o := e.owner(owner)
	var was, is []linkstate.Prefix
	if content != nil {
		is = content.Prefixes
	}
	i := slices.IndexFunc(o.buckets, func(b bucket) bool { return b.fragment == fragment })
	if i >= 0 {
		if o.buckets[i].content == content {
			return
		}
		was = o.buckets[i].content.Prefixes
		o.buckets = slices.Delete(o.buckets, i, i+1)
	}
	if content != nil {
		o.buckets = append(o.buckets, bucket{fragment, content})
	}
	renewed := make([]bool, len(is))
	for i := range was {
		old := claim{owner, &was[i]}
		j, found := slices.BinarySearchFunc(is, old.prefix, func(p linkstate.Prefix, o *linkstate.Prefix) int {
			return p.Prefix.Compare(o.Prefix) // a list out of order costs time only
		})
		if found && !renewed[j] && e.renew(old, &is[j]) {
			renewed[j] = true
			continue
		}
		e.unclaim(old)
	}
	for i := range is {
		o.greatest = max(o.greatest, is[i].Metric)
		if !renewed[i] {
			e.claim(Announced, claim{owner, &is[i]})
		}
	}
}

// renew puts a prefix in the place of one that says the same, if it does.
func (e *Engine) renew(old claim, p *linkstate.Prefix) bool {
	o, n := old.prefix, e.names[p.Prefix]
	if n == nil || o.Metric != p.Metric || o.Preference != p.Preference || o.Weight != p.Weight ||
		o.Protocol != p.Protocol || o.ReplaySafe != p.ReplaySafe {
		return false
	}
	i := slices.Index(n.claims, old)
	if i >= 0 {
		n.claims[i].prefix = p
	}
	return i >= 0
}

// announceNode adds or removes the name of a node itself. An id outside the
// grammar has no name to be asked by.
func (e *Engine) announceNode(i int32, there bool) {
	o := e.owner(i)
	if o.itself == nil {
		if p, err := dmsc.ParsePrefix("dmsc/node/" + string(e.graph.ID(i))); err == nil && there {
			e.claim(Node, claim{i, &linkstate.Prefix{Prefix: p}})
			e.owner(i).itself = e.names[p]
		}
		return
	}
	if !there {
		e.unclaim(o.itself.claims[0])
		o.itself = nil
	}
}

func (e *Engine) claim(kind Kind, c claim) {
	p := c.prefix.Prefix
	if p.IsZero() || p.Reserved() && kind != Node {
		return
	}
	n := e.name(p)
	n.kind = kind
	n.claims = append(n.claims, c)
	e.touch(n)
	if f, ok := p.Function(); ok && kind != Node {
		pool := e.name(f)
		if !n.listed {
			n.listed = true
			pool.below = append(pool.below, n)
		}
		e.touch(pool)
	}
}

func (e *Engine) unclaim(c claim) {
	n := e.names[c.prefix.Prefix]
	if n == nil {
		return
	}
	n.claims = slices.DeleteFunc(n.claims, func(o claim) bool { return o == c })
	e.touch(n)
	if f, ok := n.prefix.Function(); ok && n.kind != Node {
		e.touch(e.name(f))
	}
}

// name returns the name with a prefix, a new one if need be.
func (e *Engine) name(p dmsc.ServicePrefix) *name {
	n := e.names[p]
	if n == nil {
		n = &name{prefix: p}
		e.names[p] = n
	}
	return n
}

func (e *Engine) touch(n *name) {
	if !n.dirty {
		n.dirty, n.was = true, n.fact
		e.dirty = append(e.dirty, n)
	}
}

// moved has everything looked at again that depends on the distance or the
// first hops of a node: the sets it is in, and its names if some of its claims
// come into reach or go out of it. Sums saturate, so a claim with a high metric
// is out of reach before its owner is.
func (e *Engine) moved(i int32) {
	e.reconsider(i)
	o, d := e.owner(i), e.tree.Distance(i)
	farther := max(d, o.distance).Add(o.greatest)
	o.distance = d
	if farther != dmsc.Unreachable {
		return
	}
	if o.itself != nil {
		e.touch(o.itself)
	}
	for _, b := range o.buckets {
		for _, p := range b.content.Prefixes {
			if n := e.names[p.Prefix]; n != nil {
				e.touch(n)
			}
			if f, ok := p.Prefix.Function(); ok && e.names[f] != nil {
				e.touch(e.names[f])
			}
		}
	}
}

// settleNames finds the owner set of each dirty name.
func (e *Engine) settleNames() {
	if len(e.dirty) > 0 && e.lastRun.Kind == RunNone {
		e.lastRun.Kind = RunPrefixes
	}
	for _, n := range e.dirty {
		e.settleName(n)
		if n.fact == nil && len(n.claims) == 0 && len(n.below) == 0 {
			delete(e.names, n.prefix)
		}
	}
}

func (e *Engine) settleName(n *name) {
	n.below = slices.DeleteFunc(n.below, func(b *name) bool {
		b.listed = len(b.claims) > 0
		return !b.listed
	})
	kind := n.kind
	usable := e.usable(e.scratch[:0], n)
	if len(usable) == 0 {
		kind = Function
		for _, b := range n.below {
			usable = e.usable(usable, b)
		}
	}
	e.scratch = usable[:0]
	if len(usable) == 0 {
		e.leave(n)
		e.remove(n)
		return
	}
	f := fact{prefix: n.prefix, kind: kind, replaySafe: true, protocol: usable[0].prefix.Protocol}
	var preference uint32
	for _, c := range usable {
		preference = max(preference, c.prefix.Preference)
		// Of what all owners say and not only the chosen ones, so that all nodes
		// agree: safe only if all are, and HTTP before TCP.
		f.replaySafe = f.replaySafe && c.prefix.ReplaySafe
		f.protocol = min(f.protocol, c.prefix.Protocol)
	}
	// Only those of the best preference are considered.
	usable = slices.DeleteFunc(usable, func(c claim) bool { return c.prefix.Preference != preference })
	slices.SortFunc(usable, func(a, b claim) int {
		return cmp.Or(cmp.Compare(a.owner, b.owner), a.prefix.Prefix.Compare(b.prefix.Prefix))
	})
	// Comparisons of D(X) between nodes do not change when all metrics are
	// lowered alike, so owner sets are shared that way.
	f.base = dmsc.Unreachable
	for _, c := range usable {
		f.base = min(f.base, c.prefix.Metric)
	}
	owners := e.ownersOf(usable, f.base)
	if kind == Function {
		f.instances = e.instances(usable, owners, f.base)
	}
	set := e.ownerSet(owners)
	if n.set != set {
		e.leave(n)
		e.join(n, set)
	}
	f.slot = set.slot
	e.put(n, f)
}

// usable appends the claims on a name that the root can reach.
func (e *Engine) usable(to []claim, n *name) []claim {
	for _, c := range n.claims {
		if e.tree.Distance(c.owner).Add(c.prefix.Metric) != dmsc.Unreachable {
			to = append(to, c)
		}
	}
	return to
}

// instances are those of a function that are worth as much as their owner.
func (e *Engine) instances(usable []claim, owners []owner, base dmsc.Metric) []instance {
	var out []instance
	for _, c := range usable { // both are sorted by owner
		for owners[0].node != c.owner {
			owners = owners[1:]
		}
		if c.prefix.Metric-base == owners[0].metric {
			out = append(out, instance{c.prefix.Prefix, e.graph.ID(c.owner)})
		}
	}
	slices.SortFunc(out, func(a, b instance) int {
		return cmp.Or(a.prefix.Compare(b.prefix), cmp.Compare(a.owner, b.owner))
	})
	return out
}
