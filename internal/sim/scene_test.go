package sim

import (
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/dmsc-mesh/dmsc/internal/topology"
)

// TestScenes plays testdata/scenes/*, where every rest also checks the RIBs and
// walks requests. What dmsc sim prints when it has found something goes here,
// or into linkstate/testdata/scenes if no RIB is needed to see it.
func TestScenes(t *testing.T) {
	datadriven.Walk(t, "testdata/scenes", func(t *testing.T, path string) {
		n := newNetwork(t.Context(), Options{Topology: &topology.Topology{}}, false)
		datadriven.RunTest(t, path, func(_ *testing.T, d *datadriven.TestData) string { return n.Do(d) })
	})
}
