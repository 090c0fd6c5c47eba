package translator

import (
	"cmp"
	"slices"
	"time"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	upstreamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// localConnectTimeout is for what is on this machine or beside it: pods and
// our own demote listener.
const localConnectTimeout = 300 * time.Millisecond

// cluster is a cluster with its members.
type cluster struct {
	cluster   *clusterv3.Cluster
	endpoints *endpointv3.ClusterLoadAssignment // nil unless they come by EDS
}

func (b *builder) clusters() []cluster {
	var clusters []cluster
	add := func(name string, from any, make func() cluster) {
		clusters = append(clusters, once(b, name, from, make))
	}
	add(demoteName, nil, b.demoteCluster)
	for _, groups := range [][]*rib.Group{b.RIB.Groups, b.Retired} {
		for _, g := range groups {
			links := append(b.linksOf(g.Name, g.Primaries), b.linksOf(g.Name, g.Backup)...)
			add(GroupCluster(g), struct {
				*rib.Group
				links []Neighbour
			}{g, links}, func() cluster { return b.groupCluster(g, links) })
		}
	}
	for links := b.sortedLinks(); len(links) > 0; {
		id := links[0].Remote
		n := slices.IndexFunc(links, func(l Neighbour) bool { return l.Remote != id })
		if n < 0 {
			n = len(links)
		}
		parallel := links[:n]
		links = links[n:]
		add(NeighbourCluster(id), parallel, func() cluster { return b.neighbourCluster(id, parallel) })
		for _, l := range parallel {
			add(probeClusterName(l.LinkKey), l, func() cluster { return b.probeCluster(l) })
		}
	}
	deliver := func(name string, protocol dmsc.Protocol, entries ...*rib.Entry) {
		pods := b.podsOf(protocol, entries)
		add(name, struct {
			dmsc.Protocol
			pods   []Service
			limits PodLimits
		}{protocol, pods, b.PodLimits}, func() cluster { return b.podCluster(name, protocol, pods) })
	}
	for _, e := range b.Externals {
		add(externalClusterName(e), e, func() cluster { return b.externalCluster(e) })
	}
	for _, e := range b.names.delivered() {
		switch e.Kind {
		case rib.Announced:
			deliver(LocalCluster(e.Prefix), e.Protocol, e)
		case rib.Function:
			if pool := b.pool(e); len(pool) != 1 {
				deliver(poolCluster(e.Prefix), e.Protocol, pool...)
			}
		}
	}
	return clusters
}

// groupCluster holds a next-hop group. It has no active health checks: with
// them Envoy would keep a delisted host while its check passes, and take a
// slow link for a dead one. The agent pushes health by EDS; what works without
// the agent is keepalive, outlier detection and retry.
func (b *builder) groupCluster(g *rib.Group, links []Neighbour) cluster {
	c := b.fabricCluster(GroupCluster(g), slowest(links))
	if len(links) > 1 {
		// The only way is never ejected: there is nothing to gain, and the
		// ejection would outlast the outage by seconds.
		c.OutlierDetection = outlierDetection()
	}
	localities := merged(b.nextHops(0, g.Primaries), b.nextHops(1, g.Backup))
	if len(localities) == 1 && b.Addrs.Ingress != "" {
		// Envoy repeats no request that found no host, and it repeats within
		// one cluster. Through our own demote listener it gets an answer that
		// the ingress does repeat, and then by the FIB of that moment.
		localities = append(localities, demoteEndpoint(1))
	}
	return withEndpoints(c, localities...)
}

// neighbourCluster reaches a neighbour for explicit paths, over any link, and
// demotes the request when there is none.
func (b *builder) neighbourCluster(id dmsc.NodeID, links []Neighbour) cluster {
	var hops []rib.NextHop
	for _, n := range links {
		hops = append(hops, rib.NextHop{LinkKey: n.LinkKey})
	}
	c := b.fabricCluster(NeighbourCluster(id), slowest(links))
	c.OutlierDetection = outlierDetection()
	return withEndpoints(c, append(merged(b.nextHops(0, hops)), demoteEndpoint(1))...)
}

// probeCluster has the far end of one link, whatever its health, and nothing
// that could send a probe elsewhere. The keepalive replaces a connection into
// a black hole, which every later probe would use again.
func (b *builder) probeCluster(n Neighbour) cluster {
	n.Up = true
	locality := &endpointv3.LocalityLbEndpoints{LbEndpoints: b.linkEndpoint(n, 0)}
	return withEndpoints(b.fabricCluster(probeClusterName(n.LinkKey), n.Class), locality)
}

func (b *builder) demoteCluster() cluster {
	c := b.baseCluster(demoteName, localConnectTimeout)
	c.TypedExtensionProtocolOptions = http2Options(nil)
	return withEndpoints(c, demoteEndpoint(0))
}

// podsOf are the local instances of the entries. Those that speak another
// protocol than the announced one are left out.
func (b *builder) podsOf(protocol dmsc.Protocol, entries []*rib.Entry) []Service {
	var pods []Service
	for _, e := range entries {
		for _, s := range b.services[e.Prefix] {
			if s.Protocol == protocol {
				pods = append(pods, s)
			}
		}
	}
	slices.SortFunc(pods, func(x, y Service) int {
		return cmp.Or(x.Prefix.Compare(y.Prefix), cmp.Compare(x.Address, y.Address))
	})
	return pods
}

// podCluster delivers to local instances.
func (b *builder) podCluster(name string, protocol dmsc.Protocol, pods []Service) cluster {
	c := b.baseCluster(name, localConnectTimeout)
	switch protocol {
	case dmsc.HTTP1:
		c.TypedExtensionProtocolOptions = http1Options()
	case dmsc.HTTP2, dmsc.GRPC:
		c.TypedExtensionProtocolOptions = http2Options(nil)
	}
	limits := c.CircuitBreakers.Thresholds[0]
	limit(limits.MaxConnections, b.PodLimits.Connections)
	limit(limits.MaxPendingRequests, b.PodLimits.Pending)
	limit(limits.MaxRequests, b.PodLimits.Requests)
	if len(pods) > 1 {
		c.OutlierDetection = podOutlierDetection()
	}
	path := checkedPath(pods)
	if check := healthCheck(protocol, path); check != nil {
		c.HealthChecks = []*corev3.HealthCheck{check}
	}
	return withEndpoints(c, merged(b.podEndpoints(pods, path))...)
}

func limit(threshold *wrapperspb.UInt32Value, most uint32) {
	if most > 0 {
		threshold.Value = most
	}
}

// baseCluster has what every cluster needs for a change of endpoints to take
// effect at once and for retries not to be rationed (design §5).
func (b *builder) baseCluster(name string, connectTimeout time.Duration) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name:                 name,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig:     &clusterv3.Cluster_EdsClusterConfig{EdsConfig: b.Source.config(fetchTimeout)},
		ConnectTimeout:       durationpb.New(connectTimeout),
		LbPolicy:             clusterv3.Cluster_ROUND_ROBIN,
		CommonLbConfig: &clusterv3.Cluster_CommonLbConfig{
			HealthyPanicThreshold: &typev3.Percent{Value: 0},
			UpdateMergeWindow:     durationpb.New(0),
		},
		IgnoreHealthOnHostRemoval: true,
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
			MaxConnections:     wrapperspb.UInt32(100000),
			MaxPendingRequests: wrapperspb.UInt32(100000),
			MaxRequests:        wrapperspb.UInt32(100000),
			MaxRetries:         wrapperspb.UInt32(1000),
		}}},
	}
}

