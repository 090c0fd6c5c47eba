package featuretests

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate"
	"github.com/dmsc-mesh/dmsc/xds"
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

// Requests that were sent before the restart are retried by clusters that are
// out of use after it: they are kept as if the agent had been there.
func TestWhatWentOutOfUseWhileTheAgentWasAwayIsNotTakenFromItsEnvoyAtOnce(t *testing.T) {
	n := newNetwork(t, "sg-1 sr-1", "sg-1 sr-2", "sg-2 sr-1", "sg-2 sr-2")
	n.routed("sg-1", "dmsc/node/sg-2", "sr-1 sr-2")
	n.settled("sg-1")
	a := n.nodes["sg-1"]
	groups := func() (out []string) {
		for _, name := range a.envoy.names(xds.Clusters) {
			if strings.HasPrefix(name, "dmsc/group/") {
				out = append(out, name)
			}
		}
		return out
	}
	before := groups()
	a.stop()
	for _, end := range [][2]dmsc.NodeID{{"sr-2", "sg-2"}, {"sg-2", "sr-2"}} {
		e := n.nodes[end[0]].envoy
		e.set(func() { e.cut["/"+string(end[1])] = true })
	}
	n.until("the link of sr-2 to sg-2 is down", func() error {
		state := n.nodes["sr-2"].adjacency("sg-2")
		return when(state != "full", "it is %s", state)
	})
	a.start()
	n.routed("sg-1", "dmsc/node/sg-2", "sr-1")
	n.until("the Envoy of sg-1 has taken it", func() error {
		s := a.Status().Envoy
		return when(s.Published != "" && s.Acked == s.Published, "%+v", s)
	})
	for _, name := range before {
		if now := groups(); !slices.Contains(now, name) {
			t.Errorf("%s is gone at once; there are %v", name, now)
		}
	}
	n.until("it is gone in the end", func() error {
		now := groups()
		gone := slices.ContainsFunc(before, func(name string) bool { return !slices.Contains(now, name) })
		return when(gone, "there are %v as before", now)
	})
}
