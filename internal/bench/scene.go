package bench

import (
	"errors"
	"fmt"
	"slices"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/internal/topology"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	"github.com/dmsc-mesh/dmsc/translator"
	"github.com/dmsc-mesh/dmsc/xds"
)

// gateways is how many of the hundred nodes of a generated network announce
// prefixes: it is a random one of routers with four links each on average, and
// as many gateways with links to two of them.
const gateways = 50

// forwarding is the state of a gateway of a generated network, in variants that
// differ by one change each.
type forwarding struct {
	state translator.State
	// probed is a prefix with one next hop and an alternate.
	probed *rib.Entry
	// nextHop is that next hop, and other the alternate.
	nextHop, other dmsc.NodeID
	moved          *rib.RIB // the same, but probed goes by way of other
}

// newForwarding generates a network with so many prefixes, a multiple of 100,
// and computes the FIB of one of its gateways. data is the address of each of
// its neighbours.
func newForwarding(prefixes int, addrs translator.Addrs, data func(dmsc.NodeID) string) (*forwarding, error) {
	text, err := topology.Generate(topology.Plan{Shape: "random", Nodes: 2 * gateways, PrefixesPerNode: prefixes / gateways, Seed: 2})
	if err != nil {
		return nil, err
	}
	t, err := topology.Parse("generated.yaml", text)
	if err != nil {
		return nil, err
	}
	// The first gateway with a neighbour that stands in for the other one.
	for _, n := range t.Nodes {
		if n.Role != dmsc.RoleSG {
			continue
		}
		view := without(t, n.ID).View(n.ID)
		f := &forwarding{state: translator.State{Node: n.ID, Role: n.Role, Addrs: addrs, RIB: rib.Compute(view)}}
		if !f.choose() {
			continue
		}
		for _, a := range view.Adjacencies {
			f.state.Neighbours = append(f.state.Neighbours, translator.Neighbour{
				NextHop: rib.NextHop{LinkKey: a.LinkKey}, Data: data(a.Remote), Up: true,
				Class: dmsc.WAN, // a pause of this machine is no dead neighbour
			})
		}
		return f, nil
	}
	return nil, errors.New("no gateway of the network has a prefix with an alternate")
}

// without gives the pods of a gateway to another one: what is measured is a table
// of names elsewhere, and not a thousand pods.
func without(t *topology.Topology, id dmsc.NodeID) *topology.Topology {
	out := *t
	out.Pods = slices.Clone(t.Pods)
	other := slices.IndexFunc(out.Pods, func(p topology.Pod) bool { return p.Gateway != id })
	for i := range out.Pods {
		if out.Pods[i].Gateway == id {
			out.Pods[i].Gateway = out.Pods[other].Gateway
		}
	}
	return &out
}

// choose finds the prefix that is probed, and where it can move to without a
// group that is new.
func (f *forwarding) choose() bool {
	entries := slices.Collect(f.state.RIB.All())
	at := slices.IndexFunc(entries, func(e *rib.Entry) bool {
		return e.Kind == rib.Announced && !e.Local && len(e.Group.Primaries) == 1 && len(e.Group.Backup) == 1
	})
	if at < 0 {
		return false
	}
	f.probed = entries[at]
	f.nextHop, f.other = f.probed.Group.Primaries[0].Remote, f.probed.Group.Backup[0].Remote
	to := slices.IndexFunc(entries, func(e *rib.Entry) bool {
		return e.Kind == rib.Announced && !e.Local && len(e.Group.Primaries) == 1 && e.Group.Primaries[0].Remote == f.other
	})
	if to < 0 {
		return false
	}
	moved := *f.probed
	moved.Group, moved.Egress = entries[to].Group, entries[to].Egress
	f.moved = f.state.RIB.With(&moved)
	return true
}

// with is the state in which the next hop is dead, or the prefix has moved.
func (f *forwarding) with(dead, moved bool) translator.State {
	s := f.state
	if dead {
		s.Neighbours = slices.Clone(s.Neighbours)
		i := slices.IndexFunc(s.Neighbours, func(n translator.Neighbour) bool { return n.Remote == f.nextHop })
		s.Neighbours[i].Up = false
	}
	if moved {
		s.RIB = f.moved
	}
	return s
}

// prefixes lists what pods have announced, in the order of the RIB.
func (f *forwarding) prefixes() (out []string) {
	for e := range f.state.RIB.All() {
		if e.Kind == rib.Announced && !e.Local {
			out = append(out, e.Prefix.String())
		}
	}
	return out
}

// translated is a state as the set of an xDS server.
func translated(t *translator.Translator, s translator.State) (xds.Set, error) {
	r, err := t.Translate(s)
	if err != nil {
		return xds.Set{}, err
	}
	return xds.SetOf(r), nil
}

// plainClusters are static clusters that need nothing else. Those of another
// revision differ in the first.
type plainClusters struct{ all []*clusterv3.Cluster }

func newPlainClusters(n int) *plainClusters {
	p := &plainClusters{}
	for i := range n {
		p.all = append(p.all, plainCluster(fmt.Sprintf("cluster-%05d", i), 0))
	}
	return p
}

func (p *plainClusters) revision(rev int) xds.Set {
	all := slices.Clone(p.all)
	all[0] = plainCluster(all[0].Name, rev)
	return xds.Set{Clusters: all}
}

func plainCluster(name string, rev int) *clusterv3.Cluster {
	host := &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: "127.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 1},
	}}}
	return &clusterv3.Cluster{
		Name: name, ConnectTimeout: durationpb.New(time.Second + time.Duration(rev)*time.Millisecond),
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		LoadAssignment: &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{{
			LbEndpoints: []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: host}}}},
		}}},
	}
}
