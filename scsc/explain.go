package scsc

import (
	"fmt"
	"slices"
	"time"

	"github.com/dmsc-mesh/dmsc"
)

// Answer is what the SCSC would choose now, whatever is in force ("upon
// receiving requests", draft §5(4)).
type Answer struct {
	Path        Path // Weight 100; one node alone when the ingress delivers itself
	Delay       time.Duration
	Explanation []string // candidates, best first, in words
}

// Query ranks the instances and paths for a name at an ingress. The error says
// what is not known.
func (c *Center) Query(now time.Time, ingress dmsc.NodeID, name dmsc.ServicePrefix) (Answer, error) {
	if c.net.nodes[ingress] == nil {
		return Answer{}, fmt.Errorf("node %s is not in the link-state database", ingress)
	}
	if len(c.net.owners[name]) == 0 {
		return Answer{}, fmt.Errorf("nobody announces %s or an instance of it", name)
	}
	if c.net.local(ingress, name) {
		return Answer{
			Path:        Path{Nodes: []dmsc.NodeID{ingress}, Weight: 100},
			Explanation: []string{fmt.Sprintf("%s delivers %s itself", ingress, name)},
		}, nil
	}
	c.delays = newDelayTrees()
	found := c.candidates(now, ingress, name, unfit{})
	if len(found) == 0 {
		return Answer{}, fmt.Errorf("no owner of %s can be reached from %s within %d nodes", name, ingress, MaxPathNodes)
	}
	best := found[0]
	a := Answer{Path: Path{Nodes: best.nodes, Weight: 100}, Delay: best.quality.Delay}
	if best.owner.instance != name {
		a.Path.Instance = best.owner.instance
	}
	for _, cand := range found {
		a.Explanation = append(a.Explanation, describe(cand))
	}
	return a, nil
}

// Explain says in words what is decided for a name at an ingress and why.
func (c *Center) Explain(now time.Time, ingress dmsc.NodeID, name dmsc.ServicePrefix) []string {
	s := c.steered[steerKey{ingress, name}]
	if s == nil {
		if c.net.local(ingress, name) {
			return []string{fmt.Sprintf("%s delivers %s itself; nothing is steered", ingress, name)}
		}
		return []string{fmt.Sprintf("no policy judges %s at %s, or nobody announces it", name, ingress)}
	}
	out := []string{fmt.Sprintf("policy %s decides for %s at %s", s.rule.Name, name, ingress)}
	line := func(what string, r route) {
		t := c.tracker(keyOf(s.rule, r))
		text := fmt.Sprintf("%s %s by %s: %s, %d of the last %d samples violate", what, r.owner.instance, pathString(r.nodes), t.state(), t.hits(), s.rule.Trigger.Of)
		if !t.last.IsZero() {
			text += fmt.Sprintf(", %v ago: %s", now.Sub(t.last).Round(time.Millisecond), describeQuality(t.quality))
		}
		for _, b := range t.bad {
			text += "; " + b.text
		}
		out = append(out, text)
	}
	for _, r := range s.spf {
		line("spf", r)
	}
	if s.active != nil {
		line("pinned", s.active.route)
		out = append(out, fmt.Sprintf("in force: %s because of %s", s.active.policy.ID, s.active.policy.Reason))
	}
	if s.next != nil {
		line("prepared", s.next.route)
	}
	switch stage, why := c.stage(steerKey{ingress, name}, s); stage {
	case RolloutWaiting:
		out = append(out, "it waits until the ingresses that have policies of this rule confirm them")
	case RolloutHalted:
		out = append(out, why)
	}
	if s.active == nil && s.next == nil {
		out = append(out, "in force: plain SPF")
	}
	for _, w := range s.words {
		out = append(out, "candidate "+w)
	}
	return out
}

// Row is the published state of one steered name.
type Row struct {
	Ingress  dmsc.NodeID
	Prefix   dmsc.ServicePrefix
	Rule     string
	State    string // OK, VIOLATED, UNKNOWN: the worst way of plain SPF
	Quality  Quality
	PolicyID string // in force, "" for plain SPF
	Path     Path
	Reason   string
	Live     []dmsc.NodeID // nodes that have reported it live, sorted
	Rollout  Rollout
	Stopped  string // why a halted rollout is
}

// Rows lists every judged name, sorted by (Ingress, Prefix).
func (c *Center) Rows() []Row {
	var out []Row
	for _, k := range c.keys() {
		s := c.steered[k]
		worst, _, _ := c.judge(s)
		r := Row{Ingress: k.ingress, Prefix: k.name, Rule: s.rule.Name, State: worst.state(), Quality: worst.quality}
		r.Rollout, r.Stopped = c.stage(k, s)
		if s.active != nil {
			p := s.active.policy
			r.PolicyID, r.Path, r.Reason = p.ID, p.Paths[0], p.Reason
			for n := range s.active.live {
				r.Live = append(r.Live, n)
			}
			slices.Sort(r.Live)
		}
		out = append(out, r)
	}
	return out
}
