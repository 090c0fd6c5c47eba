package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/topology"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	"github.com/dmsc-mesh/dmsc/translator/envoysim"
)

// envoyNames are the names that the Envoys are made for at a time. Each Envoy
// takes some 150 kB.
const envoyNames = 64

// meanwhile returns what says of a pair what its requests meet before anything is
// computed anew. The Envoys of the nodes on the way are made for as many names
// at a time as have room; pairs come sorted by name, as effects are.
func meanwhile(c *changed, n *converged, gateways []dmsc.NodeID, effects []effect) func(*pairEffect) error {
	var names []int // with effects, those to come
	for _, e := range effects {
		if len(names) == 0 || names[len(names)-1] != e.name {
			names = append(names, e.name)
		}
	}
	var batch []int
	var o *offline
	return func(e *pairEffect) (err error) {
		if slices.Contains(c.failed, e.Gateway) {
			e.Until = "the gateway is down"
			return nil
		}
		name, _ := slices.BinarySearch(n.names, e.Name)
		for !slices.Contains(batch, name) {
			size := min(envoyNames, len(names))
			batch, names, o = names[:size], names[size:], nil
		}
		if o == nil {
			if o, err = lazily(c.before, n.before, func(id dmsc.NodeID) *rib.RIB { return n.rib(id, batch) }); err != nil {
				return err
			}
			o.Dead = c.refuses(o)
		}
		request := envoysim.Request{Headers: envoysim.Headers{{Name: "dmsc-service-prefix", Value: e.Name}}}
		step, err := o.Walk(e.Gateway, "dmsc/ingress", request, envoysim.Heaviest)
		if err != nil {
			return err
		}
		if step.Pod == "" {
			e.Until = fmt.Sprintf("%d %s", step.Reply.Status, cmp.Or(step.Reply.Error(), "without dmsc-error"))
			return nil
		}
		e.Until = "answered"
		for _, h := range step.Request.Headers {
			if h.Name == "dmsc-via" {
				e.UntilPath = append(e.UntilPath, strings.Trim(h.Value, "<>"))
			}
		}
		return nil
	}
}

// rib is what a node's RIB has, before the change, of some names.
func (n *converged) rib(id dmsc.NodeID, names []int) *rib.RIB {
	entries := make(map[dmsc.ServicePrefix]*rib.Entry)
	for _, i := range names {
		if w := n.at(id).before[i]; !w.none() {
			e := n.entry(i, w)
			entries[e.Prefix] = e
		}
		for _, e := range n.at(id).pools[i] {
			entries[e.Prefix] = e
		}
	}
	return rib.NewRIB(id, slices.Collect(maps.Values(entries))...)
}

// refuses says which hosts are dead before anybody has noticed.
func (c *changed) refuses(o *offline) func(dmsc.NodeID, string) bool {
	return func(from dmsc.NodeID, address string) bool {
		to, _, ok := o.Listener(address)
		if !ok {
			return false
		}
		joins := func(l topology.Link) bool { return l.A == from && l.B == to || l.A == to && l.B == from }
		// Links to one node lead to one address: it is dead when all of them are.
		return slices.Contains(c.failed, to) || slices.ContainsFunc(c.dead, joins) && !slices.ContainsFunc(c.after.Links, joins)
	}
}
