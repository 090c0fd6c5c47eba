package rib_test

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/seeds"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
)

// change does something to a network that its root has to hear of.
func change(r *rand.Rand, net *network, root dmsc.NodeID, step int) linkstate.Change {
	ids := net.ids()
	other := ids[r.IntN(len(ids))]
	node := net.nodes[other]
	metric := func() dmsc.Metric {
		if r.IntN(20) == 0 { // sums saturate
			return dmsc.Unreachable - dmsc.Metric(r.IntN(40))
		}
		return dmsc.Metric(r.IntN(9))
	}
	switch r.IntN(12) {
	case 0, 1: // other metrics
		for i := range node.Links {
			if r.IntN(2) == 0 {
				node.Links[i].Metric = metric()
			}
		}
	case 2: // a link goes, as both ends say
		if len(node.Links) > 0 {
			l := node.Links[r.IntN(len(node.Links))]
			if net.nodes[l.Remote] != nil {
				net.cut(other, l.Remote, l.ID)
			}
		}
	case 3:
		net.link(other, ids[r.IntN(len(ids))], dmsc.LinkID(fmt.Sprint(r.IntN(3))), metric(), metric())
	case 4:
		node.Transit = !node.Transit
		node.Algorithm = linkstate.Algorithm(r.IntN(2))
	case 5: // a node goes, with its prefixes or without
		if other == root {
			return 0
		}
		delete(net.nodes, other)
		if r.IntN(2) == 0 {
			delete(net.prefixes, other)
			return linkstate.ChangedTopology | linkstate.ChangedPrefixes
		}
	case 6: // a node comes
		net.link(dmsc.NodeID(fmt.Sprintf("sr-%d", 20+step)), other, "0", 1, 1)
	case 7:
		net.colour(r)
	case 8, 9:
		net.prefixes[other] = append(net.prefixes[other], linkstate.Prefix{
			Prefix: dmsc.MustParsePrefix([]string{"new/1", "new/2", "new", "a/1", "a", "b/1/x"}[r.IntN(6)]), Metric: metric(),
			Weight: r.Uint32N(3), Preference: r.Uint32N(2), ReplaySafe: r.IntN(2) == 0, Protocol: dmsc.Protocol(r.IntN(3)),
		})
		return linkstate.ChangedPrefixes
	case 10:
		if n := len(net.prefixes[other]); n > 0 {
			net.prefixes[other] = net.prefixes[other][:r.IntN(n)]
		}
		return linkstate.ChangedPrefixes
	case 11:
		net.held = nil
		for _, l := range net.node(root).Links {
			if r.IntN(3) == 0 {
				net.held = append(net.held, linkstate.LinkKey{Remote: l.Remote, ID: l.ID})
			}
		}
		return linkstate.ChangedNeighbours
	}
	return linkstate.ChangedTopology
}

// TestEngineEqualsCompute changes random networks, one thing or several at once.
// What an Engine says after any changes is what a new one says, and its Delta is
// the difference that a look at both RIBs finds.
func TestEngineEqualsCompute(t *testing.T) {
	kinds := map[rib.RunKind]int{}
	networks, capped := seeds.For(t, 1500), 0
	for seed := range networks.All() {
		r := rand.New(rand.NewPCG(seed, 2))
		net := randomNetwork(r)
		root := net.ids()[0]
		limit := rib.MaxGroups
		if r.IntN(3) == 0 {
			limit = 1 + r.IntN(5)
		}
		e := rib.New(root)
		e.SetMaxGroups(limit)
		old := net.view(root)
		last, _ := e.Update(old, 0, nil)
		text := lines(last)
		for step := range 15 {
			var ch linkstate.Change
			for range 1 + r.IntN(1+r.IntN(5)) {
				ch |= change(r, net, root, step)
			}
			view := net.view(root)
			keys := changedKeys(old, view)
			old = view
			got, delta := e.Update(view, ch, keys)
			run := e.LastRun()
			kinds[run.Kind]++
			fresh := rib.New(root)
			fresh.SetMaxGroups(limit)
			want, _ := fresh.Update(view, 0, nil)
			if got.String() != want.String() || got.GroupCap != want.GroupCap || strings.Join(groupNames(got), " ") != strings.Join(groupNames(want), " ") {
				t.Fatalf("seed %d, step %d, change %b, limit %d, run %+v:\n%s\nwant\n%s", seed, step, ch, limit, run, got, want)
			}
			if got.GroupCap {
				capped++
			}
			if now := lines(last); now != text {
				t.Fatalf("seed %d, step %d: the RIB of before has changed:\n%s\nwas\n%s", seed, step, now, text)
			}
			if found := rib.Diff(last, got); describe(delta) != describe(found) || delta.Len() != run.Entries {
				t.Fatalf("seed %d, step %d: the delta is\n%s\nwant\n%s\nrun %+v", seed, step, describe(delta), describe(found), run)
			}
			if delta.Empty() && got != last && got.GroupCap == last.GroupCap {
				t.Fatalf("seed %d, step %d: another RIB though nothing differs", seed, step)
			}
			if again, delta := e.Update(view, ch, keys); again != got || !delta.Empty() || e.LastRun() != (rib.Run{}) {
				t.Fatalf("seed %d, step %d: the same once more is %+v", seed, step, e.LastRun())
			}
			last, text = got, lines(got)
		}
	}
	t.Logf("runs %v, %d RIBs at the group limit", kinds, capped)
	if networks.Count() >= 40 && (len(kinds) < 4 || capped == 0) {
		t.Error("too few kinds to prove much")
	}
}

