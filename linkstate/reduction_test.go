package linkstate

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
)

// A fabric is a network of Instances that have exchanged everything and advertise
// all their links. Messages take one step, one millisecond; there are no probes
// and no keepalives, so that large ones run fast.
type fabric struct {
	t     testing.TB
	mesh  mesh
	now   time.Time
	nodes []*Instance
	index map[dmsc.NodeID]int
	dead  map[int]bool // takes and sends nothing, and nobody knows
	cut   map[[2]int]bool
	wire  []letter
	// Of the current run:
	copies int
}

type letter struct {
	from, to int
	Envelope
}

func encodeForTest(c Content) []byte { return fmt.Appendf(nil, "%+v", c) }

func newFabric(t testing.TB, m mesh) *fabric {
	t.Helper()
	f := &fabric{
		t: t, mesh: m, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), index: make(map[dmsc.NodeID]int),
		dead: make(map[int]bool), cut: make(map[[2]int]bool),
	}
	var records []*record
	for n, l := range m.records() {
		f.index[l.Origin] = n
		l.Order, l.NotAfter, l.Body = Order{1, 1}, f.now.Add(MaxLifetime), encodeForTest(l.Content)
		content := l.Content.(*NodeLSA)
		content.Role, content.Transit = dmsc.RoleSR, true
		l.Body = encodeForTest(content)
		r := newRecord("test", l)
		r.mine, r.passed = true, coverBoth
		records = append(records, r)
	}
	for _, own := range records {
		i, err := New(Config{Node: own.Origin, Domain: "test", Role: dmsc.RoleSR, Transit: true, Incarnation: 1, Encode: encodeForTest}, f.now)
		if err != nil {
			t.Fatal(err)
		}
		var links []LinkConfig
		for _, l := range own.Content.(*NodeLSA).Links {
			links = append(links, LinkConfig{LinkKey: LinkKey{l.Remote, l.ID}, Metric: l.Metric})
		}
		i.Step(f.now, SetLinks{Links: links})
		for _, a := range i.order {
			a.stream, a.heard, a.threeWay, a.compared, a.sentSynced, a.heardSynced, a.alive = true, true, true, true, true, true, true
			a.session, a.peerSession, a.state, a.keepaliveAt = 1, 1, StateFull, f.now.Add(24*time.Hour)
		}
		for _, r := range records {
			i.db.put(f.now, r)
			i.moveTopology(r.Key, nil, r)
		}
		i.wants[own.Key] = wanted{own.Content, own.Body}
		i.starting, i.seq = false, 1
		i.reduction.due = f.now
		f.nodes = append(f.nodes, i)
	}
	f.reduce()
	return f
}

// reduce lets the nodes compute their covers. They have the same topology, so
// in a large network only some do, and the others share.
func (f *fabric) reduce() {
	first := f.nodes[0]
	g := first.topology()
	for n, i := range f.nodes {
		if n%max(1, len(f.nodes)/100) == 0 || g == nil {
			i.Tick(f.now)
			if n > 0 && g != nil && !i.reduction.covers.equal(first.reduction.covers) {
				f.t.Fatalf("%s computes other covers than %s", i.cfg.Node, first.cfg.Node)
			}
		} else {
			i.reduction.due = time.Time{}
			i.useCovers(first.reduction.covers, g)
		}
		i.Ready()
	}
}

// post puts what a node wants to send on the wire.
func (f *fabric) post(n int) {
	for _, e := range f.nodes[n].Ready().Messages {
		to := f.index[e.Link.Remote]
		if u, ok := e.Message.(*LSUpdate); ok {
			f.copies += len(u.Records)
		}
		if !f.dead[n] && !f.dead[to] && !f.cut[[2]int{min(n, to), max(n, to)}] {
			f.wire = append(f.wire, letter{n, to, e})
		}
	}
}

