package bench

import (
	"testing"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	"github.com/dmsc-mesh/dmsc/translator"
)

// In small, with real Envoys: both changes go the new way with either server,
// every step is measured in its order, and no request fails.
func TestAChangeIsFollowedToTheFirstRequestOnTheNewPath(t *testing.T) {
	c, err := FIB(t.Context(), FIBOptions{Options: programs(t), Sizes: []int{100, 300}, Prefixes: 200, RPS: 100, Changes: 2, Rounds: 1})
	if err != nil {
		t.Fatal(err)
	}
	figures := shown(t, c)
	for _, event := range []string{"next hop changed", "one prefix of 200 moved"} {
		for _, server := range []string{ours, stockSnapshot} {
			last := 0.0
			for _, step := range []string{"translate", "sent after", "ACKed after"} {
				f := find(t, figures, event, step)
				if f.N[server] != 2 || f.Measured[server] <= last {
					t.Errorf("%s: %s of %s is %v after %v", event, step, server, f.Measured[server], last)
				}
				last = f.Measured[server]
			}
			arrived := find(t, figures, event, onNewPath)
			if arrived.Measured[server] <= 0 || arrived.Target == nil {
				t.Errorf("%s: %+v", event, arrived)
			}
			if f := find(t, figures, event, "change → its answer"); f.Measured[server] <= arrived.Measured[server] {
				t.Errorf("%s: answered after %v, come after %v", event, f.Measured[server], arrived.Measured[server])
			}
			if f := find(t, figures, event, "requests failed"); f.Measured[server] != 0 {
				t.Errorf("%s: with %s %v requests failed", event, server, f.Measured[server])
			}
		}
	}
	for _, event := range featureEvents() {
		if f := find(t, figures, event, "CPU per request"); f.Measured[ours] <= 0 {
			t.Errorf("%s is measured as %+v", event, f)
		}
	}
	for _, what := range []string{"CPU per request", "load it into Envoy", "memory of it in Envoy"} {
		if f := find(t, figures, forwardingBy(300), what); f.Measured[ours] <= 0 {
			t.Errorf("%s is %v", what, f.Measured[ours])
		}
	}
}

// What differs is one thing only.
func TestAMovedPrefixIsTheOnlyDifference(t *testing.T) {
	f, err := newForwarding(100, translator.Addrs{Ingress: "127.0.0.1:2", Fabric: "127.0.0.1:3", Probe: "127.0.0.1:4"},
		func(dmsc.NodeID) string { return "127.0.0.1:1" })
	if err != nil {
		t.Fatal(err)
	}
	if d := rib.Diff(f.state.RIB, f.moved); d.Len() != 1 || len(d.GroupsAdded) > 0 {
		t.Errorf("%d entries differ, and groups came: %v", d.Len(), d.GroupsAdded)
	}
	if e := f.moved.Lookup(f.probed.Prefix.String()); e.Group.Primaries[0].Remote != f.other || f.other == f.nextHop {
		t.Errorf("%s was by way of %s: %s", f.probed.Prefix, f.nextHop, e)
	}
	up := func(s translator.State) (n int) {
		for _, nb := range s.Neighbours {
			if nb.Up {
				n++
			}
		}
		return n
	}
	if up(f.with(true, false)) != up(f.state)-1 {
		t.Error("no next hop, or another state, is dead")
	}
}
