package scsc_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/scsc"
	"github.com/dmsc-mesh/dmsc/scsc/policy"
)

// Whichever Envoys refuse: at any moment at most MaxUnconfirmed nodes have a
// policy that they have not accepted, or as many as have accepted it; and one
// that all refuse reaches no more than that, ever.
func TestABadPolicyReachesNoMoreNodesThanMayBeUnconfirmed(t *testing.T) {
	halted, whole := 0, 0
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 7))
		limit, ingresses, bad := 1+rng.IntN(3), 4+rng.IntN(12), rng.IntN(3) // none, some, all refuse
		s := newScene()
		s.net.roles["sr-1"], s.net.roles["sr-2"], s.net.roles["sg-x"] = dmsc.RoleSR, dmsc.RoleSR, dmsc.RoleSG
		for _, e := range [][2]dmsc.NodeID{{"sr-1", "sg-x"}, {"sr-1", "sr-2"}, {"sr-2", "sg-x"}} {
			s.net.edges[pair(e[0], e[1])] = linkstate.Link{ID: "0", Metric: 10}
		}
		for _, p := range []string{"x/1", "y/1"} {
			s.net.prefixes["sg-x"] = append(s.net.prefixes["sg-x"], linkstate.Prefix{Prefix: dmsc.MustParsePrefix(p)})
		}
		refuses := map[dmsc.NodeID]bool{}
		for i := range ingresses {
			id := dmsc.NodeID(fmt.Sprintf("sg-%d", i))
			s.net.roles[id] = dmsc.RoleSG
			s.net.edges[pair(id, "sr-1")] = linkstate.Link{ID: "0", Metric: 10}
			refuses[id] = bad == 2 || bad == 1 && rng.IntN(4) == 0
		}
		s.center = scsc.NewCenter(scsc.Config{Term: 1, WarmUp: -1, MaxUnconfirmed: limit})
		rules, err := policy.Parse("p.yaml", []byte(rolledOut))
		if err != nil {
			t.Fatal(err)
		}
		s.center.SetPolicies(rules.Rules)
		s.center.LSDB(s.net.view())
		for _, id := range s.net.ids() {
			s.center.NodeJoined(id)
		}
		slow := &measured{rtt: 161e6, probes: 10}
		s.links[[2]dmsc.NodeID{"sr-1", "sg-x"}], s.links[[2]dmsc.NodeID{"sg-x", "sr-1"}] = slow, slow

		type debt struct {
			policy string
			due    int // tick in which it is answered
		}
		owes, refused, accepted := map[dmsc.NodeID][]debt{}, map[dmsc.NodeID]bool{}, map[string]map[dmsc.NodeID]bool{}
		seen := map[string]bool{}
		for tick := range 150 {
			s.now = s.now.Add(50e6)
			for _, id := range s.net.ids() {
				s.center.Telemetry(s.now, id, s.report(id))
				for len(owes[id]) > 0 && owes[id][0].due <= tick {
					st := scsc.Status{Term: 1, PolicyID: owes[id][0].policy, State: scsc.Live}
					if refuses[id] {
						st.State, st.Reason, refused[id] = scsc.Refused, "no good", true
					} else {
						for _, r := range s.center.Rows() {
							if r.PolicyID == st.PolicyID {
								name := r.Prefix.String()
								if accepted[name] == nil {
									accepted[name] = map[dmsc.NodeID]bool{}
								}
								accepted[name][id] = true
							}
						}
					}
					s.center.Status(s.now, id, st)
					owes[id] = owes[id][1:]
				}
			}
			for _, set := range s.center.Tick(s.now).Sets {
				for _, p := range set.Set.Policies {
					if p.Ingress != set.Node {
						s.center.Status(s.now, set.Node, scsc.Status{Term: 1, PolicyID: p.ID, State: scsc.Live})
					} else if !seen[p.ID] {
						seen[p.ID] = true
						owes[set.Node] = append(owes[set.Node], debt{p.ID, tick + 1 + rng.IntN(4)})
					}
				}
			}
			reached := map[dmsc.NodeID]bool{}
			for id := range refused {
				reached[id] = true
			}
			for id, open := range owes {
				if len(open) > 0 {
					reached[id] = true
				}
			}
			most := limit
			for _, by := range accepted {
				most = max(most, len(by))
			}
			if len(reached) > most {
				t.Fatalf("seed %d, tick %d: %d nodes have a policy they have not accepted, at most %d may: %v", seed, tick, len(reached), most, reached)
			}
		}
		if len(s.center.Halted()) > 0 {
			halted++
			continue
		}
		confirmed := 0
		for _, r := range s.center.Rows() {
			if r.Rollout == scsc.RolloutConfirmed {
				confirmed++
			}
		}
		if confirmed == 4*ingresses { // x, x/1, y and y/1
			whole++
		} else if bad == 0 {
			t.Errorf("seed %d: a good policy is confirmed %d times of %d", seed, confirmed, 4*ingresses)
		}
	}
	if halted < 15 || whole < 8 {
		t.Errorf("%d rollouts were halted and %d completed: the histories prove nothing", halted, whole)
	}
}

const rolledOut = `
apiVersion: dmsc.io/v1alpha1
kind: QoSPolicy
metadata: {name: fast}
spec:
  thresholds: {delay: {enter: 40ms, clear: 30ms}}
`
