package translator

import (
	"fmt"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// fetchTimeout is how long Envoy waits for a resource that another one names
// before it goes on without.
const fetchTimeout = 2 * time.Second

// listenerInput is what listeners follow from, beside node and addresses.
type listenerInput struct {
	strict, closed, onDemand bool

	log     AccessLog
	outside OutsideListener
}

func (b *builder) listeners() map[string]*listenerv3.Listener {
	listeners := map[string]*listenerv3.Listener{
		fabricName: b.socketListener(fabricName, b.Addrs.Fabric, b.fabricManager()),
		demoteName: b.demoteListener(),
		probeName:  b.socketListener(probeName, b.Addrs.Probe, b.connectionManager(probeName, probeName)),
	}
	listeners[probeName].TrafficDirection = corev3.TrafficDirection_OUTBOUND
	// Too many connections or too many bytes of pods must not look like a dead
	// neighbour.
	for _, l := range listeners {
		l.IgnoreGlobalConnLimit = true
		l.BypassOverloadManager = true
	}
	if b.Closed {
		return listeners
	}
	if b.Addrs.Ingress != "" {
		listeners[ingressName] = b.socketListener(ingressName, b.Addrs.Ingress, b.ingressManager())
	}
	if b.Outside.Address != "" {
		listeners[outsideName] = b.outsideListener()
	}
	return listeners
}

// routes are the tables of the listeners.
func (b *builder) routes() map[string]*routev3.RouteConfiguration {
	tables := map[string]*routev3.RouteConfiguration{
		fabricName: b.fabricTable(),
		probeName:  once(b, "probe table", b.sortedLinks(), b.probeTable),
	}
	if b.Addrs.Ingress != "" {
		tables[ingressName] = b.ingressTable()
	}
	if b.Outside.Address != "" {
		tables[outsideName] = b.outsideTable()
	}
	return tables
}

// socketListener never shares its port: with SO_REUSEPORT two Envoys by
// mistake on one port would both go live and halve the traffic.
func (b *builder) socketListener(name, addr string, manager *hcmv3.HttpConnectionManager) *listenerv3.Listener {
	bind, err := address(addr)
	if err != nil {
		b.fault(fmt.Errorf("listener %s: %w", name, err))
	}
	return &listenerv3.Listener{
		Name:            name,
		StatPrefix:      statPrefix(name),
		Address:         bind,
		EnableReusePort: wrapperspb.Bool(false),
		FilterChains:    filterChains(manager),

		PerConnectionBufferLimitBytes: wrapperspb.UInt32(bufferLimit),
	}
}

// statPrefix is what the counters of a listener and of its connection manager
// begin with: dmsc_ingress of dmsc/ingress.
func statPrefix(listener string) string { return strings.ReplaceAll(listener, "/", "_") }

// demoteListener takes requests whose path is broken. It has no port, so
// nothing but this Envoy's own clusters reaches it.
func (b *builder) demoteListener() *listenerv3.Listener {
	return &listenerv3.Listener{
		Name:              demoteName,
		StatPrefix:        statPrefix(demoteName),
		ListenerSpecifier: &listenerv3.Listener_InternalListener{InternalListener: &listenerv3.Listener_InternalListenerConfig{}},
		FilterChains:      filterChains(b.demoteManager()),
	}
}

func (b *builder) fabricManager() *hcmv3.HttpConnectionManager {
	m := b.connectionManager(fabricName, fabricName)
	if b.AccessLog.Fabric {
		m.AccessLog = b.accessLogs(fabricName)
	}
	m.EarlyHeaderMutationExtensions = earlyMutation(keyMutations())
	m.LocalReplyConfig = b.localReplies()
	m.HttpFilters = b.filters()
	grown(m)
	return m
}

// demoteManager has no hop filter, or this node would stand in the trace twice.
func (b *builder) demoteManager() *hcmv3.HttpConnectionManager {
	m := b.connectionManager(demoteName, fabricName)
	m.EarlyHeaderMutationExtensions = earlyMutation(demoteMutations())
	m.LocalReplyConfig = b.localReplies()
	grown(m)
	return m
}

// grown lets requests in that a border let in, and that have got headers of
// ours since.
func grown(m *hcmv3.HttpConnectionManager) {
	m.CommonHttpProtocolOptions = &corev3.HttpProtocolOptions{MaxHeadersCount: wrapperspb.UInt32(fabricHeaders)}
	m.MaxRequestHeadersKb = wrapperspb.UInt32(fabricHeadersKiB)
	m.Http2ProtocolOptions.StreamResetBurst = wrapperspb.UInt64(fabricResets)
	m.Http2ProtocolOptions.StreamResetRate = wrapperspb.UInt64(fabricResets)
}

// connectionManager has what all listeners share. The route table of
// dmsc/demote is that of dmsc/fabric, every other listener has its own.
func (b *builder) connectionManager(listener, table string) *hcmv3.HttpConnectionManager {
	return &hcmv3.HttpConnectionManager{
		StatPrefix:                 statPrefix(listener),
		RouteSpecifier:             &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{RouteConfigName: table, ConfigSource: b.Source.config(fetchTimeout)}},
		StreamIdleTimeout:          durationpb.New(0),
		ServerHeaderTransformation: hcmv3.HttpConnectionManager_PASS_THROUGH,
		GenerateRequestId:          wrapperspb.Bool(false),
		UseRemoteAddress:           wrapperspb.Bool(false),
		SkipXffAppend:              true,
		// Nobody is internal: x-envoy-* of others is never obeyed.
		InternalAddressConfig: &hcmv3.HttpConnectionManager_InternalAddressConfig{
			CidrRanges: []*corev3.CidrRange{{AddressPrefix: "255.255.255.255", PrefixLen: wrapperspb.UInt32(32)}},
		},
		HttpProtocolOptions: &corev3.Http1ProtocolOptions{EnableTrailers: true},
		Http2ProtocolOptions: &corev3.Http2ProtocolOptions{
			AllowConnect:         true,
			MaxConcurrentStreams: wrapperspb.UInt32(fabricStreams),
		},
		// Without the second, a CONNECT gets 403 before the routes are asked.
		UpgradeConfigs: []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}, {UpgradeType: "CONNECT"}},
		HttpFilters:    []*hcmv3.HttpFilter{routerFilter()},
	}
}

func routerFilter() *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{
		Name:       "envoy.filters.http.router",
		ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: typed(&routerv3.Router{SuppressEnvoyHeaders: true})},
	}
}

func filterChains(manager *hcmv3.HttpConnectionManager) []*listenerv3.FilterChain {
	return []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
		Name:       managerFilter,
		ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: typed(manager)},
	}}}}
}

const managerFilter = "envoy.filters.network.http_connection_manager"
