package main

import (
	"flag"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/topology"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	"github.com/dmsc-mesh/dmsc/translator"
	"github.com/dmsc-mesh/dmsc/translator/envoysim"
)

var networkSeed = flag.Uint64("network.seed", 0, "seed of the random networks, 0 = by the clock")

// randomNetwork is a topology of 8 to 20 nodes.
func randomNetwork(t *testing.T, rng *rand.Rand) *topology.Topology {
	t.Helper()
	text, err := topology.Generate(topology.Plan{
		Shape: topology.Shapes[rng.IntN(len(topology.Shapes))], Nodes: 8 + rng.IntN(12), PrefixesPerNode: 3, Seed: rng.Uint64(),
	})
	if err != nil {
		t.Fatal(err)
	}
	topo, err := topology.Parse("random", text)
	if err != nil {
		t.Fatal(err)
	}
	return topo
}

func forNetworks(t *testing.T, n int, check func(*testing.T, *rand.Rand, *topology.Topology)) {
	t.Helper()
	seed := *networkSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano()) % 1_000_000
	}
	for i := range uint64(n) {
		rng := rand.New(rand.NewPCG(seed+i, 0))
		topo := randomNetwork(t, rng)
		check(t, rng, topo)
		if t.Failed() {
			t.Fatalf("network.seed=%d", seed+i)
		}
	}
}

// requestsOf yields each name that each gateway knows.
func requestsOf(o *offline, visit func(from dmsc.NodeID, e *rib.Entry)) {
	for _, n := range o.Nodes {
		if n.Role != dmsc.RoleSG {
			continue
		}
		for e := range o.ribs[n.ID].All() {
			if e.Kind != rib.Node {
				visit(n.ID, e)
			}
		}
	}
}

func requestFor(name dmsc.ServicePrefix) envoysim.Request {
	return envoysim.Request{Headers: envoysim.Headers{{Name: "dmsc-service-prefix", Value: name.String()}}}
}

func randomly(rng *rand.Rand) envoysim.Choose {
	return func(weights []uint32) int { return rng.IntN(len(weights)) }
}

// passed lists the nodes that a request was received by.
func passed(s *envoysim.Step) []dmsc.NodeID {
	var via []dmsc.NodeID
	for _, h := range s.Request.Headers {
		if h.Name == "dmsc-via" {
			via = append(via, dmsc.NodeID(strings.Trim(h.Value, "<>")))
		}
	}
	return via
}

// The Envoys take each request where the RIBs lead it: hop by hop along next
// hops of every node on the way, to a pod of a chosen egress.
func TestEveryNameIsReachedAsTheRIBsLead(t *testing.T) {
	forNetworks(t, 12, func(t *testing.T, rng *rand.Rand, topo *topology.Topology) {
		o, err := simulated(topo, nil)
		if err != nil {
			t.Fatal(err)
		}
		requestsOf(o, func(from dmsc.NodeID, e *rib.Entry) {
			s, err := o.Walk(from, "dmsc/ingress", requestFor(e.Prefix), randomly(rng))
			if err != nil {
				t.Fatal(err)
			}
			via := passed(s)
			if s.Reply.Status != 200 || o.pods[s.Pod] == "" || len(via) == 0 || via[0] != from {
				t.Errorf("%s from %s: %d %s by %v at %q", e.Prefix, from, s.Reply.Status, s.Reply.Error(), via, s.Pod)
				return
			}
			if last := via[len(via)-1]; !slices.Contains(e.Egress, last) {
				t.Errorf("%s from %s left at %s, not at one of %v", e.Prefix, from, last, e.Egress)
			}
			for i, n := range via[1:] {
				at := o.ribs[via[i]].Lookup(e.Prefix.String())
				if !slices.ContainsFunc(at.Group.Primaries, func(h rib.NextHop) bool { return h.Remote == n }) {
					t.Errorf("%s from %s went %v, but %s has it by %v", e.Prefix, from, via, via[i], at.Group.Primaries)
				}
			}
		})
	})
}