// run delivers messages until there are none, and returns how many steps it took
// until every living node had the record.
func (f *fabric) run(k Key, order Order) (hops int) {
	for step := 1; len(f.wire) > 0; step++ {
		if step > 1000 {
			f.t.Fatal("copies do not come to an end")
		}
		f.now = f.now.Add(time.Millisecond)
		letters := f.wire
		f.wire = nil
		for _, l := range letters {
			i := f.nodes[l.to]
			before := i.has(k, order)
			i.Step(f.now, Received{Link: LinkKey{f.nodes[l.from].cfg.Node, l.Link.ID}, Message: l.Message})
			if !before && i.has(k, order) {
				hops = step
			}
			f.post(l.to)
		}
	}
	return hops
}

func (i *Instance) has(k Key, o Order) bool {
	r := i.db.records[k]
	return r != nil && r.Order.Compare(o) >= 0
}

// announce lets a node announce a new prefix and returns the hops and copies it
// took, and who has missed it.
func (f *fabric) announce(n int, prefix string) (hops, copies int, missed []int) {
	p := Prefix{Prefix: dmsc.MustParsePrefix(prefix), Weight: 1}
	return f.change(n, SetPrefixes{Prefixes: []Prefix{p}}, Key{f.nodes[n].cfg.Node, TypePrefix, Bucket(p.Prefix)})
}

func (f *fabric) change(n int, ev Event, k Key) (hops, copies int, missed []int) {
	f.copies = 0
	i := f.nodes[n]
	f.now = f.now.Add(time.Second) // a token for the bucket
	i.Step(f.now, ev)
	order := i.db.records[k].Order
	f.post(n)
	hops = f.run(k, order)
	for v, i := range f.nodes {
		if !f.dead[v] && !i.has(k, order) {
			missed = append(missed, v)
		}
	}
	return hops, f.copies, missed
}

func TestOneRecordTakesAtMostTwoCopiesPerNode(t *testing.T) {
	f := newFabric(t, fatTree(12))
	for _, i := range f.nodes {
		i.useCovers(nil, nil)
		i.reduction.due = f.now
	}
	fullHops, full, _ := f.announce(0, "a/1")
	f.reduce()
	worst, most := 0, 0
	for n := 1; n < len(f.nodes); n++ {
		hops, copies, missed := f.announce(n, "a/1")
		if len(missed) > 0 || copies > 2*len(f.nodes) {
			t.Fatalf("from %d: %d copies for %d nodes, missed by %v", n, copies, len(f.nodes), missed)
		}
		worst, most = max(worst, hops), max(most, copies)
	}
	t.Logf("%d nodes, %d links: %d copies, at most %d hops; full flooding: %d copies, %d hops",
		len(f.nodes), len(f.mesh.links), most, worst, full, fullHops)
	if want := 2*len(f.mesh.links) - (len(f.nodes) - 1); full != want {
		t.Errorf("full flooding takes %d copies, want %d", full, want)
	}
}

func TestEverybodyHearsDespiteOneFailureNobodyKnowsOf(t *testing.T) {
	for _, m := range []mesh{fatTree(12), barbell()} {
		f := newFabric(t, m)
		g := f.nodes[0].topology()
		r := rand.New(rand.NewPCG(1, 1))
		for try := range 60 {
			what, v, l := "", none, m.links[r.IntN(len(m.links))]
			if try%2 == 0 {
				v = r.IntN(len(f.nodes))
				f.dead[v], what = true, fmt.Sprintf("node %d", v)
			} else {
				f.cut[[2]int{min(l[0], l[1]), max(l[0], l[1])}], what = true, fmt.Sprintf("link %v", l)
			}
			from := r.IntN(len(f.nodes))
			for f.dead[from] {
				from = r.IntN(len(f.nodes))
			}
			connected, _ := reachable(g, int32(from), func(k coverLink) bool {
				return f.dead[int(k.a)] || f.dead[int(k.b)] || f.cut[[2]int{int(k.a), int(k.b)}]
			})
			_, _, missed := f.announce(from, fmt.Sprintf("a/%d", try))
			for _, n := range missed {
				if connected[n] {
					t.Fatalf("%s, from %d with %s lost: missed by %v", m.name, from, what, missed)
				}
			}
			clear(f.dead)
			clear(f.cut)
			f.mend()
		}
	}
}

