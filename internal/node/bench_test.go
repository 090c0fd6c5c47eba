package node

import (
	"fmt"
	"testing"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	"github.com/dmsc-mesh/dmsc/translator"
	"github.com/dmsc-mesh/dmsc/xds"
)

// BenchmarkPublication is what the death of a link costs a router with three
// neighbours in a network of eight, from the RIB to what its Envoy is sent.
func BenchmarkPublication(b *testing.B) {
	var states []translator.State
	for turn := range 2 {
		s := translator.State{Node: "r1", Addrs: translator.Addrs{Fabric: "127.0.0.1:2", Probe: "127.0.0.1:3"}}
		var groups []*rib.Group
		for i := range 3 {
			hop := rib.NextHop{LinkKey: linkstate.LinkKey{Remote: dmsc.NodeID(fmt.Sprintf("r%d", i+2)), ID: "0"}, Weight: 1}
			s.Neighbours = append(s.Neighbours, translator.Neighbour{NextHop: hop, Data: fmt.Sprintf("127.0.0.1:%d", 100+i), Up: turn == 0 || i > 0})
			g := &rib.Group{Primaries: []rib.NextHop{hop}}
			g.Name = rib.GroupName(g.Primaries, nil)
			groups = append(groups, g)
		}
		var entries []*rib.Entry
		for i := range 7 - turn {
			p := dmsc.MustParsePrefix(fmt.Sprintf("dmsc/node/r%d", i+2))
			entries = append(entries, &rib.Entry{Prefix: p, Kind: rib.Node, Group: groups[max(turn, i%3)]})
		}
		entries = append(entries, &rib.Entry{Prefix: dmsc.MustParsePrefix("a/7"), Group: groups[turn]})
		entries = append(entries, &rib.Entry{Prefix: dmsc.MustParsePrefix("a/8"), Group: groups[2]})
		s.RIB = rib.NewRIB("r1", entries...)
		if turn == 1 {
			s.Retired = groups[:1]
		}
		states = append(states, s)
	}
	var tr translator.Translator
	srv := xds.New(xds.Config{})
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		r, err := tr.Translate(states[i%2])
		if err != nil {
			b.Fatal(err)
		}
		if _, err := srv.Publish("r1", xds.SetOf(r)); err != nil {
			b.Fatal(err)
		}
		i++
	}
}
