package rib_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
)

// benchNetwork is a random graph of mean degree 4 with ten prefixes per node,
// every tenth of them with four owners.
func benchNetwork(n int) *network {
	net, r := newNetwork(), rand.New(rand.NewPCG(1, 1))
	id := func(i int) dmsc.NodeID { return dmsc.NodeID(fmt.Sprintf("sr-%05d", i)) }
	for i := 1; i < n; i++ {
		net.link(id(i), id(r.IntN(i)), "0", dmsc.Metric(1+r.IntN(100)), dmsc.Metric(1+r.IntN(100)))
	}
	for i := range n {
		net.link(id(r.IntN(n)), id(r.IntN(n)), "1", dmsc.Metric(1+r.IntN(100)), dmsc.Metric(1+r.IntN(100)))
		for j := range 9 {
			p := linkstate.Prefix{Prefix: dmsc.MustParsePrefix(fmt.Sprintf("f%05d/%d", i, j))}
			net.prefixes[id(i)] = append(net.prefixes[id(i)], p)
		}
		p := linkstate.Prefix{Prefix: dmsc.MustParsePrefix(fmt.Sprintf("any/%d", i%max(n/4, 1)))}
		net.prefixes[id(i)] = append(net.prefixes[id(i)], p)
	}
	return net
}

func BenchmarkUpdate(b *testing.B) {
	for _, n := range []int{10, 100, 1000, 10000} {
		net := benchNetwork(n)
		root := dmsc.NodeID("sr-00000")
		for _, what := range []struct {
			name   string
			change linkstate.Change
		}{{"topology", linkstate.ChangedTopology}, {"prefixes", linkstate.ChangedPrefixes}} {
			b.Run(fmt.Sprintf("%s/%d", what.name, n), func(b *testing.B) {
				b.ReportAllocs()
				e := rib.New(root)
				last := net.ids()[n-1]
				views := make([]*linkstate.View, 2) // differ by one far link
				for i := range views {
					net.nodes[last].Links[0].Metric += dmsc.Metric(i)
					views[i] = net.view(root)
				}
				e.Update(views[0], 0, nil)
				keys := changedKeys(views[0], views[1])
				i := 0
				for b.Loop() {
					i = 1 - i
					e.Update(views[i], what.change, keys)
				}
			})
		}
	}
}
