package rib_test

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	"github.com/dmsc-mesh/dmsc/linkstate/rib/ribtest"
)

func TestRIBEqualsReference(t *testing.T) {
	backups := 0
	for seed := range uint64(1500) {
		r := rand.New(rand.NewPCG(seed, 1))
		net := randomNetwork(r)
		ids := net.ids()
		root := ids[r.IntN(len(ids))]
		for _, l := range net.nodes[root].Links {
			if r.IntN(6) == 0 {
				net.held = append(net.held, linkstate.LinkKey{Remote: l.Remote, ID: l.ID})
			}
		}
		view := net.view(root)
		got, want := ribtest.Text(rib.Compute(view)), ribtest.NewReference(view.Records).Text(view)
		if got != want {
			t.Fatalf("seed %d, root %s:\n%s\ngot\n%s\nwant\n%s", seed, root, net, got, want)
		}
		backups += strings.Count(got, "~")
	}
	if backups < 1000 {
		t.Errorf("only %d alternates: the networks prove little", backups)
	}
}

// What an Engine says after any changes is what a new one says.
func TestEngineEqualsCompute(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 2))
		net := randomNetwork(r)
		root := net.ids()[0]
		e := rib.New(root)
		old := net.view(root)
		e.Update(old, 0, nil)
		for step := range 10 {
			var change linkstate.Change
			ids := net.ids()
			other := ids[r.IntN(len(ids))]
			switch r.IntN(6) {
			case 0: // another metric
				change = linkstate.ChangedTopology
				for i := range net.nodes[other].Links {
					net.nodes[other].Links[i].Metric = dmsc.Metric(1 + r.IntN(9))
				}
			case 1:
				change = linkstate.ChangedTopology
				net.nodes[other].Transit = !net.nodes[other].Transit
				net.nodes[other].Algorithm = linkstate.Algorithm(r.IntN(2))
			case 2: // a node goes, with its prefixes or without
				if other == root {
					continue
				}
				change = linkstate.ChangedTopology
				delete(net.nodes, other)
				if r.IntN(2) == 0 {
					change |= linkstate.ChangedPrefixes
					delete(net.prefixes, other)
				}
			case 3: // a node comes
				change = linkstate.ChangedTopology
				id := dmsc.NodeID(fmt.Sprintf("sr-%d", 20+step))
				net.link(id, other, "0", 1, 1)
			case 4:
				change = linkstate.ChangedPrefixes
				p := linkstate.Prefix{Prefix: dmsc.MustParsePrefix(fmt.Sprintf("new/%d", r.IntN(5))), Metric: dmsc.Metric(step)}
				net.prefixes[other] = append(net.prefixes[other], p)
			case 5:
				change = linkstate.ChangedNeighbours
				net.held = nil
				for _, l := range net.nodes[root].Links {
					if r.IntN(3) == 0 {
						net.held = append(net.held, linkstate.LinkKey{Remote: l.Remote, ID: l.ID})
					}
				}
			}
			view := net.view(root)
			keys := changedKeys(old, view)
			old = view
			got, _ := e.Update(view, change, keys)
			want := rib.Compute(view)
			if got.String() != want.String() {
				t.Fatalf("seed %d, step %d, change %b:\n%s\nwant\n%s", seed, step, change, got, want)
			}
			if again, delta := e.Update(view, change, keys); again != got || !delta.Empty() {
				t.Fatalf("seed %d, step %d: another RIB though nothing differs", seed, step)
			}
		}
	}
}

// New metrics, k times the old, give the same RIB at k times the distance.
func TestScalingLaw(t *testing.T) {
	const k = 7
	for seed := range uint64(500) {
		net := randomNetwork(rand.New(rand.NewPCG(seed, 3)))
		for _, node := range net.nodes {
			node.Transit, node.Algorithm = true, 0 // dmsc.LastResort does not scale
		}
		root := net.ids()[0]
		before := rib.Compute(net.view(root))
		for _, node := range net.nodes {
			for i := range node.Links {
				node.Links[i].Metric *= k
			}
		}
		for _, prefixes := range net.prefixes {
			for i := range prefixes {
				prefixes[i].Metric *= k
			}
		}
		after := rib.Compute(net.view(root))
		for en := range before.All() {
			scaled := *en
			scaled.Distance *= k
			if got := after.Lookup(en.Prefix.String()); got.String() != scaled.String() {
				t.Fatalf("seed %d: %s, want %s", seed, got, &scaled)
			}
		}
	}
}

// Lookup finds what a scan over all entries finds.
func TestLookupEqualsScan(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 4))
		net := randomNetwork(r)
		table := rib.Compute(net.view(net.ids()[0]))
		for range 200 {
			var segs []string
			for range 1 + r.IntN(4) {
				segs = append(segs, []string{"a", "b", "c", "d", "1", "2", "x", "y", "A", "aa", "", "dmsc", "node", "sr-1"}[r.IntN(14)])
			}
			name := strings.Join(segs, "/")
			var want *rib.Entry
			for en := range table.All() {
				p, low := en.Prefix.String(), strings.ToLower(name)
				if (low == p || en.Kind != rib.Function && strings.HasPrefix(low, p+"/")) &&
					(want == nil || len(p) > len(want.Prefix.String())) {
					want = en
				}
			}
			if got := table.Lookup(name); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("seed %d: %q is answered by %v, want %v", seed, name, got, want)
			}
		}
	}
}

// A delta applied to the old RIB gives the new one.
func TestDiffLeadsFromOldToNew(t *testing.T) {
	for seed := range uint64(300) {
		from := randomNetwork(rand.New(rand.NewPCG(seed, 5)))
		to := randomNetwork(rand.New(rand.NewPCG(seed, 6)))
		a, b := rib.Compute(from.view(from.ids()[0])), rib.Compute(to.view(to.ids()[0]))
		d := rib.Diff(a, b)
		lines := map[string]string{}
		groups := map[string]bool{}
		for en := range a.All() {
			lines[en.Prefix.String()] = fmt.Sprint(en, en.Protocol, en.ReplaySafe)
		}
		for en := range d.Removed() {
			delete(lines, en.Prefix.String())
		}
		for _, part := range []iter.Seq[*rib.Entry]{d.Added(), d.Changed()} {
			for en := range part {
				lines[en.Prefix.String()] = fmt.Sprint(en, en.Protocol, en.ReplaySafe)
			}
		}
		for _, g := range a.Groups {
			groups[g.Name] = true
		}
		for _, g := range d.GroupsRemoved {
			delete(groups, g.Name)
		}
		for _, g := range d.GroupsAdded {
			groups[g.Name] = true
		}
		if len(lines) != b.Len() || len(groups) != len(b.Groups) {
			t.Fatalf("seed %d: %d entries and %d groups, want %d and %d", seed, len(lines), len(groups), b.Len(), len(b.Groups))
		}
		for en := range b.All() {
			if got, want := lines[en.Prefix.String()], fmt.Sprint(en, en.Protocol, en.ReplaySafe); got != want {
				t.Fatalf("seed %d: %s, want %s", seed, got, want)
			}
		}
		for _, g := range b.Groups {
			if !groups[g.Name] {
				t.Fatalf("seed %d: group %s is missing", seed, g.Name)
			}
		}
		if !rib.Diff(b, b).Empty() || rib.Diff(nil, b).Len() != b.Len() {
			t.Fatalf("seed %d: diff with itself or nothing", seed)
		}
	}
}
