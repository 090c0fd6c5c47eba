package node

import (
	"github.com/dmsc-mesh/dmsc/scsc"
)

// live reports whether our Envoy runs what follows from the state of now.
func (n *Node) live() bool {
	return n.loop.publication != nil && n.loop.acked == n.loop.publication.version && !n.loop.unpublished
}

// policyStatuses says where each policy we hold stands. An explicit path needs
// no state on its way but the pair of neighbours, which every FIB has: so a
// policy is live here when our Envoy has ACKed the FIB of this moment.
func (n *Node) policyStatuses() []scsc.Status {
	term, generation := n.overlay.Order()
	state := scsc.Accepted
	if n.live() {
		state = scsc.Live
	}
	var out []scsc.Status
	for _, policies := range [][]scsc.Policy{n.overlay.Active(), n.overlay.Transit()} {
		for _, p := range policies {
			st := scsc.Status{Term: term, Generation: generation, PolicyID: p.ID, State: state}
			if why, bad := n.loop.refused[p.ID]; bad {
				st.State, st.Reason = scsc.Refused, why
			}
			out = append(out, st)
		}
	}
	for _, s := range n.overlay.Suspended() {
		out = append(out, scsc.Status{Term: term, Generation: generation, PolicyID: s.Policy.ID, State: scsc.Suspended, Reason: s.Reason})
	}
	return out
}
