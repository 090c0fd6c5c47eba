package spf_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/seeds"
	"github.com/dmsc-mesh/dmsc/linkstate/spf"
)

// change does something to a network: one link up to a whole node.
func change(r *rand.Rand, net network) {
	ids := net.ids()
	id := ids[r.IntN(len(ids))]
	d := net[id]
	metric := func() dmsc.Metric {
		switch r.IntN(30) {
		case 0:
			return dmsc.Unreachable - dmsc.Metric(r.IntN(3))
		case 1:
			return dmsc.LastResort
		}
		return dmsc.Metric(r.IntN(7))
	}
	switch k := r.IntN(10); {
	case k < 4 && len(d.links) > 0: // another metric one way
		d.links[r.IntN(len(d.links))].Metric = metric()
	case k < 6 && len(d.links) > 0: // a link goes, as one end says
		i := r.IntN(len(d.links))
		d.links = slices.Delete(d.links, i, i+1)
	case k < 8: // a link comes
		other, link := ids[r.IntN(len(ids))], dmsc.LinkID(fmt.Sprint(r.IntN(3)))
		net.declare(id, other, link, metric())
		net.declare(other, id, link, metric())
	case k < 9:
		d.lastResort = !d.lastResort
	default: // a node goes
		*d = declaration{}
	}
}

// TestUpdateEqualsRun changes random networks step by step. After each step the
// updated tree is the tree of a new run, and what it says has moved is what is
// different from before; so for trees with distances only.
func TestUpdateEqualsRun(t *testing.T) {
	networks, repaired, rerun := seeds.For(t, 2000), 0, 0
	for seed := range networks.All() {
		r := rand.New(rand.NewPCG(seed, 10))
		net := randomNetwork(r)
		if r.IntN(40) == 0 { // large enough for the repair to be given up
			net = grid(100 + r.IntN(60))
		}
		g := net.graph()
		ids := net.ids()
		root := g.Index(ids[r.IntN(len(ids))])
		far := spf.Tree{DistancesOnly: true}
		var tree, fresh, old spf.Tree
		g.Take()
		tree.Run(g, root)
		far.Run(g, g.Index(ids[0]))
		for step := range 20 {
			before := lines(g, &tree)
			old.Run(g, g.Index(ids[0]))
			for range 1 + r.IntN(1+r.IntN(6)) {
				change(r, net)
			}
			if r.IntN(10) == 0 {
				id := dmsc.NodeID(fmt.Sprintf("z%d", step)) // never seen before
				net.declare(id, ids[r.IntN(len(ids))], "0", 1)
				net.declare(net[id].links[0].To, id, "0", dmsc.Metric(r.IntN(5)))
			}
			for id, d := range net {
				g.Set(id, d.lastResort, d.links)
			}
			changes := g.Take()
			moved, full := tree.Update(g, changes)
			if full {
				rerun++
			} else {
				repaired++
			}
			checkMoved(t, seed, step, g, moved, before, lines(g, &tree))
			fresh.Run(g, root)
			if got, want := format(g, &tree), format(g, &fresh); got != want {
				t.Fatalf("seed %d, step %d, root %s, full %v:\n%s\nwant\n%s", seed, step, g.ID(root), full, got, want)
			}
			if len(net) < 12 && step == 19 {
				if got, want := format(g, &tree), newObvious(net).tree(g.ID(root)); got != want {
					t.Fatalf("seed %d, root %s:\n%s\nthe slow way\n%s", seed, g.ID(root), got, want)
				}
			}
			moved, _ = far.Update(g, changes)
			fresh.Run(g, g.Index(ids[0]))
			for i := range int32(g.Len()) {
				was := dmsc.Unreachable
				if int(i) < len(before) {
					was = old.Distance(i)
				}
				if far.Distance(i) != fresh.Distance(i) || slices.Contains(moved, i) != (was != fresh.Distance(i)) {
					t.Fatalf("seed %d, step %d: %s at %d, was %d, want %d; moved %v", seed, step, g.ID(i), far.Distance(i), was, fresh.Distance(i), moved)
				}
			}
		}
	}
	t.Logf("%d repairs, %d full runs", repaired, rerun)
	if networks.Count() >= 40 && (repaired < rerun || rerun == 0) {
		t.Error("too few of one kind to prove much")
	}
}

// lines prints the way to every node, by index.
func lines(g *spf.Graph, t *spf.Tree) []string {
	var out []string
	for i := range int32(g.Len()) {
		out = append(out, fmt.Sprintf("%d via %s", t.Distance(i), hops(g, t, i)))
	}
	return out
}

func checkMoved(t *testing.T, seed uint64, step int, g *spf.Graph, moved []int32, before, after []string) {
	t.Helper()
	var want []int32
	for i := range after {
		was := fmt.Sprintf("%d via ", dmsc.Unreachable)
		if i < len(before) {
			was = before[i]
		}
		if was != after[i] {
			want = append(want, int32(i))
		}
	}
	got := slices.Sorted(slices.Values(moved))
	if !slices.Equal(got, want) {
		t.Fatalf("seed %d, step %d: moved %v, want %v\n%q\n%q", seed, step, got, want, before, after)
	}
}
