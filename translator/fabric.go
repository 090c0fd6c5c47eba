package translator

import (
	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

// fabricTable routes what neighbours send: explicit paths, transit, delivery.
// The order of routes is the contract: via guard, then (only in dmsc/path/*)
// the explicit path and its demotion, else the ordinary way.
func (b *builder) fabricTable() *routev3.RouteConfiguration {
	var hosts []*routev3.VirtualHost
	neighbours := b.neighbours()
	for _, c := range []class{classOnce, classSafe, classTCP} {
		hosts = append(hosts, once(b, "paths "+string(c), neighbours, func() *routev3.VirtualHost { return b.paths(c, neighbours) }))
	}
	for _, e := range b.names.delivered() {
		hosts = append(hosts, once(b, "fabric "+localHost(e), b.deliveredBy(e), func() *routev3.VirtualHost { return b.delivery(e) }))
	}
	hosts = append(hosts, b.bundleHosts(false)...)
	if b.Addrs.Ingress != "" {
		hosts = append(hosts, b.again())
	}
	hosts = append(hosts, &routev3.VirtualHost{
		Name:    "dmsc/none",
		Domains: []string{"*"},
		Routes:  append(bothWays(b.guard), bothWays(b.noRoute)...),
	})
	return &routev3.RouteConfiguration{
		Name:                   fabricName,
		VhostHeader:            headerKey,
		VirtualHosts:           hosts,
		RequestHeadersToAdd:    appendVia(b.Node),
		RequestHeadersToRemove: []string{headerKey},
	}
}

// fabricHost is the virtual host of a bundle, but for its name and domains.
func (b *builder) fabricHost(g *bundle) *routev3.VirtualHost {
	return &routev3.VirtualHost{
		Routes:      []*routev3.Route{b.guard(g.class), g.class.forward(GroupCluster(g.Group)), b.refuseOther(g.class)},
		RetryPolicy: hopRetry(g.class, !g.ECMP()),
	}
}

// hello answers from the FIB itself, so that an Envoy without a FIB is not
// taken for alive (design §4, Adjacency).
func (b *builder) hello(generation string) *routev3.VirtualHost {
	return &routev3.VirtualHost{
		Name:    helloPrefix,
		Domains: []string{helloPrefix + keyEnd, nodeName(b.Node) + keyEnd},
		Routes: []*routev3.Route{{
			Match:  classOnce.match(),
			Action: &routev3.Route_DirectResponse{DirectResponse: respond(200, string(b.Node)+" "+generation+"\n")},
			ResponseHeadersToAdd: []*corev3.HeaderValueOption{
				setHeader(headerNode, string(b.Node)),
				setHeader(headerGeneration, generation),
			},
		}},
	}
}

// demotedAgain is what requests are looked up by that find no living next hop even
// after their demotion.
const demotedAgain = "dmsc/again"

// again ends them: the ingress repeats what has this answer.
func (b *builder) again() *routev3.VirtualHost {
	return &routev3.VirtualHost{Name: demotedAgain, Domains: []string{demotedAgain + keyEnd}, Routes: bothWays(b.noHealthy)}
}

// nodeName is the name under which a node is reached (design §3).
func nodeName(id dmsc.NodeID) string { return "dmsc/node/" + string(id) }

// paths is the only kind of virtual host that looks at dmsc-path. The last but
// one node removes the path: its end is no demotion (reference R2).
func (b *builder) paths(c class, neighbours []dmsc.NodeID) *routev3.VirtualHost {
	routes := []*routev3.Route{b.guard(c)}
	for _, id := range neighbours {
		pair := pathMark(b.Node, id)
		last := c.forward(NeighbourCluster(id),
			headerMatches(headerPath, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Suffix{Suffix: pair}}))
		last.RequestHeadersToRemove = []string{headerPath}
		routes = append(routes, last, c.forward(NeighbourCluster(id),
			headerMatches(headerPath, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Contains{Contains: pair}})))
	}
	routes = append(routes, c.forward(demoteName))
	return &routev3.VirtualHost{
		Name:        "dmsc/path/" + string(c),
		Domains:     []string{pathClass(c) + ">*"},
		Routes:      routes,
		RetryPolicy: hopRetry(c, true),
	}
}

// delivery hands an entry's requests to local instances. A function honours
// the instance that the ingress chose and falls back to its pool.
func (b *builder) delivery(e *rib.Entry) *routev3.VirtualHost {
	c := classOf(e)
	routes := []*routev3.Route{b.guard(c)}
	if e.Kind == rib.Function {
		for _, instance := range b.localInstances(e) {
			routes = append(routes, c.deliver(LocalCluster(instance.Prefix), headerMatches(headerInstance,
				&matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: instance.Prefix.String()}})))
		}
	}
	routes = append(routes, c.deliver(b.localCluster(e)), b.refuseOther(c))
	return &routev3.VirtualHost{
		Name:        localHost(e),
		Domains:     domains(e.Prefix, e.Kind),
		Routes:      routes,
		RetryPolicy: hopRetry(c, false),
	}
}
