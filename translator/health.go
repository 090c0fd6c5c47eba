package translator

import (
	"strings"
	"time"

	"github.com/dmsc-mesh/dmsc"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// healthHost is sent with active checks. Envoy's default is the cluster name,
// which is no valid Host, and Go's server answers it with 400.
const healthHost = "health.dmsc"

// healthCheck is the active check of a cluster of pods, nil for none. A TCP
// pod is connected to; a gRPC pod is asked for the service named by the path
// without its slash, "/" being the whole server.
func healthCheck(protocol dmsc.Protocol, path string) *corev3.HealthCheck {
	check := &corev3.HealthCheck{
		Timeout:            durationpb.New(300 * time.Millisecond),
		Interval:           durationpb.New(500 * time.Millisecond),
		NoTrafficInterval:  durationpb.New(500 * time.Millisecond),
		UnhealthyThreshold: wrapperspb.UInt32(2),
		HealthyThreshold:   wrapperspb.UInt32(1),
	}
	switch {
	case protocol == dmsc.TCP:
		check.HealthChecker = &corev3.HealthCheck_TcpHealthCheck_{TcpHealthCheck: &corev3.HealthCheck_TcpHealthCheck{}}
	case path == "":
		return nil
	case protocol == dmsc.GRPC:
		check.HealthChecker = &corev3.HealthCheck_GrpcHealthCheck_{GrpcHealthCheck: &corev3.HealthCheck_GrpcHealthCheck{
			ServiceName: strings.TrimPrefix(path, "/"),
			Authority:   healthHost,
		}}
	default:
		codec := typev3.CodecClientType_HTTP1
		if protocol == dmsc.HTTP2 {
			codec = typev3.CodecClientType_HTTP2
		}
		check.HealthChecker = &corev3.HealthCheck_HttpHealthCheck_{HttpHealthCheck: &corev3.HealthCheck_HttpHealthCheck{
			Host:            healthHost,
			Path:            path,
			CodecClientType: codec,
		}}
	}
	return check
}

// checkedPath is the health path of a cluster: Envoy has one per cluster, so
// the first in the order of the pods decides, and pods with another one are
// taken for healthy unchecked.
func checkedPath(pods []Service) string {
	for _, s := range pods {
		if s.HealthPath != "" {
			return s.HealthPath
		}
	}
	return ""
}
