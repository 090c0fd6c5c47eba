package linkstate_test

import (
	"fmt"
	"testing"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/sim"
	"github.com/dmsc-mesh/dmsc/internal/topology"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/linkstatetest"
)

// Through any faults, no turn leaves undone what it should have done: every
// adjacency that an event concerns is looked at. Package sim checks the rest.
func TestTurnLooksAtAllThatItConcerns(t *testing.T) {
	for seed := range uint64(40) {
		text, err := topology.Generate(topology.Plan{Shape: topology.Shapes[seed%4], Nodes: 5 + int(seed%7), PrefixesPerNode: 1, Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		net, err := topology.Parse("net.yaml", text)
		if err != nil {
			t.Fatal(err)
		}
		report, err := sim.Run(t.Context(), sim.Options{
			Topology: net, Seed: seed, Events: 30, Loss: float64(seed%3) / 20,
			Setup: func(n *linkstatetest.Network) {
				onReady := n.OnReady
				n.OnReady = func(id dmsc.NodeID, rd linkstate.Ready) {
					if why := n.Instance(id).Unfinished(); why != "" {
						n.OnViolation(linkstatetest.Violation{Rule: "turn_unfinished", Text: fmt.Sprintf("%s: %s", id, why)})
					}
					onReady(id, rd)
				}
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		if f := report.Failure; f != nil {
			t.Fatalf("seed %d: %s: %s\n%s", seed, f.Rule, f.Text, f.Scene)
		}
	}
}