// fabricCluster speaks to Envoys of other nodes, at the pace of their link.
func (b *builder) fabricCluster(name string, class dmsc.LinkClass) *clusterv3.Cluster {
	c := b.baseCluster(name, class.ProbeTimeout())
	c.TypedExtensionProtocolOptions = http2Options(&corev3.KeepaliveSettings{
		Interval: durationpb.New(class.ProbeInterval()),
		Timeout:  durationpb.New(class.ProbeTimeout()),
	})
	return c
}

// slowest is the class that all links can keep: dead is not slow.
func slowest(links []Neighbour) dmsc.LinkClass {
	worst := dmsc.LAN
	for _, n := range links {
		if n.Class.ProbeTimeout() > worst.ProbeTimeout() {
			worst = n.Class
		}
	}
	return worst
}

// outlierDetection ejects a neighbour that cannot be reached, and nothing
// else: without the split, or with any other rule enforced, a pod's 503s would
// eject the neighbours on the way to it (reference R4). A shorter ejection
// costs a hole at every return of a host that is still silent.
func outlierDetection() *clusterv3.OutlierDetection {
	return &clusterv3.OutlierDetection{
		Interval:                               durationpb.New(500 * time.Millisecond),
		BaseEjectionTime:                       durationpb.New(2 * time.Second),
		MaxEjectionTime:                        durationpb.New(10 * time.Second),
		MaxEjectionTimeJitter:                  durationpb.New(0),
		MaxEjectionPercent:                     wrapperspb.UInt32(100),
		SplitExternalLocalOriginErrors:         true,
		ConsecutiveLocalOriginFailure:          wrapperspb.UInt32(2),
		EnforcingConsecutiveLocalOriginFailure: wrapperspb.UInt32(100),
		EnforcingConsecutive_5Xx:               wrapperspb.UInt32(0),
		EnforcingConsecutiveGatewayFailure:     wrapperspb.UInt32(0),
		EnforcingSuccessRate:                   wrapperspb.UInt32(0),
		EnforcingLocalOriginSuccessRate:        wrapperspb.UInt32(0),
		EnforcingFailurePercentage:             wrapperspb.UInt32(0),
		EnforcingFailurePercentageLocalOrigin:  wrapperspb.UInt32(0),
	}
}

