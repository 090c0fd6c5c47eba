package rib_test

import (
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
