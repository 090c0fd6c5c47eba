package featuretests

import (
	"fmt"
	"maps"
	"testing"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
)

// design §4, State file: "sends its Envoy nothing until its LSDB is in sync";
// and what it sends then, Envoy has already.
func TestARestartedAgentSendsItsEnvoyNothing(t *testing.T) {
	n := newNetwork(t, line1, line2)
	n.pod("pod-1", "sg-1", service("a/1"))
	n.pod("pod-2", "sg-2", service("b/1"))
	n.everywhere("a/1", "b/1")
	for _, id := range []dmsc.NodeID{"sg-1", "sr-1"} {
		n.settled(id)
		a := n.nodes[id]
		before := len(a.envoy.messages())
		links := n.advertised(id)
		a.stop()
		a.start()
		n.settled(id)
		if sent := a.envoy.messages()[before:]; len(sent) > 0 {
			t.Errorf("the restarted agent of %s sent its Envoy %q", id, sent)
		}
		if now := n.advertised(id); !maps.Equal(now, links) {
			t.Errorf("the neighbours of %s advertised %v and now %v: they took the link down", id, links, now)
		}
	}
}

// An agent that starts while the agent of a neighbour is away finds the way to
// that neighbour's Envoy in its state file: no hello tells it.
func TestAnAgentRestartedBesideADeadOneKeepsItsWay(t *testing.T) {
	n := newNetwork(t, line1, line2)
	n.pod("pod-1", "sg-1", service("a/1"))
	n.pod("pod-2", "sg-2", service("b/1"))
	n.everywhere("a/1", "b/1")
	for _, id := range []dmsc.NodeID{"sg-1", "sg-2", "sr-1"} {
		n.settled(id)
	}
	a := n.nodes["sr-1"]
	before := len(a.envoy.messages())
	n.nodes["sg-2"].stop() // its Envoy forwards on
	a.stop()
	a.start()
	n.until("sr-1 has published", func() error {
		if s := a.Status(); s.Envoy.Published == "" || s.Envoy.Published != s.Envoy.Acked {
			return fmt.Errorf("it has not: %+v", s.Envoy)
		}
		return nil
	})
	if sent := a.envoy.messages()[before:]; len(sent) > 0 {
		t.Errorf("it sent its Envoy %q", sent)
	}
}

// settled waits until the network stands and Envoy has taken all of it, the
// removal of what went out of use included.
func (n *network) settled(id dmsc.NodeID) {
	n.t.Helper()
	n.converged()
	n.until("nothing is left to send to "+string(id), func() error {
		s := n.nodes[id].Status()
		if s.Envoy.XDS == nil || !s.Envoy.XDS.Converged || s.Envoy.Acked != s.Envoy.Published {
			return fmt.Errorf("it is: %+v", s.Envoy)
		}
		return nil
	})
}

// advertised are the orders of the NodeLSAs of a node's neighbours: a link that
// goes down or up makes a new one.
func (n *network) advertised(id dmsc.NodeID) map[dmsc.NodeID]string {
	n.t.Helper()
	out := map[dmsc.NodeID]string{}
	for _, l := range n.nodes[id].cfg.Links {
		out[l.Neighbor] = n.nodes[l.Neighbor].record(linkstate.Key{Origin: l.Neighbor, Type: linkstate.TypeNode}).Order
	}
	return out
}
