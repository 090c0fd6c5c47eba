package scsc

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/scsc/policy"
)

type steerKey struct {
	ingress dmsc.NodeID
	name    dmsc.ServicePrefix
}

func (k steerKey) compare(o steerKey) int {
	return cmp.Or(cmp.Compare(k.ingress, o.ingress), k.name.Compare(o.name))
}

type trackerKey struct {
	rule     string
	path     string
	instance dmsc.ServicePrefix
}

// steer is what is decided for one name at one ingress.
type steer struct {
	rule *policy.QoSPolicy
	spf  []route
	// active is in force at the ingress; next is being prepared at the other
	// nodes of its path while active stays.
	active, next *issue
	note         string // the last thing said about it
	words        []string
	retry        time.Time
}

// issue is one policy and how far it has come.
type issue struct {
	policy   Policy
	route    route
	proposed time.Time
	live     map[dmsc.NodeID]bool
	prepared bool      // the other nodes are live, or late
	issued   time.Time // to the ingress; zero while it is prepared
	// answered: the ingress has said how its Envoy takes it, or is late.
	answered bool
}

func (c *Center) keys() []steerKey {
	return slices.SortedFunc(maps.Keys(c.steered), steerKey.compare)
}

// findSteered lists every name at every ingress that some rule judges, with the
// ways plain SPF sends it.
func (c *Center) findSteered(now time.Time) {
	found := make(map[steerKey]*steer)
	for _, ingress := range c.net.ingresses() {
		for _, name := range c.net.names {
			rule := policy.Find(c.rules, name)
			if rule == nil || c.net.local(ingress, name) {
				continue
			}
			routes := c.net.spfRoutes(ingress, name)
			if len(routes) == 0 {
				continue
			}
			k := steerKey{ingress, name}
			s := c.steered[k]
			if s == nil {
				s = new(steer)
			}
			s.rule, s.spf = rule, routes
			found[k] = s
			delete(c.steered, k)
		}
	}
	for _, k := range c.keys() { // what is left of them
		if s := c.steered[k]; s.active != nil {
			// The rule, the ingress or every owner has gone.
			c.event(now, "withdrawn", s.active.policy.ID, s.active.policy.Ingress, "nothing is left to steer: no rule or no owner")
		}
	}
	c.steered = found
}

// sample takes one sample of every path in use, if all of its links have been
// reported anew since its last one, and returns the trackers that moved.
func (c *Center) sample(now time.Time) map[trackerKey]bool {
	sampled := make(map[trackerKey]bool)
	for _, k := range c.keys() {
		s := c.steered[k]
		for _, r := range s.inUse() {
			tk := keyOf(s.rule, r)
			t := c.tracker(tk)
			q, oldest, known := c.quality(now, r)
			if sampled[tk] || !known || !oldest.After(t.last) {
				continue
			}
			// The sample's time is the arrival of its slowest part, so that Tick
			// may come at any moment.
			sampled[tk] = true
			if !t.sample(oldest, s.rule, q) {
				continue
			}
			if t.violated {
				c.event(now, "violated", "", "", fmt.Sprintf("%s of %s by %s in %s samples (policy %s)", t.bad[0].text, tk.instance, tk.path, s.rule.Trigger, s.rule.Name))
			} else {
				c.event(now, "cleared", "", "", fmt.Sprintf("%s by %s is clear for %v: %s (policy %s)", tk.instance, tk.path, s.rule.HoldDown, describeQuality(q), s.rule.Name))
			}
		}
	}
	return sampled
}

// inUse are the routes whose quality matters: SPF's and the pinned ones.
func (s *steer) inUse() []route {
	out := slices.Clone(s.spf)
	for _, is := range []*issue{s.active, s.next} {
		if is != nil && !slices.ContainsFunc(out, is.route.equal) {
			out = append(out, is.route)
		}
	}
	return out
}

func keyOf(rule *policy.QoSPolicy, r route) trackerKey {
	return trackerKey{rule.Name, pathString(r.nodes), r.owner.instance}
}

func (c *Center) tracker(k trackerKey) *tracker {
	t := c.trackers[k]
	if t == nil {
		t = new(tracker)
		c.trackers[k] = t
	}
	return t
}

// decide moves one name at one ingress on.
func (c *Center) decide(now time.Time, k steerKey, s *steer, sampled map[trackerKey]bool) {
	if s.next != nil && !c.net.supports(s.next.route) {
		s.next = nil
	}
	if s.active != nil && !c.net.supports(s.active.route) {
		c.event(now, "withdrawn", s.active.policy.ID, k.ingress, "its path is no longer in the link-state database")
		s.active, s.note = nil, ""
	}
	worst, violated, recovered := c.judge(s)
	switch {
	case (s.active != nil || s.next != nil) && recovered:
		c.withdraw(now, s, fmt.Sprintf("the path of plain SPF is clear for %v: %s", s.rule.HoldDown, describeQuality(worst.quality)))
	case s.next != nil:
		c.prepare(now, k, s)
	case s.active != nil:
		if pin := c.tracker(keyOf(s.rule, s.active.route)); pin.violated {
			c.reroute(now, k, s, pin, sampled)
		}
	case violated:
		c.reroute(now, k, s, worst, sampled)
	default:
		s.note, s.words = "", nil
	}
}

