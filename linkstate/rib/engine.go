package rib

import (
	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/spf"
)

// Engine computes one node's RIB again and again and keeps what does not
// change between two computations. Its results follow from the View alone. It
// is not safe for concurrent use; the RIBs it returns are.
//
// It is a chain of tables, each in a file of its own, and an Update walks along
// it once: from the changed records to the graph and the claims (topology.go,
// name.go), on to the owner sets (ownerset.go), their alternates (alternate.go)
// and groups (groups.go), and to the RIB (table.go). Each step touches only what
// the step before has moved.
type Engine struct {
	root      dmsc.NodeID
	maxGroups int
	last      *RIB // as given out
	lastRun   Run
	*state
}

type state struct {
	topology
	claims
	ownerSets
	groups
	table

	turn    uint32 // number of this Update
	started int    // ids interned by the first one
}

// New returns an Engine for the RIBs of one node.
func New(root dmsc.NodeID) *Engine { return &Engine{root: root, maxGroups: MaxGroups} }

// Compute returns the RIB of v.Node.
func Compute(v *linkstate.View) *RIB {
	r, _ := New(v.Node).Update(v, 0, nil)
	return r
}

// Update returns the RIB for v and how it differs from the last one: the very
// same RIB and an empty Delta if it does not. ch and keys are what changed since
// the last call: every record that was installed, replaced or removed
// (linkstate.Ready.Records). Without any change in ch the records are only
// refreshed. The first call needs neither and computes everything.
//
// It costs what has changed: without a change of links there is no SPF, and
// after one only names are looked at whose owners have moved.
func (e *Engine) Update(v *linkstate.View, ch linkstate.Change, keys []linkstate.Key) (*RIB, Delta) {
	if e.last != nil && ch == 0 {
		e.lastRun = Run{}
		return e.last, Delta{} // refreshed records
	}
	first := e.state == nil || e.graph.Interned() > 2*e.started+1024
	if first { // or the graph mostly remembers ids that are gone
		e.state = newState(e.root)
		for l := range v.Records.All() {
			e.read(l.Key, l)
		}
		e.started = e.graph.Interned()
	}
	for _, k := range keys {
		e.read(k, v.Records.Get(k))
	}
	e.turn++
	e.lastRun = Run{}
	e.settleTopology(v)
	e.settleNames()
	e.settleOwnerSets()
	e.settleGroups()

	was := e.current
	is := e.picture()
	delta := e.collect(was, is)
	if first {
		delta = Diff(e.last, is)
	}
	if e.last == nil || !delta.Empty() || e.last.GroupCap != is.GroupCap {
		e.last = is
	}
	e.lastRun.Entries = delta.Len()
	return e.last, delta
}

func newState(root dmsc.NodeID) *state {
	s := &state{
		topology:  newTopology(),
		claims:    newClaims(),
		ownerSets: newOwnerSets(),
		groups:    newGroups(),
		table:     newTable(root),
	}
	s.graph.Index(root) // 0
	return s
}

// rootIndex is the index of the root in the graph: it is interned first.
const rootIndex = 0

// read takes in one record, nil for one that is gone.
func (e *Engine) read(k linkstate.Key, l *linkstate.LSA) {
	if l != nil && l.Tombstone {
		l = nil
	}
	switch k.Type {
	case linkstate.TypeNode:
		var n *linkstate.NodeLSA
		if l != nil {
			n, _ = l.Content.(*linkstate.NodeLSA)
		}
		e.readNode(k.Origin, n)
	case linkstate.TypePrefix:
		var p *linkstate.PrefixLSA
		if l != nil {
			p, _ = l.Content.(*linkstate.PrefixLSA)
		}
		e.readPrefixes(e.graph.Index(k.Origin), k.Fragment, p)
	}
}

func (e *Engine) linkKey(a spf.Arc) linkstate.LinkKey {
	return linkstate.LinkKey{Remote: e.graph.ID(a.To), ID: e.graph.LinkID(a.Link)}
}
