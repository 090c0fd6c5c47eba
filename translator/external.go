package translator

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dmsc-mesh/dmsc"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	dnscommonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/common/dns/v3"
	dnsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dns/v3"
	headermutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	codecv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/upstream_codec/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	upstreamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// External lets requests of pods leave the mesh for one host and port (draft
// §4.2(3)). Pods name it by Host, and by CONNECT for raw bytes.
type External struct {
	Name string // of the document, for cluster names and answers
	Host string // see CheckHost
	Port uint16
	// Protocol is HTTP1 or HTTP2, or TCP for CONNECT and nothing else.
	Protocol dmsc.Protocol
	// ServerName is what TLS is originated and the certificate verified for; ""
	// is no TLS. Not for TCP: there the pod brings its own.
	ServerName string
	CA         string // PEM file of the roots that ServerName is verified by
	// CADigest stands for the content of CA, so that Envoy reads the file again
	// when that is another; "" if it is not known.
	CADigest string
	// Endpoints are IP addresses or DNS names, of which one name makes all of
	// them looked up; none is Host.
	Endpoints []string
	Timeout   time.Duration // of a whole answer; 0 is none
	Retries   uint32        // of GET, HEAD and OPTIONS
}

// externalConnectTimeout leaves room for a lost SYN and a far continent.
const externalConnectTimeout = 5 * time.Second

// externalClusterName names the cluster of an external host.
func externalClusterName(e External) string {
	return externalPrefix + e.Name + "/" + escape(strings.ToLower(e.Host))
}

// externalHost names the virtual host that refuses what is not allowed of a
// host; the port of what is follows after a slash.
func externalHost(e External) string { return externalPrefix + escape(strings.ToLower(e.Host)) }

func (e External) port() string { return strconv.Itoa(int(e.Port)) }

// Validate reports whether Envoy can take the external service. Check what comes
// from outside before it enters a State.
func (e External) Validate() error {
	faults := []error{CheckHost(e.Host)}
	for _, endpoint := range e.Endpoints {
		if _, err := netip.ParseAddr(endpoint); err != nil {
			faults = append(faults, CheckHost(endpoint))
		}
	}
	if e.Port == 0 {
		faults = append(faults, errors.New("the port is 0"))
	}
	if e.ServerName != "" {
		faults = append(faults, CheckHost(e.ServerName))
		if e.CA == "" {
			faults = append(faults, errors.New("there is no file of CA certificates to verify "+e.ServerName+" by"))
		}
		if e.Protocol == dmsc.TCP {
			faults = append(faults, errors.New("raw bytes are not wrapped in TLS"))
		}
	}
	if e.Protocol == dmsc.GRPC {
		faults = append(faults, errors.New("gRPC is http2 here"))
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("external service %s, host %s: %w", e.Name, e.Host, err)
	}
	return nil
}

// ---- routes

// externalHosts makes the virtual hosts of all external hosts. A request says
// its port, or means 80. One for a known host and another port or method is
// told what there is.
func (b *builder) externalHosts() []*routev3.VirtualHost {
	of := make(map[string][]External)
	for _, e := range b.Externals {
		host := strings.ToLower(e.Host)
		of[host] = append(of[host], e)
	}
	var hosts []*routev3.VirtualHost
	for _, host := range sortedKeys(of) {
		services := of[host]
		slices.SortFunc(services, func(x, y External) int {
			// 80 is meant by no port at all, 443 by those that leave TLS to us.
			wellKnown := func(e External) int { return slices.Index([]uint16{443, 80}, e.Port) }
			return cmp.Or(cmp.Compare(wellKnown(y), wellKnown(x)), cmp.Compare(x.Port, y.Port), strings.Compare(x.Name, y.Name))
		})
		ports := make(map[string][]*routev3.Route)
		first := ""
		for _, e := range services {
			port := e.port()
			ports[port] = append(ports[port], leave(e))
			if first == "" && e.Protocol != dmsc.TCP {
				first = port
			}
		}
		name := externalHost(services[0])
		refuse := bothWays(func(c class) *routev3.Route { return b.notAllowed(c, allowedText(services)) })
		others := []string{hostPrefix + host + ":*"}
		if first == "" {
			others = append(others, hostPrefix+host+keyEnd)
		}
		for _, port := range sortedKeys(ports) {
			domains := []string{hostPrefix + host + ":" + port + keyEnd}
			if port == first {
				domains = append(domains, hostPrefix+host+keyEnd)
			}
			hosts = append(hosts, &routev3.VirtualHost{Name: name + "/" + port, Domains: domains, Routes: append(ports[port], refuse...)})
		}
		hosts = append(hosts, &routev3.VirtualHost{Name: name, Domains: others, Routes: refuse})
	}
	return hosts
}

// leave is the route out.
func leave(e External) *routev3.Route {
	if e.Protocol == dmsc.TCP {
		return classTCP.deliver(externalClusterName(e))
	}
	route := classOnce.forward(externalClusterName(e))
	route.GetRoute().Timeout = durationpb.New(e.Timeout)
	if e.Retries > 0 {
		route.GetRoute().RetryPolicy = externalRetry(e.Retries)
	}
	return route
}