// judge looks at the ways of plain SPF: one violated way is a violation, and
// only when all have recovered may traffic return.
func (c *Center) judge(s *steer) (worst *tracker, violated, recovered bool) {
	recovered = true
	for _, r := range s.spf {
		t := c.tracker(keyOf(s.rule, r))
		recovered = recovered && !t.violated && t.recovered(s.rule)
		if worst == nil || t.violated && !worst.violated || t.violated == worst.violated && t.quality.Delay > worst.quality.Delay {
			worst = t
		}
		violated = violated || t.violated
	}
	return worst, violated, recovered
}

// reroute looks for a better way than the violated one, once per new sample.
func (c *Center) reroute(now time.Time, k steerKey, s *steer, from *tracker, sampled map[trackerKey]bool) {
	fresh := slices.ContainsFunc(s.inUse(), func(r route) bool { return sampled[keyOf(s.rule, r)] })
	if len(from.bad) == 0 || now.Before(s.retry) || !fresh && s.note != "" {
		return
	}
	if why := c.rollout(s.rule.Name).stopped(k.ingress); why != "" {
		s.note = c.note(now, s.note, "held", k, why)
		return
	}
	best, words, ok := c.choose(now, k.ingress, k.name, s.rule, from.quality)
	s.words = words
	if !ok {
		s.note = c.note(now, s.note, "held", k, "no path is better: "+strings.Join(words, "; "))
		return
	}
	if len(s.spf) == 1 && s.spf[0].equal(best.route) {
		c.withdraw(now, s, "plain SPF's own path is the best again: "+describe(best))
		return
	}
	c.propose(now, k, s, from, best)
}

// note says something about a name once.
func (c *Center) note(now time.Time, last, kind string, k steerKey, text string) string {
	if last != kind {
		c.event(now, kind, "", k.ingress, fmt.Sprintf("%s at %s: %s", k.name, k.ingress, text))
	}
	return kind
}

// propose begins phase 1: the policy goes to every node of the path but the
// ingress. An explicit path needs no transit state (design §5), so this only
// finds out that each node on it is there and agrees.
func (c *Center) propose(now time.Time, k steerKey, s *steer, from *tracker, best candidate) {
	c.generation++
	id := fmt.Sprintf("p-%d.%d/%s/%s/%s", c.cfg.Term, c.generation, s.rule.Name, k.ingress, k.name)
	p := Path{Nodes: best.nodes, Weight: 100}
	if best.owner.instance != k.name {
		p.Instance = best.owner.instance
	}
	s.next = &issue{
		policy: Policy{
			ID: id, Rule: s.rule.Name, Prefix: k.name, Ingress: k.ingress, Paths: []Path{p},
			Reason: fmt.Sprintf("%s in %s samples; %s by %s: %s", from.bad[0].text, s.rule.Trigger, best.owner.instance, pathString(best.nodes), describeQuality(best.quality)),
		},
		route:    best.route,
		proposed: now,
		live:     make(map[dmsc.NodeID]bool),
	}
	s.note = ""
	c.event(now, "proposed", id, k.ingress, s.next.policy.Reason)
}

// prepare ends phase 1 when every other node of the path is live, or when
// Prepare has passed: the ingress may then start, when the rollout of the rule
// admits it.
func (c *Center) prepare(now time.Time, k steerKey, s *steer) {
	if c.tracker(keyOf(s.rule, s.next.route)).violated {
		s.next = nil // it has waited too long: there may be a better way by now
		return
	}
	var waiting []string
	for _, n := range s.next.route.nodes[1:] {
		if !s.next.live[n] {
			waiting = append(waiting, string(n))
		}
	}
	if len(waiting) > 0 && !s.next.prepared {
		if now.Sub(s.next.proposed) < c.cfg.Prepare {
			return
		}
		c.event(now, "late", s.next.policy.ID, s.next.policy.Ingress, fmt.Sprintf("no word from %s within %v; the ingress starts, a broken path falls back to plain SPF", strings.Join(waiting, ", "), c.cfg.Prepare))
	}
	s.next.prepared = true
	if !c.admit(k, s.rule.Name) {
		return
	}
	s.active, s.next = s.next, nil
	s.active.issued = now
	c.event(now, "issued", s.active.policy.ID, s.active.policy.Ingress, "traffic moves to "+pathString(s.active.route.nodes))
}

// withdraw returns a name to plain SPF. That is safe in any order: what is on
// its way keeps its path.
func (c *Center) withdraw(now time.Time, s *steer, why string) {
	if s.active != nil {
		c.event(now, "withdrawn", s.active.policy.ID, s.active.policy.Ingress, why)
	}
	s.active, s.next, s.note, s.words = nil, nil, "", nil
}

// prune forgets the trackers of paths that are no longer in use.
func (c *Center) prune() {
	used := make(map[trackerKey]bool)
	for _, s := range c.steered {
		for _, r := range s.inUse() {
			used[keyOf(s.rule, r)] = true
		}
	}
	maps.DeleteFunc(c.trackers, func(k trackerKey, _ *tracker) bool { return !used[k] })
}
