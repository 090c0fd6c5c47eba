package spf_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate/spf"
)

// network is what nodes declare, before any graph is made of it.
type network map[dmsc.NodeID]*declaration

type declaration struct {
	lastResort bool
	links      []spf.Link
}

func (n network) node(id dmsc.NodeID) *declaration {
	if n[id] == nil {
		n[id] = &declaration{}
	}
	return n[id]
}

func (n network) declare(from, to dmsc.NodeID, id dmsc.LinkID, m dmsc.Metric) {
	d := n.node(from)
	d.links = append(d.links, spf.Link{To: to, ID: id, Metric: m})
}

func (n network) graph() *spf.Graph {
	g := spf.NewGraph()
	for id, d := range n { // any order gives the same trees
		g.Set(id, d.lastResort, d.links)
	}
	return g
}

// TestScenes runs testdata/*.txt. A scene draws a network line by line and
// then asks for trees:
//
//	network
//	a b 10            link 0, metric 10 both ways
//	a b 10 20 #1      link 1, 10 from a to b and 20 back
//	a -> b 10         declared by a only
//	last-resort a c
//	remove a          declares nothing any more
//
//	tree root=a       node, distance, first hops
func TestScenes(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		g := spf.NewGraph()
		net := network{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "network":
				for line := range strings.Lines(d.Input) {
					apply(t, net, strings.Fields(line))
				}
				for id, n := range net {
					g.Set(id, n.lastResort, n.links)
				}
				return ""
			case "tree":
				var root string
				d.ScanArgs(t, "root", &root)
				var tree spf.Tree
				tree.Run(g, g.Index(dmsc.NodeID(root)))
				return format(g, &tree)
			}
			t.Fatalf("unknown command %s", d.Cmd)
			return ""
		})
	})
}

func apply(t *testing.T, net network, f []string) {
	switch {
	case f[0] == "last-resort":
		for _, id := range f[1:] {
			net.node(dmsc.NodeID(id)).lastResort = true
		}
		return
	case f[0] == "remove":
		*net.node(dmsc.NodeID(f[1])) = declaration{}
		return
	}
	id := dmsc.LinkID("0")
	if last := f[len(f)-1]; last[0] == '#' {
		id, f = dmsc.LinkID(last[1:]), f[:len(f)-1]
	}
	metric := func(s string) dmsc.Metric {
		m, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		return dmsc.Metric(m)
	}
	if f[1] == "->" {
		net.declare(dmsc.NodeID(f[0]), dmsc.NodeID(f[2]), id, metric(f[3]))
		return
	}
	a, b := dmsc.NodeID(f[0]), dmsc.NodeID(f[1])
	net.declare(a, b, id, metric(f[2]))
	net.declare(b, a, id, metric(f[len(f)-1]))
}

