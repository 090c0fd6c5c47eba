package topology

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/dmsc-mesh/dmsc"
)

// Every network is one that Load takes: connected, with as many nodes and
// prefixes as were asked for, each prefix once.
func TestGeneratedNetworksAreWhatWasAskedFor(t *testing.T) {
	for _, c := range []struct {
		Plan
		nodes, links, gateways int
	}{
		{Plan{Shape: "ring", Nodes: 3, PrefixesPerNode: 1}, 3, 3, 3},
		{Plan{Shape: "ring", Nodes: 500}, 500, 500, 500},
		{Plan{Shape: "grid", Nodes: 10, PrefixesPerNode: 10}, 10, 13, 10},
		{Plan{Shape: "grid", Nodes: 2500, PrefixesPerNode: 20}, 2500, 4900, 2500},
		{Plan{Shape: "fattree", Nodes: 20, PrefixesPerNode: 3}, 20, 32, 8},
		{Plan{Shape: "fattree", Nodes: 1000, PrefixesPerNode: 1}, 980, 10976, 392},
		{Plan{Shape: "fattree", K: 8}, 80, 256, 32},
		{Plan{Shape: "random", Nodes: 50, PrefixesPerNode: 4}, 50, 0, 25},
		{Plan{Shape: "random", Nodes: 3, PrefixesPerNode: 4}, 3, 0, 1},
	} {
		t.Run(fmt.Sprintf("%s-%d", c.Shape, c.nodes), func(t *testing.T) {
			if size := c.Size(); size != c.nodes {
				t.Errorf("the plan says %d nodes", size)
			}
			text, err := Generate(c.Plan)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := Generate(c.Plan); err != nil || !bytes.Equal(text, again) {
				t.Error("the same plan gives another file")
			}
			topo, err := Parse("net.yaml", text)
			if err != nil {
				t.Fatal(err)
			}
			links := c.links
			if links == 0 {
				links = len(topo.Links)
			}
			if len(topo.Nodes) != c.nodes || len(topo.Links) != links {
				t.Errorf("%d nodes and %d links, want %d and %d", len(topo.Nodes), len(topo.Links), c.nodes, links)
			}
			prefixes := map[dmsc.ServicePrefix]bool{}
			for _, p := range topo.Pods {
				for _, s := range p.Services {
					prefixes[s.Prefix] = true
				}
			}
			if want := c.gateways * c.PrefixesPerNode; len(prefixes) != want {
				t.Errorf("%d prefixes, want %d", len(prefixes), want)
			}
			if n := reached(topo); n != c.nodes {
				t.Errorf("only %d of %d nodes are connected", n, c.nodes)
			}
		})
	}
}

// reached counts the nodes that are connected with the first.
func reached(t *Topology) int {
	links := map[dmsc.NodeID][]dmsc.NodeID{}
	for _, l := range t.Links {
		links[l.A], links[l.B] = append(links[l.A], l.B), append(links[l.B], l.A)
	}
	found := map[dmsc.NodeID]bool{t.Nodes[0].ID: true}
	for queue := []dmsc.NodeID{t.Nodes[0].ID}; len(queue) > 0; queue = queue[1:] {
		for _, far := range links[queue[0]] {
			if !found[far] {
				found[far] = true
				queue = append(queue, far)
			}
		}
	}
	return len(found)
}