// lines prints all of a RIB.
func lines(r *rib.RIB) string {
	var b strings.Builder
	for en := range r.All() {
		fmt.Fprintln(&b, en, en.Protocol, en.ReplaySafe)
	}
	return b.String()
}

// describe prints a delta.
func describe(d rib.Delta) string {
	var b strings.Builder
	for _, part := range []struct {
		sign    string
		entries iter.Seq[*rib.Entry]
	}{{"-", d.Removed()}, {"+", d.Added()}, {"=", d.Changed()}} {
		for en := range part.entries {
			fmt.Fprintln(&b, part.sign, en, en.Protocol, en.ReplaySafe)
		}
	}
	for _, g := range d.GroupsRemoved {
		fmt.Fprintln(&b, "- group", g.Name)
	}
	for _, g := range d.GroupsAdded {
		fmt.Fprintln(&b, "+ group", g.Name)
	}
	return b.String()
}

// New names for the nodes, in the same order, give the same RIB with the new
// names.
func TestRelabellingLaw(t *testing.T) {
	for seed := range seeds.For(t, 500).All() {
		net := randomNetwork(rand.New(rand.NewPCG(seed, 9)))
		rename := func(s string) string {
			return strings.NewReplacer("sg-", "ta-", "sr-", "tz-").Replace(s)
		}
		other := newNetwork()
		for id, node := range net.nodes {
			renamed := *node
			renamed.Links = nil
			for _, l := range node.Links {
				l.Remote = dmsc.NodeID(rename(string(l.Remote)))
				renamed.Links = append(renamed.Links, l)
			}
			other.nodes[dmsc.NodeID(rename(string(id)))] = &renamed
		}
		for id, prefixes := range net.prefixes {
			other.prefixes[dmsc.NodeID(rename(string(id)))] = prefixes
		}
		root := net.ids()[0]
		want := rename(rib.Compute(net.view(root)).String())
		got := rib.Compute(other.view(dmsc.NodeID(rename(string(root))))).String()
		if got != want {
			t.Fatalf("seed %d:\n%s\nwant\n%s", seed, got, want)
		}
	}
}

// A node with 500 neighbours in a network of 1000, as root and as seen from
// elsewhere.
func TestHub(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 7))
	net := hub(1000, 500)
	for _, root := range []dmsc.NodeID{"sr-00000", "sr-00700"} {
		e := rib.New(root)
		old := net.view(root)
		e.Update(old, 0, nil)
		for step := range 5 {
			node := net.nodes[dmsc.NodeID(fmt.Sprintf("sr-%05d", r.IntN(1000)))]
			node.Links[r.IntN(len(node.Links))].Metric = dmsc.Metric(1 + r.IntN(100))
			view := net.view(root)
			got, _ := e.Update(view, linkstate.ChangedTopology, changedKeys(old, view))
			old = view
			if want := rib.Compute(view); got.String() != want.String() {
				t.Fatalf("root %s, step %d: the engine's RIB is not that of a new one", root, step)
			}
		}
	}
}

// hub is a random network in which sr-00000 has links to degree others.
func hub(n, degree int) *network {
	net := benchNetwork(n)
	for i := 1; i <= degree; i++ {
		net.link("sr-00000", dmsc.NodeID(fmt.Sprintf("sr-%05d", i)), "hub", 50, 50)
	}
	return net
}
