package translator

import (
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// What a client beyond the border may cost. Neighbours have been let in by
// their own border already: the fabric only repeats what has to be wider there.
const (
	// A request has at most so many headers, which together have so many KiB.
	// The fabric takes more, for what the nodes on the way add.
	borderHeaders, borderHeadersKiB = 100, 60
	fabricHeaders, fabricHeadersKiB = 200, 96

	// Clients have so many requests open on one HTTP/2 connection, and a
	// neighbour, who sends those of many clients, so many.
	borderStreams, fabricStreams = 1000, 10000

	// A neighbour may give up so many requests at once, and per second: it passes
	// on the impatience of all its clients. Envoy closes a connection, with the
	// requests of everybody on it, after 1000 and 33 a second (from 1.39 on this
	// can be set). For clients that limit stays.
	fabricResets = 1e6

	// A client may send so much that has not been read by anybody, per stream
	// and per connection, in bytes.
	borderStreamWindow, borderConnectionWindow = 256 << 10, 1 << 20

	// bufferLimit is what is kept of a connection's unread bytes, and of a
	// request's body so that it can be repeated. Smaller, and a next hop that
	// dies would cost more requests.
	bufferLimit = 1 << 20

	// headersTimeout is for the headers of one request: who sends them byte by
	// byte holds nothing longer.
	headersTimeout = 10 * time.Second

	// connectionIdle ends connections without a request.
	connectionIdle = 10 * time.Minute

	// borderIdle ends streams of clients on which nothing has moved for so long.
	// Within the fabric nothing does: Envoy's default of 5 min would cut idle
	// gRPC streams and WebSockets.
	borderIdle = time.Hour
)

// ingressManager is the border that pods meet. Every request that it refuses is
// told why, with the code in dmsc-error.
func (b *builder) ingressManager() *hcmv3.HttpConnectionManager {
	m := b.borderManager(ingressName, b.Strict)
	m.EarlyHeaderMutationExtensions = earlyMutation(borderMutations())
	m.LocalReplyConfig = b.borderReplies()
	m.HttpFilters = b.filters()
	return m
}

// borderManager has what listeners of clients share, whoever these are, with the
// route table of the same name. What it lets in the fabric forwards as it is:
// only here paths are normalised.
//
// A strict border also refuses header names with an underscore, which many
// servers read as "-", and paths with an escaped slash. Both are in use by
// services that are well, so it is strict to strangers only, unless told to.
func (b *builder) borderManager(listener string, strict bool) *hcmv3.HttpConnectionManager {
	m := b.connectionManager(listener, listener)
	m.GenerateRequestId = wrapperspb.Bool(true)
	m.UseRemoteAddress = wrapperspb.Bool(true)
	m.SkipXffAppend = false
	// A host outside the mesh hears the scheme that it is asked by.
	m.SchemeHeaderTransformation = &corev3.SchemeHeaderTransformation{MatchUpstream: true}
	m.AccessLog = b.accessLogs(listener)

	m.NormalizePath = wrapperspb.Bool(true)
	m.MergeSlashes = true
	m.StripTrailingHostDot = true // www.example. is www.example
	m.CommonHttpProtocolOptions = &corev3.HttpProtocolOptions{
		IdleTimeout:     durationpb.New(connectionIdle),
		MaxHeadersCount: wrapperspb.UInt32(borderHeaders),
	}
	if strict {
		m.PathWithEscapedSlashesAction = hcmv3.HttpConnectionManager_REJECT_REQUEST
		m.CommonHttpProtocolOptions.HeadersWithUnderscoresAction = corev3.HttpProtocolOptions_REJECT_REQUEST
	}
	m.MaxRequestHeadersKb = wrapperspb.UInt32(borderHeadersKiB)
	m.RequestHeadersTimeout = durationpb.New(headersTimeout)
	m.StreamIdleTimeout = durationpb.New(borderIdle)
	m.Http2ProtocolOptions.MaxConcurrentStreams = wrapperspb.UInt32(borderStreams)
	m.Http2ProtocolOptions.InitialStreamWindowSize = wrapperspb.UInt32(borderStreamWindow)
	m.Http2ProtocolOptions.InitialConnectionWindowSize = wrapperspb.UInt32(borderConnectionWindow)
	return m
}
