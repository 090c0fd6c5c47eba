package translator

import (
	"fmt"

	"github.com/dmsc-mesh/dmsc"
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
)

// Static makes a configuration with which an Envoy forwards without an agent:
// the resources with their routes and endpoints inline. Of addrs only Admin is
// used; empty means no admin listener. r is not changed.
//
// Any Envoy from 1.37 on reads it. By xDS an Envoy passes over a field that it
// does not know, but it refuses a file with one; so what 1.39 brought is left out.
func Static(id dmsc.NodeID, addrs Addrs, r Resources) (*bootstrapv3.Bootstrap, error) {
	boot, err := bootstrap(id, addrs.Admin)
	if err != nil {
		return nil, fmt.Errorf("static configuration of %s: %w", id, err)
	}
	boot.StaticResources = new(bootstrapv3.Bootstrap_StaticResources)
	for _, l := range sortedValues(r.Listeners) {
		l = proto.CloneOf(l)
		if err := r.inlineRoutes(l); err != nil {
			return nil, fmt.Errorf("static configuration of %s: %w", id, err)
		}
		boot.StaticResources.Listeners = append(boot.StaticResources.Listeners, l)
	}
	for _, c := range sortedValues(r.Clusters) {
		if c.GetType() != clusterv3.Cluster_EDS {
			boot.StaticResources.Clusters = append(boot.StaticResources.Clusters, c)
			continue
		}
		c = proto.CloneOf(c)
		c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}
		c.EdsClusterConfig = nil
		c.LoadAssignment = r.Endpoints[c.Name]
		boot.StaticResources.Clusters = append(boot.StaticResources.Clusters, c)
	}
	return boot, nil
}

func (r Resources) inlineRoutes(l *listenerv3.Listener) error {
	return eachManager(l, func(filter *listenerv3.Filter, m *hcmv3.HttpConnectionManager) error {
		table := r.Routes[m.GetRds().GetRouteConfigName()]
		if table == nil {
			return fmt.Errorf("listener %s: route table %q does not exist", l.Name, m.GetRds().GetRouteConfigName())
		}
		m.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: table}
		m.Http2ProtocolOptions.StreamResetBurst, m.Http2ProtocolOptions.StreamResetRate = nil, nil
		filter.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: typed(m)}
		return nil
	})
}

// eachManager calls visit with a copy of each HTTP connection manager of a
// listener and the filter it is packed in.
func eachManager(l *listenerv3.Listener, visit func(*listenerv3.Filter, *hcmv3.HttpConnectionManager) error) error {
	for _, chain := range l.FilterChains {
		for _, filter := range chain.Filters {
			if filter.Name != managerFilter {
				continue
			}
			m := new(hcmv3.HttpConnectionManager)
			if err := filter.GetTypedConfig().UnmarshalTo(m); err != nil {
				return fmt.Errorf("listener %s: %w", l.Name, err)
			}
			if err := visit(filter, m); err != nil {
				return err
			}
		}
	}
	return nil
}
