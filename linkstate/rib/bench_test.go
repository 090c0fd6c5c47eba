package rib_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"syscall"
	"testing"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
)

// Names and shapes follow Open/R's DecisionBenchmark: Initial is a new engine,
// AdjUpdate another metric of one link, PrefixUpdates other prefixes. Each
// includes the RIB and its delta; "moved" and "entries" say how much an update
// found to have changed.

// benchID is the node with a number.
func benchID(i int) dmsc.NodeID { return dmsc.NodeID(fmt.Sprintf("sr-%05d", i)) }

// announce gives node i of n so many prefixes, every tenth of which three other
// nodes have too.
func (n *network) announce(i, prefixes, nodes int) {
	id := benchID(i)
	for j := range prefixes {
		p := linkstate.Prefix{Prefix: dmsc.MustParsePrefix(fmt.Sprintf("f%05d-%d/%d", i, j/10, j))}
		if j%10 == 9 {
			p.Prefix = dmsc.MustParsePrefix(fmt.Sprintf("any%d-%d/0", i%max(nodes/4, 1), j))
		}
		n.prefixes[id] = append(n.prefixes[id], p)
	}
}

// benchNetwork is a random graph of mean degree 4 with ten prefixes per node.
func benchNetwork(n int) *network {
	net, r := newNetwork(), rand.New(rand.NewPCG(1, 1))
	metric := func() dmsc.Metric { return dmsc.Metric(1 + r.IntN(100)) }
	for i := 1; i < n; i++ {
		net.link(benchID(i), benchID(r.IntN(i)), "0", metric(), metric())
	}
	for i := range n {
		net.link(benchID(i), benchID(r.IntN(n)), "1", metric(), metric())
		net.announce(i, 10, n)
	}
	return net
}

// gridNetwork is a square of n nodes with ten prefixes each.
func gridNetwork(n int) *network {
	side := 1
	for side*side < n {
		side++
	}
	net, r := newNetwork(), rand.New(rand.NewPCG(1, 1))
	for i := range n {
		if i%side+1 < side && i+1 < n {
			m := dmsc.Metric(1 + r.IntN(100))
			net.link(benchID(i), benchID(i+1), "0", m, m)
		}
		if i+side < n {
			m := dmsc.Metric(1 + r.IntN(100))
			net.link(benchID(i), benchID(i+side), "0", m, m)
		}
		net.announce(i, 10, n)
	}
	return net
}

// fabricNetwork is a folded Clos of pods with 4 aggregation and 16 top-of-rack
// switches each, under planes with 4 spines each: 4 per plane and pod 20. All
// links cost the same, so that there are many equal paths.
func fabricNetwork(pods, planes int) (net *network, switches int) {
	net = newNetwork()
	next := 0
	add := func(n int) []int {
		ids := make([]int, n)
		for i := range ids {
			ids[i] = next
			next++
		}
		return ids
	}
	link := func(a, b int) { net.link(benchID(a), benchID(b), "0", 10, 10) }
	var racks [][]int
	for range pods {
		racks = append(racks, add(16))
	}
	spines := make([][]int, planes)
	for i := range spines {
		spines[i] = add(4)
	}
	for pod := range pods {
		for i, agg := range add(planes) {
			for _, rack := range racks[pod] {
				link(rack, agg)
			}
			for _, spine := range spines[i] {
				link(agg, spine)
			}
		}
	}
	for i := range next {
		net.announce(i, 100, next)
	}
	return net, next
}

// flip is a network with two states and the records in which they differ.
type flip struct {
	views [2]*linkstate.View
	keys  []linkstate.Key
}

// newFlip changes what some nodes say.
func newFlip(net *network, root dmsc.NodeID, change func(), nodes ...dmsc.NodeID) flip {
	f := flip{views: [2]*linkstate.View{net.view(root), nil}}
	change()
	records := slices.Collect(f.views[0].Records.All())
	for _, id := range nodes {
		for _, l := range append(net.prefixRecords(id), net.nodeRecord(id)) {
			if was := f.views[0].Records.Get(l.Key); !reflect.DeepEqual(was.Content, l.Content) {
				records = append(records, l)
				f.keys = append(f.keys, l.Key)
			}
		}
	}
	next := *f.views[0]
	next.Records = linkstate.NewRecords(records...)
	f.views[1] = &next
	return f
}

// run measures the updates from one state to the other and back.
func (f flip) run(b *testing.B, ch linkstate.Change) {
	e := rib.New(f.views[0].Node)
	e.Update(f.views[0], 0, nil)
	e.Update(f.views[1], ch, f.keys)
	e.Update(f.views[0], ch, f.keys)
	i, nodes, entries := 0, 0, 0
	runtime.GC()
	b.ReportAllocs()
	start := cpuTime()
	for b.Loop() {
		i = 1 - i
		e.Update(f.views[i], ch, f.keys)
		nodes += e.LastRun().Nodes
		entries += e.LastRun().Entries
	}
	b.ReportMetric(float64(cpuTime()-start)/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(nodes)/float64(b.N), "moved/op")
	b.ReportMetric(float64(entries)/float64(b.N), "entries/op")
}

func (f flip) initial(b *testing.B) {
	b.ReportAllocs()
	start := cpuTime()
	for b.Loop() {
		rib.Compute(f.views[0])
	}
	b.ReportMetric(float64(cpuTime()-start)/float64(b.N), "cpu-ns/op")
}

