package envoysim

import (
	"errors"
	"fmt"
	"slices"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	celv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"
)

// Reply is an answer: Envoy's own or, from a Network's hosts, a pod's.
type Reply struct {
	Status uint32
	// Flag is the response flag of Envoy's own (NR, UH, UF, NC), "" for one that a
	// route gives.
	Flag    string
	Headers Headers
}

// Error is the value of dmsc-error, "" without.
func (r Reply) Error() string {
	value, _ := r.Headers.First("dmsc-error")
	return value
}

// local makes a reply of Envoy's own: the first mapper whose filter takes it
// adds to it.
func (m *manager) local(reply Reply) (*Reply, error) {
	for _, mapper := range m.GetLocalReplyConfig().GetMappers() {
		if takes(mapper.Filter, reply) {
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

// beyond are replies for reasons that the simulator has not, by the condition
// of the filters that take them.
var beyond = []string{
	`response.code_details == "overload"`,
	`response.code_details == "request_header_timeout"`,
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
		if !slices.Contains(beyond, cel.Expression) {
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
	case *accesslogv3.AccessLogFilter_StatusCodeFilter:
		return filter.StatusCodeFilter.GetComparison().GetValue().GetDefaultValue() == reply.Status
	}
	return false
}
