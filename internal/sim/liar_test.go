package sim_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/sim"
	"github.com/dmsc-mesh/dmsc/internal/topology"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/linkstatetest"
)

// silence makes sr-1 a liar: after half a second it tells sg-3 nothing new, and
// does not let it find out.
func silence(n *linkstatetest.Network) {
	n.Tamper = func(from dmsc.NodeID, e linkstate.Envelope) linkstate.Message {
		if from != "sr-1" || e.Link.Remote != "sg-3" || n.Now().Before(linkstatetest.Epoch.Add(500*time.Millisecond)) {
			return e.Message
		}
		switch m := e.Message.(type) {
		case *linkstate.LSUpdate:
			return &linkstate.LSUpdate{Seq: m.Seq}
		case *linkstate.Digest:
			return nil
		}
		return e.Message
	}
}

// A simulator that finds nothing proves nothing: a node that does not flood to
// one neighbour is found wherever that neighbour has no other way to the news,
// and what is left of the script is little more than how to get there.
func TestLiarIsFoundAndItsSceneIsShort(t *testing.T) {
	for seed := range uint64(5) {
		report, err := sim.Run(t.Context(), sim.Options{Topology: topology.Figure2(), Seed: seed, Events: 40, Setup: silence})
		if err != nil {
			t.Fatal(err)
		}
		f := report.Failure
		if f == nil {
			t.Fatalf("seed %d: the liar was not found", seed)
		}
		t.Logf("seed %d: %s after %d replays:\n%s", seed, f.Rule, f.Replays, strings.Join(f.Scene, "\n"))
		if len(f.Scene) > 12 {
			t.Errorf("seed %d: the scene has %d lines", seed, len(f.Scene))
		}
		if !slices.ContainsFunc(f.Scene, func(l string) bool { return strings.HasPrefix(l, "node sr-1") }) {
			t.Errorf("seed %d: the scene does without the liar", seed)
		}

		// The scene alone shows it again.
		s := linkstatetest.NewScene(1)
		silence(s.Network)
		var out strings.Builder
		for i, line := range f.Scene {
			err := s.Play(&out, line)
			if last := i == len(f.Scene)-1; last != (err != nil) || last && !strings.Contains(err.Error(), f.Rule) {
				t.Errorf("seed %d, line %d, %s: %v", seed, i+1, line, err)
			}
		}
	}
}