// externalRetry repeats what HTTP calls safe, whoever has seen it, and nothing
// else: not even dmsc-error, which no one out there may speak of.
func externalRetry(times uint32) *routev3.RetryPolicy {
	p := retryPolicy("connect-failure,refused-stream,reset-before-request,reset", times, 25*time.Millisecond, 250*time.Millisecond, false)
	p.RetriableRequestHeaders = []*routev3.HeaderMatcher{headerMatches(":method", &matcherv3.StringMatcher{
		MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: "GET|HEAD|OPTIONS"}},
	})}
	return p
}

func allowedText(services []External) string {
	var ways []string
	for _, e := range services {
		what := "requests"
		if e.Protocol == dmsc.TCP {
			what = "CONNECT"
		}
		ways = append(ways, fmt.Sprintf("%s to port %d (ExternalService %s)", what, e.Port, e.Name))
	}
	return "not allowed; of this host are: " + strings.Join(ways, ", ")
}

func (b *builder) notAllowed(c class, text string) *routev3.Route {
	return b.refuse(c, 403, codeNotAllowed, text)
}

// ---- clusters

// externalCluster reaches an external host: its addresses by EDS, or its names
// by DNS.
func (b *builder) externalCluster(e External) cluster {
	c := b.baseCluster(externalClusterName(e), externalConnectTimeout)
	if e.Protocol != dmsc.TCP {
		c.TypedExtensionProtocolOptions = externalOptions(e)
	}
	if e.ServerName != "" {
		c.TransportSocket = originateTLS(e)
	}
	if e.CADigest != "" {
		c.Metadata = &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
			"dmsc": {Fields: map[string]*structpb.Value{"ca": structpb.NewStringValue(e.CADigest)}},
		}}
	}
	names := e.Endpoints
	if len(names) == 0 {
		names = []string{e.Host}
	}
	locality := new(endpointv3.LocalityLbEndpoints)
	addresses := true
	for _, name := range names {
		ip, err := netip.ParseAddr(name)
		if err == nil {
			name = ip.Unmap().String()
		}
		addresses = addresses && err == nil
		locality.LbEndpoints = append(locality.LbEndpoints, &endpointv3.LbEndpoint{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: socketAddress(name, uint32(e.Port))}},
		})
	}
	if !addresses || len(names) > 1 {
		// Half of them at most: what is left may be only slow to connect.
		c.OutlierDetection = outlierDetection()
		c.OutlierDetection.MaxEjectionPercent = wrapperspb.UInt32(50)
	}
	m := withEndpoints(c, locality)
	if !addresses {
		c.ClusterDiscoveryType = &clusterv3.Cluster_ClusterType{ClusterType: &clusterv3.Cluster_CustomClusterType{
			Name: "envoy.cluster.dns",
			TypedConfig: typed(&dnsv3.DnsCluster{
				RespectDnsTtl: true,
				// AAAA where there is no A: by default it is the other way round, and
				// a gateway without IPv6 reaches nothing.
				DnsLookupFamily: dnscommonv3.DnsLookupFamily_V4_PREFERRED,
			}),
		}}
		// A name that does not resolve must not keep everything else waiting.
		c.WaitForWarmOnInit = wrapperspb.Bool(false)
		c.EdsClusterConfig = nil
		c.LoadAssignment, m.endpoints = m.endpoints, nil
	}
	return m
}

// externalOptions are the protocol and the last filter of requests that leave:
// nothing of ours goes out, nor where in the mesh they come from, and what the
// answer says in our name is forgotten before anybody, our retries included, can
// believe it.
func externalOptions(e External) map[string]*anypb.Any {
	options := http1Options()
	if e.Protocol == dmsc.HTTP2 {
		options = http2Options(nil)
	}
	const key = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
	o := new(upstreamv3.HttpProtocolOptions)
	if err := options[key].UnmarshalTo(o); err != nil {
		panic(err) // made here
	}
	o.HttpFilters = []*hcmv3.HttpFilter{
		{Name: "dmsc/border", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: typed(&headermutationv3.HeaderMutation{
			Mutations: &headermutationv3.Mutations{
				RequestMutations:  append(removeOurs(), removePrefixed("x-forwarded-")),
				ResponseMutations: removeOurs(),
			},
		})}},
		{Name: "envoy.filters.http.upstream_codec", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: typed(&codecv3.UpstreamCodec{})}},
	}
	options[key] = typed(o)
	return options
}

// originateTLS wraps the requests of pods in TLS and believes only ServerName.
func originateTLS(e External) *corev3.TransportSocket {
	alpn := "http/1.1"
	if e.Protocol == dmsc.HTTP2 {
		alpn = "h2"
	}
	return &corev3.TransportSocket{
		Name: "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: typed(&tlsv3.UpstreamTlsContext{
			Sni: e.ServerName,
			CommonTlsContext: &tlsv3.CommonTlsContext{
				TlsParams: &tlsv3.TlsParameters{
					TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2,
					TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3, // Envoy's own default upstream is 1.2
				},
				AlpnProtocols: []string{alpn},
				ValidationContextType: &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
					TrustedCa: &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: e.CA}},
					MatchTypedSubjectAltNames: []*tlsv3.SubjectAltNameMatcher{{
						SanType: tlsv3.SubjectAltNameMatcher_DNS,
						Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: e.ServerName}},
					}},
				}},
			},
		})},
	}
}
