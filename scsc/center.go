package scsc

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/scsc/policy"
)

// Config configures a Center. Zero durations take the defaults named.
type Config struct {
	// Term of this start; higher than that of any earlier one.
	Term uint64
	// TTL of the policies at the nodes without a heartbeat; 10 min.
	TTL time.Duration
	// Heartbeat repeats the sets; TTL/3.
	Heartbeat time.Duration
	// Stale is the age at which telemetry becomes unknown; 15 s.
	Stale time.Duration
	// Interval of telemetry from nodes that are on no judged path; 5 s.
	Interval time.Duration
	// WatchInterval of telemetry from nodes on a judged path, and so the
	// distance of the samples that thresholds are judged by; 500 ms.
	WatchInterval time.Duration
	// Prepare is how long an ingress waits for the other nodes of a path to
	// report a policy live; 1 s.
	Prepare time.Duration
	// MaxUnconfirmed is how many ingresses at most have a policy that is new, or
	// have refused it, before as many have accepted it; as many refusals halt its
	// rule until that is changed. 1.
	MaxUnconfirmed int
	// Confirm is how long the others wait for the answer of an ingress whose
	// policy is new; 1 s.
	Confirm time.Duration
	// WarmUp after the first LSDB, during which nothing is sent: nodes keep the
	// policies of the former term until this one has had time to judge. 5 s;
	// negative for none.
	WarmUp time.Duration
}

func (c Config) withDefaults() Config {
	c.TTL = cmp.Or(c.TTL, 10*time.Minute)
	c.Heartbeat = cmp.Or(c.Heartbeat, c.TTL/3)
	c.Stale = cmp.Or(c.Stale, 15*time.Second)
	c.Interval = cmp.Or(c.Interval, 5*time.Second)
	c.WatchInterval = cmp.Or(c.WatchInterval, 500*time.Millisecond)
	c.Prepare = cmp.Or(c.Prepare, time.Second)
	c.MaxUnconfirmed = cmp.Or(c.MaxUnconfirmed, 1)
	c.Confirm = cmp.Or(c.Confirm, time.Second)
	c.WarmUp = cmp.Or(c.WarmUp, 5*time.Second)
	return c
}

// Center is the scheduling centre's decision core. It is not safe for
// concurrent use, and it has no clock: now never goes back from call to call.
type Center struct {
	cfg     Config
	rules   []policy.QoSPolicy // sorted by precedence
	net     *network
	reports reports
	peers   map[dmsc.NodeID]*peer
	// trackers and steered are rebuilt from what exists in each Tick.
	trackers   map[trackerKey]*tracker
	steered    map[steerKey]*steer
	rollouts   map[string]*rollout // by rule
	waiting    bool                // somebody waits for others to confirm
	generation uint64              // of the newest set
	plans      uint64              // generation of the newest plan
	started    time.Time
	events     []Event
	warned     map[string]bool
	changed    bool // network or rules, since the last Tick
	delays     delayTrees
}

// peer is a node with a session.
type peer struct {
	set    PolicySet
	sent   time.Time // zero = set is not sent in this session
	plan   Plan
	listed bool // plan is sent in this session
}

// Decisions is what a Tick wants sent, sorted by node.
type Decisions struct {
	Sets   []NodeSet
	Plans  []NodePlan
	Events []Event
}

// NodeSet is a policy set for one node.
type NodeSet struct {
	Node dmsc.NodeID
	Set  PolicySet
}

// NodePlan is a reporting plan for one node.
type NodePlan struct {
	Node dmsc.NodeID
	Plan Plan
}

// Event is something an operator may want to read: Kind is one of a bounded
// set, Text says why.
type Event struct {
	At     time.Time
	Kind   string // violated, cleared, proposed, issued, live, late, held, withdrawn, suspended, refused, halted, expired, warning
	Policy string // policy id, if any
	Node   dmsc.NodeID
	Text   string
}

// NewCenter returns a Center without network, rules and nodes.
func NewCenter(cfg Config) *Center {
	return &Center{
		cfg:      cfg.withDefaults(),
		net:      newNetwork(linkstate.Records{}),
		reports:  make(reports),
		peers:    make(map[dmsc.NodeID]*peer),
		trackers: make(map[trackerKey]*tracker),
		steered:  make(map[steerKey]*steer),
		rollouts: make(map[string]*rollout),
		warned:   make(map[string]bool),
	}
}

// LSDB takes in the link-state database as an observer sees it. A pin whose
// path it no longer supports is replaced in the next Tick.
func (c *Center) LSDB(view *linkstate.View) {
	c.net = newNetwork(view.Records)
	c.changed = true
}

