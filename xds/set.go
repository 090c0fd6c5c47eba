package xds

import (
	"maps"
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/dmsc-mesh/dmsc/translator"
)

// Set is everything one node's Envoy shall run. The messages belong to the
// server once published: they must not be changed afterwards. A message, or a
// virtual host of a route table, that did not change since the last Publish is
// best passed by the same pointer; it is then neither marshalled nor validated
// again. The server keeps the bytes, and no message alive.
//
// The version of a resource is the hash of its bytes. Messages packed into an
// Any must therefore be marshalled deterministically by whoever packs them.
type Set struct {
	Clusters  []*clusterv3.Cluster
	Endpoints []*endpointv3.ClusterLoadAssignment
	Routes    []*routev3.RouteConfiguration
	Listeners []*listenerv3.Listener
	// Static names clusters of Envoy's bootstrap that routes may refer to.
	Static []string
	// OnDemand names those of Clusters that a client gets only by asking for
	// them by name (ODCDS): its wildcard does not cover them, and no route
	// waits for one that was not asked for.
	OnDemand []string
	// Passing names those of Clusters that are there for requests under way
	// alone: they make no difference in the History.
	Passing []string
	// About is the caller's. It is kept with the set in the History: see Pin.
	About any

	served bool // has been, by another server: it is closed under reference
}

// SetOf is what the translator made.
func SetOf(r translator.Resources) Set {
	return Set{
		Clusters:  slices.Collect(maps.Values(r.Clusters)),
		Endpoints: slices.Collect(maps.Values(r.Endpoints)),
		Routes:    slices.Collect(maps.Values(r.Routes)),
		Listeners: slices.Collect(maps.Values(r.Listeners)),
		OnDemand:  r.OnDemand,
	}
}

// Validate finds what Publish would refuse: what Envoy would refuse (messages
// outside their constraints, packed ones too, a domain that occurs twice), and
// what it would accept and then answer with 503 (a route to a cluster, a
// listener with a table, a cluster with endpoints that the set does not have).
// The error joins all faults.
func (s Set) Validate() error {
	_, err := compile(s)
	return err
}
