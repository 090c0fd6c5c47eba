package spf_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate/spf"
)

// The shapes are those of Open/R's DecisionBenchmark (grids of 10 to 10 000
// nodes) and random graphs of mean degree 4.

func benchNode(i int) dmsc.NodeID { return dmsc.NodeID(fmt.Sprintf("node-%05d", i)) }

func grid(n int) network {
	side := 1
	for side*side < n {
		side++
	}
	net, r := network{}, rand.New(rand.NewPCG(1, 1))
	for i := range n {
		if i%side+1 < side && i+1 < n {
			net.both(benchNode(i), benchNode(i+1), dmsc.Metric(1+r.IntN(100)))
		}
		if i+side < n {
			net.both(benchNode(i), benchNode(i+side), dmsc.Metric(1+r.IntN(100)))
		}
	}
	return net
}

func random4(n int) network {
	net, r := network{}, rand.New(rand.NewPCG(1, 2))
	for i := 1; i < n; i++ {
		net.both(benchNode(i), benchNode(r.IntN(i)), dmsc.Metric(1+r.IntN(100)))
	}
	for range n {
		net.both(benchNode(r.IntN(n)), benchNode(r.IntN(n)), dmsc.Metric(1+r.IntN(100)))
	}
	return net
}

func (n network) both(a, b dmsc.NodeID, m dmsc.Metric) {
	n.declare(a, b, "0", m)
	n.declare(b, a, "0", m)
}

func each(b *testing.B, run func(b *testing.B, net network)) {
	for _, shape := range []struct {
		name string
		make func(int) network
	}{{"grid", grid}, {"random4", random4}} {
		for _, n := range []int{10, 100, 1000, 10000} {
			b.Run(fmt.Sprintf("%s/%d", shape.name, n), func(b *testing.B) {
				b.ReportAllocs()
				run(b, shape.make(n))
			})
		}
	}
}

func BenchmarkRun(b *testing.B) {
	each(b, func(b *testing.B, net network) {
		g := net.graph()
		var tree spf.Tree
		root := g.Index(benchNode(0))
		tree.Run(g, root)
		for b.Loop() {
			tree.Run(g, root)
		}
	})
}

func BenchmarkBuild(b *testing.B) {
	each(b, func(b *testing.B, net network) {
		for b.Loop() {
			net.graph().Arcs(0)
		}
	})
}

// BenchmarkUpdate is one far link that changes its metric, with the repair.
func BenchmarkUpdate(b *testing.B) {
	each(b, func(b *testing.B, net network) {
		g := net.graph()
		id := benchNode(len(net) - 1)
		d := net[id]
		g.Take()
		var tree spf.Tree
		tree.Run(g, g.Index(benchNode(0)))
		for b.Loop() {
			d.links[0].Metric = d.links[0].Metric%100 + 1
			g.Set(id, d.lastResort, d.links)
			tree.Update(g, g.Take())
		}
	})
}

// BenchmarkSet is one far link that changes its metric, without the run.
func BenchmarkSet(b *testing.B) {
	each(b, func(b *testing.B, net network) {
		g := net.graph()
		id := benchNode(len(net) - 1)
		d := net[id]
		g.Arcs(0)
		for b.Loop() {
			d.links[0].Metric = d.links[0].Metric%100 + 1
			g.Set(id, d.lastResort, d.links)
			g.Arcs(0)
		}
	})
}