// cpuTime is what the process has used so far, in ns: unlike the time on the
// clock it does not depend on what else the machine does.
func cpuTime() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// dearer is a network in which the first link of a node costs more, both ways,
// or less again.
func dearer(net *network, root, node dmsc.NodeID) flip {
	l := &net.nodes[node].Links[0]
	back := net.nodes[l.Remote].Links
	i := slices.IndexFunc(back, func(b linkstate.Link) bool { return b.Remote == node && b.ID == l.ID })
	return newFlip(net, root, func() {
		l.Metric += 10
		back[i].Metric += 10
	}, node, l.Remote)
}

var benchSizes = []int{10, 100, 1000, 10000}

func BenchmarkGridInitial(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			newFlip(gridNetwork(n), benchID(0), func() {}).initial(b)
		})
	}
}

// BenchmarkGridAdjUpdate changes a link of the node in the middle.
func BenchmarkGridAdjUpdate(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			dearer(gridNetwork(n), benchID(0), benchID(n/2)).run(b, linkstate.ChangedTopology)
		})
	}
}

func BenchmarkFabric(b *testing.B) {
	for _, shape := range [][2]int{{4, 1}, {4, 4}, {8, 8}, {13, 8}} {
		net, n := fabricNetwork(shape[0], shape[1])
		name := fmt.Sprintf("pods=%d/planes=%d/switches=%d", shape[0], shape[1], n)
		b.Run("Initial/"+name, func(b *testing.B) {
			newFlip(net, benchID(0), func() {}).initial(b)
		})
		b.Run("AdjUpdate/"+name, func(b *testing.B) {
			dearer(net, benchID(0), benchID(n-1)).run(b, linkstate.ChangedTopology)
		})
	}
}

// BenchmarkPrefixUpdates changes the metric of so many prefixes, spread over all
// nodes, in one update.
func BenchmarkPrefixUpdates(b *testing.B) {
	for _, c := range [][3]int{
		{100, 10, 1}, {100, 100, 1}, {100, 1000, 1}, {100, 10000, 1},
		{100, 1000, 100}, {100, 1000, 10000}, {1000, 1000, 1}, {1000, 1000, 1000},
	} {
		nodes, prefixes, updates := c[0], c[1], c[2]
		b.Run(fmt.Sprintf("nodes=%d/prefixes=%d/updates=%d", nodes, prefixes, updates), func(b *testing.B) {
			net := gridNetwork(nodes)
			clear(net.prefixes)
			for i := range nodes {
				net.announce(i, prefixes, nodes)
			}
			newFlip(net, benchID(0), func() {
				for i := range updates {
					net.prefixes[benchID(i%nodes)][i/nodes].Metric++
				}
			}, net.ids()[:min(nodes, updates)]...).run(b, linkstate.ChangedPrefixes)
		})
	}
}

var fullSizes = []int{1000, 10000, 100000}

// BenchmarkFull has every owner set looked at again. In quiet the root gets
// another link that is no good: every first hop has another position, which
// takes a full run, and little is different in the end. In moving its own first
// link costs more, or less again: what is behind it moves, and the tree is
// repaired or computed anew, whichever pays.
func BenchmarkFull(b *testing.B) {
	for _, n := range fullSizes {
		b.Run(fmt.Sprintf("quiet/%d", n), func(b *testing.B) {
			net := benchNetwork(n)
			newFlip(net, benchID(0), func() {
				net.link(benchID(0), benchID(n-1), "far", 5000, 5000)
			}, benchID(0), benchID(n-1)).run(b, linkstate.ChangedTopology)
		})
		b.Run(fmt.Sprintf("moving/%d", n), func(b *testing.B) {
			net := benchNetwork(n)
			dearer(net, benchID(0), benchID(0)).run(b, linkstate.ChangedTopology)
		})
	}
}

// BenchmarkFar changes a link far from the root.
func BenchmarkFar(b *testing.B) {
	for _, n := range fullSizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			dearer(benchNetwork(n), benchID(0), benchID(n/2)).run(b, linkstate.ChangedTopology)
		})
	}
}

// BenchmarkPrefix changes one prefix of a network with ten per node.
func BenchmarkPrefix(b *testing.B) {
	for _, n := range fullSizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			net := benchNetwork(n)
			newFlip(net, benchID(0), func() {
				net.prefixes[benchID(n/2)][0].Metric = 7
			}, benchID(n/2)).run(b, linkstate.ChangedPrefixes)
		})
	}
}

// BenchmarkHub has a node with 500 neighbours in a network of 1000, as the root
// and as somebody else.
func BenchmarkHub(b *testing.B) {
	for _, c := range []struct {
		name          string
		root, changed int
	}{{"far", 0, 900}, {"own", 0, 0}, {"spoke", 700, 900}} {
		b.Run(c.name, func(b *testing.B) {
			dearer(hub(1000, 500), benchID(c.root), benchID(c.changed)).run(b, linkstate.ChangedTopology)
		})
	}
}

// BenchmarkMemory measures what an engine and its RIB hold beside the records.
func BenchmarkMemory(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			view := benchNetwork(n).view(benchID(0))
			for b.Loop() {
				before := heap()
				e := rib.New(view.Node)
				r, _ := e.Update(view, 0, nil)
				b.ReportMetric((float64(heap())-float64(before))/(1<<20), "MiB")
				runtime.KeepAlive(e)
				runtime.KeepAlive(r)
			}
		})
	}
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
