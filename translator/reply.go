package translator

import (
	"fmt"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
)

// localReplies mark Envoy's own replies when the request has left for nobody.
// UC, UR and UT are never marked: a pod may have seen those requests.
func (b *builder) localReplies() *hcmv3.LocalReplyConfig {
	return &hcmv3.LocalReplyConfig{Mappers: []*hcmv3.ResponseMapper{
		b.replyMapper(codeStarting, flagged("NR")),              // no route table yet, or no key header
		b.replyMapper(codeNoHealthy, flagged("UH", "UF", "NC")), // no host, no connection, no cluster
	}}
}

// borderReplies are localReplies and what a border refuses before the routes
// are asked. Only there: on the way a request is refused for nothing that its
// border has let in, and a mark would have it repeated.
func (b *builder) borderReplies() *hcmv3.LocalReplyConfig {
	refusal := func(code string, filter *accesslogv3.AccessLogFilter, text string) *hcmv3.ResponseMapper {
		m := b.replyMapper(code, filter)
		m.Body = &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: "dmsc: " + text + "\n"}}
		return m
	}
	c := b.localReplies()
	c.Mappers = append(c.Mappers,
		refusal(codeOverloaded, detailed("overload"), "the Envoy of "+string(b.Node)+" is short of memory"),
		refusal(codeTooLarge, replied(431), fmt.Sprintf("more than %d request headers, or more than %d KiB of them", borderHeaders, borderHeadersKiB)),
		// Not every 408: a pod may have seen a stream that is too slow later.
		refusal(codeTimeout, detailed("request_header_timeout"), fmt.Sprintf("the request headers took longer than %v", headersTimeout)),
		refusal(codeBadRequest, replied(400), "a malformed request, a header with _ in its name, or a path with an escaped slash"),
	)
	return c
}

func (b *builder) replyMapper(code string, filter *accesslogv3.AccessLogFilter) *hcmv3.ResponseMapper {
	return &hcmv3.ResponseMapper{Filter: filter, HeadersToAdd: []*corev3.HeaderValueOption{errorHeader(code, b.Node)}}
}
