package rib_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	"github.com/dmsc-mesh/dmsc/linkstate/rib/ribtest"
)

// failure is one link (both directions) or one node that has just gone while
// every node still forwards by its RIB from before.
type failure struct {
	node dmsc.NodeID // or
	a, b dmsc.NodeID
	id   dmsc.LinkID
}

func (f failure) String() string {
	if f.node != "" {
		return "node " + string(f.node)
	}
	return fmt.Sprintf("link %s %s #%s", f.a, f.b, f.id)
}

func (f failure) hits(from dmsc.NodeID, hop rib.NextHop) bool {
	return hop.Remote == f.node || hop.ID == f.id &&
		(f.a == from && f.b == hop.Remote || f.b == from && f.a == hop.Remote)
}

// walker follows one name through the RIBs of all nodes with local repair
// only: primaries that are left, else the alternate. It takes every one of
// several equal next hops.
type walker struct {
	ribs    map[dmsc.NodeID]*rib.RIB
	name    string
	failure failure
	state   map[dmsc.NodeID]int // 1 = on the way, 2 = done
	loop    []dmsc.NodeID
	dropped []dmsc.NodeID // where requests find no next hop
}

func newWalker(ribs map[dmsc.NodeID]*rib.RIB, name string, f failure) *walker {
	return &walker{ribs: ribs, name: name, failure: f, state: map[dmsc.NodeID]int{}}
}

func (w *walker) visit(at dmsc.NodeID) {
	switch w.state[at] {
	case 1:
		w.loop = append(w.loop, at)
		return
	case 2:
		return
	}
	w.state[at] = 1
	defer func() { w.state[at] = 2 }()
	en := w.ribs[at].Lookup(w.name)
	if w.name == "dmsc/node/"+string(at) || en != nil && en.Local {
		return // delivered
	}
	if en == nil {
		w.dropped = append(w.dropped, at)
		return
	}
	next := w.alive(at, en.Group.Primaries)
	if len(next) == 0 {
		next = w.alive(at, en.Group.Backup)
	}
	if len(next) == 0 {
		w.dropped = append(w.dropped, at)
	}
	for _, hop := range next {
		w.visit(hop.Remote)
	}
}

func (w *walker) alive(at dmsc.NodeID, hops []rib.NextHop) []rib.NextHop {
	var alive []rib.NextHop
	for _, h := range hops {
		if !w.failure.hits(at, h) {
			alive = append(alive, h)
		}
	}
	return alive
}

// broken returns the group of a node for a name if it has a single primary
// which the failure hits.
func broken(r *rib.RIB, at dmsc.NodeID, name string, f failure) *rib.Group {
	en := r.Lookup(name)
	if en == nil || en.Group == nil || en.Group.ECMP() || !f.hits(at, en.Group.Primaries[0]) {
		return nil
	}
	return en.Group
}

// TestLocalRepair proves the rule of alternate.go on random networks. Without a
// failure every name is delivered from everywhere. After any single failure no
// request loops, unless the only owner itself is gone; and
//   - of a link: whoever has lost a primary and has an alternate delivers;
//   - of a node: the same, if the alternate protects the node.
func TestLocalRepair(t *testing.T) {
	var links, nodes, saved, lost int
	for seed := range uint64(1500) {
		net := randomNetwork(rand.New(rand.NewPCG(seed, 7)))
		ids := net.ids()
		ref := ribtest.NewReference(net.view(ids[0]).Records)
		ribs := map[dmsc.NodeID]*rib.RIB{}
		for _, id := range ids {
			ribs[id] = rib.Compute(net.view(id))
		}
		failures := []failure{{node: "nothing"}}
		for _, id := range ids {
			failures = append(failures, failure{node: id})
			for _, l := range ref.Arcs(id) {
				if id < l.Remote {
					failures = append(failures, failure{a: id, b: l.Remote, id: l.ID})
				}
			}
		}
		for _, start := range ids {
			for name, owners := range ref.Names(start) {
				for _, f := range failures {
					if f.node == start || onlyOwner(owners, f.node) {
						continue
					}
					w := newWalker(ribs, name, f)
					w.visit(start)
					group := broken(ribs[start], start, name, f)
					fail := func(what string, at []dmsc.NodeID) {
						t.Fatalf("seed %d: %s without %s from %s: %s at %s (%s)\n%s", seed, name, f, start, what, at, ribs[start].Lookup(name), net)
					}
					if w.loop != nil {
						fail("loop", w.loop)
					}
					switch {
					case f.node == "nothing":
						if w.dropped != nil {
							fail("black hole", w.dropped)
						}
					case group == nil:
					case len(group.Backup) == 0:
						lost++
					case f.node == "":
						links++
						if w.dropped != nil {
							fail("lost link not repaired", w.dropped)
						}
					default:
						nodes++
						_, protects := ref.Acceptable(start, f.node, group.Backup[0].Remote, owners)
						if protects && w.dropped != nil {
							fail("lost node not repaired", w.dropped)
						}
						if w.dropped == nil {
							saved++
						}
					}
				}
			}
		}
	}
	t.Logf("repaired: %d lost links, %d of %d lost nodes; %d losses without an alternate", links, saved, nodes, lost)
	if links < 5000 || saved < 1000 {
		t.Errorf("too few cases to prove much")
	}
}

func onlyOwner(owners []ribtest.Owner, node dmsc.NodeID) bool {
	for _, o := range owners {
		if o.Node != node {
			return false
		}
	}
	return true
}
