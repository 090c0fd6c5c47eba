package translator

import (
	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/durationpb"
)

// class says how the requests of a name may be treated.
type class string

// The classes; each has its own virtual host per next-hop group.
const (
	classOnce class = "once" // a request that may have been seen is not repeated
	classSafe class = "safe" // replay_safe: it may be
	classTCP  class = "tcp"  // CONNECT, which routes by path prefix never match
)

func classOf(e *rib.Entry) class {
	switch {
	case e.Protocol == dmsc.TCP:
		return classTCP
	case e.ReplaySafe:
		return classSafe
	}
	return classOnce
}

// match is what every route of the class starts from.
func (c class) match(headers ...*routev3.HeaderMatcher) *routev3.RouteMatch {
	if c == classTCP {
		return &routev3.RouteMatch{
			PathSpecifier: &routev3.RouteMatch_ConnectMatcher_{ConnectMatcher: &routev3.RouteMatch_ConnectMatcher{}},
			Headers:       headers,
		}
	}
	return &routev3.RouteMatch{
		PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"},
		Headers:       headers,
	}
}

// forward sends requests of the class on to the next node.
func (c class) forward(cluster string, headers ...*routev3.HeaderMatcher) *routev3.Route {
	return &routev3.Route{
		Match: c.match(headers...),
		Action: &routev3.Route_Route{Route: &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: cluster},
			Timeout:          noDeadline(),
		}},
	}
}

// deliver hands requests of the class to pods. A CONNECT ends here: the pod
// gets the bytes.
func (c class) deliver(cluster string, headers ...*routev3.HeaderMatcher) *routev3.Route {
	route := c.forward(cluster, headers...)
	route.RequestHeadersToRemove = hiddenFromPods
	route.ResponseHeadersToRemove = forbiddenForPods
	if c == classTCP {
		route.GetRoute().UpgradeConfigs = []*routev3.RouteAction_UpgradeConfig{{
			UpgradeType:   "CONNECT",
			ConnectConfig: &routev3.RouteAction_UpgradeConfig_ConnectConfig{},
		}}
	}
	return route
}

// noDeadline leaves deadlines to the pods: Envoy's default of 15 s would cut
// streams.
func noDeadline() *durationpb.Duration { return durationpb.New(0) }

// refuse answers with a reply that no pod has seen.
func (b *builder) refuse(c class, status uint32, code, text string, headers ...*routev3.HeaderMatcher) *routev3.Route {
	return &routev3.Route{
		Match:                c.match(headers...),
		Action:               &routev3.Route_DirectResponse{DirectResponse: respond(status, refusalText(text))},
		ResponseHeadersToAdd: []*corev3.HeaderValueOption{errorHeader(code, b.Node)},
	}
}

// refuseOther answers what a name of the class never carries: without it Envoy
// would say that there is no route, as it does before it has its first FIB.
func (b *builder) refuseOther(c class) *routev3.Route {
	if c != classTCP {
		return b.refuse(classTCP, 405, codeNoConnect, "this name carries HTTP and takes no CONNECT")
	}
	route := b.refuse(classOnce, 405, codeConnectOnly, "this name carries raw TCP: use CONNECT")
	route.ResponseHeadersToAdd = append(route.ResponseHeadersToAdd, setHeader("allow", "CONNECT"))
	return route
}

// refusalText has no newline at its end: in an answer to gRPC it would stand in
// grpc-message as %0A.
func refusalText(text string) string { return "dmsc: " + text }

func respond(status uint32, body string) *routev3.DirectResponseAction {
	return &routev3.DirectResponseAction{
		Status: status,
		Body:   &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: body}},
	}
}

// guard is the first route of each virtual host of the fabric: this node has
// forwarded the request before.
func (b *builder) guard(c class) *routev3.Route {
	return b.refuse(c, 508, codeLoop, "loop detected at "+string(b.Node),
		headerMatches(headerVia, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Contains{Contains: viaMark(b.Node)}}))
}

func (b *builder) noRoute(c class) *routev3.Route {
	return b.refuse(c, 404, codeNoRoute, "no route at "+string(b.Node))
}

func (b *builder) noHealthy(c class) *routev3.Route {
	return b.refuse(c, 503, codeNoHealthy, "no healthy next hop at "+string(b.Node))
}

// domains are the keys a name answers to: an announced one also with a slash and
// for all that is below it, a function with a slash, a node as it is.
func domains(p dmsc.ServicePrefix, kind rib.Kind) []string {
	switch name := p.String(); kind {
	case rib.Announced:
		return []string{name + "/*"}
	case rib.Function:
		return []string{name + keyEnd, name + "/" + keyEnd}
	default:
		return []string{name + keyEnd}
	}
}

func headerMatches(name string, m *matcherv3.StringMatcher) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{
		Name:                 name,
		HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: m},
	}
}
