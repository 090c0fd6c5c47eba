package linkstatetest

import (
	"cmp"
	"container/heap"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

// Epoch is when every Network starts.
var Epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

const (
	// dialEvery is the time between two attempts to connect a control stream.
	dialEvery = 100 * time.Millisecond
	// patience is how long a node without neighbours leaves its Envoy alone.
	patience = 5 * time.Second
)

// Network is a set of nodes and links in virtual time. Use it from one
// goroutine.
type Network struct {
	// OnReady, if set, sees what every turn of every node has brought. The
	// network has already acted on it.
	OnReady func(node dmsc.NodeID, rd linkstate.Ready)
	// OnMessage, if set, sees every message when it is sent.
	OnMessage func(from dmsc.NodeID, e linkstate.Envelope)

	seed   uint64
	rand   *rand.Rand
	now    time.Time
	queue  queue
	queued uint64
	nodes  []*node // sorted by id
	links  []*link // sorted by (a, b, id)
}

// Link configures AddLink; the zero value of a field is its default.
type Link struct {
	ID              dmsc.LinkID // "0"
	Metric, Reverse dmsc.Metric // 10, and Metric
	Class           dmsc.LinkClass
	Tags            []string
	Delay           time.Duration // one way, 1 ms
	// Loss, Duplicate and Reorder are the chances of a control message to be
	// lost, to come twice, and to be overtaken.
	Loss, Duplicate, Reorder float64
}

type node struct {
	id       dmsc.NodeID
	config   linkstate.Config
	inst     *linkstate.Instance // nil while the agent is dead
	envoy    bool                // the process runs
	fib      bool                // and serves a FIB
	started  time.Time           // the agent
	life     int                 // of the agent; events of earlier lives are void
	file     uint64              // incarnation in the state file
	prefixes []linkstate.Prefix
	tickAt   time.Time
	alarms   []linkstate.Alarm
	mute     bool // passes on no records of others, and says it did
}

type link struct {
	Link
	a, b          dmsc.NodeID
	control, data bool // what passes
	stream        int  // number of the connected stream, 0 = none
	streams       int
	dialling      bool
	arrival       [2]time.Time // last arrival at b, at a: streams keep order
}

// NewNetwork returns an empty network whose chances follow from seed.
func NewNetwork(seed uint64) *Network {
	return &Network{seed: seed, rand: rand.New(rand.NewPCG(seed, 0)), now: Epoch}
}

// Now returns the virtual time.
func (n *Network) Now() time.Time { return n.now }

// Nodes returns the names of all nodes, sorted, dead ones too.
func (n *Network) Nodes() []dmsc.NodeID {
	var ids []dmsc.NodeID
	for _, nd := range n.nodes {
		ids = append(ids, nd.id)
	}
	return ids
}

// Instance returns the protocol of a node, nil while its agent is dead.
func (n *Network) Instance(id dmsc.NodeID) *linkstate.Instance { return n.node(id).inst }

// Forwards reports whether the Envoy of a node serves a FIB, agent or not.
func (n *Network) Forwards(id dmsc.NodeID) bool { return n.node(id).fib }

// Passes reports whether the data path of a link is intact between its Envoys.
func (n *Network) Passes(a, b dmsc.NodeID, id dmsc.LinkID) bool { return n.link(a, b, id).data }

// Alarms returns what a node has raised since its first start.
func (n *Network) Alarms(id dmsc.NodeID) []linkstate.Alarm { return n.node(id).alarms }

// AddNode adds a node and starts its agent and its Envoy. change may alter the
// configuration before the start. An SR carries transit, an SG does not.
func (n *Network) AddNode(id dmsc.NodeID, role dmsc.Role, change ...func(*linkstate.Config)) {
	h := fnv.New64a()
	h.Write([]byte(id))
	nd := &node{id: id, config: linkstate.Config{
		Node: id, Domain: "test", Role: role, Transit: role == dmsc.RoleSR, Encode: Encode, Seed: n.seed ^ h.Sum64(),
	}}
	for _, c := range change {
		c(&nd.config)
	}
	at, found := slices.BinarySearchFunc(n.nodes, id, func(nd *node, id dmsc.NodeID) int { return cmp.Compare(nd.id, id) })
	if found {
		panic(fmt.Sprintf("node %s exists", id))
	}
	n.nodes = slices.Insert(n.nodes, at, nd)
	n.start(nd)
}

// AddLink connects two nodes. A link to an observer is configured at the
// observer only.
func (n *Network) AddLink(a, b dmsc.NodeID, l Link) {
	if b < a {
		a, b = b, a
		l.Metric, l.Reverse = cmp.Or(l.Reverse, l.Metric), l.Metric
	}
	l.ID = cmp.Or(l.ID, "0")
	l.Metric = cmp.Or(l.Metric, 10)
	l.Reverse = cmp.Or(l.Reverse, l.Metric)
	l.Delay = cmp.Or(l.Delay, time.Millisecond)
	lk := &link{Link: l, a: a, b: b, control: true, data: true}
	n.links = append(n.links, lk)
	slices.SortFunc(n.links, func(x, y *link) int {
		return cmp.Or(cmp.Compare(x.a, y.a), cmp.Compare(x.b, y.b), cmp.Compare(x.ID, y.ID))
	})
	for _, nd := range []*node{n.node(a), n.node(b)} {
		n.step(nd, linkstate.SetLinks{Links: n.configured(nd)})
		n.probeRegularly(nd, lk)
	}
	n.dial(lk, 0)
}

// Change alters a link's chances, delay and the like; metrics are applied too.
func (n *Network) Change(a, b dmsc.NodeID, id dmsc.LinkID, change func(*Link)) {
	lk := n.link(a, b, id)
	change(&lk.Link)
	n.step(n.node(lk.a), linkstate.SetLinks{Links: n.configured(n.node(lk.a))})
	n.step(n.node(lk.b), linkstate.SetLinks{Links: n.configured(n.node(lk.b))})
}

// Prefix is the announcement of a service prefix with default values.
func Prefix(s string) linkstate.Prefix {
	return linkstate.Prefix{Prefix: dmsc.MustParsePrefix(s), Weight: 1}
}

// Announce adds to, or replaces in, what a node announces.
func (n *Network) Announce(id dmsc.NodeID, prefixes ...linkstate.Prefix) {
	for _, p := range prefixes {
		n.forget(n.node(id), p.Prefix)
	}
	n.Replace(id, append(n.node(id).prefixes, prefixes...)...)
}

// Replace sets what a node announces.
func (n *Network) Replace(id dmsc.NodeID, prefixes ...linkstate.Prefix) {
	nd := n.node(id)
	nd.prefixes = prefixes
	n.step(nd, linkstate.SetPrefixes{Prefixes: prefixes})
}

// Withdraw takes prefixes back.
func (n *Network) Withdraw(id dmsc.NodeID, prefixes ...string) {
	nd := n.node(id)
	for _, p := range prefixes {
		n.forget(nd, dmsc.MustParsePrefix(p))
	}
	n.Replace(id, nd.prefixes...)
}

func (n *Network) forget(nd *node, p dmsc.ServicePrefix) {
	nd.prefixes = slices.DeleteFunc(slices.Clone(nd.prefixes), func(q linkstate.Prefix) bool { return q.Prefix == p })
}

// Step hands any event to a node, as its agent would.
func (n *Network) Step(id dmsc.NodeID, ev linkstate.Event) { n.step(n.node(id), ev) }

// Run lets d of virtual time pass.
func (n *Network) Run(d time.Duration) {
	end := n.now.Add(d)
	for len(n.queue) > 0 && !n.queue[0].at.After(end) {
		e := heap.Pop(&n.queue).(event)
		n.now = e.at
		e.do()
	}
	n.now = end
}

func (n *Network) after(d time.Duration, do func()) {
	n.queued++
	heap.Push(&n.queue, event{n.now.Add(d), n.queued, do})
}

func (n *Network) node(id dmsc.NodeID) *node {
	at, ok := slices.BinarySearchFunc(n.nodes, id, func(nd *node, id dmsc.NodeID) int { return cmp.Compare(nd.id, id) })
	if !ok {
		panic(fmt.Sprintf("no node %s", id))
	}
	return n.nodes[at]
}

func (n *Network) link(a, b dmsc.NodeID, id dmsc.LinkID) *link {
	if b < a {
		a, b = b, a
	}
	for _, lk := range n.links {
		if lk.a == a && lk.b == b && lk.ID == cmp.Or(id, "0") {
			return lk
		}
	}
	panic(fmt.Sprintf("no link %s %s %s", a, b, id))
}

// key names the link as the node sees it.
func (lk *link) key(at dmsc.NodeID) linkstate.LinkKey {
	if at == lk.a {
		return linkstate.LinkKey{Remote: lk.b, ID: lk.ID}
	}
	return linkstate.LinkKey{Remote: lk.a, ID: lk.ID}
}

func (n *Network) configured(nd *node) []linkstate.LinkConfig {
	var links []linkstate.LinkConfig
	for _, lk := range n.links {
		if lk.a != nd.id && lk.b != nd.id || n.node(lk.key(nd.id).Remote).config.Role == dmsc.RoleObserver {
			continue
		}
		metric := lk.Metric
		if nd.id == lk.b {
			metric = lk.Reverse
		}
		links = append(links, linkstate.LinkConfig{
			LinkKey: lk.key(nd.id), Metric: metric, Class: lk.Class, Tags: lk.Tags, Fabric: string(nd.id) + ":15901",
		})
	}
	return links
}

// step and tick run one turn of a node, then do what it wants.
func (n *Network) step(nd *node, ev linkstate.Event) {
	if nd.inst != nil {
		nd.inst.Step(n.now, ev)
		n.turn(nd)
	}
}

func (n *Network) tick(nd *node) {
	nd.inst.Tick(n.now)
	n.turn(nd)
}

func (n *Network) turn(nd *node) {
	rd := nd.inst.Ready()
	if rd.Incarnation != 0 {
		nd.file = rd.Incarnation
	}
	nd.alarms = append(nd.alarms, rd.Alarms...)
	if nd.envoy && !nd.fib && nd.inst.View().Synced {
		nd.fib = true
	}
	for _, e := range rd.Messages {
		if n.OnMessage != nil {
			n.OnMessage(nd.id, e)
		}
		n.deliver(nd, e)
	}
	for _, k := range rd.Probe {
		n.probe(nd, n.link(nd.id, k.Remote, k.ID))
	}
	for _, k := range rd.Reset {
		n.disconnect(n.link(nd.id, k.Remote, k.ID))
	}
	n.arm(nd)
	if n.OnReady != nil {
		n.OnReady(nd.id, rd)
	}
}

// arm schedules the next Tick.
func (n *Network) arm(nd *node) {
	at := nd.inst.Deadline()
	if at.IsZero() || !nd.tickAt.IsZero() && !at.Before(nd.tickAt) {
		return
	}
	nd.tickAt = at
	life := nd.life
	n.after(max(0, at.Sub(n.now)), func() {
		if nd.life != life || nd.inst == nil || !nd.tickAt.Equal(at) {
			return
		}
		nd.tickAt = time.Time{}
		n.tick(nd)
	})
}

type event struct {
	at time.Time
	n  uint64 // events of one moment happen in the order they were made
	do func()
}

type queue []event

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return cmp.Or(q[i].at.Compare(q[j].at), cmp.Compare(q[i].n, q[j].n)) < 0
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(event)) }
func (q *queue) Pop() any {
	last := (*q)[len(*q)-1]
	(*q)[len(*q)-1] = event{}
	*q = (*q)[:len(*q)-1]
	return last
}