// format prints every node but the root, by id.
func format(g *spf.Graph, t *spf.Tree) string {
	var lines []string
	for i := range int32(g.Len()) {
		if i == t.Root() {
			continue
		}
		if !t.Reachable(i) {
			lines = append(lines, fmt.Sprintf("%s unreachable\n", g.ID(i)))
			continue
		}
		var hops []string
		for _, a := range t.FirstHops(i) {
			hops = append(hops, fmt.Sprintf("%s#%s", g.ID(a.To), g.LinkID(a.Link)))
		}
		lines = append(lines, fmt.Sprintf("%s %d via %s\n", g.ID(i), t.Distance(i), strings.Join(hops, " ")))
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// randomNetwork has 2..12 nodes with asymmetric metrics (small, so that equal
// costs are frequent), parallel links, links declared by one end only, and
// last-resort nodes.
func randomNetwork(r *rand.Rand) network {
	net := network{}
	n := 2 + r.IntN(11)
	id := func(i int) dmsc.NodeID { return dmsc.NodeID(fmt.Sprintf("n%d", i)) }
	for i := range n {
		net.node(id(i)).lastResort = r.IntN(4) == 0
	}
	metric := func() dmsc.Metric {
		switch r.IntN(40) {
		case 0:
			return dmsc.Unreachable - dmsc.Metric(r.IntN(3))
		case 1:
			return dmsc.LastResort
		case 2:
			return 0
		}
		return dmsc.Metric(1 + r.IntN(6))
	}
	for range r.IntN(3*n + 1) {
		a, b := id(r.IntN(n)), id(r.IntN(n))
		link := dmsc.LinkID(strconv.Itoa(r.IntN(3)))
		net.declare(a, b, link, metric())
		if r.IntN(8) > 0 {
			net.declare(b, a, link, metric())
		}
	}
	return net
}

// obvious is the slow implementation: Bellman–Ford over the plainest reading
// of the rules.
type obvious struct {
	net  network
	arcs []obviousArc // the usable ones
}

type obviousArc struct {
	from, to dmsc.NodeID
	id       dmsc.LinkID
	metric   uint64
}

func (n network) ids() []dmsc.NodeID { return slices.Sorted(maps.Keys(n)) }

func newObvious(net network) obvious {
	o := obvious{net: net}
	for _, a := range o.nodes() {
		for _, b := range o.nodes() {
			for k := range 3 { // link ids in use: "0", "1", "2"
				id := dmsc.LinkID(strconv.Itoa(k))
				m, there := o.metric(a, b, id)
				_, back := o.metric(b, a, id)
				if there && back {
					o.arcs = append(o.arcs, obviousArc{a, b, id, m})
				}
			}
		}
	}
	return o
}

// metric that a declares for a link to b; false if it declares none.
func (o obvious) metric(a, b dmsc.NodeID, id dmsc.LinkID) (uint64, bool) {
	best, found := uint64(0), false
	for _, l := range o.net[a].links {
		if l.To == b && l.ID == id && a != b && l.Metric != dmsc.Unreachable {
			if m := uint64(max(l.Metric, 1)); !found || m < best {
				best, found = m, true
			}
		}
	}
	return best, found
}

func (o obvious) nodes() []dmsc.NodeID {
	return o.net.ids()
}

// distances returns the costs from root; passing tells whether the walk has
// begun elsewhere and root itself is passed through.
func (o obvious) distances(root dmsc.NodeID, passing bool) map[dmsc.NodeID]uint64 {
	dist := map[dmsc.NodeID]uint64{root: 0}
	for range o.net {
		for _, a := range o.arcs {
			d, ok := dist[a.from]
			if !ok {
				continue
			}
			if o.net[a.from].lastResort && (a.from != root || passing) {
				d += uint64(dmsc.LastResort)
			}
			if old, ok := dist[a.to]; !ok || d+a.metric < old {
				dist[a.to] = d + a.metric
			}
		}
	}
	return dist
}

// tree formats like format: a first hop to n belongs to a shortest path to b if
// the cost of the hop and of the rest of the way add up to the distance.
func (o obvious) tree(root dmsc.NodeID) string {
	var b strings.Builder
	dist := o.distances(root, false)
	for _, to := range o.nodes() {
		if to == root {
			continue
		}
		d, ok := dist[to]
		if !ok || d >= uint64(dmsc.Unreachable) {
			fmt.Fprintf(&b, "%s unreachable\n", to)
			continue
		}
		var hops []string
		for _, a := range o.arcs { // sorted by construction
			if a.from != root {
				continue
			}
			rest, reaches := o.distances(a.to, true)[to]
			if a.to == to {
				rest, reaches = 0, true
			}
			if reaches && a.metric+rest == d {
				hops = append(hops, fmt.Sprintf("%s#%s", a.to, a.id))
			}
		}
		fmt.Fprintf(&b, "%s %d via %s\n", to, d, strings.Join(hops, " "))
	}
	lines := strings.SplitAfter(b.String(), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "")
}

func TestTreeEqualsBellmanFord(t *testing.T) {
	var tree spf.Tree // reused throughout: no run may see an earlier one
	for seed := range uint64(2000) {
		net := randomNetwork(rand.New(rand.NewPCG(seed, 1)))
		g := net.graph()
		slow := newObvious(net)
		root := slow.nodes()[0]
		tree.Run(g, g.Index(root))
		if got, want := format(g, &tree), slow.tree(root); got != want {
			t.Fatalf("seed %d, root %s:\n%s\nwant\n%s", seed, root, got, want)
		}
	}
}

// A graph that was changed step by step is the graph that was built at once.
func TestSetAndRemoveEqualRebuild(t *testing.T) {
	for seed := range uint64(1000) {
		r := rand.New(rand.NewPCG(seed, 2))
		g := randomNetwork(r).graph()
		next := randomNetwork(r)
		for i := range g.Len() {
			if id := g.ID(int32(i)); next[id] == nil {
				g.Remove(id)
				next[id] = &declaration{} // still known, hence printed as unreachable
			}
			if r.IntN(3) == 0 {
				var tree spf.Tree
				tree.Run(g, 0)
			}
		}
		for id, d := range next {
			g.Set(id, d.lastResort, d.links)
			if g.Set(id, d.lastResort, d.links) {
				t.Fatalf("seed %d: setting %s again is a change", seed, id)
			}
		}
		fresh := next.graph()
		var a, b spf.Tree
		a.Run(g, g.Index("n0"))
		b.Run(fresh, fresh.Index("n0"))
		if got, want := format(g, &a), format(fresh, &b); got != want {
			t.Fatalf("seed %d:\n%s\nwant\n%s", seed, got, want)
		}
	}
}

// Metrics times k give distances times k and the same first hops.
func TestScalingLaw(t *testing.T) {
	const k = 3
	for seed := range uint64(1000) {
		net := randomNetwork(rand.New(rand.NewPCG(seed, 3)))
		scaled := network{}
		for id, d := range net {
			d.lastResort = false
			scaled.node(id)
			for i := range d.links {
				l := &d.links[i]
				l.Metric = l.Metric%100 + 1
				scaled.declare(id, l.To, l.ID, l.Metric*k)
			}
		}
		g, gk := net.graph(), scaled.graph()
		var a, b spf.Tree
		a.Run(g, g.Index("n0"))
		b.Run(gk, gk.Index("n0"))
		for id := range net {
			i, j := g.Index(id), gk.Index(id)
			if a.Reachable(i) && b.Distance(j) != k*a.Distance(i) {
				t.Fatalf("seed %d: %s at %d, scaled at %d", seed, id, a.Distance(i), b.Distance(j))
			}
			if got, want := hops(gk, &b, j), hops(g, &a, i); got != want {
				t.Fatalf("seed %d: %s via %s, scaled via %s", seed, id, want, got)
			}
		}
	}
}

// New names for the nodes, in the same order, give the same tree with the new
// names, whatever the order of interning.
func TestRelabellingLaw(t *testing.T) {
	for seed := range uint64(1000) {
		net := randomNetwork(rand.New(rand.NewPCG(seed, 4)))
		rename := func(s string) string { return strings.ReplaceAll(s, "n", "zz") }
		renamed := network{}
		for id, d := range net {
			to := renamed.node(dmsc.NodeID(rename(string(id))))
			to.lastResort = d.lastResort
			for _, l := range d.links {
				to.links = append(to.links, spf.Link{To: dmsc.NodeID(rename(string(l.To))), ID: l.ID, Metric: l.Metric})
			}
		}
		g, gz := net.graph(), renamed.graph()
		var a, b spf.Tree
		a.Run(g, g.Index("n0"))
		b.Run(gz, gz.Index("zz0"))
		if got, want := format(gz, &b), strings.ReplaceAll(strings.ReplaceAll(format(g, &a), "unreachable", "?"), "n", "zz"); strings.ReplaceAll(got, "unreachable", "?") != want {
			t.Fatalf("seed %d:\n%s\nwant\n%s", seed, got, want)
		}
	}
}

// A root with more links than fit in one word of the first-hop sets.
func TestManyFirstHops(t *testing.T) {
	net := network{}
	for i := range 200 {
		mid := dmsc.NodeID(fmt.Sprintf("mid-%03d", i))
		net.declare("root", mid, "0", 1)
		net.declare(mid, "root", "0", 1)
		net.declare(mid, "far", "0", 1)
		net.declare("far", mid, "0", 1)
	}
	g := net.graph()
	var tree spf.Tree
	tree.Run(g, g.Index("root"))
	n := 0
	for i, a := range tree.FirstHops(g.Index("far")) {
		if want := dmsc.NodeID(fmt.Sprintf("mid-%03d", n)); i != n || g.ID(a.To) != want {
			t.Fatalf("first hop %d is %d, %s", n, i, g.ID(a.To))
		}
		n++
	}
	if n != 200 {
		t.Fatalf("%d first hops, want 200", n)
	}
}

func hops(g *spf.Graph, t *spf.Tree, i int32) string {
	var b strings.Builder
	for _, a := range t.FirstHops(i) {
		fmt.Fprintf(&b, "%s#%s ", g.ID(a.To), g.LinkID(a.Link))
	}
	return b.String()
}
