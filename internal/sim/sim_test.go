package sim_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/seeds"
	"github.com/dmsc-mesh/dmsc/internal/sim"
	"github.com/dmsc-mesh/dmsc/internal/topology"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/linkstatetest"
)

// TestNetworksHoldThroughAnyFaults simulates random networks (package seeds).
// From 500 on they must have seen every kind of fault and of outcome.
func TestNetworksHoldThroughAnyFaults(t *testing.T) {
	networks, sum := seeds.For(t, 2000), newCoverage()
	networks.Each(t, func(t *testing.T, seed uint64) {
		opts := randomOptions(seed)
		opts.Setup = sum.watch
		report, err := sim.Run(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		if f := report.Failure; f != nil {
			t.Fatalf("%s: %s\n\nthe shortest scene of %d:\n%s", f.Rule, f.Text, f.Replays, strings.Join(f.Scene, "\n"))
		}
		sum.add(opts, report)
	})
	t.Logf("\n%s", sum)
	if missing := sum.missing(); networks.Count() >= 500 && len(missing) > 0 {
		t.Errorf("these networks prove nothing of %s", strings.Join(missing, ", "))
	}
}

// Wherever it is, in a cold start, between faults or in the search for the
// shortest scene, a simulation that is interrupted takes no further turn.
func TestASimulationEndsWithItsContext(t *testing.T) {
	for _, setup := range []func(*linkstatetest.Network){nil, silence} {
		for _, last := range []int{50, 300, 1500, 9000} {
			ctx, cancel := context.WithCancel(t.Context())
			turns := 0
			_, err := sim.Run(ctx, sim.Options{Topology: topology.Figure2(), Seed: 1, Events: 400, Setup: func(n *linkstatetest.Network) {
				if setup != nil {
					setup(n)
				}
				onReady := n.OnReady
				n.OnReady = func(id dmsc.NodeID, rd linkstate.Ready) {
					onReady(id, rd)
					if turns++; turns == last {
						cancel()
					}
				}
			}})
			cancel()
			// What has begun, such as a link that is drawn at both ends, is ended.
			if !errors.Is(err, context.Canceled) || turns < last || turns > last+2 {
				t.Errorf("interrupted at turn %d it went on to %d, error %v", last, turns, err)
			}
		}
	}
}

func TestWhatCannotBeSimulatedIsRefused(t *testing.T) {
	text, err := topology.Generate(topology.Plan{Shape: "grid", Nodes: 1500, PrefixesPerNode: 2})
	if err != nil {
		t.Fatal(err)
	}
	large, err := topology.Parse("net.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	for want, opts := range map[string]sim.Options{
		"1500 nodes with 3000 prefixes would hold 6750000 records": {Topology: large},
		"loss NaN is not between 0 and 0.5":                        {Topology: topology.Figure2(), Loss: math.NaN()},
		"loss 0.6 is not between 0 and 0.5":                        {Topology: topology.Figure2(), Loss: 0.6},
		"-1 events":                                                {Topology: topology.Figure2(), Events: -1},
		"no topology":                                              {},
	} {
		if _, err := sim.Run(t.Context(), opts); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}

// randomOptions follow from the seed: mostly small networks, a few of 50 nodes,
// and a few so dense that flooding is reduced.
func randomOptions(seed uint64) sim.Options {
	r := rand.New(rand.NewPCG(seed, 9))
	n := 5 + r.IntN(6)
	switch r.IntN(50) {
	case 0:
		n = 30 + r.IntN(21)
	case 1, 2, 3, 4, 5:
		n = 11 + r.IntN(10)
	}
	more := r.IntN(n + 1)
	if r.IntN(25) == 0 {
		n = 10 + r.IntN(5)
		more = 6 * n
	}
	opts := sim.Options{
		Topology: randomTopology(r, n, more), Seed: seed, Events: 20 + r.IntN(3),
		Hold: 5 * time.Second, Lease: 4 * time.Second,
	}
	if r.IntN(2) == 0 {
		opts.Loss = 0.2 * r.Float64()
	}
	if r.IntN(40) == 0 {
		opts.Hold, opts.Lease = 0, 0
	}
	opts.Later = seed%500 == 0
	return opts
}

// randomTopology is connected, by a tree and at the most so many links more, with
// parallel links, asymmetric metrics, all classes, nodes that carry no transit
// anywhere, pools, and names with several owners.
func randomTopology(r *rand.Rand, n, more int) *topology.Topology {
	t := &topology.Topology{Name: fmt.Sprintf("random-%d", n)}
	for i := range n {
		node := topology.Node{ID: dmsc.NodeID(fmt.Sprintf("sr-%d", i)), Role: dmsc.RoleSR, Transit: true}
		if r.IntN(3) == 0 {
			node = topology.Node{ID: dmsc.NodeID(fmt.Sprintf("sg-%d", i)), Role: dmsc.RoleSG, Transit: r.IntN(4) == 0}
		}
		t.Nodes = append(t.Nodes, node)
	}
	used := map[string]bool{}
	link := func(i, j int) {
		id := dmsc.LinkID([]string{"0", "0", "0", "x"}[r.IntN(4)])
		key := fmt.Sprint(min(i, j), max(i, j), id)
		if i == j || used[key] {
			return
		}
		used[key] = true
		l := topology.Link{
			A: t.Nodes[i].ID, B: t.Nodes[j].ID, ID: id, Metric: dmsc.Metric(1 + r.IntN(10)),
			Delay: time.Duration(1+r.IntN(10)) * time.Millisecond, Class: dmsc.LinkClass(r.IntN(3)),
		}
		l.ReverseMetric = l.Metric
		if r.IntN(3) == 0 {
			l.ReverseMetric = dmsc.Metric(1 + r.IntN(10))
		}
		t.Links = append(t.Links, l)
	}
	for i := 1; i < n; i++ {
		link(i, r.IntN(i))
	}
	for range more {
		link(r.IntN(n), r.IntN(n))
	}
	for i, node := range t.Nodes {
		pod := topology.Pod{Name: fmt.Sprintf("pod-%d", i), Gateway: node.ID}
		for _, p := range []string{fmt.Sprintf("f%d/%d", i%3, i), fmt.Sprintf("b/%d", i%4), "c"} {
			if r.IntN(3) == 0 {
				pod.Services = append(pod.Services, topology.Service{Prefix: dmsc.MustParsePrefix(p), Weight: 1, Metric: dmsc.Metric(r.IntN(3))})
			}
		}
		t.Pods = append(t.Pods, pod)
	}
	return t
}
