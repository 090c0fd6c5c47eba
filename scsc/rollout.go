package scsc

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/scsc/policy"
)

// rollout is how the Envoys of the ingresses have taken the policies of one rule
// since its document was last changed. What a rule makes of a name is new until
// Config.MaxUnconfirmed Envoys have accepted it: until then no more than that
// have it without having accepted it, those that refused it included. From then
// on each wave is as large as what has proved good. As many refusals halt the
// rule: what is not confirmed is withdrawn, and nothing more is issued until the
// document changes.
type rollout struct {
	proved  map[dmsc.ServicePrefix]map[dmsc.NodeID]bool // Envoys that have run a policy for the name
	refused map[dmsc.NodeID]string                      // in the nodes' words
	halted  bool
	// unconfirmed have been issued a policy and have not answered; it is counted
	// anew in each Tick.
	unconfirmed map[dmsc.NodeID]bool
}

func (c *Center) rollout(rule string) *rollout {
	r := c.rollouts[rule]
	if r == nil {
		r = &rollout{proved: make(map[dmsc.ServicePrefix]map[dmsc.NodeID]bool), refused: make(map[dmsc.NodeID]string), unconfirmed: make(map[dmsc.NodeID]bool)}
		c.rollouts[rule] = r
	}
	return r
}

// countUnconfirmed looks which ingresses owe an answer. One that does not give it
// in time gives up its place: it may be away, and the others shall not wait.
func (c *Center) countUnconfirmed(now time.Time) {
	for _, r := range c.rollouts {
		r.unconfirmed = make(map[dmsc.NodeID]bool)
	}
	c.waiting = false
	for _, k := range c.keys() {
		s := c.steered[k]
		is := s.active
		if is == nil || is.answered {
			continue
		}
		if now.Sub(is.issued) >= c.cfg.Confirm {
			is.answered = true
			c.event(now, "late", is.policy.ID, k.ingress, fmt.Sprintf("no word from %s within %v whether its Envoy accepts the policy; the others do not wait for it", k.ingress, c.cfg.Confirm))
			continue
		}
		c.rollout(s.rule.Name).unconfirmed[k.ingress] = true
	}
}

// admit reports whether the ingress may be issued a policy for the name now.
func (c *Center) admit(k steerKey, rule string) bool {
	r := c.rollout(rule)
	switch {
	case c.peers[k.ingress] == nil, r.stopped(k.ingress) != "":
		return false
	case r.proved[k.name][k.ingress], r.unconfirmed[k.ingress]:
		return true
	case len(r.unconfirmed)+len(r.refused) >= max(c.cfg.MaxUnconfirmed, len(r.proved[k.name])):
		c.waiting = true
		return false
	}
	r.unconfirmed[k.ingress] = true
	return true
}

// stopped says why nothing is issued to an ingress, "" if something may be.
func (r *rollout) stopped(ingress dmsc.NodeID) string {
	words, refused := r.refused[ingress]
	switch {
	case r.halted:
		return "the rollout is halted until the policy is changed: refused by " + r.refusers()
	case refused:
		return fmt.Sprintf("%s has refused a policy of this rule, and is left out until it is changed: %s", ingress, words)
	}
	return ""
}

// refusers are the nodes that have refused, the first of many.
func (r *rollout) refusers() string {
	const most = 8
	var names []string
	for _, n := range slices.Sorted(maps.Keys(r.refused)) {
		names = append(names, string(n))
	}
	if more := len(names) - most; more > 0 {
		names = append(names[:most], fmt.Sprintf("%d others", more))
	}
	return strings.Join(names, ", ")
}

// confirmed notes that the Envoy of the ingress follows a policy for the name.
func (c *Center) confirmed(k steerKey, s *steer) {
	s.active.answered = true
	r := c.rollout(s.rule.Name)
	if r.proved[k.name] == nil {
		r.proved[k.name] = make(map[dmsc.NodeID]bool)
	}
	r.proved[k.name][k.ingress] = true
}

// refuse withdraws what an ingress has refused, and halts the rule when enough
// have.
func (c *Center) refuse(now time.Time, k steerKey, words string) {
	s := c.steered[k]
	r := c.rollout(s.rule.Name)
	r.refused[k.ingress] = words
	delete(r.proved[k.name], k.ingress)
	c.withdraw(now, s, string(k.ingress)+" has refused it")
	if r.halted || len(r.refused) < c.cfg.MaxUnconfirmed {
		return
	}
	r.halted = true
	c.event(now, "halted", "", "", fmt.Sprintf("policy %s goes no further until it is changed: refused by %s; the last words: %s", s.rule.Name, r.refusers(), words))
	for _, o := range c.keys() {
		if t := c.steered[o]; t.rule.Name == s.rule.Name && (t.active == nil || !t.active.answered) {
			c.withdraw(now, t, "the rollout of "+s.rule.Name+" is halted")
		}
	}
}

// restart forgets how the rules that have changed, or are gone, were taken.
func (c *Center) restart(rules []policy.QoSPolicy) {
	for name := range c.rollouts {
		unchanged := false
		for _, old := range c.rules {
			for _, rule := range rules {
				unchanged = unchanged || old.Name == name && rule.Name == name && sameConditions(old, rule) &&
					old.Selector == rule.Selector && old.Preference == rule.Preference
			}
		}
		if !unchanged {
			delete(c.rollouts, name)
		}
	}
}

// Rollout is how the Envoy of an ingress has taken what is decided for a name.
type Rollout string

// The stages of a rollout; "" while plain SPF is in force and wanted.
const (
	RolloutPreparing Rollout = "preparing" // at the other nodes of the path
	RolloutWaiting   Rollout = "waiting"   // for the ingresses that have it to confirm
	RolloutIssued    Rollout = "issued"    // the ingress has not answered yet
	RolloutConfirmed Rollout = "confirmed" // its Envoy follows it
	RolloutHalted    Rollout = "halted"    // refused too often, or by this ingress: plain SPF
)

// stage says how far a name has come at an ingress, and if it goes no further,
// why.
func (c *Center) stage(k steerKey, s *steer) (Rollout, string) {
	stopped := ""
	if r := c.rollouts[s.rule.Name]; r != nil {
		stopped = r.stopped(k.ingress)
	}
	switch {
	case s.next != nil && s.next.prepared:
		return RolloutWaiting, ""
	case s.next != nil:
		return RolloutPreparing, ""
	case s.active != nil && s.active.live[k.ingress]:
		return RolloutConfirmed, ""
	case s.active != nil:
		return RolloutIssued, ""
	case stopped != "":
		return RolloutHalted, stopped
	}
	return "", ""
}

// Waiting reports whether an ingress waits for others to confirm: Tick soon
// after their Status, and the rollout goes on at once.
func (c *Center) Waiting() bool { return c.waiting }

// Halted lists the rules that are halted, sorted by precedence.
func (c *Center) Halted() (names []string) {
	for _, rule := range c.rules {
		if r := c.rollouts[rule.Name]; r != nil && r.halted {
			names = append(names, rule.Name)
		}
	}
	return names
}
