package linkstatetest_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/linkstatetest"
)

// Leaving out probes whose result is known changes no message, at no nanosecond.
func TestQuietProbesMakeNoDifference(t *testing.T) {
	for seed := range uint64(30) {
		all, probes := trace(t, seed, true)
		some, fewer := trace(t, seed, false)
		if !slices.Equal(all, some) {
			for i := range all {
				if i == len(some) || all[i] != some[i] {
					t.Fatalf("seed %d: with all probes and without:\n%q\n%q", seed, all[max(0, i-3):i+4], some[max(0, i-3):i+4])
				}
			}
			t.Fatalf("seed %d: %d messages with all probes, %d without", seed, len(all), len(some))
		}
		if fewer > probes/2 {
			t.Errorf("seed %d: %d turns instead of %d", seed, fewer, probes)
		}
	}
}

// trace runs a network through faults of the data path and returns what is said
// in it, and the number of turns.
func trace(t *testing.T, seed uint64, always bool) (messages []string, turns int) {
	r := rand.New(rand.NewPCG(seed, 3))
	n := linkstatetest.NewNetwork(seed)
	n.ProbeAlways = always
	n.OnMessage = func(from dmsc.NodeID, e linkstate.Envelope) {
		messages = append(messages, fmt.Sprintf("%s %s>%s %T", n.Now().Sub(linkstatetest.Epoch), from, e.Link, e.Message))
	}
	ids := []dmsc.NodeID{"sg-1", "sr-1", "sr-2", "sr-3"}
	for _, id := range ids {
		n.AddNode(id, dmsc.RoleSR)
	}
	for i, a := range ids {
		for _, b := range ids[i+1:] {
			n.AddLink(a, b, linkstatetest.Link{Class: dmsc.LinkClass(r.IntN(3)), Delay: time.Duration(1+r.IntN(20)) * time.Millisecond})
		}
	}
	n.Run(5 * time.Second)
	for range 30 {
		id, far := ids[r.IntN(4)], ids[r.IntN(4)]
		switch kind := r.IntN(8); {
		case kind == 0:
			n.KillEnvoy(id)
		case kind == 1:
			n.KillAgent(id)
		case kind < 4:
			n.Restart(id)
		case id == far:
		case kind == 4:
			n.CutData(id, far, "0")
		case kind == 5:
			n.CutSilently(id, far, "0")
		default:
			n.Heal(id, far, "0")
		}
		n.Run(time.Duration(r.IntN(4000)) * time.Millisecond)
	}
	n.Run(20 * time.Second)
	return messages, n.Traffic().Turns
}