// mend resends what was lost, so that the next try starts from equal databases.
func (f *fabric) mend() {
	for range 20 {
		f.now = f.now.Add(longestResend)
		for n, i := range f.nodes {
			i.Tick(f.now)
			f.post(n)
		}
		if len(f.wire) == 0 {
			return
		}
		f.run(Key{}, Order{})
	}
	f.t.Fatal("resends do not come to an end")
}

// TestCoversThatDifferMakeNoCopyCirculate: what nodes with covers of their own
// do to each other comes to an end, after at most one copy per link, cover and
// direction.
func TestCoversThatDifferMakeNoCopyCirculate(t *testing.T) {
	f := newFabric(t, clique(16))
	r := rand.New(rand.NewPCG(2, 2))
	g := f.nodes[0].topology()
	for try := range 50 {
		for _, i := range f.nodes {
			c := &covers{nodes: g.nodes, cross: make([]bool, len(g.nodes))}
			for k := range c.trees {
				for range len(g.nodes) - 1 {
					if a, b := int32(r.IntN(16)), int32(r.IntN(16)); a < b {
						c.trees[k] = append(c.trees[k], coverLink{a, b, "0"})
					}
				}
			}
			i.useCovers(c, g)
		}
		_, copies, _ := f.announce(try%16, fmt.Sprintf("a/%d", try))
		if copies > 2*2*2*len(f.mesh.links) { // it may withdraw another in the same turn
			t.Fatalf("%d copies", copies)
		}
	}
}

// BenchmarkFlood announces a prefix in a fat tree of 980 switches, and prints
// what it takes with covers, in full, and while a lost cover link is news.
func BenchmarkFlood(b *testing.B) {
	f := newFabric(b, fatTree(28))
	n, worst, most := 0, 0, 0
	for b.Loop() {
		n++
		hops, copies, missed := f.announce(n%len(f.nodes), fmt.Sprintf("a/%d", n/len(f.nodes)))
		if n < len(f.nodes) { // later ones withdraw another in the same turn
			if len(missed) > 0 || copies > 2*len(f.nodes) {
				b.Fatalf("%d copies for %d nodes, missed by %v", copies, len(f.nodes), missed)
			}
			worst, most = max(worst, hops), max(most, copies)
		}
	}
	b.ReportMetric(float64(len(f.nodes)), "nodes")
	b.ReportMetric(float64(len(f.mesh.links)), "links")
	b.ReportMetric(float64(most), "copies")
	b.ReportMetric(float64(worst), "hops")

	lost := f.nodes[0].order[slices.IndexFunc(f.nodes[0].order, func(a *adjacency) bool { return a.covers == coverOne })]
	for range missedProbes - 1 {
		f.nodes[0].Step(f.now, Probed{Link: lost.LinkKey})
	}
	hops, copies, _ := f.change(0, Probed{Link: lost.LinkKey}, f.nodes[0].nodeKey())
	b.ReportMetric(float64(copies), "doubt-copies")
	b.ReportMetric(float64(hops), "doubt-hops")
}

// Whether a network is dense is known without a look at all of it, and a sparse
// one has nothing to compute.
func TestASparseNetworkIsNeverInDoubt(t *testing.T) {
	f := newFoe(t)
	f.update(f.node("foe", "sg-1", "sr-2"), f.node("sr-2", "foe"))
	if got := f.flooding(); got != FloodingFull || !f.reduction.due.IsZero() {
		t.Errorf("flooding is %s, the covers are due at %s", got, f.reduction.due)
	}
	var ends []dmsc.NodeID
	for n := range 40 {
		ends = append(ends, dmsc.NodeID(fmt.Sprintf("x-%02d", n)))
	}
	hub := f.node("sr-3", ends...)
	f.update(hub)
	if got := f.flooding(); got != FloodingDoubt {
		t.Errorf("flooding is %s with 10 links per node", got)
	}
	gone := f.lsa("sr-3", TypeNode, 0, "")
	gone.Seq, gone.Tombstone, gone.Body = 2, true, nil
	f.update(gone)
	if got := f.flooding(); got != FloodingFull || f.reduction.nodes != 3 {
		t.Errorf("flooding is %s among %d nodes after the hub has gone", got, f.reduction.nodes)
	}
}
