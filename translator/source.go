package translator

import (
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// agentName is the cluster by which our own bootstraps reach the agent.
const agentName = "dmsc/xds"

// Source says by which streams an Envoy takes its configuration from the agent.
// It stands in the bootstrap and in every resource that refers to another: an
// Envoy refuses a resource with a source that its bootstrap does not have. The
// zero value is one delta ADS stream.
type Source struct {
	// PerType is a stream for each type, as fleets have them whose bootstrap
	// names the agent in cds_config and lds_config and has no ads_config. Envoy
	// then opens one for each cluster's endpoints and for each route table, too.
	PerType bool
	// SotW is the older, state-of-the-world dialect.
	SotW bool
	// Cluster is the cluster of the bootstrap that is the agent; "" = dmsc/xds.
	Cluster string
}

// config is where a resource is found; timeout is how long what needs it waits
// for the first answer.
func (s Source) config(timeout time.Duration) *corev3.ConfigSource {
	c := &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		ResourceApiVersion:    corev3.ApiVersion_V3,
		InitialFetchTimeout:   durationpb.New(timeout),
	}
	if s.PerType {
		c.ConfigSourceSpecifier = &corev3.ConfigSource_ApiConfigSource{ApiConfigSource: s.api()}
	}
	return c
}

// api reconnects soon: while the agent is away nothing can be repaired by EDS,
// and by default Envoy waits 0.5 to 30 s.
func (s Source) api() *corev3.ApiConfigSource {
	api := corev3.ApiConfigSource_DELTA_GRPC
	if s.SotW {
		api = corev3.ApiConfigSource_GRPC
	}
	return &corev3.ApiConfigSource{
		ApiType:                   api,
		TransportApiVersion:       corev3.ApiVersion_V3,
		SetNodeOnFirstMessageOnly: true,
		GrpcServices: []*corev3.GrpcService{{
			TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{
				ClusterName: s.cluster(),
				RetryPolicy: &corev3.RetryPolicy{RetryBackOff: &corev3.BackoffStrategy{
					BaseInterval: durationpb.New(50 * time.Millisecond),
					MaxInterval:  durationpb.New(250 * time.Millisecond),
				}},
			}},
		}},
	}
}

func (s Source) cluster() string {
	if s.Cluster == "" {
		return agentName
	}
	return s.Cluster
}

// SetSource has the Envoy of a Bootstrap take its configuration from s.
func SetSource(boot *bootstrapv3.Bootstrap, s Source) {
	agent := boot.StaticResources.Clusters[0]
	agent.Name, agent.LoadAssignment.ClusterName = s.cluster(), s.cluster()
	boot.DynamicResources = &bootstrapv3.Bootstrap_DynamicResources{CdsConfig: s.config(startTimeout), LdsConfig: s.config(startTimeout)}
	if !s.PerType {
		boot.DynamicResources.AdsConfig = s.api()
		return
	}
	// A stream is a request of this cluster, and by default there are 1024 at most.
	agent.CircuitBreakers = &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
		MaxRequests: wrapperspb.UInt32(perTypeStreams), MaxPendingRequests: wrapperspb.UInt32(perTypeStreams),
	}}}
}

// perTypeStreams is more than the clusters of a node: 512 groups, its
// neighbours, its pods.
const perTypeStreams = 100_000
