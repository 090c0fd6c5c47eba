package rib

import (
	"encoding/binary"
	"slices"

	"github.com/dmsc-mesh/dmsc"
)

// ownerSets are the nodes that own names at the best preference. Many names
// share one, and it alone decides where their requests go.
type ownerSets struct {
	byKey   map[string]*ownerSet
	bySlot  []*ownerSet
	free    []int32        // slots without a set
	emptied []*ownerSet    // perhaps without names
	todo    []*ownerSet    // to be evaluated in this turn
	all     bool           // all of them
	vias    map[int32]bool // those that go by one of these neighbours only
	changed []*ownerSet    // whose slot in the table has been written in this turn

	key     []byte // scratch
	weights []uint64
	egress  []int32
	exitsTo []int
	found   []owner
}

type ownerSet struct {
	owners []owner
	slot   int32
	names  []*name

	distance dmsc.Metric
	egress   []int32 // the chosen owners, sorted by index
	local    bool
	group    *groupUse // nil if local
	via      int32     // the one neighbour that an alternate would stand in for, or -1
	why      reason    // no alternate

	queued uint32 // turn in which it was put into todo
	shown  shown
	one    [1]owner // room for owners: most sets have one, and it is close by
}

// shown is what a set's slot in the table holds.
type shown struct {
	*route   // nil if it has to be another one
	distance dmsc.Metric
	group    *Group
	why      reason
}

// owner is a node of an owner set.
type owner struct {
	node   int32
	metric dmsc.Metric // of the best of its claims, above the best of the set
	weight uint64      // of its claims with that metric, together
}

func newOwnerSets() ownerSets {
	return ownerSets{byKey: make(map[string]*ownerSet), vias: make(map[int32]bool)}
}

// ownersOf merges the claims, sorted by owner, of each node. base is the lowest
// metric among them. The result is valid until the next call.
func (e *Engine) ownersOf(claims []claim, base dmsc.Metric) []owner {
	owners := e.found[:0]
	for _, c := range claims {
		o := owner{c.owner, c.prefix.Metric - base, uint64(max(c.prefix.Weight, 1))}
		last := len(owners) - 1
		switch {
		case last < 0 || owners[last].node != o.node:
			owners = append(owners, o)
		case owners[last].metric == o.metric:
			owners[last].weight += o.weight
		case o.metric < owners[last].metric:
			owners[last] = o
		}
	}
	if len(owners) == 1 {
		owners[0].weight = 1 // no share to speak of: same set as without weights
	}
	e.found = owners
	return owners
}

// ownerSet returns the one set with these owners.
func (e *Engine) ownerSet(owners []owner) *ownerSet {
	key := e.keyOf(owners)
	s := e.byKey[string(key)]
	if s != nil {
		return s
	}
	s = new(ownerSet)
	s.owners = append(s.one[:0], owners...)
	if n := len(e.free); n > 0 {
		s.slot, e.free = e.free[n-1], e.free[:n-1]
		e.bySlot[s.slot] = s
	} else {
		s.slot = int32(len(e.bySlot))
		e.bySlot = append(e.bySlot, s)
	}
	e.byKey[string(key)] = s
	for _, o := range owners {
		by := e.owner(o.node)
		by.sets = append(by.sets, s)
	}
	e.queue(s)
	return s
}

func (e *Engine) keyOf(owners []owner) []byte {
	e.key = e.key[:0]
	for _, o := range owners {
		e.key = binary.BigEndian.AppendUint32(e.key, uint32(o.node))
		e.key = binary.BigEndian.AppendUint32(e.key, uint32(o.metric))
		e.key = binary.BigEndian.AppendUint64(e.key, o.weight)
	}
	return e.key
}

func (e *Engine) join(n *name, s *ownerSet) {
	n.set, n.place = s, int32(len(s.names))
	s.names = append(s.names, n)
	e.use(s.group, 1)
}

func (e *Engine) leave(n *name) {
	s := n.set
	if s == nil {
		return
	}
	last := len(s.names) - 1
	s.names[n.place] = s.names[last]
	s.names[n.place].place = n.place
	s.names[last] = nil
	s.names = s.names[:last]
	n.set = nil
	e.use(s.group, -1)
	if last == 0 {
		e.emptied = append(e.emptied, s)
	}
}

