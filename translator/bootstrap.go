package translator

import (
	"fmt"
	"time"

	"github.com/dmsc-mesh/dmsc"
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	internallistenerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/bootstrap/internal_listener/v3"
	"google.golang.org/protobuf/types/known/durationpb"
)

// envoyCluster is node.cluster of every Envoy of ours.
const envoyCluster = "dmsc"

// startTimeout is how long a starting Envoy waits for its first clusters and
// listeners; an agent answers within 5 s of its own start (design §4).
const startTimeout = 5 * time.Second

// Bootstrap makes the configuration with which the Envoy of a node starts and
// gets everything else from its agent by delta ADS, or as SetSource says.
// Addresses are "IP:port" or "unix:///path". xdsAddr may also have a host name; adminAddr may be empty for
// no admin listener.
func Bootstrap(id dmsc.NodeID, adminAddr, xdsAddr string) (*bootstrapv3.Bootstrap, error) {
	boot, err := bootstrap(id, adminAddr)
	if err != nil {
		return nil, fmt.Errorf("bootstrap of %s: %w", id, err)
	}
	agent, err := agentCluster(xdsAddr)
	if err != nil {
		return nil, fmt.Errorf("bootstrap of %s: xds %w", id, err)
	}
	boot.StaticResources = &bootstrapv3.Bootstrap_StaticResources{Clusters: []*clusterv3.Cluster{agent}}
	SetSource(boot, Source{})
	return boot, nil
}

func agentCluster(addr string) (*clusterv3.Cluster, error) {
	c := &clusterv3.Cluster{
		Name:                 agentName,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		ConnectTimeout:       durationpb.New(time.Second),
		// An agent that hangs without closing is noticed within 10 s.
		TypedExtensionProtocolOptions: http2Options(&corev3.KeepaliveSettings{
			Interval: durationpb.New(5 * time.Second),
			Timeout:  durationpb.New(5 * time.Second),
		}),
	}
	a, err := address(addr)
	if err != nil {
		host, port, splitErr := splitHostPort(addr)
		if splitErr != nil || host == "" {
			return nil, err
		}
		a = socketAddress(host, port)
		c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STRICT_DNS}
	}
	c.LoadAssignment = &endpointv3.ClusterLoadAssignment{
		ClusterName: agentName,
		Endpoints: []*endpointv3.LocalityLbEndpoints{{
			LbEndpoints: []*endpointv3.LbEndpoint{endpoint(a, corev3.HealthStatus_UNKNOWN, 0)},
		}},
	}
	return c, nil
}

// bootstrap is what every Envoy of ours starts with.
func bootstrap(id dmsc.NodeID, adminAddr string) (*bootstrapv3.Bootstrap, error) {
	boot := &bootstrapv3.Bootstrap{
		Node: &corev3.Node{Id: string(id), Cluster: envoyCluster},
		BootstrapExtensions: []*corev3.TypedExtensionConfig{{
			Name:        "envoy.bootstrap.internal_listener", // for dmsc/demote
			TypedConfig: typed(&internallistenerv3.InternalListener{}),
		}},
		OverloadManager: overloadManager(defaultMaxHeap),
		LayeredRuntime:  layeredRuntime(),
		StatsConfig:     statsConfig(),
	}
	if adminAddr != "" {
		a, err := address(adminAddr)
		if err != nil {
			return nil, fmt.Errorf("admin %w", err)
		}
		boot.Admin = &bootstrapv3.Admin{Address: a}
	}
	return boot, nil
}
