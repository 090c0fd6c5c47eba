package translator

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/durationpb"
)

// probeTable lets the agent ask the far end of each link for its hello through
// the very connection that requests would take. It is a table of its own, so
// that a new link does not replace the listener.
func (b *builder) probeTable() *routev3.RouteConfiguration {
	host := &routev3.VirtualHost{
		Name:                probeName,
		Domains:             []string{"*"},
		RequestHeadersToAdd: []*corev3.HeaderValueOption{setHeader(headerPrefix, helloPrefix)},
	}
	for _, n := range b.sortedLinks() {
		host.Routes = append(host.Routes, &routev3.Route{
			Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Path{Path: ProbePath(n.LinkKey)}},
			Action: &routev3.Route_Route{Route: &routev3.RouteAction{
				ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: probeClusterName(n.LinkKey)},
				// None: the agent knows how slow the link is and gives up by itself.
				Timeout: durationpb.New(0),
			}},
		})
	}
	return &routev3.RouteConfiguration{Name: probeName, VirtualHosts: []*routev3.VirtualHost{host}}
}
