package translator

import (
	"maps"
	"slices"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
)

// ingressTable routes what pods send: by service prefix, or by host and path
// (alias.go). It has no via guard, because the border has removed every dmsc-via.
func (b *builder) ingressTable() *routev3.RouteConfiguration {
	var hosts []*routev3.VirtualHost
	for _, p := range slices.SortedFunc(maps.Keys(b.steering), dmsc.ServicePrefix.Compare) {
		if e := b.names.entry(p); e != nil {
			hosts = append(hosts, b.enter(policyHost(p), e))
		}
	}
	for _, e := range b.names.delivered() {
		if b.steering[e.Prefix] == nil && e.Kind != rib.Node {
			hosts = append(hosts, once(b, "ingress "+localHost(e), b.deliveredBy(e), func() *routev3.VirtualHost { return b.enter(localHost(e), e) }))
		}
	}
	hosts = append(hosts, b.byHost()...)
	hosts = append(hosts, b.bundleHosts(true)...)
	hosts = append(hosts,
		&routev3.VirtualHost{
			Name:    "dmsc/none",
			Domains: []string{"*"},
			Routes:  bothWays(b.noRoute),
		},
	)
	return &routev3.RouteConfiguration{
		Name:                   ingressName,
		VhostHeader:            headerKey,
		VirtualHosts:           hosts,
		RequestHeadersToAdd:    appendVia(b.Node),
		RequestHeadersToRemove: []string{headerKey},
	}
}

// ingressHost is the virtual host of a bundle, but for its name and domains.
func (b *builder) ingressHost(g *bundle) *routev3.VirtualHost {
	return &routev3.VirtualHost{
		Routes:      []*routev3.Route{g.class.forward(GroupCluster(g.Group)), b.refuseOther(g.class)},
		RetryPolicy: ingressRetry(g.class, !g.ECMP()),
	}
}

// enter makes the virtual host of one entry at the ingress.
func (b *builder) enter(name string, e *rib.Entry) *routev3.VirtualHost {
	c := classOf(e)
	host := &routev3.VirtualHost{Name: name, Domains: domains(e.Prefix, e.Kind)}
	switch paths := b.steering[e.Prefix]; {
	case paths != nil:
		host.Routes = []*routev3.Route{b.steered(e, paths)}
		host.RetryPolicy = ingressRetry(c, true)
	case e.Local:
		// No retry on dmsc-error: it would be the pod's own.
		host.Routes = []*routev3.Route{c.deliver(b.localCluster(e))}
		host.RetryPolicy = hopRetry(c, false)
	default:
		host.Routes = []*routev3.Route{c.forward(GroupCluster(e.Group))}
		host.RetryPolicy = ingressRetry(c, !e.Group.ECMP())
	}
	host.Routes = append(host.Routes, b.refuseOther(c))
	return host
}

// lookup finds the entry that Envoy's host table would choose for p: the
// longest announced prefix that covers it, or the function of that very name.
func (b *builder) lookup(p dmsc.ServicePrefix) *rib.Entry {
	if e := b.RIB.Lookup(p.String()); e != nil && e.Kind != rib.Node {
		return e
	}
	return nil
}

// bothWays makes a route for ordinary requests and for CONNECT.
func bothWays(route func(class) *routev3.Route) []*routev3.Route {
	return []*routev3.Route{route(classOnce), route(classTCP)}
}

func localHost(e *rib.Entry) string {
	if e.Kind == rib.Function {
		return functionPrefix + escape(e.Prefix.String())
	}
	return LocalCluster(e.Prefix)
}

// localCluster is the cluster that delivers a local entry: a function with one
// local instance shares the cluster of that instance.
func (b *builder) localCluster(e *rib.Entry) string {
	if e.Kind == rib.Function {
		if pool := b.pool(e); len(pool) != 1 {
			return poolCluster(e.Prefix)
		}
		return LocalCluster(b.pool(e)[0].Prefix)
	}
	return LocalCluster(e.Prefix)
}

// pool is what a local function spreads its requests over: its local instances
// that speak its protocol.
func (b *builder) pool(function *rib.Entry) []*rib.Entry {
	return slices.DeleteFunc(b.localInstances(function), func(e *rib.Entry) bool { return e.Protocol != function.Protocol })
}

func (b *builder) localInstances(function *rib.Entry) []*rib.Entry {
	var instances []*rib.Entry
	for _, p := range function.Instances {
		if e := b.names.local[p]; e != nil && e.Kind == rib.Announced {
			instances = append(instances, e)
		}
	}
	return instances
}

// deliveredBy is what the virtual hosts of a local entry follow from.
func (b *builder) deliveredBy(e *rib.Entry) any {
	return struct {
		*rib.Entry
		instances []*rib.Entry
	}{e, b.localInstances(e)}
}
