package node

import (
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/border"
	"github.com/dmsc-mesh/dmsc/internal/config"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/peering"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	"github.com/dmsc-mesh/dmsc/translator"
	"github.com/dmsc-mesh/dmsc/xds"
)

// routes is a RIB of so many names behind the neighbours, one group each.
func routes(names int, neighbours ...dmsc.NodeID) *rib.RIB {
	var entries []*rib.Entry
	for i := range names {
		hops := []rib.NextHop{{LinkKey: linkstate.LinkKey{Remote: neighbours[i%len(neighbours)], ID: "0"}, Weight: 1}}
		g := &rib.Group{Name: rib.GroupName(hops, nil), Primaries: hops}
		entries = append(entries, &rib.Entry{Prefix: dmsc.MustParsePrefix(fmt.Sprintf("a/%d", i)), Group: g})
	}
	return rib.NewRIB("sg-1", entries...)
}

// The alternates of a hundred thousand names are used before one of them is
// computed anew.
func TestEnvoyOfALargeFIBHearsOfADeadNextHopFirst(t *testing.T) {
	for names, told := range map[int]bool{alarming - 1: false, alarming: true} {
		instance, err := linkstate.New(linkstate.Config{Node: "sg-1", Domain: "d", Role: dmsc.RoleSG, Incarnation: 1, Encode: peering.Encode}, t0)
		if err != nil {
			t.Fatal(err)
		}
		instance.Step(t0, linkstate.SetLinks{Links: []linkstate.LinkConfig{{LinkKey: linkstate.LinkKey{Remote: "sr-1", ID: "0"}, Metric: 10}}})
		instance.Tick(t0)
		n := &Node{
			cfg: &config.Node{Node: "sg-1"}, log: slog.New(slog.DiscardHandler), instance: instance,
			rib: routes(names, "sr-1"), envoy: xds.New(xds.Config{}), metrics: newMetrics(), published: make(chan int, 1),
		}
		n.cfg.Envoy.Fabric, n.cfg.Envoy.Probe = "127.0.0.1:2", "127.0.0.1:3"
		n.publishHealth(t0) // before the first publication there is nothing to repair
		if n.loop.publication != nil {
			t.Fatal("published too early")
		}
		alive := neighbours(instance.View())
		alive[0].Up, alive[0].Data = true, "127.0.0.1:4"
		n.loop.publication = &publication{
			rib: n.rib, neighbours: alive, offer: &offer{}, documents: &border.Set{},
			state: translator.State{Node: "sg-1", Addrs: n.addrs(), RIB: n.rib, Neighbours: alive},
		}
		first := n.loop.publication
		n.program(first)
		n.rib = nil // whatever is computed next
		n.publishHealth(t0)
		pub := n.loop.publication
		if (pub != first) != told {
			t.Fatalf("%d names: told %v", names, pub != first)
		}
		if told && (pub.version == first.version || pub.rib != first.rib || pub.neighbours[0].Up) {
			t.Errorf("published %+v", pub)
		}
		n.publishHealth(t0)
		if n.loop.publication != pub {
			t.Error("told twice")
		}
	}
}

// Requests that were sent by a group are retried by it.
func TestAGroupOutOfUseIsKeptForAWhile(t *testing.T) {
	n := &Node{}
	n.loop.begunPublishing = true
	names := func() (out []string) {
		for _, g := range n.retiredGroups() {
			out = append(out, g.Name)
		}
		return out
	}
	step := func(due bool, r *rib.RIB, after int, want ...string) {
		t.Helper()
		n.rib = r
		if got := n.retire(t0.Add(time.Duration(after) * retirement)); got != due || !slices.Equal(names(), want) {
			t.Errorf("retired %v (%v), want %v (%v)", names(), got, want, due)
		}
	}
	both, one := routes(2, "sr-1", "sr-2"), routes(2, "sr-2")
	step(false, both, 0)
	step(false, one, 0, "sr-1")
	step(false, one, 0, "sr-1")
	step(true, one, 1)
	step(false, both, 1)
	step(false, one, 1, "sr-1")
	step(false, both, 1) // in use again
}

// A pinned Envoy routes by groups that the newest configuration may not need for
// as long as the pin lasts; the health of their next hops is told all the same.
func TestGroupsOfAPinnedConfigurationAreKept(t *testing.T) {
	n := &Node{}
	n.loop.begunPublishing = true
	step := func(after int, r *rib.RIB, want ...string) {
		t.Helper()
		n.rib = r
		n.retire(t0.Add(time.Duration(after) * retirement))
		var got []string
		for _, g := range n.retiredGroups() {
			got = append(got, g.Name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("after %d: retired %v, want %v", after, got, want)
		}
	}
	one, other, third := routes(2, "sr-1"), routes(2, "sr-2"), routes(2, "sr-3")
	step(0, one)
	step(0, other, "sr-1")
	step(1, other)
	n.loop.pin = &pin{needs: &needs{groups: one.Groups}}
	step(2, other, "sr-1") // it is long out of use
	step(9, other, "sr-1")
	step(9, third, "sr-1", "sr-2")
	step(10, third, "sr-1")
	step(10, one, "sr-3")
	step(11, one)
	step(11, other, "sr-1")
	n.loop.pin = nil
	step(12, other)
}
