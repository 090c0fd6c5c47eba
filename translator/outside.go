package translator

import (
	"errors"
	"slices"
	"strings"
	"time"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	headermutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// OutsideListener is where clients that are not of the mesh enter a gateway.
// They name no service prefix: an Alias from Outside maps what they may reach,
// and nothing else is there, no other host and no way out again.
type OutsideListener struct {
	Address string // "IP:port" or "unix:///path"; "" is no such listener
	// SecretFile is the path of what the function SecretFile makes; "" is no TLS.
	SecretFile string
	// TrustedHops is how many proxies in front tell the truth in
	// x-forwarded-for. With 0 the client is who has connected, and what it says
	// of itself there is forgotten.
	TrustedHops uint32
}

const (
	// outsideStreams is for one browser or one program, not for a gateway that
	// sends the requests of many (Envoy's advice for edge proxies).
	outsideStreams = 100
	// outsideIdle ends streams of strangers on which nothing has moved for so
	// long: half-sent bodies, and WebSockets without pings.
	outsideIdle = 5 * time.Minute
)

// ---- listener

func (b *builder) outsideListener() *listenerv3.Listener {
	l := b.socketListener(outsideName, b.Outside.Address, b.outsideManager())
	l.TrafficDirection = corev3.TrafficDirection_INBOUND
	if b.Outside.SecretFile != "" {
		l.FilterChains[0].TransportSocket = terminateTLS(b.Outside.SecretFile)
	}
	return l
}

// outsideManager is a border of its own. It lets nothing in that speaks to the
// fabric or to Envoy, and nothing out: not even which node has refused, and why.
func (b *builder) outsideManager() *hcmv3.HttpConnectionManager {
	m := b.borderManager(outsideName, true)
	m.EarlyHeaderMutationExtensions = earlyMutation(outsideMutations(b.Outside.TrustedHops > 0))
	m.XffNumTrustedHops = b.Outside.TrustedHops
	m.AlwaysSetRequestIdInResponse = true
	m.LocalReplyConfig = &hcmv3.LocalReplyConfig{Mappers: []*hcmv3.ResponseMapper{b.notUpgraded()}, BodyFormat: &corev3.SubstitutionFormatString{
		Format: &corev3.SubstitutionFormatString_TextFormatSource{TextFormatSource: &corev3.DataSource{
			Specifier: &corev3.DataSource_InlineString{InlineString: "%RESPONSE_CODE%"},
		}},
	}}
	m.HttpFilters = []*hcmv3.HttpFilter{silence(), routerFilter()}
	m.StreamIdleTimeout = durationpb.New(outsideIdle)
	m.Http2ProtocolOptions.MaxConcurrentStreams = wrapperspb.UInt32(outsideStreams)
	return m
}

// outsideMutations are the trust border of the outside.
func outsideMutations(proxied bool) []*mutationv3.HeaderMutation {
	m := removeOurs()
	if !proxied {
		m = append(m, removePrefixed("x-forwarded-"), remove("forwarded"), remove("x-real-ip"))
	}
	return m
}

// silence removes from answers, whoever gave them, what is not for strangers.
func silence() *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{Name: "dmsc/silence", ConfigType: &hcmv3.HttpFilter_TypedConfig{
		TypedConfig: typed(&headermutationv3.HeaderMutation{Mutations: &headermutationv3.Mutations{ResponseMutations: removeOurs()}}),
	}}
}

// terminateTLS takes the certificate from a file that Envoy reads again when it
// is replaced.
func terminateTLS(secretFile string) *corev3.TransportSocket {
	return &corev3.TransportSocket{
		Name: "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: typed(&tlsv3.DownstreamTlsContext{
			CommonTlsContext: &tlsv3.CommonTlsContext{
				TlsParams:     &tlsv3.TlsParameters{TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2},
				AlpnProtocols: []string{"h2", "http/1.1"},
				TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{{
					Name: outsideName,
					SdsConfig: &corev3.ConfigSource{
						ConfigSourceSpecifier: &corev3.ConfigSource_PathConfigSource{PathConfigSource: &corev3.PathConfigSource{Path: secretFile}},
						ResourceApiVersion:    corev3.ApiVersion_V3,
					},
				}},
			},
		})},
	}
}

// SecretFile is the content of an OutsideListener's SecretFile: the certificate
// (PEM, with its chain) and the key (PEM) themselves, so that Envoy never has one
// without the other. Envoy reads it again when another is renamed over it.
func SecretFile(chain, key []byte) ([]byte, error) {
	inline := func(data []byte) *corev3.DataSource {
		return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: data}}
	}
	return protojson.Marshal(&discoveryv3.DiscoveryResponse{Resources: []*anypb.Any{typed(&tlsv3.Secret{
		Name: outsideName,
		Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{CertificateChain: inline(chain), PrivateKey: inline(key)}},
	})}})
}

// ReadSecretFile is the reverse of SecretFile.
func ReadSecretFile(data []byte) (chain, key []byte, err error) {
	r, secret := new(discoveryv3.DiscoveryResponse), new(tlsv3.Secret)
	if protojson.Unmarshal(data, r) != nil || len(r.Resources) != 1 || r.Resources[0].UnmarshalTo(secret) != nil {
		return nil, nil, errors.New("not a file of a certificate and its key") // and no word of what it is: there may be a key in it
	}
	c := secret.GetTlsCertificate()
	return c.GetCertificateChain().GetInlineBytes(), c.GetPrivateKey().GetInlineBytes(), nil
}

// ---- routes

// outsideTable has one virtual host per host that an alias opens to the outside.
// It is looked up by Host itself: no header of a client's chooses.
func (b *builder) outsideTable() *routev3.RouteConfiguration {
	table := &routev3.RouteConfiguration{Name: outsideName, RequestHeadersToAdd: appendVia(b.Node)}
	for _, aliases := range b.aliasesOf(Outside) {
		key := strings.ToLower(aliases[0].Host)
		table.VirtualHosts = append(table.VirtualHosts, &routev3.VirtualHost{
			Name:    aliasHost(aliases[0]),
			Domains: []string{key, key + ":*"},
			Routes:  slices.Concat([]*routev3.Route{b.dotSegments()}, b.enterByHost(aliases), bothWays(b.unmapped)),
		})
	}
	table.VirtualHosts = append(table.VirtualHosts, &routev3.VirtualHost{
		Name: "dmsc/none", Domains: []string{"*"}, Routes: bothWays(b.unmapped),
	})
	return table
}

// dotSegments refuses paths with a dot segment that has parameters, "/shop/..;/x".
// Some servers take them for "/x", and so does Envoy since 1.37.6, 1.38.4 and
// 1.39.1 (CVE-2026-73551): but 1.40 still passes "/shop/%2e%2e;/x" as "/shop/..;/x".
func (b *builder) dotSegments() *routev3.Route {
	route := b.refuse(classOnce, 400, codeBadRequest, "a dot segment with parameters in the path")
	route.Match.PathSpecifier = &routev3.RouteMatch_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{
		Regex: `.*/\.\.?(;|%3[bB]).*`,
	}}
	return route
}

func (b *builder) unmapped(c class) *routev3.Route {
	return b.refuse(c, 404, codeNoPrefix, "nothing here")
}
