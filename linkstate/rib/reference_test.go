package rib_test

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/dmsc-mesh/dmsc/internal/seeds"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	"github.com/dmsc-mesh/dmsc/linkstate/rib/ribtest"
)

func TestRIBEqualsReference(t *testing.T) {
	networks, backups := seeds.For(t, 1500), 0
	for seed := range networks.All() {
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
	if networks.Count() >= 40 && uint64(backups) < networks.Count() {
		t.Errorf("only %d alternates: the networks prove little", backups)
	}
}

// New metrics, k times the old, give the same RIB at k times the distance.
func TestScalingLaw(t *testing.T) {
	const k = 7
	for seed := range uint64(500) {
		net := randomNetwork(rand.New(rand.NewPCG(seed, 3)))
		for _, node := range net.nodes {
			node.Transit, node.Algorithm, node.Avoid = true, 0, nil // dmsc.LastResort does not scale
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
