package scsc_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/scsc"
	"github.com/dmsc-mesh/dmsc/scsc/policy"
)

// In random networks whose links change speed, leave and return, no policy has
// a loop, a link that is missing at the time it is issued, another ingress than
// its own, or an egress that does not own the name. The same history gives the
// same decisions.
func TestPoliciesNeverLoopOrUseMissingLinks(t *testing.T) {
	issued := 0
	for seed := range uint64(15) {
		first, n := wander(t, seed)
		again, _ := wander(t, seed)
		if diff := cmp.Diff(first, again, cmp.Comparer(func(a, b dmsc.ServicePrefix) bool { return a == b })); diff != "" {
			t.Fatalf("seed %d: the same history decided differently: %s", seed, diff)
		}
		issued += n
	}
	if issued < 100 {
		t.Errorf("only %d policies were issued: the histories prove nothing", issued)
	}
}

func wander(t *testing.T, seed uint64) (decisions []scsc.Decisions, issued int) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	s := newScene()
	n := 4 + rng.IntN(8)
	for i := range n {
		id := dmsc.NodeID(fmt.Sprintf("n-%d", i))
		s.net.roles[id] = dmsc.RoleSR
		if i%2 == 0 {
			s.net.roles[id] = dmsc.RoleSG
			for range 1 + rng.IntN(2) {
				p := linkstate.Prefix{Prefix: dmsc.MustParsePrefix(fmt.Sprintf("f%d/%d", rng.IntN(3), i))}
				s.net.prefixes[id] = append(s.net.prefixes[id], p)
			}
		}
	}
	ids := s.net.ids()
	for i := range n {
		for range 1 + rng.IntN(3) {
			if j := rng.IntN(n); j != i {
				s.net.edges[pair(ids[i], ids[j])] = linkstate.Link{ID: "0", Metric: dmsc.Metric(5 * (1 + rng.IntN(3)))}
			}
		}
	}
	s.center = scsc.NewCenter(scsc.Config{Term: 1, WarmUp: -1})
	s.center.SetPolicies([]policy.QoSPolicy{{
		Name: "all", Trigger: policy.DefaultTrigger, HoldDown: time.Second,
		Thresholds: policy.Thresholds{Delay: &policy.Limit[time.Duration]{Enter: 20 * time.Millisecond, Clear: 15 * time.Millisecond}},
	}})
	for _, id := range ids {
		s.center.NodeJoined(id)
	}
	view := s.net.view()
	s.center.LSDB(view)
	edges := make([][2]dmsc.NodeID, 0, len(s.net.edges))
	for e := range s.net.edges {
		edges = append(edges, e)
	}
	slices.SortFunc(edges, func(a, b [2]dmsc.NodeID) int { return slices.Compare(a[:], b[:]) })

	for range 120 {
		s.now = s.now.Add(250 * time.Millisecond)
		e := edges[rng.IntN(len(edges))]
		switch rng.IntN(12) {
		case 0:
			m := &measured{rtt: time.Duration(1+rng.IntN(100)) * time.Millisecond, probes: 10}
			s.links[e], s.links[[2]dmsc.NodeID{e[1], e[0]}] = m, m
		case 1:
			s.net.cut[e] = !s.net.cut[e]
			view = s.net.view()
			s.center.LSDB(view)
		}
		for _, id := range ids {
			s.center.Telemetry(s.now, id, s.report(id))
		}
		d := s.center.Tick(s.now)
		decisions = append(decisions, d)
		for _, set := range d.Sets {
			for _, p := range set.Set.Policies {
				issued++
				if err := wrong(s.net, p); err != nil {
					t.Fatalf("seed %d: policy %s %v: %v", seed, p.ID, p.Paths, err)
				}
			}
			// What a node holds passes the node's own check as well.
			var o scsc.Overlay
			o.Apply(s.now, set.Set)
			o.Verify(view, set.Node)
			if got := o.Suspended(); len(got) > 0 {
				t.Fatalf("seed %d: node %s suspends what was just sent: %v", seed, set.Node, got)
			}
		}
	}
	return decisions, issued
}

// wrong checks a policy against the declared network, without any of the code
// under test.
func wrong(n *network, p scsc.Policy) error {
	for _, path := range p.Paths {
		if path.Nodes[0] != p.Ingress {
			return fmt.Errorf("begins at %s", path.Nodes[0])
		}
		for i, id := range path.Nodes {
			if slices.Contains(path.Nodes[:i], id) {
				return fmt.Errorf("visits %s twice", id)
			}
			if i > 0 {
				e := pair(path.Nodes[i-1], id)
				if _, ok := n.edges[e]; !ok || n.cut[e] {
					return fmt.Errorf("has no link %v", e)
				}
			}
		}
		name := p.Prefix
		if !path.Instance.IsZero() {
			if f, ok := path.Instance.Function(); !ok || f != p.Prefix {
				return fmt.Errorf("instance %s is not of %s", path.Instance, p.Prefix)
			}
			name = path.Instance
		}
		if !slices.ContainsFunc(n.prefixes[path.Egress()], func(q linkstate.Prefix) bool { return q.Prefix == name }) {
			return fmt.Errorf("%s does not own %s", path.Egress(), name)
		}
	}
	return nil
}
