package translator

import (
	"fmt"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// localReplies mark Envoy's own replies when the request has left for nobody.
// UC, UR and UT are never marked: a pod may have seen those requests.
func (b *builder) localReplies() *hcmv3.LocalReplyConfig {
	return &hcmv3.LocalReplyConfig{Mappers: []*hcmv3.ResponseMapper{
		b.replyMapper(codeStarting, flagged("NR")),              // no route table yet, or no key header
		b.replyMapper(codeNoHealthy, flagged("UH", "UF", "NC")), // no host, no connection, no cluster
		// The flag alone also stands for too many retries of what a pod may have seen.
		b.refusal(codeNotAdmitted, detailed("upstream_reset_before_response_started{overflow}"), "the instances have as many requests as their gateway gives them"),
		b.notUpgraded(),
		b.redirected(),
	}}
}

// notUpgraded is for an upgrade that a pod answers as if it had not been asked
// for one. Its 200 would become 101 at the next node: between nodes an upgrade is
// an extended CONNECT, of which 200 is the success (RFC 8441 §5), as any 2xx is
// for a client that asks in that way. Envoy has dropped the body.
//
// It is the only code that a pod has seen the request with, see ingressRetry.
func (b *builder) notUpgraded() *hcmv3.ResponseMapper {
	m := b.refusal(codeNotUpgraded, cel(failedUpgrade+" && response.code < 300"), "the service has answered the upgrade with another status than 101")
	m.StatusCode = wrapperspb.UInt32(501)
	m.HeadersToAdd = append(m.HeadersToAdd, b.redirected().HeadersToAdd...)
	return m
}

// redirected passes on a pod's other answers below 400 to an upgrade. Envoy makes
// replies of its own of them, from which no route removes what a pod may not say.
func (b *builder) redirected() *hcmv3.ResponseMapper {
	m := &hcmv3.ResponseMapper{Filter: cel(failedUpgrade)}
	for _, name := range forbiddenForPods {
		forged := errorHeader(codeNotUpgraded, b.Node)
		forged.Header.Key, forged.AppendAction = name, corev3.HeaderValueOption_OVERWRITE_IF_EXISTS
		m.HeadersToAdd = append(m.HeadersToAdd, forged)
	}
	return m
}

// failedUpgrade is true of a pod's answer below 400 to an upgrade.
const failedUpgrade = `response.code_details == "websocket_handshake_unsuccessful"`

// borderReplies are localReplies and what a border refuses before the routes
// are asked. Only there: on the way a request is refused for nothing that its
// border has let in, and a mark would have it repeated.
func (b *builder) borderReplies() *hcmv3.LocalReplyConfig {
	c := b.localReplies()
	c.Mappers = append(c.Mappers,
		b.refusal(codeOverloaded, detailed("overload"), "the Envoy of "+string(b.Node)+" is short of memory"),
		b.refusal(codeTooLarge, replied(431), fmt.Sprintf("more than %d request headers, or more than %d KiB of them", borderHeaders, borderHeadersKiB)),
		// Not every 408: a pod may have seen a stream that is too slow later.
		b.refusal(codeTimeout, detailed("request_header_timeout"), fmt.Sprintf("the request headers took longer than %v", headersTimeout)),
		b.refusal(codeBadRequest, replied(400), "a malformed request, a header with _ in its name, or a path with an escaped slash"),
		b.refusal(codeUnsupported, detailed("low_version"), "HTTP/1.1 and HTTP/2 are spoken here"),
		b.refusal(codeUnsupported, detailed("absolute_path_rejected"), "a request for * is for no service, name a path"),
		b.refusal(codeUnsupported, detailed("http1.https_url_on_plaintext_connection"), "https in the request line of a connection without TLS"),
		b.refusal(codeUnsupported, detailed("http1.invalid_transfer_encoding"), "a transfer encoding that is not chunked"),
		b.refusal(codeUnsupported, detailed("upgrade_failed"), "an upgrade to another protocol than websocket"),
	)
	return c
}

// refusal gives a reply a body, too.
func (b *builder) refusal(code string, filter *accesslogv3.AccessLogFilter, text string) *hcmv3.ResponseMapper {
	m := b.replyMapper(code, filter)
	m.Body = &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: refusalText(text)}}
	return m
}

func (b *builder) replyMapper(code string, filter *accesslogv3.AccessLogFilter) *hcmv3.ResponseMapper {
	return &hcmv3.ResponseMapper{Filter: filter, HeadersToAdd: []*corev3.HeaderValueOption{errorHeader(code, b.Node)}}
}
