package linkstate_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/linkstate/linkstatetest"
)

// TestNetworkConvergesAfterAnyFaults runs random networks through random faults
// and then lets them come to rest. DMSC_SEEDS sets how many (200), DMSC_SEED
// one alone.
func TestNetworkConvergesAfterAnyFaults(t *testing.T) {
	first, count := uint64(1), uint64(200)
	if s := os.Getenv("DMSC_SEEDS"); s != "" {
		count = parse(t, s)
	}
	if s := os.Getenv("DMSC_SEED"); s != "" {
		first, count = parse(t, s), 1
	}
	for seed := first; seed < first+count; seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			newChaos(t, seed).run()
		})
	}
}

func parse(t *testing.T, s string) uint64 {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// chaos is a random network with what must hold in it at any time.
type chaos struct {
	t      *testing.T
	net    *linkstatetest.Network
	rand   *rand.Rand
	seed   uint64
	dense  bool // enough links for flood reduction
	nodes  []dmsc.NodeID
	links  []linkstate.LinkKey // of nodes[from[n]]
	from   []dmsc.NodeID
	orders map[dmsc.NodeID]map[linkstate.Key]*linkstate.LSA // what each living agent has held
	log    []string
}

func newChaos(t *testing.T, seed uint64) *chaos {
	c := &chaos{
		t: t, seed: seed, net: linkstatetest.NewNetwork(seed), rand: rand.New(rand.NewPCG(seed, 77)),
		orders: make(map[dmsc.NodeID]map[linkstate.Key]*linkstate.LSA),
	}
	c.net.OnReady = c.watch
	for n := range 5 + c.rand.IntN(11) {
		role := dmsc.RoleSG
		if c.rand.IntN(2) == 0 {
			role = dmsc.RoleSR
		}
		id := dmsc.NodeID(fmt.Sprintf("n%02d", n))
		c.net.AddNode(id, role)
		c.nodes = append(c.nodes, id)
		if n > 0 {
			c.link(id, c.nodes[c.rand.IntN(n)], "0")
		}
		c.net.Announce(id, linkstatetest.Prefix(fmt.Sprintf("f%d/%d", n%3, n)))
	}
	extra := c.rand.IntN(len(c.nodes))
	if c.dense = seed%8 == 0; c.dense {
		extra = 5 * len(c.nodes)
	}
	for range extra {
		a, b := c.node(), c.node()
		if a != b {
			c.link(a, b, dmsc.LinkID(fmt.Sprintf("x%d", len(c.links))))
		}
	}
	return c
}

func (c *chaos) node() dmsc.NodeID { return c.nodes[c.rand.IntN(len(c.nodes))] }

func (c *chaos) link(a, b dmsc.NodeID, id dmsc.LinkID) {
	l := linkstatetest.Link{ID: id, Delay: time.Duration(1+c.rand.IntN(20)) * time.Millisecond, Class: dmsc.LinkClass(c.rand.IntN(3))}
	if c.rand.IntN(2) == 0 {
		l.Loss, l.Duplicate, l.Reorder = 0.2*c.rand.Float64(), 0.2*c.rand.Float64(), 0.2*c.rand.Float64()
	}
	c.net.AddLink(a, b, l)
	c.links, c.from = append(c.links, linkstate.LinkKey{Remote: b, ID: id}), append(c.from, a)
}

func (c *chaos) fatalf(format string, args ...any) {
	c.t.Helper()
	for _, l := range c.log {
		c.t.Log(l)
	}
	c.t.Fatalf("DMSC_SEED=%d at %s: %s", c.seed, c.net.Now().Sub(linkstatetest.Epoch), fmt.Sprintf(format, args...))
}

// watch checks after every turn that it has looked at every adjacency that it
// concerned, and that no agent has gone back to an older version of a record, in
// particular to one older than a tombstone, before its end of life.
func (c *chaos) watch(id dmsc.NodeID, rd linkstate.Ready) {
	if why := c.net.Instance(id).Unfinished(); why != "" {
		c.fatalf("%s: %s", id, why)
	}
	if len(rd.Records) == 0 {
		return
	}
	held := c.orders[id]
	if held == nil {
		held = make(map[linkstate.Key]*linkstate.LSA)
		c.orders[id] = held
	}
	now := make(map[linkstate.Key]*linkstate.LSA)
	for l := range c.net.Instance(id).View().Records.All() {
		now[l.Key] = l
	}
	for _, k := range rd.Records {
		was, is := held[k], now[k]
		switch {
		case is == nil && was != nil && was.NotAfter.After(c.net.Now()):
			c.fatalf("%s dropped %s %s before its end of life", id, k, was.Order)
		case is != nil && was != nil && was.NotAfter.After(c.net.Now()) && is.Order.Compare(was.Order) < 0:
			c.fatalf("%s replaced %s %s (tombstone %t) by the older %s", id, k, was.Order, was.Tombstone, is.Order)
		}
		held[k] = is
	}
}

func (c *chaos) note(format string, args ...any) {
	c.log = append(c.log, fmt.Sprintf("%-12s ", c.net.Now().Sub(linkstatetest.Epoch))+fmt.Sprintf(format, args...))
}

func (c *chaos) fault() {
	id := c.node()
	n := c.rand.IntN(len(c.links))
	a, b, lid := c.from[n], c.links[n].Remote, c.links[n].ID
	switch c.rand.IntN(15) {
	case 0:
		c.note("cut %s %s", a, c.links[n])
		c.net.Cut(a, b, lid)
	case 1:
		c.note("cut %s %s silent", a, c.links[n])
		c.net.CutSilently(a, b, lid)
	case 2:
		c.note("cut %s %s control", a, c.links[n])
		c.net.CutControl(a, b, lid)
	case 3:
		c.note("cut %s %s data", a, c.links[n])
		c.net.CutData(a, b, lid)
	case 4, 5:
		c.note("heal %s %s", a, c.links[n])
		c.net.Heal(a, b, lid)
	case 6:
		c.note("kill %s", id)
		c.net.Kill(id)
	case 7:
		c.note("kill %s agent", id)
		c.net.KillAgent(id)
	case 8:
		c.note("kill %s envoy", id)
		c.net.KillEnvoy(id)
	case 9, 10:
		c.note("restart %s", id)
		c.restart(id, false)
	case 11:
		c.note("restart %s blank", id)
		c.restart(id, true)
	case 12:
		p := fmt.Sprintf("g/%d", c.rand.IntN(20))
		c.note("announce %s %s", id, p)
		c.net.Announce(id, linkstatetest.Prefix(p))
	case 13:
		p := fmt.Sprintf("g/%d", c.rand.IntN(20))
		c.note("withdraw %s %s", id, p)
		c.net.Withdraw(id, p)
	case 14:
		level := linkstate.Drain(c.rand.IntN(3))
		c.note("drain %s %s", id, level)
		c.net.Step(id, linkstate.SetDrain{Level: level})
	}
}

func (c *chaos) restart(id dmsc.NodeID, blank bool) {
	if c.net.Instance(id) == nil {
		delete(c.orders, id) // a new agent begins with an empty database
		if blank {
			c.net.RestartBlank(id)
			return
		}
	}
	c.net.Restart(id)
}

func (c *chaos) run() {
	c.net.Run(10 * time.Second) // lossy links take a few resends
	c.quiet("after the start")
	for range 30 {
		c.fault()
		c.net.Run(time.Duration(c.rand.Int64N(int64(2 * time.Second))))
	}
	c.note("all faults end")
	for n, l := range c.links {
		c.net.Heal(c.from[n], l.Remote, l.ID)
	}
	for _, id := range c.nodes {
		c.restart(id, false)
		c.net.Step(id, linkstate.SetDrain{Level: linkstate.DrainNone})
	}
	// The lease of adopted records (30 s) and the longest resend are over then.
	c.net.Run(45 * time.Second)
	c.quiet("after the faults")
	if c.dense {
		c.reduced()
	}
	if c.seed%100 != 0 {
		return // hours of keepalives and probes take their time
	}
	c.net.Run(2 * linkstate.MaxLifetime)
	c.quiet("after two lifetimes")
	for l := range c.net.Instance(c.nodes[0]).View().Records.All() {
		if l.Tombstone {
			c.fatalf("the tombstone %s %s outlived its end of life", l.Key, l.Order)
		}
	}
}

// quiet checks a network at rest: one database everywhere, complete and true.
// A refresh may just be on its way, so it gets some seconds.
func (c *chaos) quiet(when string) {
	c.t.Helper()
	unrest := c.unrest()
	for try := 0; unrest != "" && try < 5; try++ {
		c.net.Run(time.Second)
		unrest = c.unrest()
	}
	if unrest != "" {
		c.fatalf("%s, %s", when, unrest)
	}
}

func (c *chaos) unrest() string {
	want := ""
	for _, id := range c.nodes {
		v := c.net.Instance(id).View()
		if !v.Synced {
			return fmt.Sprintf("%s is still starting", id)
		}
		db, links := "", 0
		for l := range v.Records.All() {
			db += fmt.Sprintf("%s %s %t %s\n", l.Key, l.Order, l.Tombstone, l.Body)
			if n, ok := l.Content.(*linkstate.NodeLSA); ok && l.Origin == id {
				links = len(n.Links)
			}
		}
		if want == "" {
			want = db
		}
		if db != want {
			return fmt.Sprintf("%s and %s hold different records:\n%s\n%s", c.nodes[0], id,
				linkstatetest.Describe(c.net.Instance(c.nodes[0]).View()), linkstatetest.Describe(v))
		}
		if links != len(v.Adjacencies) {
			return fmt.Sprintf("%s advertises %d of %d links:\n%s", id, links, len(v.Adjacencies), linkstatetest.Describe(v))
		}
		for _, a := range v.Adjacencies {
			if a.State != linkstate.StateFull || a.Pending != 0 {
				return fmt.Sprintf("%s is not at rest:\n%s", id, linkstatetest.Describe(v))
			}
		}
	}
	return ""
}

// reduced checks that a dense network at rest sends a record over two covers:
// two copies per node, and two more per node whose loss would part the network.
func (c *chaos) reduced() {
	for _, id := range c.nodes {
		if f := c.net.Instance(id).View().Flooding; f != linkstate.FloodingReduced {
			c.fatalf("%s floods %s", id, f)
		}
	}
	copies := make(map[linkstate.LinkKey]int)
	c.net.OnMessage = func(from dmsc.NodeID, e linkstate.Envelope) {
		if u, ok := e.Message.(*linkstate.LSUpdate); ok {
			for _, l := range u.Records {
				if p, ok := l.Content.(*linkstate.PrefixLSA); ok && p.Prefixes[0].Prefix.String() == "late" {
					copies[linkstate.LinkKey{Remote: from + ">" + e.Link.Remote, ID: e.Link.ID}] = 1
				}
			}
		}
	}
	c.net.Announce(c.node(), linkstatetest.Prefix("late"))
	c.net.Run(500 * time.Millisecond)
	c.net.OnMessage = nil
	if n := len(copies); n > 2*len(c.nodes)+2 || n < len(c.nodes)-1 {
		c.fatalf("a record took %d links for %d nodes", n, len(c.nodes))
	}
	c.net.Run(3 * time.Second)
	c.quiet("after a last announcement")
}
