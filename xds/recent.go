package xds

import (
	"slices"
	"weak"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
)

// recent is the Set that was published last, known again by its messages. It is
// for whoever serves many gateways from one place, as go-control-plane's caches
// do: they publish the very same to one node after another, which is compiled
// once and shared. An agent has one node and never meets it.
type recent struct {
	compiled  *compiled
	clusters  []weak.Pointer[clusterv3.Cluster]
	endpoints []weak.Pointer[endpointv3.ClusterLoadAssignment]
	routes    []weak.Pointer[routev3.RouteConfiguration]
	listeners []weak.Pointer[listenerv3.Listener]

	static, onDemand []string
}

func remember(set Set, c *compiled) *recent {
	return &recent{
		c, weakly(set.Clusters), weakly(set.Endpoints), weakly(set.Routes), weakly(set.Listeners),
		slices.Clone(set.Static), slices.Clone(set.OnDemand),
	}
}

// set is what was compiled; nil if nothing was.
func (r *recent) set() *compiled {
	if r == nil {
		return nil
	}
	return r.compiled
}

func (r *recent) is(set Set) bool {
	return r != nil && known(r.clusters, set.Clusters) && known(r.endpoints, set.Endpoints) &&
		known(r.routes, set.Routes) && known(r.listeners, set.Listeners) &&
		slices.Equal(r.static, set.Static) && slices.Equal(r.onDemand, set.OnDemand)
}

func weakly[T any](messages []*T) []weak.Pointer[T] {
	out := make([]weak.Pointer[T], len(messages))
	for i, m := range messages {
		out[i] = weak.Make(m)
	}
	return out
}

func known[T any](pointers []weak.Pointer[T], messages []*T) bool {
	return slices.EqualFunc(pointers, messages, func(p weak.Pointer[T], m *T) bool { return p.Value() == m })
}