// reconsider has the sets with a node evaluated again.
func (e *Engine) reconsider(node int32) {
	if e.all {
		return
	}
	for _, s := range e.owner(node).sets {
		e.queue(s)
	}
}

func (e *Engine) queue(s *ownerSet) {
	if s.queued != e.turn {
		s.queued = e.turn
		e.todo = append(e.todo, s)
	}
}

// settleOwnerSets forgets the sets that no name has any more and finds the way
// to those that may go another one.
func (e *Engine) settleOwnerSets() {
	for _, s := range e.emptied {
		if len(s.names) == 0 && e.bySlot[s.slot] == s {
			e.forget(s)
		}
	}
	e.emptied = e.emptied[:0]
	switch {
	case e.all:
		e.all = false
		e.todo = append(e.todo[:0], e.bySlot...)
	case len(e.vias) > 0:
		for _, s := range e.bySlot {
			if s != nil && s.group != nil && s.via >= 0 && e.vias[s.via] {
				e.queue(s)
			}
		}
	}
	clear(e.vias)
	for _, s := range e.todo {
		if s != nil && len(s.names) > 0 {
			e.evaluate(s)
		}
	}
}

func (e *Engine) forget(s *ownerSet) {
	delete(e.byKey, string(e.keyOf(s.owners)))
	e.bySlot[s.slot] = nil
	e.routes.set(s.slot, way{}, e.fresh)
	e.free = append(e.free, s.slot)
	for _, o := range s.owners {
		by := e.owner(o.node)
		i := slices.Index(by.sets, s)
		by.sets = slices.Delete(by.sets, i, i+1)
	}
}

// evaluate finds the way to a reachable owner set.
func (e *Engine) evaluate(s *ownerSet) {
	s.distance = nearest(&e.tree, s.owners)
	for len(e.weights) < len(e.exits) {
		e.weights = append(e.weights, 0)
	}
	exits, egress, local := e.exitsTo[:0], e.egress[:0], false
	for _, o := range s.owners {
		if e.tree.Distance(o.node).Add(o.metric) != s.distance {
			continue
		}
		egress = append(egress, o.node)
		local = local || o.node == rootIndex
		for i := range e.tree.FirstHops(o.node) {
			if e.weights[i] == 0 {
				exits = append(exits, i)
			}
			e.weights[i] += o.weight
		}
	}
	if local {
		egress = append(egress[:0], rootIndex)
	}
	var group *groupUse
	s.why, s.via = noReason, -1
	if !local {
		slices.Sort(exits) // hence by (node id, link id)
		var backup *exit
		if len(exits) == 1 {
			s.via = e.exits[exits[0]].To
			if backup, s.why = e.alternate(s.owners, s.distance, exits[0]); backup != nil {
				s.why = noReason
			}
		}
		e.scale(exits)
		group = e.intern(s.group, exits, backup)
	}
	for _, i := range exits {
		e.weights[i] = 0
	}
	if !slices.Equal(egress, s.egress) {
		s.egress, s.shown.route = slices.Clone(egress), nil
	}
	s.local = local
	if group != s.group {
		e.use(group, len(s.names))
		e.use(s.group, -len(s.names))
		s.group = group
	}
	e.exitsTo, e.egress = exits[:0], egress[:0]
}

// scale reduces the weights of some exits in place to their smallest form, each
// at least 1 and at most 65536, so that Envoy's sums do not overflow.
func (e *Engine) scale(exits []int) {
	if len(exits) == 1 {
		e.weights[exits[0]] = 1
		return
	}
	var divisor, largest uint64
	for _, i := range exits {
		divisor = gcd(e.weights[i], divisor)
		largest = max(largest, e.weights[i])
	}
	shift := 0
	for largest/divisor>>shift > 1<<16 {
		shift++
	}
	for _, i := range exits {
		e.weights[i] = max(e.weights[i]/divisor>>shift, 1)
	}
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