// simulated makes all Envoys of a topology; change, if any, is made to what each
// node knows.
func simulated(t *topology.Topology, change func(*translator.State)) (*offline, error) {
	o := newOffline(t)
	envoys := make(map[dmsc.NodeID]*envoysim.Node)
	for _, n := range t.Nodes {
		view := t.View(n.ID)
		o.ribs[n.ID] = rib.Compute(view)
		state := offlineState(t, view, o.ribs[n.ID])
		if change != nil {
			change(&state)
		}
		var err error
		if envoys[n.ID], err = envoy(state); err != nil {
			return nil, err
		}
	}
	var err error
	o.Network, err = envoysim.NewNetwork(envoys)
	return o, err
}

// Of a large network only the Envoys that a request passes are made, and it goes
// as it does among all.
func TestOnlyTheEnvoysOnTheWayAreMade(t *testing.T) {
	forNetworks(t, 4, func(t *testing.T, _ *rand.Rand, topo *topology.Topology) {
		all, err := simulated(topo, nil)
		if err != nil {
			t.Fatal(err)
		}
		requestsOf(all, func(from dmsc.NodeID, e *rib.Entry) {
			few, err := computed(topo)
			if err != nil {
				t.Fatal(err)
			}
			want, err := all.Walk(from, "dmsc/ingress", requestFor(e.Prefix), envoysim.Heaviest)
			if err != nil {
				t.Fatal(err)
			}
			got, err := few.Walk(from, "dmsc/ingress", requestFor(e.Prefix), envoysim.Heaviest)
			if err != nil {
				t.Fatal(err)
			}
			if got.Pod != want.Pod || !slices.Equal(passed(got), passed(want)) {
				t.Errorf("%s from %s: %s by %v, among all %s by %v", e.Prefix, from, got.Pod, passed(got), want.Pod, passed(want))
			}
			if len(few.ribs) != len(passed(got)) {
				t.Errorf("%s from %s: %d nodes were made for the way %v", e.Prefix, from, len(few.ribs), passed(got))
			}
		})
	})
}

// A single link that is down, as its two ends have noticed it (EDS) or not yet
// (no connection), is got round by alternates alone or ends in a plain answer:
// nothing is caught in a loop.
func TestLocalRepairDoesNotLoop(t *testing.T) {
	repaired, requests := 0, 0
	forNetworks(t, 12, func(t *testing.T, rng *rand.Rand, topo *topology.Topology) {
		dead := topo.Links[rng.IntN(len(topo.Links))]
		joins := func(a, b dmsc.NodeID) bool { return a == dead.A && b == dead.B || a == dead.B && b == dead.A }
		noticed := rng.IntN(2) == 0
		o, err := simulated(topo, func(s *translator.State) {
			for i := range s.Neighbours {
				if noticed && joins(s.Node, s.Neighbours[i].Remote) {
					s.Neighbours[i].Up = false
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if !noticed {
			o.Dead = func(from dmsc.NodeID, address string) bool {
				to, _, _ := o.Listener(address)
				return joins(from, to)
			}
		}
		requestsOf(o, func(from dmsc.NodeID, e *rib.Entry) {
			requests++
			s, err := o.Walk(from, "dmsc/ingress", requestFor(e.Prefix), randomly(rng))
			switch {
			case err != nil:
				t.Errorf("%s from %s, %s-%s down (noticed %t): %v", e.Prefix, from, dead.A, dead.B, noticed, err)
			case s.Reply.Status == 200 && o.pods[s.Pod] != "":
				if via := passed(s); len(via) != len(slices.Compact(slices.Sorted(slices.Values(via)))) {
					t.Errorf("%s from %s came by %v", e.Prefix, from, via)
				}
				repaired++
			case !strings.HasPrefix(s.Reply.Error(), "no-healthy"):
				t.Errorf("%s from %s, %s-%s down (noticed %t): %d %s", e.Prefix, from, dead.A, dead.B, noticed, s.Reply.Status, s.Reply.Error())
			}
		})
	})
	// Not every link has an alternate (a ring has few).
	if repaired*100 < requests*70 {
		t.Errorf("only %d of %d requests were answered while a link was down", repaired, requests)
	}
}

func TestAWordIsSuggestedWhenItIsNear(t *testing.T) {
	known := []string{"a/1", "orders/eu", "sg-1"}
	for word, want := range map[string]string{"orders/us": ": did you mean orders/eu?", "a/12": ": did you mean a/1?", "payments": ""} {
		if got := didYouMean(word, known); got != want {
			t.Errorf("%s: %q, want %q", word, got, want)
		}
	}
}