// podOutlierDetection takes an instance out for a while that fails five requests
// in a row, but never more than half of them: what they all do is the fault of the
// requests, or of what they all need. To answer 5xx, to end the connection and to
// take none count alike: Envoy's rules that tell them apart forget an ended
// connection at the next one that is made. An active check that passes does not
// bring the instance back, since it did not see the fault either.
func podOutlierDetection() *clusterv3.OutlierDetection {
	d := outlierDetection()
	d.SplitExternalLocalOriginErrors = false
	d.ConsecutiveLocalOriginFailure, d.EnforcingConsecutiveLocalOriginFailure = nil, nil // of a split only
	d.Consecutive_5Xx = wrapperspb.UInt32(5)
	d.EnforcingConsecutive_5Xx = wrapperspb.UInt32(100)
	d.MaxEjectionPercent = wrapperspb.UInt32(50)
	d.SuccessfulActiveHealthCheckUnejectHost = wrapperspb.Bool(false)
	return d
}

func http1Options() map[string]*anypb.Any {
	return protocolOptions(&upstreamv3.HttpProtocolOptions_ExplicitHttpConfig{
		ProtocolConfig: &upstreamv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{
			HttpProtocolOptions: &corev3.Http1ProtocolOptions{EnableTrailers: true},
		},
	})
}

func http2Options(keepalive *corev3.KeepaliveSettings) map[string]*anypb.Any {
	return protocolOptions(&upstreamv3.HttpProtocolOptions_ExplicitHttpConfig{
		ProtocolConfig: &upstreamv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
			Http2ProtocolOptions: &corev3.Http2ProtocolOptions{AllowConnect: true, ConnectionKeepalive: keepalive},
		},
	})
}

func protocolOptions(explicit *upstreamv3.HttpProtocolOptions_ExplicitHttpConfig) map[string]*anypb.Any {
	return map[string]*anypb.Any{
		"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed(&upstreamv3.HttpProtocolOptions{
			UpstreamProtocolOptions: &upstreamv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: explicit},
		}),
	}
}
