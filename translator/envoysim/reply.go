package envoysim

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	celv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"
)

// Reply is an answer: Envoy's own or, from a Network's hosts, a pod's.
type Reply struct {
	Status uint32
	// Flag is the response flag of Envoy's own (NR, UH, UF, NC), "" for one that a
	// route gives.
	Flag string
	// Details is Envoy's name of the reason, where a mapper may ask for it.
	Details string
	Headers Headers
}

// Error is the value of dmsc-error, "" without.
func (r Reply) Error() string {
	value, _ := r.Headers.First("dmsc-error")
	return value
}

// local makes a reply of Envoy's own: the first mapper whose filter takes it
// changes it.
func (m *manager) local(reply Reply) (*Reply, error) {
	for _, mapper := range m.GetLocalReplyConfig().GetMappers() {
		if takes(mapper.Filter, reply) {
			if mapper.StatusCode != nil {
				reply.Status = mapper.StatusCode.Value
			}
			var err error
			if reply.Headers, err = respondWith(reply.Headers, nil, mapper.HeadersToAdd); err != nil {
				return nil, err
			}
			break
		}
	}
	var err error
	reply.Headers, err = filtered(reply.Headers, m.answer)
	return &reply, err
}

// detailed is how a filter asks for a reason.
const detailed = "response.code_details == "

// beyond are reasons that the simulator has not, and the filters that ask for more.
var beyond = []string{
	`"overload"`,
	`"request_header_timeout"`,
	`"upstream_reset_before_response_started{overflow}"`,
	`"low_version"`,
	`"http1.https_url_on_plaintext_connection"`,
	`"http1.invalid_transfer_encoding"`,
	`"upgrade_failed"`,
	`"websocket_handshake_unsuccessful"`,
	`"websocket_handshake_unsuccessful" && response.code < 300`,
}

func checkFilter(f *accesslogv3.AccessLogFilter) error {
	switch filter := f.GetFilterSpecifier().(type) {
	case *accesslogv3.AccessLogFilter_ResponseFlagFilter:
		return nil
	case *accesslogv3.AccessLogFilter_StatusCodeFilter:
		if op := filter.StatusCodeFilter.GetComparison().GetOp(); op != accesslogv3.ComparisonFilter_EQ {
			return fmt.Errorf("status_code_filter: comparison %s is not understood", op)
		}
		return nil
	case *accesslogv3.AccessLogFilter_ExtensionFilter:
		var cel celv3.ExpressionFilter
		if err := filter.ExtensionFilter.GetTypedConfig().UnmarshalTo(&cel); err != nil {
			return err
		}
		reason, ok := strings.CutPrefix(cel.Expression, detailed)
		if !ok || reason != `"absolute_path_rejected"` && !slices.Contains(beyond, reason) {
			return fmt.Errorf("extension_filter: expression %s is not understood", cel.Expression)
		}
		return nil
	}
	return errors.New("is not understood")
}

func takes(f *accesslogv3.AccessLogFilter, reply Reply) bool {
	switch filter := f.GetFilterSpecifier().(type) {
	case *accesslogv3.AccessLogFilter_ResponseFlagFilter:
		return slices.Contains(filter.ResponseFlagFilter.Flags, reply.Flag)
	case *accesslogv3.AccessLogFilter_ExtensionFilter:
		var cel celv3.ExpressionFilter
		err := filter.ExtensionFilter.GetTypedConfig().UnmarshalTo(&cel) // see checkFilter
		return err == nil && reply.Details != "" && cel.Expression == detailed+strconv.Quote(reply.Details)
	case *accesslogv3.AccessLogFilter_StatusCodeFilter:
		return filter.StatusCodeFilter.GetComparison().GetValue().GetDefaultValue() == reply.Status
	}
	return false
}
