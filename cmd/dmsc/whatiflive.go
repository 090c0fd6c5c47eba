package main

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/spf13/cobra"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/node"
	"github.com/dmsc-mesh/dmsc/internal/topology"
)

// liveTopology is the network in the database of the first node that answers.
func liveTopology(cmd *cobra.Command, f *nodeFlags) (*topology.Topology, error) {
	targets, err := f.targets()
	if err != nil {
		return nil, err
	}
	for _, t := range targets {
		one := nodeFlags{nodes: []string{t.address}, timeout: f.timeout}
		if t.name != "" {
			one.nodes[0] = t.name + "=" + t.address
		}
		var found []*topology.Topology
		found, err = askNodes(cmd.Context(), &one, cmd.ErrOrStderr(), func(ctx context.Context, a asked) (*topology.Topology, error) {
			var records []node.Record
			if err := a.Read(ctx, "/api/v1/lsdb", nil, &records); err != nil {
				return nil, err
			}
			return topologyOfRecords("of the database of "+a.name, records)
		})
		if err == nil {
			return found[0], nil
		}
		if len(targets) > 1 {
			fmt.Fprintf(cmd.ErrOrStderr(), "warning: %v\n", err)
		}
	}
	return nil, err
}

// topologyOfRecords is the network that records tell of. They have no addresses:
// each listener and each prefix gets one of its own. Tags of a link count in
// both directions.
func topologyOfRecords(name string, records []node.Record) (*topology.Topology, error) {
	t := &topology.Topology{Name: name}
	type ends struct {
		a, b dmsc.NodeID
		id   dmsc.LinkID
	}
	links := make(map[ends]int) // index in t.Links
	services := 0
	for _, r := range records {
		switch c := r.Content; {
		case c == nil:
		case c.NodeContent != nil:
			n := topology.Node{ID: r.Origin, Role: c.Role, Transit: c.Transit}
			host := madeUp(10, len(t.Nodes))
			n.Fabric, n.Probe, n.Admin = host+":1", host+":2", host+":3"
			if n.Role == dmsc.RoleSG {
				n.Ingress = host + ":4"
			}
			t.Nodes = append(t.Nodes, n)
			t.AvoidTags = append(t.AvoidTags, c.AvoidTags...)
			for _, l := range c.Links {
				if i, ok := links[ends{l.Neighbor, r.Origin, l.Link}]; ok {
					back := &t.Links[i]
					back.OneWay, back.ReverseMetric, back.Tags = false, l.Metric, append(back.Tags, l.Tags...)
					continue
				}
				links[ends{r.Origin, l.Neighbor, l.Link}] = len(t.Links)
				t.Links = append(t.Links, topology.Link{A: r.Origin, B: l.Neighbor, ID: l.Link, Metric: l.Metric, Tags: slices.Clone(l.Tags), OneWay: true})
			}
		case c.PrefixContent != nil:
			p := topology.Pod{Name: "a pod of " + string(r.Origin), Gateway: r.Origin}
			for _, x := range c.Prefixes {
				prefix, err := dmsc.ParsePrefix(x.Prefix)
				if err != nil {
					return nil, fmt.Errorf("record %s: %w", r.Key, err)
				}
				protocol, err := dmsc.ParseProtocol(x.Protocol)
				if err != nil {
					return nil, fmt.Errorf("record %s: prefix %s: %w", r.Key, prefix, err)
				}
				p.Services = append(p.Services, topology.Service{
					Prefix: prefix, Metric: x.Metric, Preference: x.Preference, Weight: max(x.Weight, 1), Protocol: protocol, ReplaySafe: x.ReplaySafe,
					Address: madeUp(11, services), Port: 1,
				})
				services++
			}
			t.Pods = append(t.Pods, p)
		}
	}
	// A link to a node without a record leads nowhere; one that only one end has
	// is kept, as the computation finds it.
	t.Links = slices.DeleteFunc(t.Links, func(l topology.Link) bool { _, ok := t.Node(l.B); return !ok })
	slices.SortFunc(t.Nodes, func(a, b topology.Node) int { return cmp.Compare(a.ID, b.ID) })
	slices.Sort(t.AvoidTags)
	t.AvoidTags = slices.Compact(t.AvoidTags)
	return t, nil
}

// madeUp is the nth address of network/8.
func madeUp(network byte, n int) string {
	return netip.AddrFrom4([4]byte{network, byte(n >> 16), byte(n >> 8), byte(n)}).String()
}
