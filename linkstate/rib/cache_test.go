package rib_test

import (
	"fmt"
	"testing"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
)

// Pools that scale change their weights all day while the topology rests.
func TestWeightsThatChangeForEverDoNotFillTheMemory(t *testing.T) {
	net := newNetwork()
	net.link("sr-1", "sr-2", "0", 10, 10)
	net.link("sr-1", "sr-3", "0", 10, 10)
	e := rib.New("sr-1")
	for weight := range uint32(5000) {
		net.prefixes["sr-2"] = []linkstate.Prefix{{Prefix: dmsc.MustParsePrefix("a"), Weight: weight + 1}}
		net.prefixes["sr-3"] = []linkstate.Prefix{{Prefix: dmsc.MustParsePrefix("a"), Weight: 7001}}
		view := net.view("sr-1")
		e.Update(view, linkstate.ChangedPrefixes, net.changed(view))
		if n := e.OwnerSets(); n > 10 {
			t.Fatalf("%d owner sets for one name", n)
		}
	}
}

// Nodes that come under a new id each time, as in a cluster that scales, are not
// remembered for ever; the day the Engine forgets them is like any other.
func TestIDsThatChangeForEverDoNotFillTheMemory(t *testing.T) {
	net := newNetwork()
	net.link("sr-1", "sr-2", "0", 10, 10)
	e := rib.New("sr-1")
	var last *rib.RIB
	for i := range 3000 {
		id := dmsc.NodeID(fmt.Sprintf("pod-%d", i))
		net.link("sr-2", id, "0", 1, 1)
		view := net.view("sr-1")
		got, delta := e.Update(view, linkstate.ChangedTopology, net.changed(view))
		if want := rib.Compute(view); got.String() != want.String() || describe(delta) != describe(rib.Diff(last, got)) {
			t.Fatalf("turn %d:\n%s\nwant\n%s\ndelta\n%s", i, got, want, describe(delta))
		}
		if n := e.Interned(); n > 1100 {
			t.Fatalf("%d ids in turn %d", n, i)
		}
		last = got
		net.cut("sr-2", id, "0")
		delete(net.nodes, id)
	}
}
