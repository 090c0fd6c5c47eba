package translator

import (
	"fmt"
	"slices"

	"github.com/dmsc-mesh/dmsc"
	"github.com/dmsc-mesh/dmsc/linkstate/rib"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// withEndpoints completes a cluster. The overprovisioning factor keeps all
// requests on the primaries while one of them is left: with Envoy's 1.4, one
// dead of three already sends 6 % to the alternate.
func withEndpoints(c *clusterv3.Cluster, localities ...*endpointv3.LocalityLbEndpoints) cluster {
	return cluster{cluster: c, endpoints: &endpointv3.ClusterLoadAssignment{
		ClusterName: c.Name,
		Endpoints:   localities,
		Policy:      &endpointv3.ClusterLoadAssignment_Policy{OverprovisioningFactor: wrapperspb.UInt32(100000)},
	}}
}

// merged leaves one host of each address, the first: of several, Envoy drops
// all but that one. It gets the weights of those beside it and is healthy if one
// of them is. Links between two nodes may well lead to one address. Priorities
// after the first that are left with nobody are left out.
func merged(localities ...*endpointv3.LocalityLbEndpoints) []*endpointv3.LocalityLbEndpoints {
	type place struct {
		host     *endpointv3.LbEndpoint
		priority uint32
	}
	first := make(map[string]place)
	for _, l := range localities {
		l.LbEndpoints = slices.DeleteFunc(l.LbEndpoints, func(e *endpointv3.LbEndpoint) bool {
			key := AddressText(e.GetEndpoint().GetAddress())
			other, taken := first[key]
			if !taken {
				first[key] = place{e, l.Priority}
				return false
			}
			if other.priority == l.Priority {
				other.host.LoadBalancingWeight = wrapperspb.UInt32(weightOf(other.host) + weightOf(e))
			}
			if e.HealthStatus == corev3.HealthStatus_HEALTHY {
				other.host.HealthStatus = e.HealthStatus
			}
			return true
		})
	}
	return slices.DeleteFunc(localities, func(l *endpointv3.LocalityLbEndpoints) bool {
		return l.Priority > 0 && len(l.LbEndpoints) == 0
	})
}

func weightOf(e *endpointv3.LbEndpoint) uint32 { return max(1, e.LoadBalancingWeight.GetValue()) }

// linksOf finds the links of next hops.
func (b *builder) linksOf(group string, hops []rib.NextHop) []Neighbour {
	var links []Neighbour
	for _, h := range hops {
		n, ok := b.links[h.LinkKey]
		if !ok {
			b.fault(fmt.Errorf("group %s: link %s is not among the neighbours", group, h.LinkKey))
			continue
		}
		links = append(links, n)
	}
	return links
}

func (b *builder) nextHops(priority uint32, hops []rib.NextHop) *endpointv3.LocalityLbEndpoints {
	locality := &endpointv3.LocalityLbEndpoints{Priority: priority}
	for _, h := range hops {
		if n, ok := b.links[h.LinkKey]; ok { // else linksOf has said so
			locality.LbEndpoints = append(locality.LbEndpoints, b.linkEndpoint(n, h.Weight)...)
		}
	}
	return locality
}

// linkEndpoint is the far end of a link, or nothing before the neighbour has
// said where it is.
func (b *builder) linkEndpoint(n Neighbour, weight uint32) []*endpointv3.LbEndpoint {
	if n.Data == "" {
		return nil
	}
	a, err := address(n.Data)
	if err != nil {
		b.fault(fmt.Errorf("data address of neighbour %s: %w", n.LinkKey, err))
		return nil
	}
	health := corev3.HealthStatus_HEALTHY
	if !n.Up {
		health = corev3.HealthStatus_UNHEALTHY
	}
	return []*endpointv3.LbEndpoint{endpoint(a, health, weight)}
}

func demoteEndpoint(priority uint32) *endpointv3.LocalityLbEndpoints {
	return &endpointv3.LocalityLbEndpoints{
		Priority:    priority,
		LbEndpoints: []*endpointv3.LbEndpoint{endpoint(internalAddress(demoteName), corev3.HealthStatus_HEALTHY, 0)},
	}
}

// podEndpoints are local instances; path is what the cluster's check asks for.
func (b *builder) podEndpoints(pods []Service, path string) *endpointv3.LocalityLbEndpoints {
	locality := &endpointv3.LocalityLbEndpoints{}
	for _, s := range pods {
		a, err := address(s.Address)
		if err != nil {
			b.fault(fmt.Errorf("address of service %s: %w", s.Prefix, err))
			continue
		}
		e := endpoint(a, corev3.HealthStatus_HEALTHY, s.Weight)
		if s.Protocol != dmsc.TCP && s.HealthPath != path {
			e.GetEndpoint().HealthCheckConfig = &endpointv3.Endpoint_HealthCheckConfig{DisableActiveHealthCheck: true}
		}
		locality.LbEndpoints = append(locality.LbEndpoints, e)
	}
	return locality
}

// endpoint has a weight only where it is not 1, which is Envoy's default.
func endpoint(a *corev3.Address, health corev3.HealthStatus, weight uint32) *endpointv3.LbEndpoint {
	e := &endpointv3.LbEndpoint{
		HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: a}},
		HealthStatus:   health,
	}
	if weight > 1 {
		e.LoadBalancingWeight = wrapperspb.UInt32(weight)
	}
	return e
}