// SetPolicies replaces the rules. A rule that changed is judged from new.
func (c *Center) SetPolicies(rules []policy.QoSPolicy) {
	c.restart(rules)
	old := make(map[string]policy.QoSPolicy)
	for _, r := range c.rules {
		old[r.Name] = r
	}
	c.rules = slices.Clone(rules)
	policy.Sort(c.rules)
	c.changed = true
	for _, r := range c.rules {
		if o, ok := old[r.Name]; ok && sameConditions(o, r) {
			delete(old, r.Name)
		}
	}
	maps.DeleteFunc(c.trackers, func(k trackerKey, _ *tracker) bool {
		_, changed := old[k.rule]
		return changed
	})
}

func sameConditions(a, b policy.QoSPolicy) bool {
	return a.Trigger == b.Trigger && a.HoldDown == b.HoldDown &&
		sameLimit(a.Thresholds.Delay, b.Thresholds.Delay) && sameLimit(a.Thresholds.Jitter, b.Thresholds.Jitter) &&
		sameLimit(a.Thresholds.Bandwidth, b.Thresholds.Bandwidth) && sameLimit(a.Thresholds.Loss, b.Thresholds.Loss)
}

func sameLimit[T cmp.Ordered](a, b *policy.Limit[T]) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// NodeJoined says that a node has opened a session: it is sent its plan and its
// set anew.
func (c *Center) NodeJoined(node dmsc.NodeID) {
	p := c.peers[node]
	if p == nil {
		p = new(peer)
		c.peers[node] = p
	}
	p.sent, p.listed = time.Time{}, false
}

// NodeGone says that a node's session has ended. Its last telemetry stays until
// it is stale, and nothing that is in force changes.
func (c *Center) NodeGone(node dmsc.NodeID) { delete(c.peers, node) }

// Telemetry takes in a report, which replaces the node's former one.
func (c *Center) Telemetry(now time.Time, node dmsc.NodeID, t Telemetry) {
	c.reports.add(now, node, t)
}

// Status takes in a node's word on a policy; words on another term or on a
// policy that is no longer wanted are ignored.
func (c *Center) Status(now time.Time, node dmsc.NodeID, s Status) {
	if s.Term != c.cfg.Term {
		return
	}
	var refused []steerKey
	for k, st := range c.steered {
		for _, is := range []*issue{st.active, st.next} {
			if is == nil || is.policy.ID != s.PolicyID {
				continue
			}
			switch s.State {
			case Live:
				if !is.live[node] && node == is.policy.Ingress {
					c.event(now, "live", is.policy.ID, node, fmt.Sprintf("the Envoy of %s follows the policy %v after it was proposed", node, now.Sub(is.proposed).Round(time.Millisecond)))
				}
				is.live[node] = true
				if is == st.active && node == k.ingress {
					c.confirmed(k, st)
				}
			case Suspended, Refused, Expired:
				delete(is.live, node)
				c.event(now, s.State.String(), is.policy.ID, node, fmt.Sprintf("%s: %s", node, s.Reason))
				switch {
				case is == st.next:
					st.next, st.retry = nil, now.Add(5*time.Second)
				case node == k.ingress && s.State == Refused:
					refused = append(refused, k)
				case node == k.ingress:
					is.answered = true
				}
			}
		}
	}
	for _, k := range refused { // one: ids are of one policy
		c.refuse(now, k, s.Reason)
	}
}

// Tick judges what has been measured since the last one and returns what is to
// be sent. Call it a few times per WatchInterval.
func (c *Center) Tick(now time.Time) Decisions {
	if c.started.IsZero() && len(c.net.nodes) > 0 {
		c.started = now
	}
	if c.changed {
		c.changed = false
		c.findSteered(now)
	}
	maps.DeleteFunc(c.reports, func(_ dmsc.NodeID, r *report) bool { return now.Sub(r.at) > c.cfg.Stale })
	c.delays = newDelayTrees()
	sampled := c.sample(now)
	c.countUnconfirmed(now)
	for _, k := range c.keys() {
		c.decide(now, k, c.steered[k], sampled)
	}
	c.prune()

	var d Decisions
	if !c.started.IsZero() && now.Sub(c.started) >= c.cfg.WarmUp {
		d.Sets = c.sets(now)
	}
	d.Plans = c.planAll(now)
	d.Events, c.events = c.events, nil
	return d
}

func (c *Center) event(now time.Time, kind, policyID string, node dmsc.NodeID, text string) {
	c.events = append(c.events, Event{now, kind, policyID, node, text})
}
