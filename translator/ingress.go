package translator

import (
	"slices"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
)

// ingressTable routes what pods send: by service prefix, or by host and path
// (alias.go). It has no via guard, because the border has removed every dmsc-via.
func (b *builder) ingressTable() *routev3.RouteConfiguration {
	var hosts []*routev3.VirtualHost
	var grouped []*rib.Entry
	for e := range b.RIB.All() {
		switch {
		case e.Kind == rib.Node: // pods have no business with it
		case b.steering[e.Prefix] != nil:
			hosts = append(hosts, b.enter(policyHost(e.Prefix), e))
		case e.Local:
			hosts = append(hosts, b.enter(localHost(e), e))
		default:
			grouped = append(grouped, e)
		}
	}
	hosts = append(hosts, b.byHost()...)
	hosts = append(hosts, groupHosts(grouped, func(g *rib.Group, c class) ([]*routev3.Route, *routev3.RetryPolicy) {
		return []*routev3.Route{c.forward(GroupCluster(g)), b.refuseOther(c)}, ingressRetry(c, !g.ECMP())
	})...)
	hosts = append(hosts,
		&routev3.VirtualHost{
			Name:    "dmsc/none",
			Domains: []string{"*"},
			Routes:  bothWays(b.noRoute),
		},
	)
	return &routev3.RouteConfiguration{
		Name:                ingressName,
		VhostHeader:         headerPrefix,
		VirtualHosts:        hosts,
		RequestHeadersToAdd: appendVia(b.Node),
	}
}

// enter makes the virtual host of one entry at the ingress.
func (b *builder) enter(name string, e *rib.Entry) *routev3.VirtualHost {
	c := classOf(e)
	host := &routev3.VirtualHost{Name: name, Domains: domains(e)}
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
	var best *rib.Entry
	for e := range b.RIB.All() {
		covers := e.Kind == rib.Announced && e.Prefix.Covers(p) || e.Kind == rib.Function && e.Prefix == p
		if covers && (best == nil || best.Prefix.Covers(e.Prefix)) {
			best = e
		}
	}
	return best
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
		if e := b.local[p]; e != nil {
			instances = append(instances, e)
		}
	}
	return instances
}
