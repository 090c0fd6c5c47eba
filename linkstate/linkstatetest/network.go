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
	// halfOpen is when the keepalive of package peering gives a silent stream up.
	halfOpen = 3 * time.Second
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
	// Tamper, if set, says what arrives instead of a message, nil for nothing: it
	// makes liars.
	Tamper func(from dmsc.NodeID, e linkstate.Envelope) linkstate.Message
	// OnViolation, if set, is told when a node breaks one of the Rules that hold
	// at any time.
	OnViolation func(Violation)
	// Stop, if set, is asked before every event whether to end Run and Rest early;
	// what the network shows after that means nothing.
	Stop func() bool
	// ProbeAlways sends every regular probe, also those whose result has been
	// the same for long; see wire.go.
	ProbeAlways bool

	seed   uint64
	rand   *rand.Rand
	now    time.Time
	queue  queue
	queued uint64
	nodes  []*node // sorted by id
	links  []*link // sorted by (a, b, id)
	named  map[dmsc.NodeID]*node
	ends   map[ends]*link

	traffic Traffic
}

// Traffic counts what has happened on all control streams.
type Traffic struct {
	Messages   int `json:"messages"`
	Updates    int `json:"updates"` // of the messages
	Records    int `json:"records"` // in the updates
	Lost       int `json:"lost"`
	Duplicated int `json:"duplicated"`
	Reordered  int `json:"reordered"`
	// Turns of all nodes: events taken in and ticks.
	Turns int `json:"turns"`
}

// ends names a link, a < b.
type ends struct {
	a, b dmsc.NodeID
	id   dmsc.LinkID
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
	saved    *saved // copy of the state file
	links    []*link
	tickAt   time.Time
	alarms   []linkstate.Alarm
	held     map[linkstate.Key]*linkstate.LSA // what this life of the agent has held
}

// saved is what a state file holds.
type saved struct {
	incarnation uint64
	prefixes    []linkstate.Prefix
}

type link struct {
	Link
	a, b          dmsc.NodeID
	control, data bool // what passes
	stream        int  // number of the connected stream, 0 = none
	streams       int
	dialling      bool
	arrival       [2]time.Time // last arrival at b, at a: streams keep order
	probes        [2]prober    // from a, from b
}

// NewNetwork returns an empty network whose chances follow from seed.
func NewNetwork(seed uint64) *Network {
	n := &Network{now: Epoch, named: map[dmsc.NodeID]*node{}, ends: map[ends]*link{}}
	n.Seed(seed)
	return n
}

// Seed makes all chances from now on follow from seed.
func (n *Network) Seed(seed uint64) { n.seed, n.rand = seed, rand.New(rand.NewPCG(seed, 0)) }

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

// Runs reports whether the Envoy of a node runs, with a FIB or without.
func (n *Network) Runs(id dmsc.NodeID) bool { return n.node(id).envoy }

// Announced returns what the pods of a node announce.
func (n *Network) Announced(id dmsc.NodeID) []linkstate.Prefix { return n.node(id).prefixes }

// Links returns the links of a node, dead or alive, in a fixed order.
func (n *Network) Links(id dmsc.NodeID) []linkstate.LinkKey {
	nd := n.node(id)
	keys := make([]linkstate.LinkKey, len(nd.links))
	for i, lk := range nd.links {
		keys[i] = lk.key(id)
	}
	return keys
}

// Passes reports whether the data path of a link is intact between its Envoys.
func (n *Network) Passes(a, b dmsc.NodeID, id dmsc.LinkID) bool { return n.link(a, b, id).data }

// Traffic returns the counts since the start.
func (n *Network) Traffic() Traffic { return n.traffic }

// After calls do when d of virtual time has passed.
func (n *Network) After(d time.Duration, do func()) { n.after(d, do) }

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
	n.named[id] = nd
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
	if n.ends[ends{a, b, l.ID}] != nil {
		panic(fmt.Sprintf("link %s %s %s exists", a, b, l.ID))
	}
	n.ends[ends{a, b, l.ID}] = lk
	n.links = insertLink(n.links, lk)
	for _, nd := range []*node{n.node(a), n.node(b)} {
		nd.links = insertLink(nd.links, lk)
	}
	for _, nd := range []*node{n.node(a), n.node(b)} {
		n.step(nd, linkstate.SetLinks{Links: n.configured(nd)})
		n.probeRegularly(nd, lk)
	}
	n.dial(lk, 0)
}

func insertLink(links []*link, lk *link) []*link {
	at, _ := slices.BinarySearchFunc(links, lk, func(x, y *link) int {
		return cmp.Or(cmp.Compare(x.a, y.a), cmp.Compare(x.b, y.b), cmp.Compare(x.ID, y.ID))
	})
	return slices.Insert(links, at, lk)
}

// Change alters a link's chances, delay and the like; metrics are applied too.
func (n *Network) Change(a, b dmsc.NodeID, id dmsc.LinkID, change func(*Link)) {
	lk := n.link(a, b, id)
	change(&lk.Link)
	n.wakeLink(lk)
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
		if n.stopped() {
			return
		}
		e := heap.Pop(&n.queue).(event)
		n.now = e.at
		e.do()
	}
	n.now = end
}

func (n *Network) stopped() bool { return n.Stop != nil && n.Stop() }

func (n *Network) after(d time.Duration, do func()) {
	n.queued++
	heap.Push(&n.queue, event{n.now.Add(d), n.queued, do})
}

func (n *Network) node(id dmsc.NodeID) *node {
	nd := n.named[id]
	if nd == nil {
		panic(fmt.Sprintf("no node %s", id))
	}
	return nd
}

func (n *Network) link(a, b dmsc.NodeID, id dmsc.LinkID) *link {
	lk := n.ends[endsOf(a, b, id)]
	if lk == nil {
		panic(fmt.Sprintf("no link %s %s %s", a, b, id))
	}
	return lk
}

func endsOf(a, b dmsc.NodeID, id dmsc.LinkID) ends {
	return ends{min(a, b), max(a, b), cmp.Or(id, "0")}
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
	for _, lk := range nd.links {
		if n.node(lk.key(nd.id).Remote).config.Role == dmsc.RoleObserver {
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
	n.traffic.Turns++
	rd := nd.inst.Ready()
	if rd.Incarnation != 0 {
		nd.file = rd.Incarnation
	}
	nd.alarms = append(nd.alarms, rd.Alarms...)
	if nd.envoy && !nd.fib && nd.inst.View().Synced {
		nd.fib = true
		n.wakeNode(nd)
	}
	n.watch(nd, rd.Records)
	for _, e := range rd.Messages {
		if n.OnMessage != nil {
			n.OnMessage(nd.id, e)
		}
		if n.Tamper != nil {
			e.Message = n.Tamper(nd.id, e)
		}
		if e.Message != nil {
			n.deliver(nd, e)
		}
	}
	for _, k := range rd.Probe {
		lk := n.link(nd.id, k.Remote, k.ID)
		n.wake(nd, lk)
		n.probe(nd, lk)
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
