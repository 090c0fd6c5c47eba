package envoysim

import (
	"errors"
	"fmt"
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	upstreamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"

	"github.com/dmsc-mesh/dmsc/translator"
)

// Host is a member of a cluster.
type Host struct {
	// Address is "IP:port", "unix:///path" or, within the node, the name of an
	// internal listener.
	Address  string
	Internal bool
	Priority uint32
	Weight   uint32
	// Healthy is what EDS says of it. An active check may know better: then
	// Checked is set.
	Healthy bool
	Checked bool
}

func (h Host) same(other Host) bool {
	return h.Address == other.Address && h.Priority == other.Priority
}

// cluster has its hosts sorted by priority.
type cluster struct {
	hosts   []Host
	eds     bool // not STATIC
	checked bool // by active health checks
	outlier bool // detection: hosts that do not answer are ejected
	filters upstreamFilters
}

// upstreamFilters change the headers of requests to the hosts of a cluster, and
// of their responses.
type upstreamFilters struct{ request, response []*mutationv3.HeaderMutation }

func (n *Node) addCluster(c *clusterv3.Cluster) error {
	switch {
	case c.GetClusterType() == nil && c.GetType() != clusterv3.Cluster_EDS && c.GetType() != clusterv3.Cluster_STATIC:
		return fmt.Errorf("type: %s is not understood", c.GetType())
	case c.LbPolicy != clusterv3.Cluster_ROUND_ROBIN && c.LbPolicy != clusterv3.Cluster_LEAST_REQUEST:
		return fmt.Errorf("lb_policy: %s is not understood", c.LbPolicy)
	case c.GetCommonLbConfig().GetHealthyPanicThreshold() == nil || c.CommonLbConfig.HealthyPanicThreshold.Value != 0:
		return errors.New("common_lb_config.healthy_panic_threshold: only 0 is understood")
	}
	known := &cluster{eds: c.GetClusterType() == nil && c.GetType() == clusterv3.Cluster_EDS, checked: len(c.HealthChecks) > 0, outlier: c.OutlierDetection != nil}
	for key, packed := range c.TypedExtensionProtocolOptions {
		var options upstreamv3.HttpProtocolOptions
		err := packed.UnmarshalTo(&options)
		if err == nil {
			known.filters.request, known.filters.response, err = mutationsOf(options.HttpFilters)
		}
		if err != nil {
			return fmt.Errorf("typed_extension_protocol_options[%s]: %w", key, err)
		}
	}
	n.clusters[c.Name] = known
	if c.LoadAssignment != nil {
		return n.addEndpoints(c.LoadAssignment)
	}
	return nil
}

// addEndpoints comes after the clusters.
func (n *Node) addEndpoints(a *endpointv3.ClusterLoadAssignment) error {
	c := n.clusters[a.ClusterName]
	if c == nil {
		return fmt.Errorf("there is no cluster %q", a.ClusterName)
	}
	// With Envoy's 1.4 some requests leave the primaries while others of them
	// are healthy; from here on only when none is.
	if factor := a.GetPolicy().GetOverprovisioningFactor().GetValue(); factor < 10000 && slices.ContainsFunc(a.Endpoints, func(l *endpointv3.LocalityLbEndpoints) bool { return l.Priority > 0 }) {
		return fmt.Errorf("policy.overprovisioning_factor: %d beside several priorities is not understood", factor)
	}
	for _, locality := range a.Endpoints {
		for _, e := range locality.LbEndpoints {
			address := e.GetEndpoint().GetAddress()
			h := Host{
				Address:  translator.AddressText(address),
				Internal: address.GetEnvoyInternalAddress() != nil,
				Priority: locality.Priority,
				Weight:   max(1, e.LoadBalancingWeight.GetValue()),
				Checked:  c.checked && !e.GetEndpoint().GetHealthCheckConfig().GetDisableActiveHealthCheck(),
			}
			switch e.HealthStatus {
			case corev3.HealthStatus_HEALTHY, corev3.HealthStatus_UNKNOWN:
				h.Healthy = true
			case corev3.HealthStatus_UNHEALTHY, corev3.HealthStatus_DRAINING, corev3.HealthStatus_TIMEOUT:
			default:
				return fmt.Errorf("health_status: %s is not understood", e.HealthStatus)
			}
			// By EDS an address is one host, the first one.
			if !c.eds || !slices.ContainsFunc(c.hosts, func(other Host) bool { return other.Address == h.Address }) {
				c.hosts = append(c.hosts, h)
			}
		}
	}
	slices.SortStableFunc(c.hosts, func(a, b Host) int { return int(a.Priority) - int(b.Priority) })
	return nil
}

// eligible are the hosts a try may go to: the healthy ones of the first
// priority that has any and is not passed over.
func eligible(hosts []Host, passOver map[uint32]bool) []Host {
	var found []Host
	for _, h := range hosts {
		switch {
		case !h.Healthy || passOver[h.Priority]:
		case len(found) > 0 && found[0].Priority != h.Priority:
			return found
		default:
			found = append(found, h)
		}
	}
	return found
}
