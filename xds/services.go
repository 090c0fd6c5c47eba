package xds

import (
	clusterservicev3 "github.com/envoyproxy/go-control-plane/envoy/service/cluster/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	endpointservicev3 "github.com/envoyproxy/go-control-plane/envoy/service/endpoint/v3"
	listenerservicev3 "github.com/envoyproxy/go-control-plane/envoy/service/listener/v3"
	routeservicev3 "github.com/envoyproxy/go-control-plane/envoy/service/route/v3"
	"google.golang.org/grpc"
)

// The discovery services of one type each, for fleets without ADS. Their
// streams are those of ADS with one type alone; what needs two types (an order
// between them) a stream cannot do. Polling (REST, Fetch) is not served.

type (
	deltaStream = grpc.BidiStreamingServer[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]
	sotwStream  = grpc.BidiStreamingServer[discoveryv3.DiscoveryRequest, discoveryv3.DiscoveryResponse]
)

// Register adds the discovery services, aggregated and by type, to a gRPC
// server, which is best made with ServerOptions.
func (s *Server) Register(g *grpc.Server) {
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, s)
	clusterservicev3.RegisterClusterDiscoveryServiceServer(g, cds{Server: s})
	endpointservicev3.RegisterEndpointDiscoveryServiceServer(g, eds{Server: s})
	routeservicev3.RegisterRouteDiscoveryServiceServer(g, rds{Server: s})
	listenerservicev3.RegisterListenerDiscoveryServiceServer(g, lds{Server: s})
}

// DeltaAggregatedResources serves one delta ADS stream.
func (s *Server) DeltaAggregatedResources(str deltaStream) error {
	return s.serve(str.Context(), &deltaDialect{str: str}, allTypes)
}

// StreamAggregatedResources serves one state-of-the-world ADS stream.
func (s *Server) StreamAggregatedResources(str sotwStream) error {
	return s.serve(str.Context(), &sotwDialect{str: str}, allTypes)
}

var allTypes = [numTypes]bool{Clusters: true, Endpoints: true, Routes: true, Listeners: true}

func only(t Type) (types [numTypes]bool) {
	types[t] = true
	return types
}

func (s *Server) delta(t Type, str deltaStream) error {
	return s.serve(str.Context(), &deltaDialect{str: str}, only(t))
}

func (s *Server) whole(t Type, str sotwStream) error {
	return s.serve(str.Context(), &sotwDialect{str: str}, only(t))
}

type cds struct {
	clusterservicev3.UnimplementedClusterDiscoveryServiceServer
	*Server
}

func (s cds) DeltaClusters(str deltaStream) error { return s.delta(Clusters, str) }
func (s cds) StreamClusters(str sotwStream) error { return s.whole(Clusters, str) }

type eds struct {
	endpointservicev3.UnimplementedEndpointDiscoveryServiceServer
	*Server
}

func (s eds) DeltaEndpoints(str deltaStream) error { return s.delta(Endpoints, str) }
func (s eds) StreamEndpoints(str sotwStream) error { return s.whole(Endpoints, str) }

type rds struct {
	routeservicev3.UnimplementedRouteDiscoveryServiceServer
	*Server
}

func (s rds) DeltaRoutes(str deltaStream) error { return s.delta(Routes, str) }
func (s rds) StreamRoutes(str sotwStream) error { return s.whole(Routes, str) }

type lds struct {
	listenerservicev3.UnimplementedListenerDiscoveryServiceServer
	*Server
}

func (s lds) DeltaListeners(str deltaStream) error { return s.delta(Listeners, str) }
func (s lds) StreamListeners(str sotwStream) error { return s.whole(Listeners, str) }
